//! Rule 1: who has an image is read before anything is written, and what a reading brings.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::{Class, ids::AccountId};

use super::{
    Engine,
    backlog::Step,
    image::{Image, Reading, RefusedListing},
    lane::{Call, Kind},
};
use crate::{
    arena::Key,
    io::Notice,
    job::Failure,
    time::{Instant, Millis},
};

impl Engine {
    /// After a refusal that trying again would not change, work goes on without a listing for this time.
    const UNREADABLE_FOR: Millis = Millis::from_secs(10 * 60);
    /// While listings are refused, a SYNC asks for its own at most this often.
    pub(super) const SYNC_LISTING_PAUSE: Millis = Millis::from_secs(30);

    /// Reading succeeded.
    pub(super) fn shares_read(&mut self, now: Instant, call: &Call, accounts: Vec<AccountId>) {
        let (image, began) = (call.image, call.began);
        let is_key_proven = !self.is_by_former_key(call) && !self.lane_of(image).key.is_unproven(now);
        let found = &mut self.images[image];
        found.read.attempts = 0;
        found.read.refused = None;
        found.denied.take_if(|denied| denied.kind == Kind::ReadShares);
        // Whoever is not served by this one asks again.
        found.read.wanted = None;
        if found.reading.as_ref().is_some_and(|reading| reading.began > began) {
            return;
        }
        let reading = Reading::new(began, accounts, self.limits.cap, is_key_proven);
        found.quota.seen = found.quota.seen.max(u32::try_from(reading.accounts.len()).unwrap_or(u32::MAX));
        found.reading = Some(reading);
        self.count_present(image);
        self.review_cap(image);
        self.look_again(now, image);
    }

    /// Reading failed in a way that may pass. After as many tries as an operation has, work goes on without until the
    /// next pause is over.
    pub(super) fn read_failed(&mut self, now: Instant, call: &Call, failure: Arc<Failure>) {
        let image = call.image;
        let attempts = self.images[image].read.attempts + 1;
        let found = &mut self.images[image];
        found.read.attempts = attempts;
        if attempts < self.limits.attempts {
            let pause = self.pause(attempts);
            let found = &mut self.images[image];
            found.read.after = now + pause;
            found.want_reading(now);
            return;
        }
        // It has to outlast this moment, in which work goes on without.
        let until = now + self.whole_pause(attempts).max(Millis(1));
        self.go_on_without(now, call, until, failure, true);
    }

    /// Reading was refused, and trying again at once would not change that. Where the key may be at fault, a SYNC waits
    /// and asks again.
    pub(super) fn read_refused(&mut self, now: Instant, call: &Call, class: Class, failure: &Arc<Failure>) {
        let image = call.image;
        let is_about_key = self.is_about_key(call, class);
        let is_denied = is_about_key && self.is_needed_by_sync(image, call);
        let is_final = !is_about_key || (is_denied && self.deny(now, image, Kind::ReadShares));
        self.go_on_without(now, call, now + Self::UNREADABLE_FOR, failure.clone(), is_final);
        if is_denied && !is_final {
            self.close_if_none_permitted(now, image, failure);
        }
    }

    fn go_on_without(&mut self, now: Instant, call: &Call, until: Instant, failure: Arc<Failure>, is_final: bool) {
        let image = call.image;
        let found = &mut self.images[image];
        found.read.attempts = 0;
        found.read.wanted = None;
        let (began, seq, code) = (call.began, call.seq, failure.code.clone());
        let before = found.read.refused.replace(RefusedListing { began, seq, at: now, until, failure, is_final });
        let (lane, image_id) = (found.lane, found.id);
        if before.is_none_or(|before| before.failure.code != code) {
            self.notice(lane, Notice::CannotRead { image_id, code });
        }
        self.look_again(now, image);
    }

    /// Decides everything anew that waited for a reading.
    fn look_again(&mut self, now: Instant, image: Key<Image>) {
        let waiting = core::mem::take(&mut self.images[image].checking);
        self.add_backlog(image, waiting.into(), Step::Decide);
        self.work_off(now, image);
    }

    /// All that waited for a reading is decided anew.
    pub(super) fn reading_decided(&mut self, now: Instant, image: Key<Image>) {
        self.drop_done_members(now, image);
        self.check_provisional(now, image);
        self.sync_read(now, image);
    }

    /// A reading that is too old to call anything unchanged is worth nothing to jobs that come after a quiet time.
    pub(super) fn forget_old_reading(&mut self, now: Instant, image: Key<Image>) {
        let found = &mut self.images[image];
        if found.reading.as_ref().is_some_and(|reading| reading.began + Self::READING_AGE_MAX < now) {
            found.reading = None;
        }
    }
}
