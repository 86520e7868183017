//! Why an image cannot be written at the moment: it is busy, or the key is not permitted.

use alloc::sync::Arc;

use imageshare_core::Class;

use super::{Image, failure};
use crate::{
    call::{EndedCall, Kind},
    context::{Context, LaneFacts},
    io::{CallId, ImageReadiness, Notice},
    job::{Failure, local},
    limits::{
        PERMISSION_PAUSE_MAX, PERMISSION_PAUSE_MIN, PERMISSION_REFUSALS_MIN, QUERY_PAUSE_MAX, QUERY_PAUSE_MIN,
        ROUND_PAUSE_MAX,
    },
    reaction::{Next, Reaction},
    time::{Instant, Millis},
};

/// Why writes of an image wait. A new obstacle replaces the old one: the last response counts.
#[derive(Debug)]
pub(super) enum Obstacle {
    Busy(Busy),
    NotPermitted(NotPermitted),
}

/// The image is not ready. Its state is queried, and nothing is written.
#[derive(Debug)]
pub(super) struct Busy {
    /// When this process first got such a response.
    since: Instant,
    /// When it last got one.
    seen: Instant,
    /// When to query the state; `None` while a write may be tried.
    query_at: Option<Instant>,
    /// The query in flight.
    query: Option<CallId>,
    /// How often a write was refused after the image was NORMAL.
    rounds: u32,
    /// The last refused write.
    call: CallId,
    /// Its response.
    failure: Arc<Failure>,
}

/// The key is not permitted a call that the image needs.
#[derive(Debug)]
pub(crate) struct NotPermitted {
    /// A write, or the listing that a SYNC needs.
    kind: Kind,
    /// Since when it has been refused, with other images permitted in between.
    since: Instant,
    /// How often, since then.
    refusals: u32,
    /// The last time.
    last: Instant,
    pause: Millis,
    again: Instant,
}

impl Obstacle {
    /// Whether a write has to wait.
    pub(super) fn blocks_writes(&self, now: Instant) -> bool {
        match self {
            Self::Busy(busy) => busy.query_at.is_some(),
            Self::NotPermitted(refused) => refused.kind == Kind::Write && refused.again > now,
        }
    }

    /// When to query the image's state.
    pub(super) fn query_at(&self) -> Option<Instant> {
        match self {
            Self::Busy(busy) if busy.query.is_none() => busy.query_at,
            Self::Busy(_) | Self::NotPermitted(_) => None,
        }
    }

    /// When something about it is due.
    pub(super) fn moments(&self, image_wait: Millis) -> [Option<Instant>; 2] {
        match self {
            Self::Busy(busy) => [busy.query_at, Some(busy.since + image_wait)],
            Self::NotPermitted(refused) => [Some(refused.again), None],
        }
    }
}

impl Busy {
    fn query_later(&mut self, now: Instant) {
        // A copy takes minutes to an hour: a tenth of the time so far costs few queries and finds the end within 10 %.
        let tenth = Millis(now.since(self.since).0 / 10);
        self.query_at = Some(now + tenth.clamp(QUERY_PAUSE_MIN, QUERY_PAUSE_MAX));
    }
}

impl NotPermitted {
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Since when it has been refused, with other images permitted in between.
    pub(crate) const fn since(&self) -> Instant {
        self.since
    }

    /// When it is tried again.
    pub(crate) const fn again(&self) -> Instant {
        self.again
    }
}

impl LaneFacts {
    /// The reaction to a refusal of this class. Where the API names the image, the key may be at fault if it may be another
    /// account's, or was replaced since.
    pub(super) const fn reaction_to(&self, class: Class, call: &EndedCall) -> Reaction {
        Reaction::to(class).with_key(call.trust(self.key_trust))
    }
}

impl Image {
    /// A response shows that the obstacle is gone, unless it is the same again.
    pub(super) fn obstacle_ends(&mut self, next: Next) {
        self.obstacle.take_if(|obstacle| match obstacle {
            Obstacle::Busy(_) => next != Next::WaitForImage,
            Obstacle::NotPermitted(_) => next != Next::WaitForPermission,
        });
    }

    /// A write was refused since the image is busy.
    pub(super) fn image_busy(&mut self, cx: &mut Context<'_>, call: CallId, refused: &Arc<Failure>) {
        let seen = cx.now;
        let failure = refused.clone();
        if let Some(Obstacle::Busy(busy)) = &mut self.obstacle {
            // NORMAL by the last query, and still refused: the query does not show the obstacle, so it is sent less often.
            busy.rounds += 1;
            let pause = Millis(QUERY_PAUSE_MIN.0 << busy.rounds.min(5)).min(ROUND_PAUSE_MAX);
            busy.query_at = Some(cx.now + pause);
            (busy.seen, busy.call, busy.failure) = (seen, call, failure);
            return;
        }
        // The first query is sent at once: some states never become NORMAL.
        // This replaces a refusal of the key, which has reached the image now.
        let (since, query_at) = (cx.now, Some(cx.now));
        self.obstacle = Some(Obstacle::Busy(Busy { since, seen, query_at, query: None, rounds: 0, call, failure }));
        cx.notice(Notice::ImageBusy { image_id: self.name.id, code: refused.code.clone() });
    }

    /// A query of the image's state begins.
    pub(super) fn query_begins(&mut self, call: CallId) {
        if let Some(Obstacle::Busy(busy)) = &mut self.obstacle {
            busy.query = Some(call);
        }
    }

    /// A query ended. Returns whether it was sent for the present obstacle.
    pub(super) fn take_query(&mut self, call: CallId) -> bool {
        match &mut self.obstacle {
            Some(Obstacle::Busy(busy)) => busy.query.take_if(|query| *query == call).is_some(),
            Some(Obstacle::NotPermitted(_)) | None => false,
        }
    }

