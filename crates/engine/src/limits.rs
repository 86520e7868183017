//! Every number of the engine: the limits that an operator or a lane sets, validated, and the constants.

use alloc::{boxed::Box, format, string::ToString as _, vec::Vec};
use core::{fmt, ops::Deref};

use crate::time::Millis;

/// Limits of the whole process, each within its bounds.
///
/// Made from [`LimitValues`], which it dereferences to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits(LimitValues);

/// Limits of one lane, each within its bounds.
///
/// Made from [`LaneLimitValues`], which it dereferences to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LaneLimits(LaneLimitValues);

/// The values that [`Limits::new`] validates. The defaults are valid.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitValues {
    /// Tries of an operation that is sent alone and fails without a named cause, tries of a listing, and checks of the
    /// result of a SYNC. 1 to 255.
    pub attempts: u32,
    /// The longest pause before each next try. A random fraction of it is waited (full jitter). The last one repeats. At
    /// least one.
    pub pauses: Vec<Millis>,
    /// Accounts an image may be shared with, until refusals or a listing show another number. At least 1.
    pub cap: u32,
    /// How long after it was sent a write without a response may still take effect.
    pub write_lag: Millis,
    /// How long after a write a listing may still show the state before it. Zero counts as 1 ms: a listing that began in the
    /// millisecond of the write may have begun before it.
    pub read_lag: Millis,
    /// How long an image may be busy before its operations fail, however late they arrived.
    pub image_wait: Millis,
    /// The same while all jobs in the lane's window wait for busy images; at most `image_wait`. A copy to another region takes
    /// 10 to 30 minutes, so a shorter wait would fail jobs that are about to be possible.
    pub image_wait_blocked: Millis,
    /// The jobs that a lane can hold at once (the prefetch), at least 1; `None` if its source has no such window.
    pub window: Option<u32>,
    /// The longest time that a delivery is held before all jobs of its lane are requeued, at least 1 ms; `None` for a source
    /// without a lease.
    pub lease: Option<Millis>,
    /// How long a lane may be closed before its jobs end as [`Policy::unfinished`](crate::policy::Policy::unfinished) decides.
    pub closed_for: Millis,
    /// The largest part of an image's list that a SYNC without `force` may cancel, in percent. At most 100.
    pub cancel_limit_percent: u32,
    /// Items and accounts that one call of the engine handles before it asks to be called again. At least 1. The job that
    /// reaches this number is finished first.
    pub work: usize,
}

/// The values that [`LaneLimits::new`] validates. The defaults are valid.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LaneLimitValues {
    /// Requests a second for each action by itself, except DescribeImages. 0.01 to 1,000.
    pub rate: f64,
    /// DescribeImages requests a second. 0.01 to 1,000.
    pub image_rate: f64,
    /// Accounts a request. 1 to 500.
    pub batch: u32,
    /// Calls in flight at once. At least 1.
    pub concurrency: u32,
}

/// A limit out of its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitsError {
    limit: &'static str,
    value: Box<str>,
    expected: Box<str>,
}

impl Limits {
    /// Validates limits.
    ///
    /// # Errors
    /// If a value is out of its bounds. The error names the first such value.
    pub fn new(values: LimitValues) -> Result<Self, LimitsError> {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        check([
            ("attempts", values.attempts.into(), 1, Some(u8::MAX.into())),
            ("pauses", count(values.pauses.len()), 1, None),
            ("cap", values.cap.into(), 1, None),
            // A window full of busy images must not wait longer than one that has room for other jobs.
            ("image_wait_blocked", values.image_wait_blocked.0, 0, Some(values.image_wait.0)),
            ("window", values.window.map_or(1, u64::from), 1, None),
            ("lease", values.lease.map_or(1, |lease| lease.0), 1, None),
            ("cancel_limit_percent", values.cancel_limit_percent.into(), 0, Some(100)),
            ("work", count(values.work), 1, None),
        ])?;
        // A listing in the same millisecond as a write may come before it, so a lag of zero would trust it.
        Ok(Self(LimitValues { read_lag: values.read_lag.max(Millis(1)), ..values }))
    }

