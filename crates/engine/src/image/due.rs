//! The moments at which something of an image is due.

use alloc::collections::{BTreeSet, VecDeque};

use super::store::{Account, HeldJob};
use crate::{arena::Key, time::Instant};

/// The moments of an image's accounts and jobs.
#[derive(Debug, Default)]
pub(super) struct Due {
    /// Accounts that wait until a write in doubt can no longer take effect.
    wakes: BTreeSet<(Instant, Key<Account>)>,
    /// Accounts that may be forgotten, roughly in order of time. One behind a later one is forgotten with it, which costs only
    /// memory.
    forgettable: VecDeque<(Instant, Key<Account>)>,
    deadlines: BTreeSet<(Instant, Key<HeldJob>)>,
    /// Decided jobs with a write in doubt.
    in_doubt: BTreeSet<(Instant, Key<HeldJob>)>,
}

impl Due {
    /// Decides an account again at this moment.
    pub(super) fn wake(&mut self, at: Instant, account: Key<Account>) {
        self.wakes.insert((at, account));
    }

    /// Forgets an account from this moment on.
    pub(super) fn forget(&mut self, at: Instant, account: Key<Account>) {
        // One response may schedule the same account twice in a row.
        if self.forgettable.back() != Some(&(at, account)) {
            self.forgettable.push_back((at, account));
        }
    }

    /// Expires a job at its deadline. One without a deadline has [`Instant::NEVER`].
    pub(super) fn expire(&mut self, deadline: Instant, job: Key<HeldJob>) {
        if deadline < Instant::NEVER {
            self.deadlines.insert((deadline, job));
        }
    }

    /// A job was settled before its deadline.
    pub(super) fn settled(&mut self, deadline: Instant, job: Key<HeldJob>) {
        self.deadlines.remove(&(deadline, job));
    }

    /// Settles a job when its writes can no longer take effect.
    pub(super) fn settle(&mut self, at: Instant, job: Key<HeldJob>) {
        self.in_doubt.insert((at, job));
    }

    pub(super) fn pop_wake(&mut self, now: Instant) -> Option<Key<Account>> {
        pop(&mut self.wakes, now)
    }

    pub(super) fn pop_forgettable(&mut self, now: Instant) -> Option<Key<Account>> {
        // Only the front: sorting would cost a tree node for each write, and nothing waits for this moment.
        self.forgettable.pop_front_if(|(at, _)| *at <= now).map(|(_, account)| account)
    }

    pub(super) fn pop_expired(&mut self, now: Instant) -> Option<Key<HeldJob>> {
        pop(&mut self.deadlines, now)
    }

    pub(super) fn pop_settleable(&mut self, now: Instant) -> Option<Key<HeldJob>> {
        pop(&mut self.in_doubt, now)
    }

    /// Whether a deadline has come whose job was not expired yet.
    pub(super) fn has_expired(&self, now: Instant) -> bool {
        self.deadlines.first().is_some_and(|&(at, _)| at <= now)
    }

    /// The first moment of each kind.
    pub(super) fn next(&self) -> [Option<Instant>; 4] {
        [
            self.wakes.first().map(|&(at, _)| at),
            self.forgettable.front().map(|&(at, _)| at),
            self.deadlines.first().map(|&(at, _)| at),
            self.in_doubt.first().map(|&(at, _)| at),
        ]
    }

    pub(super) fn forget_jobs(&mut self) {
        self.deadlines.clear();
        self.in_doubt.clear();
    }
}

/// Takes out the first one if its moment has come.
fn pop<T>(moments: &mut BTreeSet<(Instant, Key<T>)>, now: Instant) -> Option<Key<T>> {
    let is_due = moments.first().is_some_and(|&(at, _)| at <= now);
    if is_due { moments.pop_first().map(|(_, key)| key) } else { None }
}
