//! Time in milliseconds of one monotonic clock, which the driver reads.

use core::ops::{Add, Sub};

/// A point in time: milliseconds since a moment that the driver chose. Unrelated to wall time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u64);

/// A length of time in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// Returns a number of seconds as milliseconds.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// A part of this length, from 1 ms to the whole of it, as an evenly distributed `draw` decides (full jitter).
    pub(crate) const fn part(self, draw: u64) -> Self {
        Self(1 + draw % if self.0 == 0 { 1 } else { self.0 })
    }
}

impl Instant {
    /// Later than any deadline.
    pub const NEVER: Self = Self(u64::MAX);

    /// Returns the time since `earlier`, or zero if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Millis {
        Millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Millis> for Instant {
    type Output = Self;

    /// Saturates at [`Instant::NEVER`].
    fn add(self, length: Millis) -> Self {
        Self(self.0.saturating_add(length.0))
    }
}

impl Sub<Millis> for Instant {
    type Output = Self;

    /// Saturates at zero.
    fn sub(self, length: Millis) -> Self {
        Self(self.0.saturating_sub(length.0))
    }
}

impl Add for Millis {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}