    /// The pause before the next try after `failed` ones: full jitter, a part of the longest pause, by `draw`, which
    /// is evenly distributed. Never zero, so that time passes between two tries.
    pub(crate) fn pause(&self, failed: u32, draw: u64) -> Millis {
        self.longest_pause(failed).part(draw)
    }

    /// The longest that this pause can be.
    pub(crate) fn longest_pause(&self, failed: u32) -> Millis {
        let nth = failed.saturating_sub(1) as usize;
        self.pauses.get(nth).or_else(|| self.pauses.last()).copied().unwrap_or_default()
    }
}

impl LaneLimits {
    /// Validates limits of a lane.
    ///
    /// # Errors
    /// If a value is out of its bounds. The error names the first such value.
    pub fn new(values: LaneLimitValues) -> Result<Self, LimitsError> {
        check([
            ("rate", values.rate, RATE_MIN, Some(RATE_MAX)),
            ("image_rate", values.image_rate, RATE_MIN, Some(RATE_MAX)),
            ("batch", values.batch.into(), 1.0, Some(BATCH_MAX)),
            ("concurrency", values.concurrency.into(), 1.0, None),
        ])?;
        Ok(Self(values))
    }
}

/// Checks values, each with its name, its least and its greatest value. NaN is out of all bounds.
fn check<T: PartialOrd + fmt::Display, const N: usize>(
    rows: [(&'static str, T, T, Option<T>); N],
) -> Result<(), LimitsError> {
    for (limit, value, min, max) in rows {
        if value >= min && max.as_ref().is_none_or(|max| value <= *max) {
            continue;
        }
        let expected = max.map_or_else(|| format!("at least {min}"), |max| format!("{min} to {max}"));
        return Err(LimitsError { limit, value: value.to_string().into(), expected: expected.into() });
    }
    Ok(())
}

impl Deref for Limits {
    type Target = LimitValues;

    fn deref(&self) -> &LimitValues {
        &self.0
    }
}

impl Deref for LaneLimits {
    type Target = LaneLimitValues;

    fn deref(&self) -> &LaneLimitValues {
        &self.0
    }
}

impl Default for LimitValues {
    fn default() -> Self {
        Self {
            attempts: 5,
            pauses: [500, 1000, 2000, 4000, 8000, 16_000, 30_000].map(Millis).to_vec(),
            cap: 500,
            write_lag: Millis::from_secs(30),
            read_lag: Millis::from_secs(5),
            image_wait: Millis::from_secs(2 * 60 * 60),
            image_wait_blocked: Millis::from_secs(40 * 60),
            window: None,
            lease: None,
            closed_for: Millis::from_secs(60),
            cancel_limit_percent: 50,
            work: 20_000,
        }
    }
}

impl Default for LaneLimitValues {
    fn default() -> Self {
        Self { rate: 10.0, image_rate: 40.0, batch: 50, concurrency: 16 }
    }
}

impl fmt::Display for LimitsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, value, expected } = self;
        write!(f, "{limit}: invalid value \"{value}\" (expected {expected})")
    }
}

impl core::error::Error for LimitsError {}

/// Returns whether a listing of this many accounts may lack some: it has the length of a page, or as many accounts as the
/// image can be shared with.
#[must_use]
pub fn may_be_truncated(listed: usize, cap: u32) -> bool {
    SUSPICIOUS_LENGTHS.contains(&listed) || u32::try_from(listed).is_ok_and(|listed| listed >= cap)
}

// Bounds of the limits of a lane.

const RATE_MIN: f64 = 0.01;
const RATE_MAX: f64 = 1000.0;
/// The API's own limit.
const BATCH_MAX: f64 = 500.0;

// Listings.

