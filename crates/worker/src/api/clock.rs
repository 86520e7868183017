//! The offset of the server's clock from this machine's, corrected by responses that refuse the time of a signature.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use imageshare_core::UnixSeconds;
use parking_lot::Mutex;
use tokio::time::Instant;

/// The shortest time between two corrections. A server whose clock jumps is not followed at every response: otherwise
/// anyone who can write a `Date` into a response could have requests signed for any time at any rate.
const BETWEEN_CORRECTIONS: Duration = Duration::from_secs(60);

/// Seconds by which a signature's time may miss the server's clock.
const TOLERANCE: u64 = 300;

/// The clock of one endpoint. Clones share what responses showed of it.
#[derive(Clone, Debug, Default)]
pub struct SharedClock(Arc<Mutex<ServerClock>>);

/// What to add to this machine's wall clock, for one endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ServerClock {
    offset: ClockOffset,
    /// The offset before the last correction.
    before: ClockOffset,
    corrected_at: Option<Instant>,
}

/// Seconds by which the server's clock is ahead of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ClockOffset(i64);

impl ClockOffset {
    /// Returns the offset in seconds.
    pub(super) const fn seconds(self) -> i64 {
        self.0
    }
}

impl SharedClock {
    pub(super) fn offset(&self) -> ClockOffset {
        self.0.lock().offset
    }

    /// Returns the second to sign for at this moment, and the offset that is part of it.
    pub(super) fn now(&self) -> (ClockOffset, UnixSeconds) {
        let clock = self.0.lock();
        (clock.offset, clock.second(SystemTime::now()))
    }

    /// Corrects the clock after a refusal of a request that was signed with this offset, by the `Date` of the response.
    /// Returns whether a request that is signed now has another time.
    pub(super) fn correct(&self, signed: ClockOffset, date: Option<SystemTime>) -> bool {
        self.0.lock().refused(Instant::now(), SystemTime::now(), signed, date)
    }
}

impl ServerClock {
    /// Returns the second to sign for when this machine's clock shows `wall`.
    fn second(&self, wall: SystemTime) -> UnixSeconds {
        let seconds = unix_seconds(wall).saturating_add(self.offset.0);
        let seconds = u64::try_from(seconds).unwrap_or(0).min(UnixSeconds::MAX.get());
        UnixSeconds::new(seconds).unwrap_or(UnixSeconds::MAX)
    }

    /// Records that a request which was signed with `signed` was refused for its time, in a response with `date`. Returns
    /// whether a request that is signed now has another time than that one.
    fn refused(&mut self, now: Instant, wall: SystemTime, signed: ClockOffset, date: Option<SystemTime>) -> bool {
        if signed != self.offset {
            // Another response has corrected the clock since.
            return true;
        }
        let Some(date) = date else { return false };
        let observed = ClockOffset(unix_seconds(date).saturating_sub(unix_seconds(wall)));
        let is_too_soon = self.corrected_at.is_some_and(|at| now.duration_since(at) < BETWEEN_CORRECTIONS);
        if !is_too_soon {
            (self.before, self.offset, self.corrected_at) = (signed, observed, Some(now));
        } else if observed.0.abs_diff(self.before.0) < TOLERANCE {
            // The last correction came from a response with a wrong time, as one bad gateway among many can send. This
            // response confirms the offset from before that correction.
            self.offset = self.before;
        }
        self.offset != signed
    }
}

/// Returns whole seconds since 1970, negative before it.
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

    /// Returns the moment this many milliseconds after a common beginning.
    fn after(milliseconds: u64) -> Instant {
        static BEGINNING: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        *BEGINNING + Duration::from_millis(milliseconds)
    }

    #[test]
    fn date_of_refusal_corrects_clock() {
        for date in [1_000_000, 3_000_000] {
            let mut clock = ServerClock::default();
            assert_eq!(clock.second(at(2_000_000)).get(), 2_000_000);
            assert!(clock.refused(after(5), at(2_000_000), clock.offset, Some(at(date))));
            assert_eq!(clock.second(at(2_000_010)).get(), date + 10);
        }
    }

    #[test]
    fn missing_date_and_own_time_correct_nothing() {
        let mut clock = ServerClock::default();
        assert!(!clock.refused(after(5), at(2_000_000), clock.offset, None));
        assert!(!clock.refused(after(5), at(2_000_000), clock.offset, Some(at(2_000_000))));
        assert_eq!(clock.offset, ClockOffset::default());
    }

    #[test]
    fn clock_is_corrected_once_a_minute() {
        let mut clock = ServerClock::default();
        let first = clock.offset;
        assert!(clock.refused(after(0), at(2_000_000), first, Some(at(1_000_000))));
        let second = clock.offset;
        assert!(!clock.refused(after(59_999), at(2_000_000), second, Some(at(1_500_000))));
        assert!(!clock.refused(after(59_999), at(2_000_000), second, None));
        assert_eq!(clock.offset, second);
        assert!(clock.refused(after(60_000), at(2_000_000), second, Some(at(1_500_000))));
    }

    #[test]
    fn contradicted_correction_is_reverted_once() {
        let wall = at(2_000_000);
        let mut clock = ServerClock::default();
        let own = clock.offset;
        assert!(clock.refused(after(0), wall, own, Some(at(1_996_400))), "one gateway is an hour late");
        let wrong = clock.offset;
        assert!(clock.refused(after(1), wall, wrong, Some(at(2_000_001))), "the others are not");
        assert_eq!(clock.offset, own);
        assert!(!clock.refused(after(2), wall, own, Some(at(1_996_400))), "and not to and fro for ever");
        assert!(!clock.refused(after(3), wall, own, Some(at(2_000_001))));
        assert_eq!(clock.offset, own);
    }

    #[test]
    fn request_signed_before_correction_is_signed_again() {
        let mut clock = ServerClock::default();
        let before = clock.offset;
        assert!(clock.refused(after(0), at(2_000_000), before, Some(at(1_000_000))));
        let corrected = clock.offset;
        assert!(clock.refused(after(1), at(2_000_000), before, Some(at(1_700_000))));
        assert_eq!(clock.offset, corrected, "and it corrects nothing");
    }

    #[test]
    fn unsignable_times_are_clamped() {
        let mut clock = ServerClock::default();
        assert_eq!(clock.second(UNIX_EPOCH - Duration::from_secs(1)).get(), 0);
        assert!(clock.refused(after(0), at(0), clock.offset, Some(at(1 << 40))));
        assert_eq!(clock.second(at(2_000_000)), UnixSeconds::MAX);
    }
}
