//! Calls in a row without a usable response.

use alloc::{boxed::Box, vec::Vec};

use crate::{
    arena::Key,
    images::Entry,
    limits::{FAILED_CALLS_MAX, FAILED_IMAGES_MIN},
    time::Instant,
};

/// Calls in a row without a usable response.
#[derive(Debug, Default)]
pub(super) struct Streak {
    calls: u32,
    since: Option<Instant>,
    /// The last failure.
    detail: Box<str>,
    /// Different images of these calls, at most `FAILED_IMAGES_MIN`.
    images: Vec<Key<Entry>>,
}

impl Streak {
    /// A call got no usable response. Returns whether there are enough to close or suspect the lane.
    pub(super) fn failed(&mut self, image: Key<Entry>, began: Instant, detail: Box<str>) -> bool {
        self.calls += 1;
        self.detail = detail;
        self.since = self.since.or(Some(began));
        // More than these decide nothing, and an outage may concern thousands.
        if self.images.len() < FAILED_IMAGES_MIN && !self.images.contains(&image) {
            self.images.push(image);
        }
        self.calls >= FAILED_CALLS_MAX
    }

    pub(super) fn is_on_several_images(&self) -> bool {
        self.images.len() >= FAILED_IMAGES_MIN
    }

    /// When the first of these calls began.
    pub(super) const fn since(&self) -> Option<Instant> {
        self.since
    }

    pub(super) fn detail(&self) -> &str {
        &self.detail
    }
}
