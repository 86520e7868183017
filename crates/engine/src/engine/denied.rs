//! Rule 7: a key that may not do what an image needs. Others go on; the lane closes where nothing is permitted.

use alloc::vec::Vec;

use imageshare_core::Class;

use super::{
    Engine,
    image::{Denied, Image},
    lane::{Call, Kind, Lane, LaneState},
};
use crate::{
    arena::Key,
    io::{CloseReason, LaneId},
    job::Failure,
    time::{Instant, Millis},
};

impl Lane {
    /// How long a permitted call shows that the key may do such things.
    const PERMITTED_FOR: Millis = Millis::from_secs(5 * 60);

    /// When such a call was last permitted, if that was at `since` or later and still counts. A key that may write can
    /// be trusted to be a good one by an image whose listing is refused, but not the other way around.
    fn permitted_since(&self, kind: Kind, since: Instant, now: Instant) -> Option<Instant> {
        let permitted = match kind {
            Kind::Write => self.write_permitted,
            Kind::ReadShares | Kind::ReadImage => self.write_permitted.max(self.listing_permitted),
        };
        permitted.filter(|&at| at >= since && at + Self::PERMITTED_FOR > now)
    }
}

impl Engine {
    /// The first pause before what was not permitted is tried again; it doubles.
    const DENIED_PAUSE: Millis = Millis::from_secs(30);
    /// The longest such pause, and how long an image is refused before its jobs fail where others are permitted.
    const DENIED_MAX: Millis = Millis::from_secs(10 * 60);

    /// How often it is refused before that.
    const DENIED_MIN: u32 = 5;

    /// Whether a refusal of this class may be the key's fault and not the job's. A key whose account is not known to be
    /// the right one may be refused as if there were no such image, and so may have been one that was replaced since.
    pub(super) fn is_about_key(&self, call: &Call, class: Class) -> bool {
        match class {
            Class::Permission | Class::Deployment => true,
            Class::Image => self.lane_of(call.image).key.is_unproven(self.now) || self.is_by_former_key(call),
            _ => false,
        }
    }

    /// Notes that the key may not do what an image needs. Gives whether its jobs are to fail: it has been refused for so
    /// long, others were permitted meanwhile, and it is refused still.
    pub(super) fn deny(&mut self, now: Instant, image: Key<Image>, kind: Kind) -> bool {
        let found = &self.images[image];
        let lane = self.lane_of(image);
        let before = found.denied.as_ref().filter(|denied| denied.kind == kind);
        // Where nothing else was permitted since the refusal before, this one says nothing of the image.
        let is_alone = |denied: &&Denied| lane.permitted_since(kind, denied.last, now).is_some();
        let (since, refusals) =
            before.filter(is_alone).map_or((now, 1), |denied| (denied.since, denied.refusals.saturating_add(1)));
        let fails_at = since + Self::DENIED_MAX;
        if fails_at <= now && refusals >= Self::DENIED_MIN {
            self.images[image].denied = None;
            return true;
        }
        let pause = match before {
            // Others are permitted again: from now on it matters what becomes of this one.
            Some(_) if refusals == 2 => Millis(Self::DENIED_PAUSE.0 * 2),
            Some(denied) => Millis(denied.pause.0 * 2).min(Self::DENIED_MAX),
            None => Self::DENIED_PAUSE,
        };
        // What decides is a refusal then.
        let again = Some(fails_at).filter(|&at| at > now).map_or(now + pause, |at| at.min(now + pause));
        self.images[image].denied = Some(Denied { kind, since, refusals, last: now, pause, again });
        false
    }

    /// Closes the lane of an image that was refused if every image in hand is, and nothing was permitted since the first
    /// of these refusals.
    pub(super) fn close_if_none_permitted(&mut self, now: Instant, image: Key<Image>, refused: &Failure) {
        let id = self.images[image].lane;
        let lane = self.lane_of(image);
        let in_hand = lane.images.iter().filter_map(|&image| self.images.get(image)).filter(|image| image.in_hand());
        let denied: Option<Vec<&Denied>> = in_hand.map(|image| image.denied.as_ref()).collect();
        let Some(denied) = denied else { return };
        let Some(first) = denied.iter().map(|denied| denied.since).min() else { return };
        let is_any_permitted = denied.iter().any(|denied| lane.permitted_since(denied.kind, first, now).is_some());
        if matches!(lane.state, LaneState::Open) && !is_any_permitted {
            let detail = alloc::format!("{}: {}", refused.code, refused.message);
            self.close_lane(now, id, CloseReason::Permission, detail.into(), now);
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

    /// A listing that was refused before the lane came up or opened, or with another key, decides nothing any more.
    pub(super) fn forget_refused_listings(&mut self, now: Instant, lane: LaneId) {
        for image in self.lane(lane).images.clone() {
            self.images[image].read.refused = None;
            self.sync_read(now, image);
        }
    }

    /// The key may do something after all: what it was refused is tried at once.
    pub(super) fn retry_denied(&mut self, now: Instant, lane: LaneId) {
        for image in self.lane(lane).images.clone() {
            if let Some(denied) = &mut self.images[image].denied {
                denied.again = now;
            }
            self.sync_read(now, image);
            self.touch(now, image);
        }
    }

    /// An image of a closed lane whose listing is awaited. First those that can have nothing to write before that, then
    /// those whose refused listing shows whether the key may read again.
    pub(super) fn listing_to_probe(&self, lane: LaneId) -> Option<Key<Image>> {
        let is_awaited = |image: &Image| image.in_hand() && image.read.wanted.is_some();
        self.images_to_probe(lane).into_iter().find(|&image| is_awaited(&self.images[image]))
    }

    /// The images of a lane, those first that were refused longest ago: each has its turn to show what the key may do.
    pub(super) fn images_to_probe(&self, lane: LaneId) -> Vec<Key<Image>> {
        let mut images: Vec<_> =
            self.lanes.get(&lane).into_iter().flat_map(|lane| lane.images.iter().copied()).collect();
        images.sort_by_key(|&image| self.images[image].denied.as_ref().map(|denied| denied.again));
        images
    }

    pub(super) fn is_denied_listing(&self, image: Key<Image>) -> bool {
        self.images[image].denied.as_ref().is_some_and(|denied| denied.kind == Kind::ReadShares)
    }
}
