//! The pauses between tries: the only place that uses the crate `backoff`.
//!
//! `backoff` reads a clock and a random source at every step, so it can not live in the engine. It makes the list of
//! pauses once, here, and the engine waits a random fraction of each (full jitter), drawn from its own seed.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};
use imageshare_engine::time::Millis;

/// The pause after the first failure.
const FIRST: Duration = Duration::from_millis(500);

/// What each next pause is longer by.
const FACTOR: f64 = 2.0;

/// The longest pause.
const CAP: Duration = Duration::from_secs(30);

/// The pauses for [`Limits::pauses`](imageshare_engine::limits::Limits::pauses): 0.5 s, doubling, up to 30 s, which
/// repeats.
#[must_use]
pub fn pauses() -> Vec<Millis> {
    // Its own jitter would be on top of the engine's, and its time limit would count from now.
    let mut backoff: ExponentialBackoff = ExponentialBackoffBuilder::new()
        .with_initial_interval(FIRST)
        .with_multiplier(FACTOR)
        .with_max_interval(CAP)
        .with_randomization_factor(0.0)
        .with_max_elapsed_time(None)
        .build();
    let mut pauses = Vec::new();
    while let Some(pause) = backoff.next_backoff() {
        let pause = pause.min(CAP);
        pauses.push(Millis(u64::try_from(pause.as_millis()).unwrap_or(u64::MAX)));
        if pause == CAP {
            break;
        }
    }
    pauses
}

#[cfg(test)]
mod tests {
    use imageshare_engine::limits::Limits;

    use super::*;

    #[test]
    fn pauses_double_from_half_a_second_to_thirty_and_have_no_jitter() {
        assert_eq!(pauses(), [500, 1000, 2000, 4000, 8000, 16_000, 30_000].map(Millis));
        assert_eq!(pauses(), Limits::default().pauses, "the engine's own default says the same");
    }
}
