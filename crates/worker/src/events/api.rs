//! What happens between us and the API. There may be a thousand calls a second, so each is told of only when asked for.

use std::time::Duration;

use imageshare_core::{
    Class,
    ids::{ImageId, RequestId},
};
use imageshare_engine::io::Outcome;
use tracing::{debug, field::display, trace};

use crate::status::OfLane;

/// A request was written.
pub(crate) struct Sent<'a> {
    pub(crate) lane: &'a OfLane,
    pub(crate) call: &'a Call,
}

/// A call ended.
pub(crate) struct Answered<'a> {
    pub(crate) lane: &'a OfLane,
    pub(crate) call: &'a Call,
    pub(crate) outcome: &'a Outcome,
    /// Of an accepted one; a refused one has its own.
    pub(crate) request_id: Option<RequestId>,
    /// Since it was written, if it was.
    pub(crate) took: Option<Duration>,
}

/// What is told of a call.
#[derive(Debug)]
pub(crate) struct Call {
    /// The API's name of the action.
    pub(crate) action: &'static str,
    pub(crate) image_id: ImageId,
    /// Accounts that it names, if it is a write.
    pub(crate) accounts: Option<u32>,
}

impl Sent<'_> {
    pub(crate) fn record(&self) {
        let Self { lane, call: Call { action, image_id, accounts } } = *self;
        lane.metrics.requests_in_flight.inc();
        if let Some(accounts) = accounts {
            lane.metrics.batch_accounts.observe(f64::from(*accounts));
        }
        trace!(lane = lane.name(), action, %image_id, accounts, "request sent");
    }
}

impl Answered<'_> {
    pub(crate) fn record(&self) {
        self.count();
        self.say();
    }

    fn count(&self) {
        let metrics = &self.lane.metrics;
        let requests = metrics.requests(self.call.action);
        if let Some(took) = self.took {
            metrics.requests_in_flight.dec();
            requests.duration.observe(took.as_secs_f64());
        }
        let Some(result) = result(self.outcome) else { return };
        requests.ended.of(result).inc();
        if let Some(why) = retry(self.outcome).filter(|_| self.call.accounts.is_some()) {
            metrics.retries.of(why).inc();
        }
        let is_answer = !matches!(
            self.outcome,
            Outcome::Unanswered { .. } | Outcome::Refused { class: Class::Throttle | Class::ThrottleAll, .. }
        );
        if is_answer {
            metrics.progressed();
        }
    }

    fn say(&self) {
        let Self { lane, call: Call { action, image_id, accounts }, request_id, took, .. } = self;
        let milliseconds = took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        let request_id = request_id.map(display);
        let name = lane.name();
        match self.outcome {
            Outcome::Accepted(_) => {
                trace!(lane = name, action, %image_id, accounts, request_id, milliseconds, "accepted");
            }
            Outcome::Refused { code, class, message, request_id } => {
                let (class, request_id) = (class.as_str(), request_id.map(display));
                lane.went_wrong(&format!("{action}: {code}: {message}"));
                debug!(lane = name, action, %image_id, accounts, %code, class, request_id, milliseconds, "refused");
            }
            Outcome::Unanswered { sent, reason } => {
                lane.went_wrong(&format!("{action}: {reason}"));
                debug!(lane = name, action, %image_id, accounts, sent, %reason, milliseconds, "no answer");
            }
            Outcome::Skewed => {
                debug!(lane = name, action, %image_id, milliseconds, "refused for the time; the clock is corrected");
            }
        }
    }
}

/// How a request ended, in one word; nothing of what was none.
const fn result(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Accepted(_) => Some("ok"),
        Outcome::Refused { class, .. } => Some(class.as_str()),
        Outcome::Unanswered { sent, .. } => {
            if *sent {
                Some("no_answer")
            } else {
                None
            }
        }
        Outcome::Skewed => Some(Class::Clock.as_str()),
    }
}

/// Why it has to be sent again, if it has.
const fn retry(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Refused { class: Class::Throttle | Class::ThrottleAll, .. } => Some("throttle"),
        Outcome::Refused { class: Class::Transient | Class::Unknown, .. } => Some("transient"),
        Outcome::Unanswered { sent: true, .. } => Some("no_answer"),
        Outcome::Skewed => Some("clock"),
        Outcome::Accepted(_) | Outcome::Refused { .. } | Outcome::Unanswered { .. } => None,
    }
}
