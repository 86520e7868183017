//! How many accounts an image may be shared with, and what does not fit.

use imageshare_core::Permission;

use super::{
    Image,
    account::{Account, Item, ItemState},
    backlog::Step,
    failure,
};
use crate::{
    arena::Key,
    context::Context,
    io::Notice,
    job::local,
    limits::{CAP_OBSERVED_FOR, LISTING_AGE_MAX, QUOTA_REFUSALS_MIN},
    time::Instant,
};

/// How many accounts the image is shared with and may be.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// Accounts that have it, as far as known from the listing and our writes since.
    present: u32,
    /// A cap that refusals taught.
    observed: Option<ObservedCap>,
    /// The most accounts it was seen shared with.
    seen: u32,
    /// The longest list of shares to try after an unforeseen refusal.
    list_max: Option<u32>,
    /// Single accounts refused in a row.
    singles: u32,
}

/// A cap that refusals taught: as many accounts as had the image, by our count.
#[derive(Debug)]
struct ObservedCap {
    cap: u32,
    until: Instant,
    /// Whether the count was complete. If not, a new listing comes before any failure by this cap.
    is_certain: bool,
}

impl Quota {
    /// The cap as last learned.
    pub(super) fn cap(&self, first_guess: u32, now: Instant) -> u32 {
        match &self.observed {
            Some(observed) if observed.until > now => observed.cap,
            _ => first_guess.max(self.seen),
        }
    }

    /// Until when a learned cap counts.
    pub(super) fn observed_cap_until(&self) -> Option<Instant> {
        self.observed.as_ref().map(|observed| observed.until)
    }

    /// A listing showed that many accounts.
    pub(super) fn saw(&mut self, accounts: usize) {
        self.seen = self.seen.max(u32::try_from(accounts).unwrap_or(u32::MAX));
    }

    /// Another worker may have changed the image: what was counted and learned says nothing any more.
    pub(super) fn distrust(&mut self) {
        *self = Self { seen: self.seen, list_max: self.list_max, ..Self::default() };
    }
}

impl Image {
    /// How many accounts a write may share the image with now.
    pub(super) fn share_room(&self, cx: &Context<'_>) -> usize {
        let known = self.listings.newest().is_some() || self.quota.observed.is_some();
        let cap = self.quota.cap(cx.limits.cap, cx.now);
        let left = if known { cap.saturating_sub(self.quota.present) } else { cap };
        let list_max = if self.listings.is_blind() { 1 } else { self.quota.list_max.unwrap_or(u32::MAX) };
        left.min(list_max) as usize
    }

    /// Counts anew how many accounts have the image, after a listing.
    pub(super) fn count_present(&mut self, cx: &Context<'_>) {
        let Some(listing) = self.listings.newest() else { return };
        let mut present = listing.accounts().len();
        for (&id, &account) in &self.store.by_id {
            if self.store.accounts[account].history.is_none() {
                continue;
            }
            let listed = listing.accounts().binary_search(&id).is_ok();
            match self.known(cx, account).filter(|known| !known.read).map(|known| known.state) {
                Some(Permission::Share) if !listed => present += 1,
                Some(Permission::Cancel) if listed => present -= 1,
                _ => {}
            }
        }
        self.quota.present = u32::try_from(present).unwrap_or(u32::MAX);
    }

    /// A write was accepted for an account that was known, or not, to be this before.
    pub(super) fn count_written(&mut self, before: Option<Permission>, now_is: Permission) {
        let quota = &mut self.quota;
        match (before, now_is) {
            (Some(Permission::Cancel) | None, Permission::Share) => quota.present = quota.present.saturating_add(1),
            (Some(Permission::Share), Permission::Cancel) => quota.present = quota.present.saturating_sub(1),
            _ => {}
        }
        if now_is == Permission::Cancel && self.listings.newest().is_none() {
            // How many have it is not known, so neither is whether there is room now.
            self.quota.observed = None;
            return;
        }
        let quota = &mut self.quota;
        if now_is == Permission::Share {
            quota.singles = 0;
            quota.seen = quota.seen.max(quota.present);
            if quota.observed.as_ref().is_some_and(|observed| quota.present > observed.cap) {
                quota.observed = None;
            }
        }
    }

    /// A list of shares of this length was accepted: after a refusal, longer ones are tried again.
    pub(super) fn quota_accepted(&mut self, len: usize) {
        let quota = &mut self.quota;
        let longer = |list_max: u32| (len >= list_max as usize).then(|| list_max.saturating_mul(2)).or(Some(list_max));
        quota.list_max = quota.list_max.and_then(longer);
    }

