//! The account of a lane's key. A key that replaces another makes no call before its account is known to be the same.

use alloc::vec::Vec;

use imageshare_core::ids::AccountId;

use super::{Change, ClosedJobs, Lane, Permitted};
use crate::{
    io::{CallId, CloseReason},
    limits::{KEY_OWNER_WAIT, KEY_UNPROVEN_FOR},
    reaction::KeyTrust,
    time::Instant,
};

/// The account that a lane's key belongs to, and the one that it must belong to.
#[derive(Debug)]
pub(super) struct KeyOwner {
    /// The account that the operator expects.
    expected: Option<AccountId>,
    /// The account of the keys so far.
    former: Option<AccountId>,
    /// The account of the newest key with a known account.
    account: Option<AccountId>,
    answer: OwnerAnswer,
    /// Calls wait for the answer until then.
    wait_until: Option<Instant>,
    /// The first call that may be signed with the key in use.
    first_call: CallId,
    /// Until then the key in use may be another account's: it replaced another key, and neither its account nor a permitted call
    /// shows the contrary.
    unproven_until: Instant,
}

/// Whether the account of the key in use is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OwnerAnswer {
    Asked,
    Known,
    /// It cannot be determined.
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
    pub(super) fn trust(&self, now: Instant) -> KeyTrust {
        if now < self.unproven_until { KeyTrust::Unproven } else { KeyTrust::Proven }
    }

    /// The account of the newest key with a known account.
    pub(super) const fn account(&self) -> Option<AccountId> {
        self.account
    }

    /// Until when calls wait for the account of the key in use.
    pub(super) const fn wait_until(&self) -> Option<Instant> {
        self.wait_until
    }

    /// The key in use belongs to the right account.
    pub(super) fn confirm(&mut self) {
        self.unproven_until = Instant::default();
    }

    /// The account that the key in use must belong to, if it is known.
    fn required(&self) -> Option<AccountId> {
        self.expected.or(self.former)
    }

    /// The account of the key in use and the required one, if they differ.
    fn mismatch(&self) -> Option<(AccountId, AccountId)> {
        // Until the account of the key in use is known, `account` may be that of a former key.
        let (account, required) = (self.account?, self.required()?);
        (self.answer == OwnerAnswer::Known && account != required).then_some((account, required))
    }

    /// The lane comes up: the wait starts again.
    pub(super) fn wait_anew(&mut self, now: Instant) {
        self.wait_until = self.wait_until.map(|_| now + KEY_OWNER_WAIT);
    }

    /// Compares the account of the key in use with the required one, as far as both are known.
    fn compare(&mut self, now: Instant) {
        match (self.answer, self.required()) {
            (OwnerAnswer::Asked, Some(_)) => {
                self.wait_until = self.wait_until.or(Some(now + KEY_OWNER_WAIT));
            }
            (OwnerAnswer::Known, required) => {
                self.wait_until = None;
                // A wrong account must not become the one that later keys are compared with.
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

impl Lane {
    /// The account of the key in use.
    pub(crate) fn own_account(&mut self, now: Instant, account: AccountId) {
        self.key.account = Some(account);
        self.key.answer = OwnerAnswer::Known;
        self.key.compare(now);
    }

    /// The account of the key in use cannot be determined.
    pub(crate) fn owner_unknown(&mut self, now: Instant) {
        self.key.answer = OwnerAnswer::Unknown;
        self.key.compare(now);
    }

    /// The operator requires this account.
    pub(crate) fn expect_account(&mut self, now: Instant, account: Option<AccountId>) {
        self.key.expected = account;
        self.key.compare(now);
    }

    /// Another key is in use from this call on. What the former key was permitted shows nothing about it.
    pub(crate) fn key_replaced(&mut self, now: Instant, first_call: CallId) {
        self.permitted = Permitted::default();
        self.key.answer = OwnerAnswer::Asked;
        self.key.first_call = first_call;
        self.key.unproven_until = now + KEY_UNPROVEN_FOR;
        // The wait of the former key does not count for this one.
        self.key.wait_until = None;
        self.key.compare(now);
    }

    /// Whether the account did not become known in time, and counts as unknown.
    pub(crate) fn is_owner_overdue(&self, now: Instant) -> bool {
        self.key.wait_until.is_some_and(|until| until <= now)
    }

    /// Whether a call was made with a key that another one has replaced.
    pub(crate) fn is_by_former_key(&self, call: CallId) -> bool {
        call < self.key.first_call
    }

    /// Closes or opens the lane by the account of its key. Returns whether an open lane stays open.
    pub(crate) fn check_owner(&mut self, now: Instant, changes: &mut Vec<Change>) -> bool {
        let (mismatch, is_asked) = (self.key.mismatch(), self.key.answer == OwnerAnswer::Asked);
        if !self.state.can_close() {
            return false;
        }
        match (self.state.closed().map(|closed| closed.reason), mismatch) {
            (Some(CloseReason::Account), Some(_)) => {}
            (_, Some((account, required))) => self.close_for_account(now, account, required, changes),
            // There is another key since. It may be of the wrong account too, so the lane stays closed until that is known.
            (Some(CloseReason::Account), None) if is_asked => {}
            (Some(CloseReason::Account), None) => self.open(changes),
            (Some(_), None) => self.probe_at(now),
            (None, None) => return true,
        }
        false
    }

    fn close_for_account(&mut self, now: Instant, account: AccountId, required: AccountId, changes: &mut Vec<Change>) {
        // Closing a lane again must not make it wait for jobs that were requeued before.
        let jobs = self.state.closed().map_or(ClosedJobs::Held, |closed| closed.jobs);
        let detail = alloc::format!("the key belongs to account {account} (expected account {required})");
        self.close(now, CloseReason::Account, detail.into(), now, changes);
        if let Some(closed) = self.state.closed_mut() {
            closed.jobs = jobs;
        }
    }
}
