//! Events of single jobs. There may be ten thousand per second, so successes are logged at low levels.

use std::{collections::BTreeSet, time::SystemTime};

use imageshare_core::ids::ImageId;
use imageshare_engine::job::{AccountOutcome, Failure, Mode, Report};
use tracing::{debug, info, trace, warn};

use crate::{
    lane_messages::SettledJob,
    status::LaneRecord,
    wire::{Rejection, report::Status},
};

/// Codes that an event names at most.
const CODES_MAX: usize = 10;

/// A message was delivered.
pub(crate) struct Delivered<'a> {
    pub(crate) lane: &'a LaneRecord,
    pub(crate) is_redelivered: bool,
    /// By its publisher's clock, if that is known.
    pub(crate) published_at: Option<SystemTime>,
}

/// A job was read from an input.
pub(crate) struct Read<'a> {
    pub(crate) lane: &'a LaneRecord,
}

/// A message is invalid.
pub(crate) struct Rejected<'a> {
    pub(crate) lane: &'a LaneRecord,
    pub(crate) rejection: &'a Rejection,
    /// The reason in one word.
    pub(crate) reason: &'static str,
    pub(crate) traceparent: Option<&'a str>,
}

/// Each account of a job has an outcome.
pub(crate) struct Settled<'a> {
    lane: &'a LaneRecord,
    mode: Mode,
    reports: &'a [Report],
    /// `None` of a job from an input.
    queued: Option<QueuedJob<'a>>,
}

/// A job from a queue.
#[derive(Clone, Copy)]
pub(crate) struct QueuedJob<'a> {
    pub(crate) job_id: &'a str,
    /// `None` if it has several.
    pub(crate) image_id: Option<ImageId>,
    pub(crate) is_redelivered: bool,
    pub(crate) traceparent: Option<&'a str>,
}

/// The report of a job was written, or published and confirmed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finished {
    pub(crate) status: Status,
    /// By its publisher's clock, if that is known.
    pub(crate) published_at: Option<SystemTime>,
    pub(crate) received_at: SystemTime,
    /// Whether it has a dead letter.
    pub(crate) is_dead: bool,
}

impl Delivered<'_> {
    pub(crate) fn record(&self) {
        let metrics = &self.lane.metrics;
        metrics.of_process.received_from_queue.inc();
        if self.is_redelivered {
            metrics.of_process.redelivered.inc();
        } else if let Some(published_at) = self.published_at {
            metrics.job_wait.observe(seconds_since(published_at));
        }
        metrics.last_delivery.set(crate::metrics::unix_seconds());
        metrics.took_in();
        trace!(lane = self.lane.name(), redelivered = self.is_redelivered, "delivered");
    }
}

impl Read<'_> {
    pub(crate) fn record(&self) {
        self.lane.metrics.of_process.received_from_input.inc();
        self.lane.metrics.took_in();
        trace!(lane = self.lane.name(), "read");
    }
}

impl Rejected<'_> {
    pub(crate) fn record(&self) {
        let Self { lane, rejection, reason: kind, traceparent } = self;
        lane.metrics.of_process.rejected.of(kind).inc();
        lane.metrics.settled();
        let job_id = rejection.known.job_id.as_deref().unwrap_or_default();
        let image_id = rejection.known.image_id.map(|id| id.to_string());
        let reason = rejection.reason();
        warn!(lane = lane.name(), job_id, image_id, kind, reason, traceparent, "rejected");
    }
}

impl<'a> Settled<'a> {
    pub(crate) fn of<I>(lane: &'a LaneRecord, settled: &'a SettledJob<I>) -> Self {
        Self { lane, mode: settled.mode, reports: &settled.reports, queued: None }
    }

    /// Returns the same event of a job from a queue, which is logged.
    pub(crate) fn with_queued_job(self, job: QueuedJob<'a>) -> Self {
        Self { queued: Some(job), ..self }
    }

    pub(crate) fn record(&self) {
        let Self { lane, mode, reports, .. } = self;
        let count = |report: &Report| self.count(*mode, &report.outcomes) + self.count(Mode::Cancel, &report.cancelled);
        let failed: u64 = reports.iter().map(count).sum();
        lane.metrics.settled();
        let Some(QueuedJob { job_id, image_id, is_redelivered: redelivered, traceparent }) = self.queued else {
            return;
        };
        let (lane, images, image_id) = (lane.name(), reports.len(), image_id.map(|id| id.to_string()));
        if failed == 0 {
            debug!(lane, job_id, image_id, images, redelivered, traceparent, "settled");
        } else {
            let (codes, request_id) = (self.codes(), self.request_id());
            info!(
                lane,
                job_id, image_id, images, redelivered, failed, codes, request_id, traceparent, "settled with failures"
            );
        }
    }

    /// Counts accounts by their outcomes, and returns how many failed.
    fn count<A>(&self, mode: Mode, outcomes: &[(A, AccountOutcome)]) -> u64 {
        let (mut changed, mut unchanged, mut failed) = (0, 0, 0);
        for (_, outcome) in outcomes {
            match outcome {
                AccountOutcome::Changed(_) => changed += 1,
                AccountOutcome::Unchanged => unchanged += 1,
                AccountOutcome::Failed(failure) => {
                    failed += 1;
                    self.lane.metrics.of_process.account_failures.of(&failure.code).inc();
                }
            }
        }
        let accounts = self.lane.metrics.accounts(mode);
        accounts.changed.inc_by(changed);
        accounts.unchanged.inc_by(unchanged);
        accounts.failed.inc_by(failed);
        failed
    }

    fn failures(&self) -> impl Iterator<Item = &Failure> {
        let outcomes = self.reports.iter().flat_map(|report| report.outcomes.iter().chain(&report.cancelled));
        outcomes.filter_map(|(_, outcome)| match outcome {
            AccountOutcome::Failed(failure) => Some(&**failure),
            AccountOutcome::Changed(_) | AccountOutcome::Unchanged => None,
        })
    }

    /// Returns the first codes of the failures in order, separated by spaces.
    fn codes(&self) -> String {
        let codes: BTreeSet<&str> = self.failures().map(|failure| &*failure.code).collect();
        codes.into_iter().take(CODES_MAX).collect::<Vec<_>>().join(" ")
    }

    /// Returns the request id of the first refusal.
    fn request_id(&self) -> Option<String> {
        self.failures().find_map(|failure| failure.request_id).map(|id| id.to_string())
    }
}

impl Finished {
    pub(crate) fn record(&self, lane: &LaneRecord) {
        let Self { status, published_at, received_at, is_dead } = *self;
        let metrics = &lane.metrics;
        metrics.jobs_finished.of(status.as_str()).inc();
        metrics.job_duration.observe(seconds_since(received_at));
        if let Some(published_at) = published_at {
            metrics.job_total.observe(seconds_since(published_at));
        }
        if is_dead {
            metrics.dead_letters.of(if status == Status::Rejected { "rejected" } else { "failed" }).inc();
        }
        metrics.progressed();
    }
}

/// Returns the seconds since a moment; 0 if it is ahead, as a publisher's clock may be.
fn seconds_since(moment: SystemTime) -> f64 {
    moment.elapsed().unwrap_or_default().as_secs_f64()
}
