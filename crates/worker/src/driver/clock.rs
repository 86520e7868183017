//! The server's clock, as far as it differs from ours: learnt from the answers that say so.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use imageshare_core::UnixSeconds;
use imageshare_engine::time::{Instant, Millis};

/// The shortest time between two corrections. A server whose clock jumps is not followed at every answer: whoever may
/// write a `Date` into an answer could else let us sign for any time at any rate.
const BETWEEN_CORRECTIONS: Millis = Millis::from_secs(60);

/// Seconds by which a signature's time may miss the server's clock.
const TOLERANCE: u64 = 300;

/// What to add to this machine's wall clock, for one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ServerClock {
    offset: Offset,
    /// What it was before the last correction.
    before: Offset,
    corrected_at: Option<Instant>,
}

/// Seconds by which the server's clock is ahead of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offset(i64);

impl Offset {
    /// In seconds.
    pub(super) const fn seconds(self) -> i64 {
        self.0
    }
}

impl ServerClock {
    /// What requests are signed with now.
    pub(super) const fn offset(&self) -> Offset {
        self.offset
    }

    /// The second to sign for when this machine's clock shows `wall`.
    pub(super) fn second(&self, wall: SystemTime) -> UnixSeconds {
        let seconds = unix_seconds(wall).saturating_add(self.offset.0);
        let seconds = u64::try_from(seconds).unwrap_or(0).min(UnixSeconds::MAX.get());
        UnixSeconds::new(seconds).unwrap_or(UnixSeconds::MAX)
    }

    /// Takes in that a request which was signed with `signed` was refused for its time, in an answer with `date`. Says
    /// whether a request that is signed now has another time than that one.
    pub(super) fn refused(&mut self, now: Instant, wall: SystemTime, signed: Offset, date: Option<SystemTime>) -> bool {
        if signed != self.offset {
            // Another answer has corrected the clock since.
            return true;
        }
        let Some(date) = date else { return false };
        let learned = Offset(unix_seconds(date).saturating_sub(unix_seconds(wall)));
        let is_too_soon = self.corrected_at.is_some_and(|at| now.since(at) < BETWEEN_CORRECTIONS);
        if !is_too_soon {
            (self.before, self.offset, self.corrected_at) = (signed, learned, Some(now));
        } else if learned.0.abs_diff(self.before.0) < TOLERANCE {
            // The answer before was wrong about the time, as one bad gateway among many can be. Nothing is learnt from
            // this one but that what we had was right.
            self.offset = self.before;
        }
        self.offset != signed
    }
}

/// Whole seconds since 1970, or before it.
fn unix_seconds(time: SystemTime) -> i64 {
    let whole = |length: Duration| i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => whole(since),
        Err(before) => -whole(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn an_answer_with_a_date_corrects_the_clock_both_ways() {
        for date in [1_000_000, 3_000_000] {
            let mut clock = ServerClock::default();
            assert_eq!(clock.second(at(2_000_000)).get(), 2_000_000);
            assert!(clock.refused(Instant(5), at(2_000_000), clock.offset(), Some(at(date))));
            assert_eq!(clock.second(at(2_000_010)).get(), date + 10);
        }
    }

    #[test]
    fn an_answer_without_a_date_or_with_our_own_time_corrects_nothing() {
        let mut clock = ServerClock::default();
        assert!(!clock.refused(Instant(5), at(2_000_000), clock.offset(), None));
        assert!(!clock.refused(Instant(5), at(2_000_000), clock.offset(), Some(at(2_000_000))));
        assert_eq!(clock.offset(), Offset::default());
    }

    #[test]
    fn the_clock_is_corrected_once_a_minute() {
        let mut clock = ServerClock::default();
        let first = clock.offset();
        assert!(clock.refused(Instant(0), at(2_000_000), first, Some(at(1_000_000))));
        let second = clock.offset();
        assert!(!clock.refused(Instant(59_999), at(2_000_000), second, Some(at(1_500_000))));
        assert!(!clock.refused(Instant(59_999), at(2_000_000), second, None));
        assert_eq!(clock.offset(), second);
        assert!(clock.refused(Instant(60_000), at(2_000_000), second, Some(at(1_500_000))));
    }

    #[test]
    fn a_correction_that_the_next_answer_contradicts_is_taken_back_once() {
        let wall = at(2_000_000);
        let mut clock = ServerClock::default();
        let own = clock.offset();
        assert!(clock.refused(Instant(0), wall, own, Some(at(1_996_400))), "one gateway is an hour late");
        let wrong = clock.offset();
        assert!(clock.refused(Instant(1), wall, wrong, Some(at(2_000_001))), "the others are not");
        assert_eq!(clock.offset(), own);
        assert!(!clock.refused(Instant(2), wall, own, Some(at(1_996_400))), "and not to and fro for ever");
        assert!(!clock.refused(Instant(3), wall, own, Some(at(2_000_001))));
        assert_eq!(clock.offset(), own);
    }

    #[test]
    fn a_request_that_was_signed_before_the_correction_is_signed_anew() {
        let mut clock = ServerClock::default();
        let before = clock.offset();
        assert!(clock.refused(Instant(0), at(2_000_000), before, Some(at(1_000_000))));
        let after = clock.offset();
        assert!(clock.refused(Instant(1), at(2_000_000), before, Some(at(1_700_000))));
        assert_eq!(clock.offset(), after, "and it teaches nothing new");
    }

    #[test]
    fn times_that_cannot_be_signed_are_brought_to_the_nearest_that_can() {
        let mut clock = ServerClock::default();
        assert_eq!(clock.second(UNIX_EPOCH - Duration::from_secs(1)).get(), 0);
        assert!(clock.refused(Instant(0), at(0), clock.offset(), Some(at(1 << 40))));
        assert_eq!(clock.second(at(2_000_000)), UnixSeconds::MAX);
    }
}