    /// A list of shares of this length was refused for the quota although it seemed to fit.
    pub(super) fn quota_refused(&mut self, cx: &mut Context<'_>, len: usize) {
        if len > 1 {
            self.quota.list_max = Some(u32::try_from(len / 2).unwrap_or(u32::MAX));
            return;
        }
        self.quota.singles += 1;
        if self.quota.singles < QUOTA_REFUSALS_MIN {
            return;
        }
        let is_certain = self.is_present_certain(cx);
        let cap = self.quota.present;
        self.quota.observed = Some(ObservedCap { cap, until: cx.now + CAP_OBSERVED_FOR, is_certain });
        if !is_certain {
            return;
        }
        self.quota.seen = 0;
        self.quota.singles = 0;
        self.quota.list_max = None;
        let image_id = self.name.id;
        cx.notice(Notice::CapReduced { image_id, cap });
    }

    /// A listing came. It can show that a learned cap is too low: more accounts have the image, or the cap was learned
    /// from a count that was not certain. The next refusal then teaches it from this listing.
    pub(super) fn review_cap(&mut self, cx: &Context<'_>) {
        let is_certain = self.is_present_certain(cx);
        let quota = &mut self.quota;
        let present = quota.present;
        if quota.observed.take_if(|observed| present > observed.cap || (is_certain && !observed.is_certain)).is_some() {
            quota.list_max = Some(1);
            quota.singles = QUOTA_REFUSALS_MIN - 1;
        }
    }

    /// Returns whether the count of accounts that have the image is complete: the listing shows the writes of an earlier
    /// worker, and those of ours that are in doubt. Without a listing there is no count that could be incomplete.
    fn is_present_certain(&self, cx: &Context<'_>) -> bool {
        let Some(listing) = self.listings.newest() else { return true };
        let takeover_check_from = cx.takeover_check_from();
        let is_too_late = |&account: &Key<Account>| {
            let history = self.store.accounts[account].history.map(|history| &self.store.histories[history]);
            let maybe_applied = history.and_then(|history| history.maybe_applied);
            maybe_applied.is_some_and(|(_, until)| listing.began() < until + cx.limits.read_lag)
        };
        takeover_check_from.is_none_or(|ends| listing.began() >= ends) && !self.store.by_id.values().any(is_too_late)
    }

    /// Shares that do not fit: cancels that arrived earlier go first, then a reliable listing decides, and what then
    /// does not fit fails with both numbers. Behind one that failed another of its account may come to stand first.
    pub(super) fn quota_due(&mut self, cx: &mut Context<'_>) {
        while self.fail_over_quota(cx) {}
    }

    /// Fails what stands first and does not fit. Gives whether there was any.
    fn fail_over_quota(&mut self, cx: &mut Context<'_>) -> bool {
        let is_listing = self.listings.is_wanted() || self.listings.is_in_flight();
        if self.ready.len(Permission::Share) == 0
            || self.has_backlog()
            || is_listing
            || self.writes.is_in_flight()
            || self.share_room(cx) > 0
        {
            return false;
        }
        let first_cancel = self.first_cancel();
        let stands_first = |seq: u64| first_cancel.is_none_or(|cancel| seq < cancel);
        if !self.ready.first(Permission::Share).is_some_and(|(seq, _)| stands_first(seq)) {
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
            // What was counted since an old listing decides nothing: where none can be taken, the API has to say.
            self.listings.forget();
            if self.share_room(cx) > 0 {
                return false;
            }
        }
        let (present, cap) = (self.quota.present, self.quota.cap(cx.limits.cap, cx.now));
        let message = if self.listings.newest().is_some() {
            alloc::format!("the image is shared with {present} accounts and may be shared with {cap}")
        } else {
            "the image takes no more accounts, as two refusals in a row showed; who has it cannot be read".into()
        };
        let over_quota = failure(local::OVER_QUOTA, message, None);
        let waiting = self.ready.shares();
        let failing = waiting.take_while(|&(seq, _)| stands_first(seq)).map(|(_, account)| account).collect();
        self.backlogs.add(failing, Step::OverQuota(over_quota));
        self.work_off(cx);
        !self.has_backlog()
    }

    /// The place in arrival of the first CANCEL of an image that has no outcome.
    fn first_cancel(&self) -> Option<u64> {
        let of_account = |&account: &Key<Account>| {
            let is_open_cancel = |item: &Item| item.permission == Permission::Cancel && item.state == ItemState::Open;
            let mut items = self.items_from(self.store.accounts[account].front);
            items.find(|(_, item)| is_open_cancel(item)).map(|(_, item)| self.store.jobs[item.job].seq)
        };
        self.store.by_id.values().filter_map(of_account).min()
    }
}
