//! Rule 8: an image that is not ready is asked about, not written to, and its operations stay where they are.

use alloc::sync::Arc;

use super::{
    Engine,
    image::{Busy, Image, failure},
};
use crate::{
    arena::Key,
    io::{CallId, ImageState, LaneId, Notice},
    job::{Failure, local},
    time::{Instant, Millis},
};

impl Engine {
    /// Between two questions a tenth of the time passes that the image was seen busy, but at least and at most this.
    const ASK_MIN: Millis = Millis::from_secs(1);
    const ASK_MAX: Millis = Millis::from_secs(10);
    /// An image that is NORMAL and yet refuses is asked about at most this rarely.
    const ROUND_MAX: Millis = Millis::from_secs(30);

    /// A write found the image busy.
    pub(super) fn image_busy(&mut self, now: Instant, image: Key<Image>, call: CallId, refused: &Arc<Failure>) {
        let found = &mut self.images[image];
        let before = found.busy.take();
        let since = before.as_ref().map_or(now, |busy| busy.since);
        let rounds = before.as_ref().map_or(0, |busy| busy.rounds + 1);
        let pause = Millis(Self::ASK_MIN.0 << rounds.min(5)).min(Self::ROUND_MAX);
        // The first question is asked at once: some states never become NORMAL.
        let ask = if before.is_none() { now } else { now + pause };
        found.busy = Some(Busy { since, seen: now, ask: Some(ask), rounds, call, failure: refused.clone() });
        if before.is_none() {
            let (lane, image_id) = (found.lane, found.id);
            self.notice(lane, Notice::ImageBusy { image_id, code: refused.code.clone() });
        }
    }

    /// DescribeImages answered.
    pub(super) fn image_seen(&mut self, now: Instant, image: Key<Image>, state: &ImageState) {
        let Some(busy) = &mut self.images[image].busy else { return };
        match state {
            // Where the image is not listed, the write itself says what is the matter.
            ImageState::Normal | ImageState::Missing => busy.ask = None,
            ImageState::Pending(_) => {
                busy.seen = now;
                self.ask_again(now, image);
            }
            ImageState::Broken(state) => {
                let (code, request_id, call) = (busy.failure.code.clone(), busy.failure.request_id, busy.call);
                let message = alloc::format!("the image is in state {state}, which never becomes NORMAL");
                self.images[image].busy = None;
                self.fail_image(now, image, None, call, &failure(&code, message, request_id));
            }
        }
    }

    pub(super) fn ask_again(&mut self, now: Instant, image: Key<Image>) {
        if let Some(busy) = &mut self.images[image].busy {
            let tenth = Millis(now.since(busy.since).0 / 10);
            busy.ask = Some(now + tenth.clamp(Self::ASK_MIN, Self::ASK_MAX));
        }
    }

    /// Fails what has waited for the image as long as it may.
    pub(super) fn busy_due(&mut self, now: Instant, image: Key<Image>) {
        let found = &self.images[image];
        let Some(busy) = &found.busy else { return };
        let wait = self.image_wait(found.lane);
        if busy.since + wait > now || found.write.is_some() {
            return;
        }
        // The image may have become ready while another worker had the lane, so a response from before fails nothing.
        if busy.seen < self.lane_of(image).up_at {
            if let Some(ask) = self.images[image].busy.as_mut().and_then(|busy| busy.ask.as_mut()) {
                *ask = (*ask).min(now);
            }
            return;
        }
        let message = alloc::format!(
            "the image did not become ready within {} s; last answer {}: {}",
            wait.0 / 1000,
            busy.failure.code,
            busy.failure.message
        );
        let (call, waited) = (busy.call, failure(local::IMAGE_BUSY, message, busy.failure.request_id));
        self.images[image].busy = None;
        self.fail_image(now, image, None, call, &waited);
    }

    /// How long operations wait for a busy image: less while nothing else of the lane's window can be done.
    pub(super) fn image_wait(&self, lane: LaneId) -> Millis {
        if self.is_blocked(lane) { self.limits.image_wait_blocked } else { self.limits.image_wait }
    }

    /// Whether everything that the lane's window holds waits for busy images.
    #[must_use]
    pub fn is_blocked(&self, lane: LaneId) -> bool {
        let (Some(window), Some(found)) = (self.limits.window, self.lanes.get(&lane)) else { return false };
        // A full lane gets no more jobs, so its window is what it holds.
        if found.tickets < window && !(found.full && found.tickets > 0) {
            return false;
        }
        let images = found.images.iter().filter_map(|&image| self.images.get(image));
        let waiting = images.filter(|image| image.busy.is_some()).map(|image| image.held as usize + image.behind.len());
        waiting.sum::<usize>() >= found.tickets as usize
    }
}
