//! Rule 7: a key that may not do what an image needs. Others go on; the lane closes where nothing is permitted.

use imageshare_core::Class;

use super::{Denied, Image};
use crate::{
    call::{EndedCall, Kind},
    context::{Context, LaneFacts},
    reaction::Reaction,
    time::{Instant, Millis},
};

impl Denied {
    pub(crate) const fn kind(&self) -> Kind {
        self.kind
    }

    /// Since when it has been refused again and again, with others permitted in between.
    pub(crate) const fn since(&self) -> Instant {
        self.since
    }

    /// When it is tried again.
    pub(crate) const fn again(&self) -> Instant {
        self.again
    }
}

impl LaneFacts {
    /// How long a permitted call shows that the key may do such things.
    const PERMITTED_FOR: Millis = Millis::from_secs(5 * 60);

    /// The reaction to a refusal of this class. A key that may be another account's, and one that was replaced since,
    /// may be at fault where the API names the image.
    pub(crate) const fn reaction_to(&self, class: Class, call: &EndedCall) -> Reaction {
        Reaction::to(class).with_key(self.is_key_unproven || call.by_former_key)
    }

    /// When such a call was last permitted, if that was at `since` or later and still counts. A key that may write can
    /// be trusted to be a good one by an image whose listing is refused, but not the other way around.
    pub(crate) fn permitted_since(&self, kind: Kind, since: Instant, now: Instant) -> Option<Instant> {
        let permitted = match kind {
            Kind::Write => self.write_permitted,
            Kind::ReadShares | Kind::ReadImage => self.write_permitted.max(self.listing_permitted),
        };
        permitted.filter(|&at| at >= since && at + Self::PERMITTED_FOR > now)
    }
}

impl Image {
    /// The first pause before what was not permitted is tried again; it doubles.
    const DENIED_PAUSE: Millis = Millis::from_secs(30);
    /// The longest such pause, and how long an image is refused before its jobs fail where others are permitted.
    const DENIED_MAX: Millis = Millis::from_secs(10 * 60);

    /// How often it is refused before that.
    const DENIED_MIN: u32 = 5;

    /// Notes that the key may not do what an image needs. Gives whether its jobs are to fail: it has been refused for so
    /// long, others were permitted meanwhile, and it is refused still.
    pub(super) fn deny(&mut self, cx: &mut Context<'_>, kind: Kind) -> bool {
        let before = self.denied.as_ref().filter(|denied| denied.kind == kind);
        // Where nothing else was permitted since the refusal before, this one says nothing of the image.
        let is_alone = |denied: &&Denied| cx.lane.permitted_since(kind, denied.last, cx.now).is_some();
        let (since, refusals) =
            before.filter(is_alone).map_or((cx.now, 1), |denied| (denied.since, denied.refusals.saturating_add(1)));
        let fails_at = since + Self::DENIED_MAX;
        if fails_at <= cx.now && refusals >= Self::DENIED_MIN {
            self.denied = None;
            return true;
        }
        let pause = match before {
            // Others are permitted again: from now on it matters what becomes of this one.
            Some(_) if refusals == 2 => Millis(Self::DENIED_PAUSE.0 * 2),
            Some(denied) => Millis(denied.pause.0 * 2).min(Self::DENIED_MAX),
            None => Self::DENIED_PAUSE,
        };
        // What decides is a refusal then.
        let again = Some(fails_at).filter(|&at| at > cx.now).map_or(cx.now + pause, |at| at.min(cx.now + pause));
        self.denied = Some(Denied { kind, since, refusals, last: cx.now, pause, again });
        false
    }

    /// A listing that was refused before the lane came up or opened, or with another key, decides nothing any more.
    pub(crate) fn forget_refused_listing(&mut self, cx: &mut Context<'_>) {
        self.read.refused = None;
        self.sync_read(cx);
    }

    /// The key may do something after all: what it was refused is tried at once.
    pub(crate) fn retry_denied(&mut self, cx: &mut Context<'_>) {
        if let Some(denied) = &mut self.denied {
            denied.again = cx.now;
        }
        self.sync_read(cx);
    }

    /// Another key is in use: what the one before was refused says nothing.
    pub(crate) fn forget_denial(&mut self) {
        self.denied = None;
    }

    pub(crate) const fn denied(&self) -> Option<&Denied> {
        self.denied.as_ref()
    }

    pub(crate) fn is_denied_listing(&self) -> bool {
        self.denied.as_ref().is_some_and(|denied| denied.kind == Kind::ReadShares)
    }
}
