//! Rule 6: how many accounts an image may be shared with, and what does not fit.

use imageshare_core::Permission;

use super::{
    Engine,
    account::{Account, Wish, WishState},
    backlog::Step,
    image::{Image, LearnedCap, failure},
};
use crate::{
    arena::Key,
    io::Notice,
    job::local,
    time::{Instant, Millis},
};

impl Engine {
    /// How long a cap that refusals taught is believed.
    const CAP_LEARNED_FOR: Millis = Millis::from_secs(10 * 60);

    /// How many accounts a write may share the image with now.
    pub(super) fn share_room(&self, now: Instant, image: Key<Image>) -> usize {
        let found = &self.images[image];
        let known = found.reading.is_some() || found.quota.learned.is_some();
        let cap = found.quota.cap(self.limits.cap, now);
        let left = if known { cap.saturating_sub(found.quota.present) } else { cap };
        left.min(found.quota.list_max.unwrap_or(u32::MAX)) as usize
    }

    /// Counts anew how many accounts have the image, after a reading.
    pub(super) fn count_present(&mut self, image: Key<Image>) {
        let found = &self.images[image];
        let Some(reading) = &found.reading else { return };
        let mut present = reading.accounts.len();
        for (&id, &account) in &found.accounts {
            if self.accounts[account].history.is_none() {
                continue;
            }
            let listed = reading.accounts.binary_search(&id).is_ok();
            match self.known(account).filter(|known| !known.read).map(|known| known.state) {
                Some(Permission::Share) if !listed => present += 1,
                Some(Permission::Cancel) if listed => present -= 1,
                _ => {}
            }
        }
        self.images[image].quota.present = u32::try_from(present).unwrap_or(u32::MAX);
    }

    /// A write was accepted for an account that was known, or not, to be this before.
    pub(super) fn count_written(&mut self, image: Key<Image>, before: Option<Permission>, now_is: Permission) {
        let quota = &mut self.images[image].quota;
        match (before, now_is) {
            (Some(Permission::Cancel) | None, Permission::Share) => quota.present = quota.present.saturating_add(1),
            (Some(Permission::Share), Permission::Cancel) => quota.present = quota.present.saturating_sub(1),
            _ => {}
        }
        if now_is == Permission::Cancel && self.images[image].reading.is_none() {
            // How many have it is not known, so neither is whether there is room now.
            self.images[image].quota.learned = None;
            return;
        }
        let quota = &mut self.images[image].quota;
        if now_is == Permission::Share {
            quota.singles = 0;
            quota.seen = quota.seen.max(quota.present);
            if quota.learned.as_ref().is_some_and(|learned| quota.present > learned.cap) {
                quota.learned = None;
            }
        }
    }

    /// A list of shares of this length was accepted: after a refusal, longer ones are tried again.
    pub(super) fn quota_accepted(&mut self, image: Key<Image>, len: usize) {
        let quota = &mut self.images[image].quota;
        let longer = |list_max: u32| (len >= list_max as usize).then(|| list_max.saturating_mul(2)).or(Some(list_max));
        quota.list_max = quota.list_max.and_then(longer);
    }

    /// A list of shares of this length was refused for the quota although it seemed to fit.
    pub(super) fn quota_refused(&mut self, now: Instant, image: Key<Image>, len: usize) {
        let found = &mut self.images[image];
        if len > 1 {
            found.quota.list_max = Some(u32::try_from(len / 2).unwrap_or(u32::MAX));
            return;
        }
        found.quota.singles += 1;
        if found.quota.singles < 2 {
            return;
        }
        let is_certain = self.is_present_certain(image);
        let found = &mut self.images[image];
        let cap = found.quota.present;
        found.quota.learned = Some(LearnedCap { cap, until: now + Self::CAP_LEARNED_FOR, is_certain });
        if !is_certain {
            return;
        }
        found.quota.seen = 0;
        found.quota.singles = 0;
        found.quota.list_max = None;
        let (lane, image_id) = (found.lane, found.id);
        self.notice(lane, Notice::CapLearned { image_id, cap });
    }

