//! Which jobs of an image have begun, and which wait: a SYNC is a barrier on both sides.

use alloc::collections::VecDeque;

use super::held_job::HeldJob;
use crate::arena::Key;

/// The jobs of an image in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// Jobs that have begun and are not settled.
    begun: u32,
    /// Jobs that wait: behind a SYNC, as a SYNC behind others, or for a backlog.
    waiting: VecDeque<Key<HeldJob>>,
}

impl Admission {
    /// Jobs that have begun and are not settled.
    pub(super) const fn begun(&self) -> u32 {
        self.begun
    }

    pub(super) fn is_any_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Jobs in hand.
    pub(super) fn len(&self) -> usize {
        self.begun as usize + self.waiting.len()
    }

    pub(super) fn wait(&mut self, job: Key<HeldJob>) {
        self.waiting.push_back(job);
    }

    pub(super) fn is_waiting(&self, job: Key<HeldJob>) -> bool {
        self.waiting.contains(&job)
    }

    pub(super) fn first_waiting(&self) -> Option<Key<HeldJob>> {
        self.waiting.front().copied()
    }

    pub(super) fn pop_waiting(&mut self) -> Option<Key<HeldJob>> {
        self.waiting.pop_front()
    }

    pub(super) const fn begin(&mut self) {
        self.begun += 1;
    }

    pub(super) const fn settled(&mut self) {
        self.begun -= 1;
    }

    /// Forgets all jobs. Returns those that waited.
    pub(super) fn forget(&mut self) -> VecDeque<Key<HeldJob>> {
        self.begun = 0;
        core::mem::take(&mut self.waiting)
    }
}
