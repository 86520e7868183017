//! What is known about an account: from our own writes, and from the newest listing.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::Permission;

use super::{Image, store::Account};
use crate::{
    arena::Key,
    context::Context,
    job::{Failure, local},
    limits::LISTING_AGE_MAX,
    time::{Instant, Millis},
};

/// The state of an account as far as it is known.
///
/// | our last accepted write | newest listing | writes that may be applied | known |
/// |---|---|---|---|
/// | none, or the listing began the read lag after it | shows the account, or is complete | none, or to the same state, or the listing began the read lag after them | `Listed` |
/// | the same | the same | others | unknown |
/// | the same | missing, or does not show the account and may be cut | any | unknown |
/// | any other | any | none, or to the same state | `Written` |
/// | any other | any | others | unknown |
///
/// Unknown is `None`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// By a listing that began then.
    Listed(Permission, Instant),
    /// By a response to our own write. Has the time when the response arrived or, for the operation that the write
    /// completes, when the write began.
    Written(Permission, Instant),
}

/// Our own writes for an account. Exists only once one was sent, and is dropped when it no longer matters, so that the many
/// accounts that merely wait stay small.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The last accepted write, and when its response arrived.
    accepted: Option<(Permission, Instant)>,
    /// Writes besides the accepted one that may have been applied, at that moment at the latest: a list was refused, there
    /// was no response, or another writer may have changed the account since. The permission is `None` if they requested
    /// different ones.
    maybe_applied: Option<(Option<Permission>, Instant)>,
    /// Writes without a response: they may still take effect until that moment.
    in_doubt: Option<(Permission, Instant)>,
    final_failure: Option<FinalFailure>,
}

/// An operation used up its tries, or was refused after a write that may have been applied: it fails unless a listing shows
/// that it is done.
#[derive(Clone, Debug)]
pub(super) struct FinalFailure {
    /// The listing must begin no earlier than this.
    from: Instant,
    /// The place in arrival of the first job that arrived after the failure.
    seq: u64,
    failure: Arc<Failure>,
}

impl FinalFailure {
    pub(super) const fn new(from: Instant, seq: u64, failure: Arc<Failure>) -> Self {
        Self { from, seq, failure }
    }

    /// The listing that decides begins no earlier than this.
    pub(super) const fn from(&self) -> Instant {
        self.from
    }

    pub(super) const fn failure(&self) -> &Arc<Failure> {
        &self.failure
    }

    /// Whether the job at this place in arrival was tried with the others.
    pub(super) const fn is_of(&self, seq: u64) -> bool {
        seq < self.seq
    }
}

impl Known {
    pub(super) const fn permission(self) -> Permission {
        match self {
            Self::Listed(permission, _) | Self::Written(permission, _) => permission,
        }
    }

    pub(super) const fn since(self) -> Instant {
        match self {
            Self::Listed(_, since) | Self::Written(_, since) => since,
        }
    }

    pub(super) const fn is_listed(self) -> bool {
        matches!(self, Self::Listed(..))
    }
}

impl History {
    /// Writes that are in doubt at this moment, and until when.
    pub(super) fn in_doubt_at(&self, now: Instant) -> Option<(Permission, Instant)> {
        self.in_doubt.filter(|&(_, until)| until > now)
    }

    /// When the last write in doubt could no longer take effect.
    pub(super) fn in_doubt_until(&self) -> Option<Instant> {
        self.in_doubt.map(|(_, until)| until)
    }

    /// When writes that may have been applied were applied at the latest.
    pub(super) fn maybe_applied_until(&self) -> Option<Instant> {
        self.maybe_applied.map(|(_, until)| until)
    }

    /// Whether a write was sent whose effect is unknown.
    pub(super) const fn is_any_unknown(&self) -> bool {
        self.maybe_applied.is_some() || self.in_doubt.is_some()
    }

    /// A write was accepted, or a listing showed its effect.
    pub(super) fn accept(&mut self, permission: Permission, at: Instant) {
        self.accepted = Some((permission, at));
        // An earlier write in doubt may still take effect, which matters if another writer changes the account before.
        self.maybe_applied = self.in_doubt_at(at).map(|(permission, until)| (Some(permission), until));
    }

    /// A write may have been applied, at that moment at the latest.
    pub(super) fn note_maybe_applied(&mut self, permission: Permission, at: Instant) {
        self.maybe_applied = Some(match self.maybe_applied {
            Some((before, until)) if before != Some(permission) => (None, until.max(at)),
            Some((_, until)) => (Some(permission), until.max(at)),
            None => (Some(permission), at),
        });
    }

    /// A write without a response may take effect until then.
    fn put_in_doubt(&mut self, permission: Permission, until: Instant) {
        // Only the same permission is sent while a write is in doubt.
        let same = self.in_doubt.filter(|&(before, _)| before == permission);
        let until = same.map_or(until, |(_, before)| before.max(until));
        self.in_doubt = Some((permission, until));
        self.note_maybe_applied(permission, until);
    }

    /// Another writer may have changed the account: our accepted write is only one that a listing may not show yet.
    pub(super) fn distrust(&mut self) {
        if let Some((permission, at)) = self.accepted.take() {
            self.note_maybe_applied(permission, at);
        }
    }

    pub(super) const fn final_failure(&self) -> Option<&FinalFailure> {
        self.final_failure.as_ref()
    }

    pub(super) fn set_final_failure(&mut self, failure: FinalFailure) {
        self.final_failure = Some(failure);
    }

    /// A new operation begins. Returns whether the one before had a final failure.
    pub(super) fn clear_final_failure(&mut self) -> bool {
        self.final_failure.take().is_some()
    }

