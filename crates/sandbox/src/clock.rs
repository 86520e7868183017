//! The two clocks of the sandbox.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Wall time for signatures and dates, and monotonic time for everything else.
#[derive(Debug)]
pub(crate) struct Clock {
    started: Instant,
    /// Microseconds since 1970 at `started`.
    started_at: u64,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { started: Instant::now(), started_at: wall_micros() }
    }

    /// Returns microseconds since 1970: the wall clock at the start plus monotonic time since then.
    pub(crate) fn micros(&self) -> u64 {
        self.started_at.saturating_add(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }

    /// Returns the wall clock in Unix seconds. The monotonic clock stops while the machine is suspended, so signatures
    /// are compared with this one.
    pub(crate) fn unix_seconds() -> u64 {
        wall_micros() / 1_000_000
    }
}

/// A time on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Now {
    /// Of the monotonic clock.
    pub(crate) micros: u64,
    /// Of the wall clock.
    pub(crate) unix_seconds: u64,
}

impl Now {
    pub(crate) const fn millis(self) -> u64 {
        self.micros / 1000
    }

    /// RFC 3339 in UTC, to the microsecond.
    pub(crate) fn text(self) -> String {
        let time = i64::try_from(self.micros).ok().and_then(|micros| Timestamp::from_microsecond(micros).ok());
        time.unwrap_or(Timestamp::MAX).to_string()
    }
}

fn wall_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Formats a time as the API does: `YYYY-MM-DDThh:mm:ssZ`.
pub(crate) fn api_time(unix_seconds: u64) -> String {
    format(unix_seconds, "%Y-%m-%dT%H:%M:%SZ")
}

/// Formats a time for the header `Date`.
pub(crate) fn http_date(unix_seconds: u64) -> String {
    format(unix_seconds, "%a, %d %b %Y %H:%M:%S GMT")
}

fn format(unix_seconds: u64, form: &str) -> String {
    let timestamp = i64::try_from(unix_seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    timestamp.unwrap_or(Timestamp::MAX).strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_formats_of_api_and_http() {
        assert_eq!(api_time(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(http_date(784_111_777), "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(api_time(u64::MAX).len(), "9999-12-30T22:00:00Z".len());
    }

    #[test]
    fn both_clocks_agree_at_the_start() {
        let clock = Clock::start();
        assert!((clock.micros() / 1_000_000).abs_diff(Clock::unix_seconds()) <= 1);
        assert!(clock.micros() <= clock.micros());
    }
}
