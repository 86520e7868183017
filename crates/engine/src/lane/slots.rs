//! The pace of one kind of calls of a lane, and the images that wait for it.

use alloc::collections::VecDeque;

use crate::{arena::Key, images::Entry, io::CallId, pacer::Pacer, time::Instant};

/// The slots of one kind of calls.
#[derive(Debug)]
pub(super) struct Slots {
    pacer: Pacer,
    /// Images that want such a call, in turn.
    queue: VecDeque<Key<Entry>>,
    /// When the next slot is on the schedule.
    armed: Option<Instant>,
    /// The call that is not yet written: the next one waits for it, since its slot is taken when it is written.
    unsent: Option<CallId>,
}

impl Slots {
    pub(super) fn new(rate: f64, now: Instant) -> Self {
        Self { pacer: Pacer::new(rate, now), queue: VecDeque::new(), armed: None, unsent: None }
    }

    /// Starts the pace again: another worker may have sent calls until now.
    pub(super) fn restart(&mut self, rate: f64, now: Instant) {
        self.pacer = Pacer::new(rate, now);
    }

    pub(super) fn set_limit(&mut self, rate: f64) {
        self.pacer.set_limit(rate);
    }

    /// Calls a second that are allowed now.
    pub(super) fn rate(&self, now: Instant) -> f64 {
        self.pacer.rate(now)
    }

    /// The next slot.
    pub(super) const fn next(&self) -> Instant {
        self.pacer.next()
    }

    /// Whether a call waits to be written.
    pub(super) const fn is_taken(&self) -> bool {
        self.unsent.is_some()
    }

    /// Whether a call may be made now.
    pub(super) fn is_free(&self, now: Instant) -> bool {
        !self.is_taken() && self.next() <= now
    }

    pub(super) fn push(&mut self, image: Key<Entry>) {
        self.queue.push_back(image);
    }

    pub(super) fn pop(&mut self) -> Option<Key<Entry>> {
        self.queue.pop_front()
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Returns the next slot if an image waits for it and it is not on the schedule yet. It is then.
    pub(super) fn arm(&mut self) -> Option<Instant> {
        if self.queue.is_empty() || self.is_taken() || self.armed.is_some() {
            return None;
        }
        self.armed = Some(self.next());
        self.armed
    }

    /// The slot on the schedule has come.
    pub(super) fn disarm(&mut self) {
        self.armed = None;
    }

    pub(super) fn begin(&mut self, call: CallId) {
        self.unsent = Some(call);
    }

    /// A request was written, or ended without that: its slot is taken. Returns whether it was the one that was awaited.
    pub(super) fn written(&mut self, now: Instant, call: CallId) -> bool {
        if self.unsent != Some(call) {
            return false;
        }
        self.unsent = None;
        self.pacer.sent(now);
        true
    }

    pub(super) fn answered(&mut self, now: Instant, is_throttled: bool) {
        self.pacer.answered(now, is_throttled);
    }
}
