//! The pauses between retries: the only module that uses the crate `backoff`.
//!
//! `backoff` reads a clock and a random source at every step, so the engine cannot use it and computes its own.

use std::time::Duration;

use backoff::{ExponentialBackoff, ExponentialBackoffBuilder, backoff::Backoff};

/// The pause after the broker refused the connection. That changes only with a setting, and each attempt fills its log.
pub(crate) const REFUSED: Duration = Duration::from_secs(10);

/// The random part of a pause, so that not all clients retry at once.
const JITTER: f64 = 0.5;

/// Pauses that double up to a longest one, without end.
#[derive(Debug)]
pub(crate) struct Pauses(ExponentialBackoff);

impl Pauses {
    /// Between calls of the API: 0.5 s, doubling to 30 s. A client has its own interval, so there is no jitter.
    pub(crate) fn between_calls() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(30), 0.0)
    }

    /// Between connections to the broker: 0.2 s, doubling to 5 s.
    pub(crate) fn between_connections() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(5), JITTER)
    }

    /// Between connections for copies of reports: 5 s, doubling to 60 s.
    pub(crate) fn between_copies() -> Self {
        Self::new(Duration::from_secs(5), Duration::from_mins(1), JITTER)
    }

    /// Between loads of a credential that must be renewed: 1 s, doubling to 30 s.
    pub(crate) fn between_loads() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30), JITTER)
    }

    /// Before a message is published again to a queue that refuses messages: 0.2 s, doubling to 30 s.
    pub(crate) fn between_publishes() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(30), JITTER)
    }

    fn new(first: Duration, longest: Duration, jitter: f64) -> Self {
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_interval(first)
            .with_multiplier(2.0)
            .with_max_interval(longest)
            .with_randomization_factor(jitter)
            // It would count from now.
            .with_max_elapsed_time(None)
            .build();
        Self(backoff)
    }

    /// Returns the next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let longest = self.0.max_interval;
        // Jitter may exceed it.
        self.0.next_backoff().unwrap_or(longest).min(longest)
    }

    /// Starts again with the first pause, after a success.
    pub(crate) fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use imageshare_engine::limits::Limits;

    use super::*;

    #[test]
    fn pauses_between_calls_are_those_of_the_engine() {
        let mut pauses = Pauses::between_calls();
        for expected in &Limits::default().pauses {
            assert_eq!(pauses.next(), Duration::from_millis(expected.0));
        }
        assert_eq!(pauses.next(), Duration::from_secs(30), "the longest repeats");
    }

    #[test]
    fn pauses_have_jitter_and_stay_below_the_longest() {
        let (first, longest) = (Duration::from_millis(200), Duration::from_secs(5));
        let mut pauses = Pauses::between_connections();
        let drawn = pauses.next();
        assert!((first / 2..=first * 3 / 2).contains(&drawn), "{drawn:?}");
        let later: Vec<_> = (0..1000).map(|_| pauses.next()).collect();
        assert!(later.iter().skip(5).all(|pause| (longest / 2..=longest).contains(pause)));
        pauses.reset();
        assert!(pauses.next() <= first * 3 / 2);
    }
}
