//! The pace of one kind of calls of a lane, and the images that wait for a slot.

use alloc::collections::VecDeque;

use crate::{
    arena::Key,
    images::Entry,
    io::CallId,
    pacer::{Pacer, Throttled},
    time::Instant,
};

/// The slots of one kind of calls.
#[derive(Debug)]
pub(crate) struct Slots {
    pacer: Pacer,
    /// Images that want such a call, in turn.
    queue: VecDeque<Key<Entry>>,
    /// The slot that is on the schedule.
    armed: Option<Instant>,
    /// The call that is not written yet. The next one waits for it, since its slot is used when it is written.
    unsent: Option<CallId>,
}

impl Slots {
    pub(crate) fn new(rate: f64, now: Instant) -> Self {
        Self { pacer: Pacer::new(rate, now), queue: VecDeque::new(), armed: None, unsent: None }
    }

    /// Restarts the pace: another worker may have sent calls until now.
    pub(crate) fn restart(&mut self, rate: f64, now: Instant) {
        self.pacer = Pacer::new(rate, now);
    }

    pub(crate) fn set_limit(&mut self, rate: f64) {
        self.pacer.set_limit(rate);
    }

    /// Calls a second now.
    pub(crate) fn rate(&self, now: Instant) -> f64 {
        self.pacer.rate(now)
    }

    /// The next slot.
    pub(crate) const fn next(&self) -> Instant {
        self.pacer.next()
    }

    /// Whether a call waits to be written.
    pub(crate) const fn is_taken(&self) -> bool {
        self.unsent.is_some()
    }

    /// Whether a call may be made now.
    pub(crate) fn is_free(&self, now: Instant) -> bool {
        !self.is_taken() && self.next() <= now
    }

    pub(crate) fn push(&mut self, image: Key<Entry>) {
        self.queue.push_back(image);
    }

    pub(crate) fn pop(&mut self) -> Option<Key<Entry>> {
        self.queue.pop_front()
    }

    pub(crate) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Returns the next slot if it has to be put on the schedule: an image waits for it.
    pub(crate) fn arm(&mut self) -> Option<Instant> {
        // A call that is not written yet moves the next slot, so that one is armed afterwards.
        if self.queue.is_empty() || self.is_taken() || self.armed.is_some() {
            return None;
        }
        self.armed = Some(self.next());
        self.armed
    }

    /// The slot on the schedule has come.
    pub(crate) fn disarm(&mut self) {
        self.armed = None;
    }

    pub(crate) fn begin(&mut self, call: CallId) {
        self.unsent = Some(call);
    }

    /// A request was written, or its call ended: its slot is used. Returns whether the next one was waiting for it.
    pub(crate) fn written(&mut self, now: Instant, call: CallId) -> bool {
        // A call that failed before it was written is reported by its end, and one that was written by both.
        if self.unsent != Some(call) {
            return false;
        }
        self.unsent = None;
        self.pacer.sent(now);
        true
    }

    pub(crate) fn call_ended(&mut self, now: Instant, throttled: Throttled) {
        self.pacer.call_ended(now, throttled);
    }
}
