//! Rule 1: who has an image is read before anything is written, and what a reading brings.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::ids::AccountId;

use super::{Image, Reading, RefusedListing, backlog::Step};
use crate::{
    call::{EndedCall, Kind},
    context::{Context, Effect},
    io::Notice,
    job::Failure,
    limits::Limits,
    reaction::{Next, Reaction},
    time::{Instant, Millis},
};

impl Image {
    /// After a refusal that trying again would not change, work goes on without a listing for this time.
    const UNREADABLE_FOR: Millis = Millis::from_secs(10 * 60);
    /// While listings are refused, a SYNC asks for its own at most this often.
    pub(super) const SYNC_LISTING_PAUSE: Millis = Millis::from_secs(30);

    /// Reading succeeded.
    pub(super) fn shares_read(&mut self, cx: &mut Context<'_>, call: &EndedCall, accounts: Vec<AccountId>) {
        let began = call.began;
        let is_key_proven = !call.by_former_key && !cx.lane.is_key_unproven;
        self.read.attempts = 0;
        self.read.refused = None;
        self.denied.take_if(|denied| denied.kind == Kind::ReadShares);
        // Whoever is not served by this one asks again.
        self.read.wanted = None;
        if self.reading.as_ref().is_some_and(|reading| reading.began > began) {
            return;
        }
        let reading = Reading::new(began, accounts, cx.limits.cap, is_key_proven);
        self.quota.seen = self.quota.seen.max(u32::try_from(reading.accounts.len()).unwrap_or(u32::MAX));
        self.reading = Some(reading);
        self.count_present(cx);
        self.review_cap(cx);
        self.look_again(cx);
    }

    /// Reading failed in a way that may pass. After as many tries as an operation has, work goes on without until the
    /// next pause is over.
    pub(super) fn read_failed(&mut self, cx: &mut Context<'_>, call: &EndedCall, failure: Arc<Failure>) {
        let attempts = self.read.attempts + 1;
        self.read.attempts = attempts;
        if attempts < cx.limits.attempts {
            let pause = cx.pause(attempts);
            self.read.after = cx.now + pause;
            self.want_reading(cx.now);
            return;
        }
        // It has to outlast this moment, in which work goes on without.
        let until = cx.now + cx.limits.longest_pause(attempts).max(Millis(1));
        self.go_on_without(cx, call, until, failure, true);
    }

    /// Reading was refused, and trying again at once would not change that. Where the key may be at fault, a SYNC waits
    /// and asks again.
    pub(super) fn read_refused(
        &mut self,
        cx: &mut Context<'_>,
        call: &EndedCall,
        reaction: Reaction,
        failure: &Arc<Failure>,
    ) {
        let is_about_key = reaction.next == Next::WaitForPermission;
        let is_denied = is_about_key && self.is_needed_by_sync(call);
        let is_final = !is_about_key || (is_denied && self.deny(cx, Kind::ReadShares));
        self.go_on_without(cx, call, cx.now + Self::UNREADABLE_FOR, failure.clone(), is_final);
        if is_denied && !is_final {
            cx.effects.push(Effect::NotPermitted(failure.clone()));
        }
    }

    fn go_on_without(
        &mut self,
        cx: &mut Context<'_>,
        call: &EndedCall,
        until: Instant,
        failure: Arc<Failure>,
        is_final: bool,
    ) {
        self.read.attempts = 0;
        self.read.wanted = None;
        let (began, seq, code) = (call.began, call.seq, failure.code.clone());
        let before = self.read.refused.replace(RefusedListing { began, seq, at: cx.now, until, failure, is_final });
        let image_id = self.name.id;
        if before.is_none_or(|before| before.failure.code != code) {
            cx.notice(Notice::CannotRead { image_id, code });
        }
        self.look_again(cx);
    }

    /// Decides everything anew that waited for a reading.
    fn look_again(&mut self, cx: &mut Context<'_>) {
        let waiting = core::mem::take(&mut self.checking);
        self.add_backlog(waiting.into(), Step::Decide);
        self.work_off(cx);
    }

    /// All that waited for a reading is decided anew.
    pub(super) fn reading_decided(&mut self, cx: &mut Context<'_>) {
        self.drop_done_members(cx);
        self.check_provisional(cx);
        self.sync_read(cx);
    }

    /// A reading that is too old to call anything unchanged is worth nothing to jobs that come after a quiet time.
    pub(super) fn forget_old_reading(&mut self, cx: &mut Context<'_>) {
        if self.reading.as_ref().is_some_and(|reading| reading.began + Limits::READING_AGE_MAX < cx.now) {
            self.reading = None;
        }
    }
}
