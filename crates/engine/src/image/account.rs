//! An account of an image: its items in order, and what is known of it from our own writes.

use alloc::sync::Arc;

use imageshare_core::{Permission, ids::AccountId};

use super::held_job::HeldJob;
use crate::{
    arena::Key,
    job::Failure,
    time::{Instant, Millis},
};

/// One job's item for one account.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) job: Key<HeldJob>,
    pub(super) account: Key<Account>,
    /// The item of a later job for the same account.
    pub(super) next_in_account: Option<Key<Self>>,
    /// The same job's item for another account.
    pub(super) next_in_job: Option<Key<Self>>,
    pub(super) permission: Permission,
    pub(super) state: ItemState,
    /// Whether a SYNC added it for an account that is listed and has to go.
    pub(super) extra: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemState {
    Open,
    /// Unchanged, by a listing that may show the state from before the lane came up. Provisional, and open again as soon
    /// as an opposite operation of its account follows, since nothing that is read after that one shows whether it was so.
    Assumed,
    /// Done, unless a listing to come says otherwise at a takeover check: the outcome it will have then.
    Early(Done),
    Done(Done),
    /// The reason is in [`super::Engine::failures`].
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Changed,
    Unchanged,
}

impl ItemState {
    /// The outcome of an item that a listing to come may open again.
    pub(super) const fn early(self) -> Option<Done> {
        match self {
            Self::Assumed => Some(Done::Unchanged),
            Self::Early(done) => Some(done),
            Self::Open | Self::Done(_) | Self::Failed => None,
        }
    }
}

/// One account of one image. Lives as long as a job names it or something about it has to be remembered.
///
/// The open items at its front that want the same are its operation: sent once, settling all of them.
#[derive(Debug)]
pub(super) struct Account {
    pub(super) id: AccountId,
    /// The first item of a job that is not settled.
    pub(super) head: Option<Key<Item>>,
    /// The first open item.
    pub(super) front: Option<Key<Item>>,
    pub(super) tail: Option<Key<Item>>,
    pub(super) history: Option<Key<History>>,
    /// The place in arrival under which the operation stands among the ready ones.
    pub(super) seq: u64,
    pub(super) stage: Stage,
    /// How many writes were sent for the operation.
    pub(super) sends: u8,
    /// Failed tries of the operation, alone.
    pub(super) attempts: u8,
}

/// Where an account's operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is no operation.
    Idle,
    /// It waits for a listing.
    Checking,
    /// It may be sent with any others of its kind.
    Ready(Permission),
    /// It is being isolated: sent as its split decides.
    Split,
    /// It is in the write in flight.
    InFlight,
    /// It waits for an opposite write, in doubt, to be past write_lag.
    Waiting,
}

/// What is known of an account from our own writes. Exists only once one was sent, and is dropped when it is too old to
/// matter, so that the many that merely wait stay small.
#[derive(Debug, Default)]
pub(super) struct History {
    /// The last write that was accepted, and when it was answered.
    pub(super) accepted: Option<(Permission, Instant)>,
    /// Writes after the accepted one that may have been applied, at that moment at the latest: refused as part of a
    /// list, or without an answer. The permission is what all of them asked for, if they agree.
    pub(super) maybe_applied: Option<(Option<Permission>, Instant)>,
    /// Writes without an answer: until that moment they may still be applied.
    pub(super) in_doubt: Option<(Permission, Instant)>,
    /// The operation has used up its tries: it fails with this unless a listing, begun no earlier, finds it as requested.
    /// The number is the place in arrival of the first job that came after the failure.
    pub(super) final_failure: Option<(Instant, u64, Arc<Failure>)>,
}

impl History {
    /// The doubt that still holds.
    pub(super) fn in_doubt_at(&self, now: Instant) -> Option<(Permission, Instant)> {
        self.in_doubt.filter(|&(_, until)| until > now)
    }

    /// A write was accepted, or a listing has shown its work.
    pub(super) fn accept(&mut self, permission: Permission, at: Instant) {
        self.accepted = Some((permission, at));
        // An earlier write in doubt may still land, which matters if another writer changes the account before it does.
        self.maybe_applied = self.in_doubt_at(at).map(|(doubted, until)| (Some(doubted), until));
    }

    /// A write may have been applied, at that moment at the latest.
    pub(super) fn note_maybe_applied(&mut self, permission: Permission, at: Instant) {
        self.maybe_applied = Some(match self.maybe_applied {
            Some((before, until)) if before != Some(permission) => (None, until.max(at)),
            Some((_, until)) => (Some(permission), until.max(at)),
            None => (Some(permission), at),
        });
    }

    /// When nothing of it matters any more: neither a doubt nor a listing that is too old to show our last write, and
    /// still young enough to be used.
    pub(super) fn expires(&self, read_lag: Millis, reading_age_max: Millis) -> Instant {
        let matters = |at: Instant| at + read_lag + reading_age_max;
        let accepted = self.accepted.map_or(Instant(0), |(_, at)| matters(at));
        let maybe_applied = self.maybe_applied.map_or(Instant(0), |(_, at)| matters(at));
        let doubt = self.in_doubt.map_or(Instant(0), |(_, until)| matters(until));
        if self.final_failure.is_some() { Instant::NEVER } else { accepted.max(maybe_applied).max(doubt) }
    }
}

impl Account {
    pub(super) const fn new(id: AccountId) -> Self {
        Self {
            id,
            head: None,
            front: None,
            tail: None,
            history: None,
            seq: 0,
            stage: Stage::Idle,
            sends: 0,
            attempts: 0,
        }
    }
}
