//! Rule 7, second part: a key that replaces another one makes no call before its account is known to be the same.

use imageshare_core::ids::AccountId;

use super::{
    Engine,
    lane::{Call, Lane, LaneState},
};
use crate::{
    io::{CallId, CloseReason, LaneId},
    limits::LaneLimits,
    time::{Instant, Millis},
};

/// Whose key a lane uses, and whose it should be.
#[derive(Debug)]
pub(super) struct KeyOwner {
    /// The account that the operator expects.
    expected: Option<AccountId>,
    /// The account of the keys so far.
    former: Option<AccountId>,
    /// The account of the newest key whose account is known.
    pub(super) account: Option<AccountId>,
    answer: OwnerAnswer,
    /// Calls wait for the answer until then.
    pub(super) wait_until: Option<Instant>,
    /// The first call that can have been made with the key in use.
    pub(super) first_call: CallId,
    /// Until then the key in use may be another account's: it replaced another key, and neither its account nor a
    /// permitted call has shown the contrary.
    unproven_until: Instant,
}

/// Whether the account of the key in use is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnerAnswer {
    Asked,
    Known,
    /// It cannot be learned.
    Unknown,
}

impl Default for KeyOwner {
    fn default() -> Self {
        let (expected, former, account, wait_until) = (None, None, None, None);
        let (answer, first_call, unproven_until) = (OwnerAnswer::Asked, CallId(0), Instant::default());
        Self { expected, former, account, answer, wait_until, first_call, unproven_until }
    }
}

impl KeyOwner {
    /// How long calls wait for the account of a key that has to be that of another one.
    const WAIT: Millis = Millis::from_secs(10);

    /// How long after it came a key whose account cannot be learned may be blamed for a refusal that names an image. One
    /// bad image that is alone in hand is held no longer.
    const UNPROVEN_FOR: Millis = Millis::from_secs(60 * 60);

    /// Whether the key in use may be another account's.
    pub(super) fn is_unproven(&self, now: Instant) -> bool {
        now < self.unproven_until
    }

    /// The key in use is of the right account.
    pub(super) fn confirm(&mut self) {
        self.unproven_until = Instant::default();
    }

    /// The account that the key in use has to be of, if that is known.
    fn required(&self) -> Option<AccountId> {
        self.expected.or(self.former)
    }

    /// The account of the key in use, and the one that it has to be of, where these differ.
    fn mismatch(&self) -> Option<(AccountId, AccountId)> {
        let (account, required) = (self.account?, self.required()?);
        (self.answer == OwnerAnswer::Known && account != required).then_some((account, required))
    }

    /// The lane comes up: what it waits for is waited for from now on.
    pub(super) fn wait_anew(&mut self, now: Instant) {
        self.wait_until = self.wait_until.map(|_| now + Self::WAIT);
    }

    /// Compares the account of the key in use with the one that it has to be of, as far as both are known.
    fn compare(&mut self, now: Instant) {
        match (self.answer, self.required()) {
            (OwnerAnswer::Asked, Some(_)) => {
                self.wait_until = self.wait_until.or(Some(now + Self::WAIT));
            }
            (OwnerAnswer::Known, required) => {
                self.wait_until = None;
                if required.is_none() || required == self.account {
                    self.former = self.account;
                }
                if required.is_some() && required == self.account {
                    self.confirm();
                }
            }
            (OwnerAnswer::Asked, None) | (OwnerAnswer::Unknown, _) => self.wait_until = None,
        }
    }
}

impl Engine {
    /// The account of a lane's key. What is ready to be sent to that account by then is left to the API, which refuses it.
    pub(super) fn own_account(&mut self, now: Instant, lane: LaneId, account: AccountId) {
        let key = self.key_of(now, lane);
        key.account = Some(account);
        key.answer = OwnerAnswer::Known;
        key.compare(now);
        self.check_key_of_lane(now, lane);
    }

    /// The account of a lane's key cannot be learned.
    pub(super) fn owner_unknown(&mut self, now: Instant, lane: LaneId) {
        let key = self.key_of(now, lane);
        key.answer = OwnerAnswer::Unknown;
        key.compare(now);
        self.check_key_of_lane(now, lane);
    }

    /// An operator says which account the lane's keys have to be of.
    pub(super) fn expect_account(&mut self, now: Instant, lane: LaneId, account: Option<AccountId>) {
        let key = self.key_of(now, lane);
        key.expected = account;
        key.compare(now);
        self.check_key_of_lane(now, lane);
    }

    /// Another key is in use from now on. What was permitted to the one before says nothing of it.
    pub(super) fn key_replaced(&mut self, now: Instant, lane: LaneId) {
        let first_call = CallId(self.next_call);
        let found = self.lane(lane);
        found.write_permitted = None;
        found.listing_permitted = None;
        found.key.answer = OwnerAnswer::Asked;
        found.key.first_call = first_call;
        found.key.unproven_until = now + KeyOwner::UNPROVEN_FOR;
        found.key.wait_until = None;
        found.key.compare(now);
        self.schedule_lane(lane);
    }

    /// The account did not become known in time.
    pub(super) fn key_due(&mut self, now: Instant, lane: LaneId) {
        if self.lane(lane).key.wait_until.is_some_and(|until| until <= now) {
            self.owner_unknown(now, lane);
        }
    }

    /// Whether a call was made with a key that another one has replaced.
    pub(super) fn is_by_former_key(&self, call: &Call) -> bool {
        self.lanes.get(&call.lane).is_some_and(|lane| call.id < lane.key.first_call)
    }

    /// Closes or opens a lane by what is known of the account of its key.
    pub(super) fn check_key_of_lane(&mut self, now: Instant, lane: LaneId) {
        let found = self.lane(lane);
        let (mismatch, is_asked) = (found.key.mismatch(), found.key.answer == OwnerAnswer::Asked);
        let closed = match &found.state {
            LaneState::Down | LaneState::Leaving | LaneState::GivenUp(_) => return,
            LaneState::Open | LaneState::Refreshing(..) => None,
            LaneState::Closed(closed) => Some(closed.reason),
        };
        match (closed, mismatch) {
            (Some(CloseReason::Account), Some(_)) => {}
            (_, Some((account, required))) => self.close_for_account(now, lane, account, required),
            (Some(CloseReason::Account), None) if is_asked => {}
            (Some(CloseReason::Account), None) => self.open_lane(now, lane, true),
            (Some(_), None) => self.probe_at(lane, now),
            (None, None) => self.resume(now, lane),
        }
        self.schedule_lane(lane);
    }

    fn close_for_account(&mut self, now: Instant, lane: LaneId, account: AccountId, required: AccountId) {
        let given_back = matches!(&self.lane(lane).state, LaneState::Closed(closed) if closed.given_back);
        let detail = alloc::format!("the key belongs to account {account} (expected account {required})");
        self.close_lane(now, lane, CloseReason::Account, detail.into(), now);
        if let LaneState::Closed(closed) = &mut self.lane(lane).state {
            closed.given_back = given_back;
        }
    }

    fn key_of(&mut self, now: Instant, lane: LaneId) -> &mut KeyOwner {
        &mut self.lanes.entry(lane).or_insert_with(|| Lane::new(LaneLimits::default(), now)).key
    }
}