    /// DescribeImages returned this state.
    pub(super) fn image_seen(&mut self, cx: &mut Context<'_>, state: &ImageReadiness) {
        let Some(Obstacle::Busy(busy)) = &mut self.obstacle else { return };
        match state {
            // For an image that is not listed, the response to a write shows the reason.
            ImageReadiness::Normal | ImageReadiness::Missing => busy.query_at = None,
            ImageReadiness::Pending(_) => {
                busy.seen = cx.now;
                busy.query_later(cx.now);
            }
            ImageReadiness::Broken(state) => {
                let (code, request_id, call) = (busy.failure.code.clone(), busy.failure.request_id, busy.call);
                let message = alloc::format!("the image is in state {state}, which never becomes NORMAL");
                self.obstacle = None;
                self.fail_image(cx, None, call, &failure(&code, message, request_id));
            }
        }
    }

    /// The query had no usable response.
    pub(super) fn query_again(&mut self, now: Instant) {
        if let Some(Obstacle::Busy(busy)) = &mut self.obstacle {
            busy.query_later(now);
        }
    }

    /// Fails what has waited for the image for `image_wait`.
    pub(super) fn busy_due(&mut self, cx: &mut Context<'_>) {
        let is_in_hand = self.in_hand();
        let Some(Obstacle::Busy(busy)) = &mut self.obstacle else { return };
        let wait = cx.lane.image_wait;
        // The response to a write in flight may show that the image is ready.
        if busy.since + wait > cx.now || self.writes.is_in_flight() {
            return;
        }
        if !is_in_hand {
            // It fails no job, and is found out again by the next write.
            self.obstacle = None;
            return;
        }
        // The image may have become ready while another worker had the lane: a response from before fails no job.
        if busy.seen < cx.lane.up_at {
            busy.query_at = busy.query_at.map(|at| at.min(cx.now));
            return;
        }
        let message = alloc::format!(
            "the image did not become ready within {} s; last answer {}: {}",
            wait.0 / 1000,
            busy.failure.code,
            busy.failure.message
        );
        let (call, waited) = (busy.call, failure(local::IMAGE_BUSY, message, busy.failure.request_id));
        self.obstacle = None;
        self.fail_image(cx, None, call, &waited);
    }

    /// The last write that was refused since the image is busy, and its response.
    pub(super) const fn busy_response(&self) -> Option<(CallId, &Arc<Failure>)> {
        match &self.obstacle {
            Some(Obstacle::Busy(busy)) => Some((busy.call, &busy.failure)),
            Some(Obstacle::NotPermitted(_)) | None => None,
        }
    }

    pub(crate) const fn is_busy(&self) -> bool {
        matches!(self.obstacle, Some(Obstacle::Busy(_)))
    }

    /// The key was not permitted a call. Returns whether the image's jobs fail: it has been refused often and long enough, and
    /// other images were permitted meanwhile.
    pub(super) fn deny(&mut self, cx: &Context<'_>, kind: Kind) -> bool {
        // A refused listing shows nothing about writes, so each kind counts for itself.
        let before = self.not_permitted().filter(|before| before.kind == kind);
        // If nothing else was permitted since the last refusal, this one shows nothing about the image.
        let is_alone = |before: &&NotPermitted| cx.lane.permitted.since(kind, before.last, cx.now);
        let (since, refusals) =
            before.filter(is_alone).map_or((cx.now, 1), |before| (before.since, before.refusals.saturating_add(1)));
        let fails_at = since + PERMISSION_PAUSE_MAX;
        if fails_at <= cx.now && refusals >= PERMISSION_REFUSALS_MIN {
            self.obstacle = None;
            return true;
        }
        let pause = match before {
            // Other images are permitted again: from now on the refusals of this one count.
            Some(_) if refusals == 2 => Millis(PERMISSION_PAUSE_MIN.0 * 2),
            Some(before) => Millis(before.pause.0 * 2).min(PERMISSION_PAUSE_MAX),
            None => PERMISSION_PAUSE_MIN,
        };
        // A refusal at that moment decides.
        let again = Some(fails_at).filter(|&at| at > cx.now).map_or(cx.now + pause, |at| at.min(cx.now + pause));
        let refused = NotPermitted { kind, since, refusals, last: cx.now, pause, again };
        self.obstacle = Some(Obstacle::NotPermitted(refused));
        false
    }

    /// The key is permitted some calls: what it was refused is tried at once.
    pub(crate) fn retry_refused(&mut self, cx: &mut Context<'_>) {
        if let Some(Obstacle::NotPermitted(refused)) = &mut self.obstacle {
            refused.again = cx.now;
        }
        self.sync_listed(cx);
    }

    /// Refusals of the key no longer count.
    pub(crate) fn forget_refusals_of_key(&mut self) {
        self.obstacle.take_if(|obstacle| matches!(obstacle, Obstacle::NotPermitted(_)));
    }

    /// A listing was permitted.
    pub(super) fn listing_permitted(&mut self) {
        if self.is_listing_refused() {
            self.obstacle = None;
        }
    }

    pub(crate) const fn not_permitted(&self) -> Option<&NotPermitted> {
        match &self.obstacle {
            Some(Obstacle::NotPermitted(refused)) => Some(refused),
            Some(Obstacle::Busy(_)) | None => None,
        }
    }

    /// Whether a SYNC waits since the key may not list the image's shares.
    pub(crate) fn is_listing_refused(&self) -> bool {
        self.not_permitted().is_some_and(|refused| refused.kind == Kind::ReadShares)
    }
}
