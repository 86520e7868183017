//! The pauses between retries: the only module that uses the crate `backoff`.
//!
//! `backoff` reads a clock and a random source at every step, so the engine cannot use it. It makes the list of
//! pauses once, here, and the engine waits a random fraction of each (full jitter), drawn from its own seed.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};
use imageshare_engine::time::Millis;

/// The pause after the first failure.
const FIRST: Duration = Duration::from_millis(500);

/// The factor from one pause to the next.
const FACTOR: f64 = 2.0;

/// The longest pause.
const CAP: Duration = Duration::from_secs(30);

/// The pause after the first broken connection to the broker.
const RECONNECT_FIRST: Duration = Duration::from_millis(200);

/// The longest pause after a broken connection to the broker.
const RECONNECT_CAP: Duration = Duration::from_secs(5);

/// The pause after the broker refused the connection. That changes only with a setting, and each attempt fills its log.
pub(crate) const REFUSED: Duration = Duration::from_secs(10);

/// The pause after a queue refused a message for the first time.
const REFUSAL_FIRST: Duration = Duration::from_millis(200);

/// The longest pause after a queue refused a message.
const REFUSAL_CAP: Duration = Duration::from_secs(30);

/// The pause after a load of a credential failed.
const RENEW_FIRST: Duration = Duration::from_secs(1);

/// The longest pause after a load of a credential failed.
const RENEW_CAP: Duration = Duration::from_secs(30);

/// The random part of a pause, so that not all clients retry at once.
const JITTER: f64 = 0.5;

/// The pauses between connections to the broker: 0.2 s, doubling to 5 s, with jitter, without end.
#[derive(Debug)]
pub struct Reconnects(ExponentialBackoff);

impl Default for Reconnects {
    fn default() -> Self {
        Self(doubling(RECONNECT_FIRST, RECONNECT_CAP, JITTER))
    }
}

impl Reconnects {
    /// Returns the next pause.
    pub(crate) fn next(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(RECONNECT_CAP).min(RECONNECT_CAP)
    }

    /// Starts again with the first pause, after a connection that worked.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

/// The pauses before a message is published again to a queue that refuses messages: 0.2 s, doubling to 30 s, with jitter, without
/// end.
#[derive(Debug)]
pub(crate) struct Refused(ExponentialBackoff);

impl Default for Refused {
    fn default() -> Self {
        Self(doubling(REFUSAL_FIRST, REFUSAL_CAP, JITTER))
    }
}

impl Refused {
    /// Returns the next pause.
    pub(crate) fn next(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(REFUSAL_CAP).min(REFUSAL_CAP)
    }

    /// Starts again with the first pause, after the queue accepted a message.
    pub(crate) fn reset(&mut self) {
        self.0.reset();
    }
}

/// The pauses between loads of a credential that must be renewed: 1 s, doubling to 30 s, with
/// jitter, without end.
#[derive(Debug)]
pub(crate) struct Renewals(ExponentialBackoff);

impl Default for Renewals {
    fn default() -> Self {
        Self(doubling(RENEW_FIRST, RENEW_CAP, JITTER))
    }
}

impl Renewals {
    /// Returns the next pause.
    pub(crate) fn next(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(RENEW_CAP).min(RENEW_CAP)
    }

    /// Starts again with the first pause, after a new credential.
    pub(crate) fn reset(&mut self) {
        self.0.reset();
    }
}

/// Returns the pauses for [`LimitValues::pauses`](imageshare_engine::limits::LimitValues::pauses): 0.5 s, doubling, up to 30 s, which
/// repeats.
#[must_use]
pub fn pauses() -> Vec<Millis> {
    // Its jitter would be added to that of the engine.
    let mut backoff = doubling(FIRST, CAP, 0.0);
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

/// Returns pauses that double up to a cap. Their time limit would count from now, so they have none.
fn doubling(first: Duration, cap: Duration, jitter: f64) -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(first)
        .with_multiplier(FACTOR)
        .with_max_interval(cap)
        .with_randomization_factor(jitter)
        .with_max_elapsed_time(None)
        .build()
}

#[cfg(test)]
mod tests {
    use imageshare_engine::limits::Limits;

    use super::*;

    #[test]
    fn pauses_double_up_to_thirty_seconds() {
        assert_eq!(pauses(), [500, 1000, 2000, 4000, 8000, 16_000, 30_000].map(Millis));
        assert_eq!(pauses(), Limits::default().pauses, "the engine's own default says the same");
    }

    #[test]
    fn reconnects_never_end_and_stay_below_cap() {
        let mut reconnects = Reconnects::default();
        let first = reconnects.next();
        assert!((RECONNECT_FIRST / 2..=RECONNECT_FIRST * 3 / 2).contains(&first), "{first:?}");
        let later: Vec<_> = (0..1000).map(|_| reconnects.next()).collect();
        assert!(later.iter().skip(5).all(|pause| (RECONNECT_CAP / 2..=RECONNECT_CAP).contains(pause)));
        reconnects.reset();
        assert!(reconnects.next() <= RECONNECT_FIRST * 3 / 2);
    }
}
