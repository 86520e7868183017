//! Rule 7: a key that may not write to an image. Others go on; the lane closes only where nothing is permitted.

use alloc::sync::Arc;

use super::{
    Engine,
    image::{Denied, Image},
    lane::LaneState,
};
use crate::{
    arena::Key,
    io::{CloseReason, LaneId},
    job::Failure,
    time::{Instant, Millis},
};

impl Engine {
    /// The first pause before a write that was not permitted is tried again; it doubles.
    const DENIED_PAUSE: Millis = Millis::from_secs(30);
    /// The longest such pause, and how long an image is not permitted before its jobs fail where others are.
    pub(super) const DENIED_MAX: Millis = Millis::from_secs(10 * 60);

    /// A write was refused because the key may not do it.
    pub(super) fn image_denied(&mut self, now: Instant, image: Key<Image>, refused: &Arc<Failure>) {
        let found = &mut self.images[image];
        let lane = found.lane;
        let (since, pause) = match &found.denied {
            Some(denied) => (denied.since, Millis(denied.pause.0 * 2).min(Self::DENIED_MAX)),
            None => (now, Self::DENIED_PAUSE),
        };
        found.denied = Some(Denied { since, pause, again: now + pause, failure: refused.clone() });
        let open = matches!(self.lane(lane).state, LaneState::Open);
        if open && !self.lane(lane).write_allowed && self.all_denied(image) {
            let detail = alloc::format!("{}: {}", refused.code, refused.message);
            self.close_lane(now, lane, CloseReason::Permission, detail.into(), now);
        }
    }

    /// A lane that is closed because nothing in hand was permitted opens for an image that was not tried yet.
    pub(super) fn try_new_image(&mut self, now: Instant, lane: LaneId, image: Key<Image>) {
        let untried = self.images[image].denied.is_none();
        match &self.lane(lane).state {
            LaneState::Closed(closed) if untried && closed.reason == CloseReason::Permission => {
                self.open_lane(now, lane, true);
            }
            _ => {}
        }
    }

    fn all_denied(&self, image: Key<Image>) -> bool {
        let in_hand = self.lane_of(image).images.iter().filter_map(|&image| self.images.get(image));
        in_hand.filter(|image| image.in_hand()).all(|image| image.denied.is_some())
    }

    /// Fails what was not permitted for as long as it is tried, where other writes of the lane were.
    pub(super) fn denied_due(&mut self, now: Instant, image: Key<Image>) {
        let found = &self.images[image];
        let Some(denied) = &found.denied else { return };
        let waited = denied.since + Self::DENIED_MAX <= now && found.write.is_none();
        if !waited || !self.lane_of(image).write_allowed {
            return;
        }
        let refused = denied.failure.clone();
        self.images[image].denied = None;
        self.fail_image(now, image, None, &refused);
    }
}
