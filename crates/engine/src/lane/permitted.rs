//! The calls that the key in use was permitted.

use crate::{call::Kind, limits::PERMITTED_FOR, time::Instant};

/// When the last permitted calls of the key in use began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Permitted {
    write: Option<Instant>,
    listing: Option<Instant>,
}

impl Permitted {
    pub(super) fn note_write(&mut self, began: Instant) {
        self.write = self.write.max(Some(began));
    }

    pub(super) fn note_listing(&mut self, began: Instant) {
        self.listing = self.listing.max(Some(began));
    }

    /// Whether such a call was permitted at `since` or later and still counts. A permitted write also counts for listings, but
    /// not the other way around.
    pub(crate) fn since(self, kind: Kind, since: Instant, now: Instant) -> bool {
        let permitted = match kind {
            Kind::Write => self.write,
            Kind::ReadShares | Kind::ReadImage => self.write.max(self.listing),
        };
        // Policies change, so a permitted call shows nothing after `PERMITTED_FOR`.
        permitted.is_some_and(|at| at >= since && at + PERMITTED_FOR > now)
    }
}
