//! How many accounts an image may be shared with, and what does not fit.

use imageshare_core::Permission;

use super::{
    Image,
    backlog::Step,
    failure,
    history::{History, Known},
    store::Item,
};
use crate::{
    context::Context,
    io::Notice,
    job::local,
    limits::{CAP_OBSERVED_FOR, LISTING_AGE_MAX, QUOTA_REFUSALS_MIN},
    time::Instant,
};

/// How many accounts the image is shared with and may be.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// Accounts that have it, by the listing and our writes since.
    present: u32,
    observed: Option<ObservedCap>,
    /// The most accounts that it was shared with.
    seen: u32,
    /// The longest list of shares to send after a refusal that the cap did not predict.
    list_max: Option<u32>,
    /// Single accounts refused in a row.
    singles: u32,
}

/// The cap that refusals showed: the number of accounts that had the image.
#[derive(Debug)]
struct ObservedCap {
    cap: u32,
    until: Instant,
    count: Count,
}

/// Whether all accounts that have the image are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Count {
    Complete,
    /// Writes in doubt, or of an earlier worker, may be missing: a new listing comes before any failure by the cap.
    Incomplete,
}

impl Quota {
    /// Returns the observed cap while it is valid, otherwise the larger of the first guess and the number that was seen.
    pub(super) fn cap(&self, first_guess: u32, now: Instant) -> u32 {
        match &self.observed {
            Some(observed) if observed.until > now => observed.cap,
            _ => first_guess.max(self.seen),
        }
    }

    /// Until when the observed cap counts.
    pub(super) fn observed_cap_until(&self) -> Option<Instant> {
        self.observed.as_ref().map(|observed| observed.until)
    }

    /// A listing showed that many accounts.
    pub(super) fn saw(&mut self, accounts: usize) {
        self.seen = self.seen.max(u32::try_from(accounts).unwrap_or(u32::MAX));
    }

    /// Another worker may have changed the image: the count and the observed cap no longer hold.
    pub(super) fn forget_count(&mut self) {
        // What was seen stays: no other worker lowers the most that the image once had.
        *self = Self { seen: self.seen, list_max: self.list_max, ..Self::default() };
    }
}

impl Image {
    /// How many accounts a write may share the image with now.
    pub(super) fn share_room(&self, cx: &Context<'_>) -> usize {
        let known = self.listings.newest().is_some() || self.quota.observed.is_some();
        let cap = self.quota.cap(cx.limits.cap, cx.now);
        // Without a listing or an observed cap, the count starts at an unknown number and shows nothing.
        let left = if known { cap.saturating_sub(self.quota.present) } else { cap };
        // A shorter list than the room finds out whether the cap, or the count, is wrong.
        let list_max = if self.listings.is_blind() { 1 } else { self.quota.list_max.unwrap_or(u32::MAX) };
        left.min(list_max) as usize
    }

    /// Counts the accounts that have the image, after a listing.
    pub(super) fn count_present(&mut self, cx: &Context<'_>) {
        let Some(listing) = self.listings.newest() else { return };
        let mut present = listing.accounts().len();
        // The listing does not show our newest writes.
        // Only accounts with a history were written by us, and there are few of them.
        for (id, account) in self.store.accounts().filter(|&(_, account)| self.store.history(account).is_some()) {
            let is_listed = listing.accounts().binary_search(&id).is_ok();
            match self.known(cx, account) {
                Some(Known::Written(Permission::Share, _)) if !is_listed => present += 1,
                Some(Known::Written(Permission::Cancel, _)) if is_listed => present -= 1,
                _ => {}
            }
        }
        self.quota.present = u32::try_from(present).unwrap_or(u32::MAX);
    }

    /// A write was accepted for an account whose state before is known or not.
    pub(super) fn count_written(&mut self, before: Option<Permission>, now_is: Permission) {
        let quota = &mut self.quota;
        match (before, now_is) {
            (Some(Permission::Cancel) | None, Permission::Share) => quota.present = quota.present.saturating_add(1),
            (Some(Permission::Share), Permission::Cancel) => quota.present = quota.present.saturating_sub(1),
            _ => {}
        }
        if now_is == Permission::Cancel && self.listings.newest().is_none() {
            // The number of shares is unknown, and so is whether there is room now.
            self.quota.observed = None;
            return;
        }
        let quota = &mut self.quota;
        if now_is == Permission::Share {
            quota.singles = 0;
            quota.seen = quota.seen.max(quota.present);
            // An accepted write beyond the observed cap refutes it.
            if quota.observed.as_ref().is_some_and(|observed| quota.present > observed.cap) {
                quota.observed = None;
            }
        }
    }

    /// A list of shares of this length was accepted: longer ones are sent again.
    pub(super) fn quota_accepted(&mut self, len: usize) {
        let quota = &mut self.quota;
        // Doubling finds the old length again within a few writes.
        let longer = |list_max: u32| (len >= list_max as usize).then(|| list_max.saturating_mul(2)).or(Some(list_max));
        quota.list_max = quota.list_max.and_then(longer);
    }

