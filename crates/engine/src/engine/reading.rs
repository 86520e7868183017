//! Rule 1: who has an image is read before anything is written, and what a reading brings.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::ids::AccountId;

use super::{
    Engine,
    account::Stage,
    image::{Image, Reading},
};
use crate::{
    arena::Key,
    io::Notice,
    job::Failure,
    time::{Instant, Millis},
};

impl Engine {
    /// After a refusal to read, it is tried again after this time.
    const UNREADABLE_FOR: Millis = Millis::from_secs(10 * 60);

    /// Reading succeeded.
    pub(super) fn shares_read(&mut self, now: Instant, image: Key<Image>, began: Instant, accounts: Vec<AccountId>) {
        let found = &mut self.images[image];
        found.read.attempts = 0;
        found.read.refused = None;
        // Whoever is not served by this one asks again.
        found.read.wanted = None;
        if found.reading.as_ref().is_some_and(|reading| reading.began > began) {
            return;
        }
        let reading = Reading::new(began, accounts, self.limits.cap);
        found.quota.seen = found.quota.seen.max(u32::try_from(reading.accounts.len()).unwrap_or(u32::MAX));
        found.reading = Some(reading);
        self.count_present(image);
        self.look_again(now, image);
    }

    /// Reading failed. After as many tries as an operation has, work goes on without for a while, as it does at once
    /// after a refusal that trying again would not change.
    pub(super) fn read_failed(&mut self, now: Instant, image: Key<Image>, failure: &Arc<Failure>, again: bool) {
        let attempts = self.images[image].read.attempts + 1;
        let pause = self.pause(attempts);
        let attempts_max = self.limits.attempts;
        let found = &mut self.images[image];
        found.read.attempts = attempts;
        if again && attempts < attempts_max {
            found.read.after = now + pause;
            found.want_reading(now);
            return;
        }
        found.read.attempts = 0;
        found.read.wanted = None;
        found.read.refused = Some((now + Self::UNREADABLE_FOR, failure.clone()));
        let (lane, image_id) = (found.lane, found.id);
        self.notice(lane, Notice::CannotRead { image_id, code: failure.code.clone() });
        self.look_again(now, image);
    }

    /// Decides everything anew that waited for a reading.
    fn look_again(&mut self, now: Instant, image: Key<Image>) {
        for account in core::mem::take(&mut self.images[image].checking) {
            let waits = |found: &super::account::Account| found.image == image && found.stage == Stage::Checking;
            if self.accounts.get(account).is_some_and(waits) {
                self.decide(now, account);
            }
        }
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