    /// An outage used up the tries. Returns whether the operation had failed by a missing response.
    pub(super) fn forgive_final_failure(&mut self) -> bool {
        self.final_failure.take_if(|last| *last.failure.code == *local::NO_ANSWER).is_some()
    }

    /// When it no longer matters: nothing is in doubt, and any listing that began before our last write is too old to use.
    pub(super) fn expires(&self, read_lag: Millis) -> Instant {
        // The operation still needs it; it is cleared when the next one begins.
        if self.final_failure.is_some() {
            return Instant::NEVER;
        }
        // The oldest listing in use began `LISTING_AGE_MAX` ago, and shows a state from up to `read_lag` before that.
        let accepted = self.accepted.map(|(_, at)| at);
        let last = [accepted, self.maybe_applied_until(), self.in_doubt_until()].into_iter().flatten().max();
        last.map_or(Instant(0), |at| at + read_lag + LISTING_AGE_MAX)
    }
}

impl Image {
    /// What is known about an account. [`Known`] has the table.
    pub(super) fn known(&self, cx: &Context<'_>, account: Key<Account>) -> Option<Known> {
        let listing = self.listings.newest();
        let history = self.store.history(account);
        let accepted = history.and_then(|history| history.accepted);
        // Until a listing can show our write, it may show the state before it, and our response is newer.
        let own = accepted.filter(|&(_, at)| listing.is_none_or(|listing| listing.began() < at + cx.limits.read_lag));
        let known = match own {
            Some((permission, at)) => Some(Known::Written(permission, at)),
            None => listing.and_then(|listing| {
                let is_shared = listing.shows(self.store.id(account))?;
                Some(Known::Listed(Permission::of_presence(is_shared), listing.began()))
            }),
        };
        // A write in doubt is one of these, so the table needs no column for it.
        let Some((tried, at)) = history.and_then(|history| history.maybe_applied) else { return known };
        // A write that may have been applied changes nothing if it requested the known state. Otherwise only a listing shows it.
        known.filter(|known| {
            Some(known.permission()) == tried || (known.is_listed() && known.since() >= at + cx.limits.read_lag)
        })
    }

    /// A write of these accounts may have been applied by now.
    pub(super) fn note_maybe_applied(&mut self, cx: &Context<'_>, permission: Permission, members: &[Key<Account>]) {
        for &member in members {
            self.store.history_mut(member).note_maybe_applied(permission, cx.now);
            self.schedule_forgetting(cx, member);
        }
    }

    /// There was no response: a write that was sent may take effect until `write_lag` later. Where another worker may take
    /// over, the jobs of its operations are not settled before.
    pub(super) fn put_in_doubt(
        &mut self,
        cx: &Context<'_>,
        sent_at: Instant,
        permission: Permission,
        members: &[Key<Account>],
    ) {
        let until = sent_at + cx.limits.write_lag;
        for &member in members {
            // The account keeps the doubt when its jobs are lost: the write is under way all the same.
            self.store.history_mut(member).put_in_doubt(permission, until);
            self.schedule_forgetting(cx, member);
            // An operation that began after the write, for the opposite change, is not the one in doubt.
            let mut next = self.store.front(member).filter(|_| self.store.requested(member) == Some(permission));
            while let Some(item) = next {
                self.store.put_in_doubt(item, until);
                next = self.store.next_in_operation(item);
            }
        }
    }

    /// Whether a write was sent for the operation and its effect is unknown. A refusal of the call itself, and not of its
    /// accounts, leaves none.
    pub(super) fn may_be_applied(&self, account: Key<Account>) -> bool {
        let is_unknown = || self.store.history(account).is_some_and(History::is_any_unknown);
        // An operation that began after the write in flight, for the opposite change, has none.
        let is_in_flight = self.is_in_flight(account) && self.store.requested(account) == self.writes.permission();
        // A history alone is not enough: it may be that of an earlier operation, which has its own outcome.
        is_in_flight || (self.store.sends(account) > 0 && is_unknown())
    }

    /// Schedules the moment when the history of an account no longer matters.
    pub(super) fn schedule_forgetting(&mut self, cx: &Context<'_>, account: Key<Account>) {
        let expires = self.store.history(account).map(|history| history.expires(cx.limits.read_lag));
        if let Some(at) = expires.filter(|&at| at < Instant::NEVER) {
            self.due.forget(at, account);
        }
    }

    /// Schedules these moments again, since another read lag moves them.
    pub(crate) fn read_lag_changed(&mut self, cx: &Context<'_>) {
        for account in self.store.accounts().map(|(_, account)| account).collect::<Vec<_>>() {
            self.schedule_forgetting(cx, account);
        }
    }

    /// Forgets accounts of a write whose jobs were lost while it was in flight.
    pub(super) fn forget_accounts(&mut self, cx: &Context<'_>, accounts: &[Key<Account>]) {
        for &account in accounts {
            self.forget_account(cx, account);
        }
    }

    /// Drops the history of an account if it no longer matters, and then the account if no job names it.
    pub(super) fn forget_account(&mut self, cx: &Context<'_>, account: Key<Account>) {
        if !self.store.contains(account) {
            return;
        }
        // A later write has moved the moment, and has scheduled its own.
        if self.store.history(account).is_some_and(|history| history.expires(cx.limits.read_lag) > cx.now) {
            return;
        }
        // If no listing comes before the operation ends, its outcome depends on what was sent for it, however long ago.
        if self.is_in_flight(account) || self.may_be_applied(account) {
            return;
        }
        self.store.drop_history(account);
        self.store.drop_if_idle(account);
    }
}