    /// A list of shares of this length was refused for the quota although it fits by the count.
    pub(super) fn quota_refused(&mut self, cx: &mut Context<'_>, len: usize) {
        if len > 1 {
            // Halving finds the room within a few writes, as doubling does in `quota_accepted`.
            self.quota.list_max = Some(u32::try_from(len / 2).unwrap_or(u32::MAX));
            return;
        }
        self.quota.singles += 1;
        if self.quota.singles < QUOTA_REFUSALS_MIN {
            return;
        }
        // An incomplete count gives no notice: the listing that completes it shows the cap again.
        let (count, cap) = (self.count(cx), self.quota.present);
        self.quota.observed = Some(ObservedCap { cap, until: cx.now + CAP_OBSERVED_FOR, count });
        if count == Count::Incomplete {
            return;
        }
        // The number that was seen before contradicts the observed cap, and would count again when that expires.
        self.quota.seen = 0;
        self.quota.singles = 0;
        self.quota.list_max = None;
        let image_id = self.name.id;
        cx.notice(Notice::CapReduced { image_id, cap });
    }

    /// A listing arrived. The observed cap is wrong if more accounts have the image, or if it was an incomplete count and this
    /// one is complete. The next refusal then shows it again.
    pub(super) fn review_cap(&mut self, cx: &Context<'_>) {
        let is_complete = self.count(cx) == Count::Complete;
        let quota = &mut self.quota;
        let present = quota.present;
        if quota
            .observed
            .take_if(|observed| present > observed.cap || (is_complete && observed.count == Count::Incomplete))
            .is_some()
        {
            // Single accounts are sent until one more refusal shows the cap.
            quota.list_max = Some(1);
            quota.singles = QUOTA_REFUSALS_MIN - 1;
        }
    }

    /// Whether the count is complete: the listing shows the writes of an earlier worker, and those of ours that may have been
    /// applied. Without a listing there is no count that could be incomplete.
    fn count(&self, cx: &Context<'_>) -> Count {
        let Some(listing) = self.listings.newest() else { return Count::Complete };
        let written = self.store.histories().filter_map(History::maybe_applied_until).max();
        let from = written.map(|until| until + cx.limits.read_lag).max(cx.takeover_check_from());
        if from.is_none_or(|from| listing.began() >= from) { Count::Complete } else { Count::Incomplete }
    }

    /// Shares that do not fit: cancels that arrived earlier are sent first, then a reliable listing decides. What does not fit
    /// then fails with both numbers. After such a failure, the next operation of the account may be the first.
    pub(super) fn quota_due(&mut self, cx: &mut Context<'_>) {
        while self.fail_over_quota(cx) {}
    }

    /// Fails the first shares that do not fit. Returns whether there were any.
    fn fail_over_quota(&mut self, cx: &mut Context<'_>) -> bool {
        let is_listing = self.listings.is_wanted() || self.listings.is_in_flight();
        // A listing or a write that is under way changes the count, and a backlog changes what is ready.
        if self.store.ready().len(Permission::Share) == 0
            || self.has_backlog()
            || is_listing
            || self.writes.is_in_flight()
            || self.share_room(cx) > 0
        {
            return false;
        }
        // A share that arrived after a cancel may fit once that is done. One that arrived before does not wait.
        let first_cancel = self.first_cancel();
        let stands_first = |seq: u64| first_cancel.is_none_or(|cancel| seq < cancel);
        if !self.store.ready().first(Permission::Share).is_some_and(|(seq, _)| stands_first(seq)) {
            return false;
        }
        let from = self.reliable_from(cx);
        let can_list = self.listings.refused(cx.now).is_none();
        let reliable = self.listings.since(from).is_some_and(|listing| listing.began() + LISTING_AGE_MAX >= cx.now);
        if can_list && !reliable {
            self.listings.want(from.max(cx.now));
            return false;
        }
        if !reliable {
            // A count since an old listing decides nothing: without a new one, the API has to refuse.
            self.listings.forget();
            if self.share_room(cx) > 0 {
                return false;
            }
        }
        let (present, cap) = (self.quota.present, self.quota.cap(cx.limits.cap, cx.now));
        let message = if self.listings.newest().is_some() {
            alloc::format!("the image is shared with {present} accounts and may be shared with {cap}")
        } else {
            "the image takes no more accounts, as two refusals in a row showed; its shares cannot be listed".into()
        };
        let over_quota = failure(local::OVER_QUOTA, message, None);
        let waiting = self.store.ready().shares();
        let failing = waiting.take_while(|&(seq, _)| stands_first(seq)).map(|(_, account)| account);
        self.backlogs.add(failing, Step::OverQuota(over_quota));
        self.work_off(cx);
        !self.has_backlog()
    }

    /// The place in arrival of the image's first CANCEL without an outcome.
    fn first_cancel(&self) -> Option<u64> {
        let is_open_cancel = |item: &&Item| item.permission() == Permission::Cancel && item.is_open();
        let of_accounts = self.store.accounts().filter_map(|(_, account)| {
            let mut items = self.store.items_from(self.store.front(account)).map(|(_, item)| item);
            items.find(is_open_cancel).map(|item| self.store.job(item.job()).seq())
        });
        of_accounts.min()
    }
}