    /// A reading came. It can show that a learned cap is too low: more accounts have the image, or the cap was learned
    /// from a count that was not certain. The next refusal then teaches it from this reading.
    pub(super) fn review_cap(&mut self, image: Key<Image>) {
        let is_certain = self.is_present_certain(image);
        let quota = &mut self.images[image].quota;
        let present = quota.present;
        if quota.learned.take_if(|learned| present > learned.cap || (is_certain && !learned.is_certain)).is_some() {
            quota.list_max = Some(1);
            quota.singles = 1;
        }
    }

    /// Returns whether the count of accounts that have the image is complete: the listing shows the writes of an earlier
    /// worker, and those of ours that are in doubt. Without a listing there is no count that could be incomplete.
    fn is_present_certain(&self, image: Key<Image>) -> bool {
        let found = &self.images[image];
        let Some(reading) = &found.reading else { return true };
        let guard_ends = self.guard_ends(found.lane).filter(|_| self.limits.guard);
        let is_too_late = |&account: &Key<Account>| {
            let history = self.accounts[account].history.map(|history| &self.histories[history]);
            let unsure = history.and_then(|history| history.unsure);
            unsure.is_some_and(|(_, until)| reading.began < until + self.limits.read_delay)
        };
        guard_ends.is_none_or(|ends| reading.began >= ends) && !found.accounts.values().any(is_too_late)
    }

    /// Shares that do not fit: cancels that arrived earlier go first, then a believable reading decides, and what then
    /// does not fit fails with both numbers. Behind one that failed another of its account may come to stand first.
    pub(super) fn quota_due(&mut self, now: Instant, image: Key<Image>) {
        while self.fail_over_quota(now, image) {}
    }

    /// Fails what stands first and does not fit. Gives whether there was any.
    fn fail_over_quota(&mut self, now: Instant, image: Key<Image>) -> bool {
        let found = &self.images[image];
        let reading = found.read.wanted.is_some() || found.read.in_flight.is_some();
        if found.ready_shares.is_empty()
            || self.has_backlog(image)
            || reading
            || found.write.is_some()
            || self.share_room(now, image) > 0
        {
            return false;
        }
        let first_cancel = self.first_cancel(image);
        let stands_first = |seq: u64| first_cancel.is_none_or(|cancel| seq < cancel);
        if !found.ready_shares.first().is_some_and(|&(seq, _)| stands_first(seq)) {
            return false;
        }
        let from = self.believable_from(image);
        let readable = found.unreadable(now).is_none();
        let believable = found
            .reading
            .as_ref()
            .is_some_and(|reading| reading.began >= from && reading.began + Self::READING_AGE_MAX >= now);
        if readable && !believable {
            self.images[image].want_reading(from.max(now));
            return false;
        }
        if !believable {
            // What was counted since an old reading decides nothing: where none can be taken, the API has to say.
            self.images[image].reading = None;
            if self.share_room(now, image) > 0 {
                return false;
            }
        }
        let found = &self.images[image];
        let (present, cap) = (found.quota.present, found.quota.cap(self.limits.cap, now));
        let message = if found.reading.is_some() {
            alloc::format!("the image is shared with {present} accounts and may be shared with {cap}")
        } else {
            "the image takes no more accounts, as two refusals in a row showed; who has it cannot be read".into()
        };
        let over_quota = failure(local::OVER_QUOTA, message, None);
        let waiting = found.ready_shares.iter().copied();
        let failing = waiting.take_while(|&(seq, _)| stands_first(seq)).map(|(_, account)| account).collect();
        self.add_backlog(image, failing, Step::OverQuota(over_quota));
        self.work_off(now, image);
        !self.has_backlog(image)
    }

    /// The place in arrival of the first CANCEL of an image that has no outcome.
    fn first_cancel(&self, image: Key<Image>) -> Option<u64> {
        let of_account = |&account: &Key<Account>| {
            let is_open_cancel = |wish: &Wish| wish.permission == Permission::Cancel && wish.state == WishState::Open;
            let mut wishes = self.wishes_from(self.accounts[account].front);
            wishes.find(|(_, wish)| is_open_cancel(wish)).map(|(_, wish)| self.tickets[wish.ticket].seq)
        };
        self.images[image].accounts.values().filter_map(of_account).min()
    }
}
