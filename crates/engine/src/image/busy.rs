//! Rule 8: an image that is not ready is asked about, not written to, and its operations stay where they are.

use alloc::sync::Arc;

use super::{Busy, Image, failure};
use crate::{
    context::Context,
    io::{CallId, ImageState, Notice},
    job::{Failure, local},
    time::Millis,
};

impl Image {
    /// Between two questions a tenth of the time passes that the image was seen busy, but at least and at most this.
    const ASK_MIN: Millis = Millis::from_secs(1);
    const ASK_MAX: Millis = Millis::from_secs(10);
    /// An image that is NORMAL and yet refuses is asked about at most this rarely.
    const ROUND_MAX: Millis = Millis::from_secs(30);

    /// A write found the image busy.
    pub(super) fn image_busy(&mut self, cx: &mut Context<'_>, call: CallId, refused: &Arc<Failure>) {
        let before = self.busy.take();
        let since = before.as_ref().map_or(cx.now, |busy| busy.since);
        let rounds = before.as_ref().map_or(0, |busy| busy.rounds + 1);
        let pause = Millis(Self::ASK_MIN.0 << rounds.min(5)).min(Self::ROUND_MAX);
        // The first question is asked at once: some states never become NORMAL.
        let ask = if before.is_none() { cx.now } else { cx.now + pause };
        self.busy = Some(Busy { since, seen: cx.now, ask: Some(ask), rounds, call, failure: refused.clone() });
        if before.is_none() {
            let image_id = self.name.id;
            cx.notice(Notice::ImageBusy { image_id, code: refused.code.clone() });
        }
    }

    /// DescribeImages answered.
    pub(super) fn image_seen(&mut self, cx: &mut Context<'_>, state: &ImageState) {
        let Some(busy) = &mut self.busy else { return };
        match state {
            // Where the image is not listed, the write itself says what is the matter.
            ImageState::Normal | ImageState::Missing => busy.ask = None,
            ImageState::Pending(_) => {
                busy.seen = cx.now;
                self.ask_again(cx);
            }
            ImageState::Broken(state) => {
                let (code, request_id, call) = (busy.failure.code.clone(), busy.failure.request_id, busy.call);
                let message = alloc::format!("the image is in state {state}, which never becomes NORMAL");
                self.busy = None;
                self.fail_image(cx, None, call, &failure(&code, message, request_id));
            }
        }
    }

    pub(super) fn ask_again(&mut self, cx: &mut Context<'_>) {
        if let Some(busy) = &mut self.busy {
            let tenth = Millis(cx.now.since(busy.since).0 / 10);
            busy.ask = Some(cx.now + tenth.clamp(Self::ASK_MIN, Self::ASK_MAX));
        }
    }

    /// Fails what has waited for the image as long as it may.
    pub(super) fn busy_due(&mut self, cx: &mut Context<'_>) {
        let Some(busy) = &self.busy else { return };
        let wait = cx.lane.image_wait;
        if busy.since + wait > cx.now || self.write.is_some() {
            return;
        }
        // The image may have become ready while another worker had the lane, so a response from before fails nothing.
        if busy.seen < cx.lane.up_at {
            if let Some(ask) = self.busy.as_mut().and_then(|busy| busy.ask.as_mut()) {
                *ask = (*ask).min(cx.now);
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
        self.busy = None;
        self.fail_image(cx, None, call, &waited);
    }

    pub(crate) const fn is_busy(&self) -> bool {
        self.busy.is_some()
    }
}