/// How old a listing may be to report an account as unchanged.
pub(crate) const LISTING_AGE_MAX: Millis = Millis::from_secs(30);
/// Listings of these lengths may be truncated: the API may return pages of at most that length.
pub(crate) const SUSPICIOUS_LENGTHS: [usize; 3] = [20, 50, 100];
/// How long work continues without listings after a refusal that trying again at once would not change.
pub(crate) const UNREADABLE_FOR: Millis = Millis::from_secs(10 * 60);
/// While listings are refused, a SYNC requests its own at most this often.
pub(crate) const SYNC_LISTING_PAUSE: Millis = Millis::from_secs(30);

// Refusals.

/// The pause after a call that was throttled, and the most that is added at random.
pub(crate) const THROTTLE_PAUSE: Millis = Millis(1000);
pub(crate) const THROTTLE_JITTER: Millis = Millis(250);
/// Failures in a row without a named cause before a list is tried in parts.
pub(crate) const LIST_FAILURES_MAX: u32 = 2;
/// Lists refused as already shared, while nothing can be listed, before shares are sent alone.
pub(crate) const BLIND_REFUSALS_MAX: u32 = 2;
/// Accounts that are sampled before a list is split.
pub(crate) const SAMPLE_SIZE: usize = 8;
/// Single accounts refused for the quota in a row before the count of shares is taken as the cap.
pub(crate) const QUOTA_REFUSALS_MIN: u32 = 2;
/// How long a cap that refusals showed is used.
pub(crate) const CAP_OBSERVED_FOR: Millis = Millis::from_secs(10 * 60);
/// How long the refusal of an account is remembered for jobs that are redelivered, and how many are.
pub(crate) const REFUSAL_KEPT_FOR: Millis = Millis::from_secs(60 * 60);
pub(crate) const REFUSALS_MAX: usize = 100_000;

// Obstacles.

/// Between two queries of a busy image's state a tenth of the time passes that it was busy, within these bounds.
pub(crate) const QUERY_PAUSE_MIN: Millis = Millis::from_secs(1);
pub(crate) const QUERY_PAUSE_MAX: Millis = Millis::from_secs(10);
/// The longest pause before an image is queried again that is NORMAL and yet refuses writes.
pub(crate) const ROUND_PAUSE_MAX: Millis = Millis::from_secs(30);
/// The first pause before what was not permitted is tried again; it doubles.
pub(crate) const PERMISSION_PAUSE_MIN: Millis = Millis::from_secs(30);
/// The longest such pause, and how long an image is refused before its jobs fail where others are permitted.
pub(crate) const PERMISSION_PAUSE_MAX: Millis = Millis::from_secs(10 * 60);
/// How often it is refused before its jobs fail.
pub(crate) const PERMISSION_REFUSALS_MIN: u32 = 5;
/// How long a permitted call shows that the key may make such calls.
pub(crate) const PERMITTED_FOR: Millis = Millis::from_secs(5 * 60);

// Keys.

/// How long calls wait for the account of a key that must belong to a certain account.
pub(crate) const KEY_OWNER_WAIT: Millis = Millis::from_secs(10);
/// How long a key that replaced another one, and whose account is unknown, may be blamed for a refusal that names an image.
/// If the lane has only this image, its jobs fail after that.
pub(crate) const KEY_UNPROVEN_FOR: Millis = Millis::from_secs(60 * 60);

// Closed lanes.

/// Calls in a row without a usable response that close a lane.
pub(crate) const FAILED_CALLS_MAX: u32 = 5;
/// Images that these calls must concern. With fewer, the cause may be an image.
pub(crate) const FAILED_IMAGES_MIN: usize = 3;
/// The pause before the first probe; it doubles with each one that fails.
pub(crate) const PROBE_PAUSE_MIN: Millis = Millis::from_secs(1);
pub(crate) const PROBE_PAUSE_MAX: Millis = Millis::from_secs(60);

// Pace.

