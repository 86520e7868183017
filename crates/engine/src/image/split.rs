//! A refused list that is tried in parts.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::Permission;

use super::account::Account;
use crate::{arena::Key, job::Failure, limits::SAMPLE_SIZE, time::Instant};

/// Operations of one permission that failed together.
#[derive(Debug)]
pub(super) struct Split {
    pub(super) permission: Permission,
    /// In order of arrival; some may have moved on.
    pub(super) members: Vec<Key<Account>>,
    /// Whether one of them must be at fault, so that sending all would be refused again.
    pub(super) culprit: bool,
    /// Failures in a row without a named culprit.
    pub(super) failures: u32,
    /// Nothing is sent before this moment.
    pub(super) after: Instant,
    /// A listing that began no earlier is awaited, to drop those that are as requested.
    pub(super) read_from: Option<Instant>,
    /// Whether the fault may be the caller's or the image's: then some from all over the list are tried alone.
    pub(super) sample: Option<Sample>,
    /// What the last refusal said.
    pub(super) failure: Arc<Failure>,
}

/// The lists of an image that are tried in parts, the newest last.
#[derive(Debug, Default)]
pub(super) struct Splits {
    lists: Vec<Split>,
    /// Whether the last write came from one of them: then a full list of others goes first.
    had_turn: bool,
}

/// Accounts from all over a list, tried alone: if all are refused and none was ever accepted, the fault is not an
/// account's.
#[derive(Debug)]
pub(super) struct Sample {
    /// Those not yet sent.
    pub(super) waiting: Vec<Key<Account>>,
    /// Those sent, whether decided or not.
    pub(super) tried: Vec<Key<Account>>,
    /// How many of them were refused for good.
    pub(super) refused: usize,
}

impl Split {
    pub(super) fn new(permission: Permission, members: Vec<Key<Account>>, failure: Arc<Failure>) -> Self {
        Self {
            permission,
            members,
            culprit: false,
            failures: 0,
            after: Instant::default(),
            read_from: None,
            sample: None,
            failure,
        }
    }

    /// When it has something to send; `None` while it waits for a listing.
    pub(super) const fn sendable_from(&self) -> Option<Instant> {
        if self.read_from.is_some() { None } else { Some(self.after) }
    }
}

impl Splits {
    pub(super) fn push(&mut self, split: Split) {
        self.lists.push(split);
    }

    /// Takes all of them out, to put back those that stay.
    pub(super) fn take(&mut self) -> Vec<Split> {
        core::mem::take(&mut self.lists)
    }

    /// Puts these before the ones that came meanwhile.
    pub(super) fn put_before(&mut self, mut splits: Vec<Split>) {
        splits.append(&mut self.lists);
        self.lists = splits;
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Split> {
        self.lists.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Split> {
        self.lists.iter_mut()
    }

    pub(super) fn clear(&mut self) {
        self.lists.clear();
    }

    /// When the first of them has something to send that has not now.
    pub(super) fn moments(&self) -> impl Iterator<Item = Instant> {
        self.lists.iter().filter_map(Split::sendable_from)
    }

    /// Whether one waits for its listing, and is about to continue.
    pub(super) fn is_any_awaiting(&self) -> bool {
        self.lists.iter().any(|split| split.read_from.is_some())
    }

    pub(super) const fn had_turn(&self) -> bool {
        self.had_turn
    }

    pub(super) const fn set_turn(&mut self, had_turn: bool) {
        self.had_turn = had_turn;
    }
}

impl Sample {
    /// Takes accounts evenly from all over the list.
    pub(super) fn draw(members: &mut Vec<Key<Account>>) -> Self {
        let len = members.len();
        let waiting = (0..SAMPLE_SIZE.min(len)).rev().map(|n| members.remove(n * len / SAMPLE_SIZE.min(len))).collect();
        Self { waiting, tried: Vec::new(), refused: 0 }
    }
}
