//! Which image has its turn to call, and what follows from the end of a call.

use alloc::vec::Vec;

use super::Engine;
use crate::{
    arena::Key,
    call::{Call, EndedCall, Kind, Purpose},
    images::Entry,
    io::{CallId, Command, LaneId, Outcome},
    lane::JudgedCall,
    schedule::Alarm,
};

impl Engine {
    /// Puts the next slot of a kind on the schedule, if there is something to use it for.
    pub(super) fn arm(&mut self, lane: LaneId, kind: Kind) {
        if let Some(at) = self.lane(lane).arm(kind) {
            self.schedule.add(at, Alarm::Slot(lane, kind));
        }
    }

    pub(super) fn arm_all(&mut self, lane: LaneId) {
        for kind in Kind::ALL {
            self.arm(lane, kind);
        }
    }

    /// A slot has come: it goes to the first image in turn that still wants a call.
    pub(super) fn take_slot(&mut self, lane: LaneId, kind: Kind) {
        let now = self.now;
        if !self.lane(lane).may_call(kind) || self.draining {
            return;
        }
        // A probe, or a lane that came up again, may have moved the slot since it was put on the schedule.
        let mut declined = Vec::new();
        if self.lane(lane).slots(kind).next() <= now {
            // An image may have stopped wanting the call since it was queued. The slot then goes to the next one.
            while let Some(image) = self.lane(lane).slots_mut(kind).pop() {
                self.images.entry(image).queued[kind as usize] = false;
                if !self.enter(image, |image, cx| image.wants(cx, kind)) {
                    declined.push(image);
                } else if self.begin_call(image, kind, Purpose::Work) {
                    break;
                }
            }
        }
        // Its place in the queue may have been all that kept an image.
        for image in declined {
            self.reschedule(image);
        }
        self.arm(lane, kind);
    }

    /// Makes a call about an image. Returns whether there was something to send.
    pub(super) fn begin_call(&mut self, image: Key<Entry>, kind: Kind, purpose: Purpose) -> bool {
        let call = CallId(self.next_call);
        let action = self.enter(image, |image, cx| image.begin_call(cx, call, kind, purpose));
        let is_begun = action.is_some();
        if let Some(action) = action {
            self.next_call += 1;
            let entry = self.images.entry(image);
            entry.calls += 1;
            let lane = entry.image.name().lane;
            // The place in arrival shows later which jobs arrived too late for this call.
            let (seq, began) = (self.next_seq, self.now);
            self.calls.insert(call, Call { lane, image, kind, purpose, seq, began, sent: None });
            self.lane(lane).call_begins(call, kind);
            self.commands.push_back(Command::Call { call, lane, action });
        }
        // Last: an image without jobs is kept for the call that is in flight.
        self.reschedule(image);
        is_begun
    }

    /// A request was written: its slot is taken, and the next call of its kind may come an interval later.
    pub(super) fn call_sent(&mut self, id: CallId) {
        let now = self.now;
        let Some(call) = self.calls.get_mut(&id) else { return };
        // The first `Sent` counts. A second one would prolong the time in which the write is in doubt.
        call.sent = call.sent.or(Some(now));
        let (lane, kind) = (call.lane, call.kind);
        if self.lane(lane).slots_mut(kind).written(now, id) {
            self.arm(lane, kind);
        }
    }

    /// A call ended.
    pub(super) fn answer(&mut self, id: CallId, outcome: Outcome) {
        let Some(Call { lane, image, kind, purpose, seq, began, sent }) = self.calls.remove(&id) else { return };
        let now = self.now;
        // Before the image handles the response, which may clear it.
        let is_denied_listing = self.images.image(image).is_listing_refused();
        let by_former_key = self.lane(lane).is_by_former_key(id);
        let call = EndedCall { id, kind, seq, began, sent, by_former_key };
        self.lane(lane).call_ended(now, &call, &outcome);
        let judged = JudgedCall { call, image, purpose, is_denied_listing };
        self.change_lane(lane, |lane, now, changes| lane.judge(now, &judged, &outcome, changes));
        // The lane first: whether it is open decides which calls the image may want next.
        self.images.entry(image).calls -= 1;
        self.enter(image, |image, cx| image.call_ended(cx, &call, outcome));
        self.lane_call_ended(lane);
        self.reschedule(image);
        self.arm_all(lane);
    }
}
