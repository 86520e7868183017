//! The whole client: a sender, the pace of its calls, and when it sends a call again.

use std::time::Duration;

use imageshare_core::{Class, actions::Action, ids::Region};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::{ApiFailure, ApiSender, CallOutcome};
use crate::{http::Sending, pauses::Pauses};

/// The pause after a throttled call.
const THROTTLED: Duration = Duration::from_secs(1);

/// The greatest number of times that a call is sent with [`RetryPolicy::ClockOnly`].
const CLOCK_TRIES_MAX: usize = 2;

/// When a call is sent again. The calls of this client change nothing, so repeating one that the API received is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryPolicy {
    /// Once more if the response corrected the clock. For callers that ask again themselves.
    ClockOnly,
    /// After throttling and transient failures too, with growing pauses, for this long.
    For(Duration),
}

/// Calls the API at a pace, and sends calls again.
#[derive(Debug)]
pub struct ApiClient {
    sender: ApiSender,
    /// Between the beginnings of two calls.
    interval: Duration,
    next_at: Instant,
}

impl ApiClient {
    /// Returns a client that begins a call no sooner than `interval` after the one before.
    #[must_use]
    pub fn new(sender: ApiSender, interval: Duration) -> Self {
        Self { sender, interval, next_at: Instant::now() }
    }

    /// Returns its sender.
    #[must_use]
    pub const fn sender(&self) -> &ApiSender {
        &self.sender
    }

    /// Makes a call. The outcome is that of the last time it was sent.
    pub async fn call<A: Action>(
        &mut self,
        action: &A,
        region: Option<Region>,
        policy: RetryPolicy,
    ) -> CallOutcome<A::Answer> {
        // Covers the pauses between the calls too.
        let _waiting = self.sender.wait();
        match policy {
            RetryPolicy::ClockOnly => self.call_by_clock(action, region).await,
            RetryPolicy::For(patience) => self.call_until(action, region, patience).await,
        }
    }

    async fn call_by_clock<A: Action>(&mut self, action: &A, region: Option<Region>) -> CallOutcome<A::Answer> {
        let mut tries = 1;
        loop {
            let outcome = self.call_once(action, region).await;
            if tries == CLOCK_TRIES_MAX || !matches!(outcome.result, Err(ApiFailure::Skewed)) {
                return outcome;
            }
            tries += 1;
        }
    }

    async fn call_until<A: Action>(
        &mut self,
        action: &A,
        region: Option<Region>,
        patience: Duration,
    ) -> CallOutcome<A::Answer> {
        let give_up_at = Instant::now() + patience;
        let mut pauses = Pauses::between_calls();
        let mut last = None;
        loop {
            let Ok(outcome) = timeout_at(give_up_at, self.call_once(action, region)).await else {
                return last.unwrap_or_else(|| CallOutcome::failed(ApiFailure::silence(patience)));
            };
            let Err(failure) = &outcome.result else { return outcome };
            let pause = match failure.class() {
                Some(Class::Clock) if matches!(failure, ApiFailure::Skewed) => continue,
                Some(Class::Throttle | Class::ThrottleAll) => THROTTLED,
                Some(Class::Transient | Class::Unknown) | None => pauses.next(),
                Some(_) => return outcome,
            };
            let left = give_up_at.saturating_duration_since(Instant::now());
            if left <= self.interval {
                return outcome;
            }
            last = Some(outcome);
            // However long the pause would be, time is left for one more call after it.
            sleep(pause.min(left / 2)).await;
        }
    }

    async fn call_once<A: Action>(&mut self, action: &A, region: Option<Region>) -> CallOutcome<A::Answer> {
        sleep_until(self.next_at).await;
        self.next_at = Instant::now() + self.interval;
        self.sender.call(action, region, &Sending::new(|| true)).await
    }
}
