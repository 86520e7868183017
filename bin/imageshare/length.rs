//! Lengths of time as people write them.

use std::time::Duration;

use imageshare_core::text::excerpt;
use jiff::SignedDuration;

/// A length of time: `80ms`, `2m 30s`, or a number of seconds.
pub(crate) fn parse(text: &str) -> Result<Duration, LengthError> {
    let refused = || LengthError { found: excerpt(text) };
    let number = text.parse().ok().map(Duration::try_from_secs_f64);
    match number {
        Some(length) => length.map_err(|_| refused()),
        None => text.parse::<SignedDuration>().ok().and_then(|length| length.try_into().ok()).ok_or_else(refused),
    }
}

/// A text that is no length of time.
#[derive(Debug, thiserror::Error)]
#[error("found {found}, allowed is a length of time such as 80ms, 30s or 2m, or a number of seconds")]
pub(crate) struct LengthError {
    found: String,
}
