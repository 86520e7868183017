//! Events of API calls. There may be a thousand calls per second, so they are logged at low levels.

use std::time::Duration;

use imageshare_core::{
    Class,
    ids::{ImageId, RequestId},
};
use imageshare_engine::io::Outcome;
use tracing::{debug, field::display, trace};

use crate::status::LaneRecord;

/// A request was written.
pub(crate) struct CallSent<'a> {
    pub(crate) lane: &'a LaneRecord,
    pub(crate) call: &'a CallDetails,
}

/// A call ended.
pub(crate) struct CallEnded<'a> {
    pub(crate) lane: &'a LaneRecord,
    pub(crate) call: &'a CallDetails,
    pub(crate) outcome: &'a Outcome,
    /// The request id of an accepted request; a refusal has its own.
    pub(crate) request_id: Option<RequestId>,
    /// The time since its request was written, if it was.
    pub(crate) took: Option<Duration>,
}

/// What events show of a call.
#[derive(Debug)]
pub(crate) struct CallDetails {
    /// The API's name of the action.
    pub(crate) action: &'static str,
    pub(crate) image_id: ImageId,
    /// The number of accounts that it names, if it is a write.
    pub(crate) accounts: Option<u32>,
}

impl CallSent<'_> {
    pub(crate) fn record(&self) {
        let Self { lane, call: CallDetails { action, image_id, accounts } } = *self;
        lane.metrics.requests_in_flight.inc();
        if let Some(accounts) = accounts {
            lane.metrics.batch_accounts.observe(f64::from(*accounts));
        }
        trace!(lane = lane.name(), action, %image_id, accounts, "request sent");
    }
}

impl CallEnded<'_> {
    pub(crate) fn record(&self) {
        self.count();
        self.log();
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
        let is_progress = !matches!(
            self.outcome,
            Outcome::Unanswered { .. } | Outcome::Refused { class: Class::Throttle | Class::ThrottleAll, .. }
        );
        if is_progress {
            metrics.progressed();
        }
    }

    fn log(&self) {
        let Self { lane, call: CallDetails { action, image_id, accounts }, request_id, took, .. } = self;
        let milliseconds = took.map(crate::millis);
        let request_id = request_id.map(display);
        let name = lane.name();
        match self.outcome {
            Outcome::Accepted(_) => {
                trace!(lane = name, action, %image_id, accounts, request_id, milliseconds, "accepted");
            }
            Outcome::Refused { code, class, message, request_id } => {
                let (class, request_id) = (class.as_str(), request_id.map(display));
                lane.record_error(&format!("{action}: {code}: {message}"));
                debug!(lane = name, action, %image_id, accounts, %code, class, request_id, milliseconds, "refused");
            }
            Outcome::Unanswered { sent, reason } => {
                lane.record_error(&format!("{action}: {reason}"));
                debug!(lane = name, action, %image_id, accounts, sent, %reason, milliseconds, "no answer");
            }
            Outcome::Skewed => {
                debug!(lane = name, action, %image_id, milliseconds, "refused for its time; clock corrected");
            }
        }
    }
}

/// Returns the result of a request in one word; `None` if it was not sent.
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

/// Returns why a request must be sent again, if it must.
const fn retry(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Refused { class: Class::Throttle | Class::ThrottleAll, .. } => Some("throttle"),
        Outcome::Refused { class: Class::Transient | Class::Unknown, .. } => Some("transient"),
        Outcome::Unanswered { sent: true, .. } => Some("no_answer"),
        Outcome::Skewed => Some("clock"),
        Outcome::Accepted(_) | Outcome::Refused { .. } | Outcome::Unanswered { .. } => None,
    }
}