/// The length of as many intervals as there are requests in a second: one second and a margin, in microseconds. See
/// `Pacer`.
pub(crate) const PACE_SECOND_US: f64 = 1_050_000.0;
/// Lateness of a request that does not shift the next one, in microseconds.
pub(crate) const PACE_LATENESS_US: u64 = 25_000;
/// The lowest rate that throttling leaves, in requests a second.
pub(crate) const THROTTLED_RATE_MIN: f64 = 0.1;
/// How much of the rate returns each second, in requests a second.
pub(crate) const RATE_RECOVERY: f64 = 0.1;
/// How long an ended call counts for the share of throttled ones, and how many calls are kept.
pub(crate) const THROTTLE_MEMORY: Millis = Millis(2000);
pub(crate) const THROTTLE_RESPONSES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Instant;

    #[test]
    fn values_out_of_bounds_are_refused_by_name() {
        #[track_caller]
        fn check(change: impl FnOnce(&mut LimitValues), expected: &str) {
            let mut values = LimitValues::default();
            change(&mut values);
            assert_eq!(Limits::new(values).map_err(|error| format!("{error}")), Err(expected.into()));
        }
        check(|values| values.attempts = 0, "attempts: invalid value \"0\" (expected 1 to 255)");
        check(|values| values.attempts = 256, "attempts: invalid value \"256\" (expected 1 to 255)");
        check(|values| values.pauses.clear(), "pauses: invalid value \"0\" (expected at least 1)");
        check(|values| values.cap = 0, "cap: invalid value \"0\" (expected at least 1)");
        check(
            |values| values.image_wait = Millis(2_399_999),
            "image_wait_blocked: invalid value \"2400000\" (expected 0 to 2399999)",
        );
        check(|values| values.window = Some(0), "window: invalid value \"0\" (expected at least 1)");
        check(|values| values.lease = Some(Millis(0)), "lease: invalid value \"0\" (expected at least 1)");
        check(
            |values| values.cancel_limit_percent = 101,
            "cancel_limit_percent: invalid value \"101\" (expected 0 to 100)",
        );
        check(|values| values.work = 0, "work: invalid value \"0\" (expected at least 1)");
    }

    #[test]
    fn lane_values_out_of_bounds_are_refused() {
        let default = LaneLimitValues::default();
        for values in [
            LaneLimitValues { rate: 0.009, ..default },
            LaneLimitValues { rate: f64::NAN, ..default },
            LaneLimitValues { image_rate: 1000.1, ..default },
            LaneLimitValues { batch: 0, ..default },
            LaneLimitValues { batch: 501, ..default },
            LaneLimitValues { concurrency: 0, ..default },
        ] {
            assert!(LaneLimits::new(values).is_err(), "{values:?}");
        }
        let least = LaneLimitValues { rate: 0.01, image_rate: 0.01, batch: 1, concurrency: 1 };
        let most = LaneLimitValues { rate: 1000.0, image_rate: 1000.0, batch: 500, concurrency: u32::MAX };
        for values in [default, least, most] {
            assert!(LaneLimits::new(values).is_ok_and(|limits| *limits == values));
        }
    }

    #[test]
    fn default_limits_are_valid() {
        assert_eq!(Limits::new(LimitValues::default()), Ok(Limits::default()));
        assert_eq!(LaneLimits::new(LaneLimitValues::default()), Ok(LaneLimits::default()));
        let no_lag = Limits::new(LimitValues { read_lag: Millis(0), ..LimitValues::default() });
        assert_eq!(no_lag.map(|limits| limits.read_lag), Ok(Millis(1)));
    }

    proptest! {
        #[test]
        fn pause_stays_within_its_place_in_list(
            failed in proptest::num::u32::ANY,
            draw in proptest::num::u64::ANY,
            pauses in proptest::collection::vec(0_u64.., 1..10),
        ) {
            let nth = (failed as usize).saturating_sub(1).min(pauses.len() - 1);
            let longest = pauses[nth].max(1);
            let pauses = pauses.into_iter().map(Millis).collect();
            let limits = Limits::new(LimitValues { pauses, ..LimitValues::default() }).expect("one pause or more");
            let pause = limits.pause(failed, draw).0;
            prop_assert!((1..=longest).contains(&pause), "{} of at most {}", pause, longest);
            // However late it is, time does not overflow.
            prop_assert!(Instant(u64::MAX - 1) + Millis(pause) <= Instant::NEVER);
        }
    }
}
