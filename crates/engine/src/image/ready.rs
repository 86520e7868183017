//! Operations that may be sent, in order of arrival.

use alloc::{collections::BTreeSet, vec::Vec};

use imageshare_core::Permission;

use super::store::Account;
use crate::arena::Key;

/// The accounts whose operation may be sent with any others of its permission.
#[derive(Debug)]
pub(super) struct Ready {
    // Sorted by arrival, since operations become ready in the order of responses, splits and listings.
    cancels: BTreeSet<(u64, Key<Account>)>,
    shares: BTreeSet<(u64, Key<Account>)>,
}

impl Ready {
    pub(super) const fn new() -> Self {
        Self { cancels: BTreeSet::new(), shares: BTreeSet::new() }
    }

    const fn of(&self, permission: Permission) -> &BTreeSet<(u64, Key<Account>)> {
        match permission {
            Permission::Cancel => &self.cancels,
            Permission::Share => &self.shares,
        }
    }

    const fn of_mut(&mut self, permission: Permission) -> &mut BTreeSet<(u64, Key<Account>)> {
        match permission {
            Permission::Cancel => &mut self.cancels,
            Permission::Share => &mut self.shares,
        }
    }

    pub(super) fn insert(&mut self, permission: Permission, seq: u64, account: Key<Account>) {
        self.of_mut(permission).insert((seq, account));
    }

    pub(super) fn remove(&mut self, permission: Permission, seq: u64, account: Key<Account>) {
        self.of_mut(permission).remove(&(seq, account));
    }

    /// The one that has waited longest, and its place in arrival.
    pub(super) fn first(&self, permission: Permission) -> Option<(u64, Key<Account>)> {
        self.of(permission).first().copied()
    }

    pub(super) fn len(&self, permission: Permission) -> usize {
        self.of(permission).len()
    }

    /// The first `len` of them.
    pub(super) fn firsts(&self, permission: Permission, len: usize) -> Vec<Key<Account>> {
        self.of(permission).iter().take(len).map(|&(_, account)| account).collect()
    }

    /// All shares, in order of arrival.
    pub(super) fn shares(&self) -> impl Iterator<Item = (u64, Key<Account>)> {
        self.shares.iter().copied()
    }

    pub(super) fn clear(&mut self) {
        self.cancels.clear();
        self.shares.clear();
    }
}
