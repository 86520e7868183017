//! What happens to single jobs. There may be ten thousand a second, so what goes well is said only when asked for.

use imageshare_engine::job::AccountOutcome;
use tracing::{debug, info, trace, warn};

use crate::{broker::Envelope, driver, wire::Rejection};

/// A message came.
pub(crate) struct Delivered<'a> {
    pub(crate) lane: &'a str,
    pub(crate) is_redelivered: bool,
}

/// A message is no job, or none for its lane.
pub(crate) struct Rejected<'a> {
    pub(crate) lane: &'a str,
    pub(crate) rejection: &'a Rejection,
}

/// A job is done.
pub(crate) struct Settled<'a> {
    lane: &'a str,
    envelope: &'a Envelope,
    failed: usize,
    request_id: Option<String>,
}

/// A job was done, and its delivery can no longer be acknowledged: it comes again.
pub(crate) struct AckLost<'a> {
    pub(crate) lane: &'a str,
    pub(crate) job_id: &'a str,
}

impl Delivered<'_> {
    pub(crate) fn record(&self) {
        trace!(lane = self.lane, redelivered = self.is_redelivered, "delivered");
    }
}

impl Rejected<'_> {
    pub(crate) fn record(&self) {
        let job_id = self.rejection.known.job_id.as_deref().unwrap_or_default();
        warn!(lane = self.lane, job_id, reason = self.rejection.reason(), "rejected");
    }
}

impl<'a> Settled<'a> {
    pub(crate) fn of(lane: &'a str, settled: &'a driver::Settled<Box<Envelope>>) -> Self {
        let outcomes = settled.report.outcomes.iter().chain(&settled.report.cancelled);
        let failures = || {
            outcomes.clone().filter_map(|(_, outcome)| match outcome {
                AccountOutcome::Failed(failure) => Some(failure),
                AccountOutcome::Changed | AccountOutcome::Unchanged => None,
            })
        };
        let request_id = failures().find_map(|failure| failure.request_id).map(|id| id.to_string());
        Self { lane, envelope: &settled.identity, failed: failures().count(), request_id }
    }

    pub(crate) fn record(&self) {
        let Self { lane, failed, request_id, .. } = self;
        let Envelope { identity, redelivered, traceparent, .. } = self.envelope;
        let (job_id, image_id) = (identity.job_id.as_str(), &identity.image_id);
        let (traceparent, request_id) = (traceparent.as_deref(), request_id.as_deref());
        if *failed == 0 {
            debug!(lane, job_id, %image_id, redelivered, traceparent, "settled");
        } else {
            info!(lane, job_id, %image_id, redelivered, failed, request_id, traceparent, "settled with failures");
        }
    }
}

impl AckLost<'_> {
    pub(crate) fn record(&self) {
        debug!(lane = self.lane, job_id = self.job_id, "not acknowledged, so it comes again");
    }
}
