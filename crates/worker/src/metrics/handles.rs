//! The handles of one lane and of the process, each looked up once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use imageshare_engine::{LaneNumbers, job::Mode, limits::LaneLimits};
use prometheus::{Gauge, Histogram, IntCounter, IntGauge};

use super::{
    families::Families,
    labels::{
        CODES, DEATHS, READ_IMAGE, READ_SHARES, RECONNECTS, REJECTIONS, REQUEUES, RESULTS_OF_READINGS,
        RESULTS_OF_WRITES, RETRIES, STATES, STATUSES, WRITE,
    },
    register::{Labelled, at},
    unix_seconds,
};

/// The metrics that belong to no lane.
#[derive(Debug)]
pub(crate) struct ProcessMetrics {
    pub(crate) received_from_queue: IntCounter,
    pub(crate) received_from_input: IntCounter,
    pub(crate) account_failures: Labelled<IntCounter>,
    pub(crate) redelivered: IntCounter,
    pub(crate) rejected: Labelled<IntCounter>,
    pub(crate) acks_lost: IntCounter,
    pub(crate) reconnects: Labelled<IntCounter>,
    pub(crate) publisher_connected: IntGauge,
    pub(crate) publisher_blocked: IntGauge,
    pub(crate) publish_duration: Histogram,
    /// NaN while unknown.
    pub(crate) dead_letters_ready: Gauge,
}

/// The metrics of one lane.
#[derive(Debug)]
pub(crate) struct LaneMetrics {
    pub(crate) of_process: Arc<ProcessMetrics>,
    pub(crate) jobs_finished: Labelled<IntCounter>,
    pub(crate) jobs_held: IntGauge,
    pub(crate) requeues: Labelled<IntCounter>,
    pub(crate) job_wait: Histogram,
    pub(crate) job_duration: Histogram,
    pub(crate) job_total: Histogram,
    pub(crate) shared: Outcomes,
    pub(crate) cancelled: Outcomes,
    pub(crate) writes: RequestMetrics,
    pub(crate) share_readings: RequestMetrics,
    pub(crate) image_readings: RequestMetrics,
    pub(crate) requests_in_flight: IntGauge,
    pub(crate) batch_accounts: Histogram,
    pub(crate) retries: Labelled<IntCounter>,
    pub(crate) splits: IntCounter,
    pub(crate) batch_limit: IntGauge,
    pub(crate) clock_offset: IntGauge,
    pub(crate) state: Labelled<IntGauge>,
    pub(crate) operations_pending: IntGauge,
    pub(crate) oldest_wait: Gauge,
    pub(crate) consuming: IntGauge,
    /// NaN while unknown.
    pub(crate) queue_ready: Gauge,
    pub(crate) last_delivery: Gauge,
    pub(crate) last_progress: Gauge,
    pub(crate) connected: IntGauge,
    pub(crate) dead_letters: Labelled<IntCounter>,
    /// 0 if the credential never expires or its expiry is unknown.
    pub(crate) credential_expiry: Gauge,
    /// Finished jobs whose delivery is not acknowledged.
    owed: AtomicU64,
}

/// Counters of accounts by outcome.
#[derive(Debug)]
pub(crate) struct Outcomes {
    pub(crate) changed: IntCounter,
    pub(crate) unchanged: IntCounter,
    pub(crate) failed: IntCounter,
}

/// Requests of one action.
#[derive(Debug)]
pub(crate) struct RequestMetrics {
    pub(crate) ended: Labelled<IntCounter>,
    pub(crate) duration: Histogram,
    pub(crate) rate_limit: Gauge,
}

impl ProcessMetrics {
    pub(super) fn new(families: &Families) -> Self {
        at(&families.build_info, &[env!("CARGO_PKG_VERSION"), crate::REVISION]).set(1);
        Self {
            received_from_queue: at(&families.jobs_received, &["queue"]),
            received_from_input: at(&families.jobs_received, &["input"]),
            account_failures: Labelled::new(&CODES, |code| at(&families.account_failures, &[code])),
            redelivered: families.redelivered.clone(),
            rejected: Labelled::new(&REJECTIONS, |reason| at(&families.rejected, &[reason])),
            acks_lost: families.acks_lost.clone(),
            reconnects: Labelled::new(&RECONNECTS, |reason| at(&families.broker_reconnects, &[reason])),
            publisher_connected: at(&families.broker_connected, &["publisher"]),
            publisher_blocked: at(&families.broker_blocked, &["publisher"]),
            publish_duration: families.publish_duration.clone(),
            dead_letters_ready: unknown(families.dead_letters_ready.clone()),
        }
    }
}

impl LaneMetrics {
    pub(super) fn new(families: &Families, lane: &str, of_process: &Arc<ProcessMetrics>) -> Self {
        Self {
            of_process: Arc::clone(of_process),
            jobs_finished: Labelled::new(&STATUSES, |status| at(&families.jobs_finished, &[lane, status])),
            jobs_held: at(&families.jobs_held, &[lane]),
            requeues: Labelled::new(&REQUEUES, |reason| at(&families.requeues, &[lane, reason])),
            job_wait: at(&families.job_wait, &[lane]),
            job_duration: at(&families.job_duration, &[lane]),
            job_total: at(&families.job_total, &[lane]),
            shared: Outcomes::new(families, lane, "SHARE"),
            cancelled: Outcomes::new(families, lane, "CANCEL"),
            writes: RequestMetrics::new(families, lane, WRITE, &RESULTS_OF_WRITES),
            share_readings: RequestMetrics::new(families, lane, READ_SHARES, &RESULTS_OF_READINGS),
            image_readings: RequestMetrics::new(families, lane, READ_IMAGE, &RESULTS_OF_READINGS),
            requests_in_flight: at(&families.requests_in_flight, &[lane]),
            batch_accounts: at(&families.batch_accounts, &[lane]),
            retries: Labelled::new(&RETRIES, |reason| at(&families.retries, &[lane, reason])),
            splits: at(&families.splits, &[lane]),
            batch_limit: at(&families.batch_limit, &[lane]),
            clock_offset: at(&families.clock_offset, &[lane]),
            state: Labelled::new(&STATES, |state| at(&families.lane_state, &[lane, state])),
            operations_pending: at(&families.operations_pending, &[lane]),
            oldest_wait: at(&families.oldest_wait, &[lane]),
            consuming: at(&families.consuming, &[lane]),
            queue_ready: unknown(at(&families.queue_ready, &[lane])),
            last_delivery: at(&families.last_delivery, &[lane]),
            last_progress: at(&families.last_progress, &[lane]),
            connected: at(&families.broker_connected, &[&format!("lane:{lane}")]),
            dead_letters: Labelled::new(&DEATHS, |reason| at(&families.dead_letters, &[lane, reason])),
            credential_expiry: at(&families.credential_expiry, &[lane]),
            owed: AtomicU64::new(0),
        }
    }

    /// Returns the counters of accounts by the mode of their job.
    pub(crate) const fn accounts(&self, mode: Mode) -> &Outcomes {
        match mode {
            Mode::Cancel => &self.cancelled,
            Mode::Share | Mode::Sync => &self.shared,
        }
    }

    /// Returns the metrics of an action's requests.
    pub(crate) fn requests(&self, action: &str) -> &RequestMetrics {
        match action {
            WRITE => &self.writes,
            READ_SHARES => &self.share_readings,
            _ => &self.image_readings,
        }
    }

    /// Records that a job was delivered.
    pub(crate) fn took_in(&self) {
        if self.jobs_held.get() <= 0 {
            self.progressed();
        }
        self.jobs_held.inc();
    }

    /// Records that all accounts of a job have an outcome. Its report follows.
    pub(crate) fn settled(&self) {
        self.owed.fetch_add(1, Relaxed);
        self.progressed();
    }

    /// Records that finished jobs were acknowledged. Those of a file are when their report is written.
    pub(crate) fn acknowledged(&self, jobs: u64) {
        self.owed.fetch_sub(jobs, Relaxed);
        self.jobs_held.sub(i64::try_from(jobs).unwrap_or(i64::MAX));
        self.progressed();
    }

    /// Records that all held jobs will be redelivered. Returns how many of them were finished.
    pub(crate) fn lost_all(&self) -> u64 {
        self.jobs_held.set(0);
        self.owed.swap(0, Relaxed)
    }

    /// Records progress of the lane.
    pub(crate) fn progressed(&self) {
        self.last_progress.set(unix_seconds());
    }

    /// Shows the state of the lane.
    pub(crate) fn shows_state(&self, state: &str, is_consuming: bool) {
        self.state.of(state).set(1);
        self.state.all().filter(|(other, _)| *other != state).for_each(|(_, gauge)| gauge.set(0));
        self.consuming.set(is_consuming.into());
    }

    /// Shows when the credential expires; `None` if never or unknown.
    pub(crate) fn shows_credential(&self, expires_at: Option<SystemTime>) {
        let since = expires_at.and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        self.credential_expiry.set(since.unwrap_or_default().as_secs_f64());
    }

    /// Shows the limits of the settings, which apply until the engine changes them.
    pub(crate) fn show_limits(&self, limits: &LaneLimits) {
        self.writes.rate_limit.set(limits.rate);
        self.share_readings.rate_limit.set(limits.rate);
        self.image_readings.rate_limit.set(limits.image_rate);
        self.batch_limit.set(limits.batch.into());
        self.operations_pending.set(0);
    }

    /// Shows the numbers of the engine for a lane that is up.
    pub(crate) fn show(&self, numbers: &LaneNumbers) {
        self.writes.rate_limit.set(numbers.write_rate);
        self.share_readings.rate_limit.set(numbers.read_rate);
        self.image_readings.rate_limit.set(numbers.image_rate);
        self.batch_limit.set(numbers.batch.into());
        self.operations_pending.set(i64::try_from(numbers.operations).unwrap_or(i64::MAX));
        self.splits.inc_by(numbers.splits.saturating_sub(self.splits.get()));
    }
}

impl Outcomes {
    fn new(families: &Families, lane: &str, permission: &str) -> Self {
        let of = |outcome| at(&families.accounts, &[lane, permission, outcome]);
        Self { changed: of("changed"), unchanged: of("unchanged"), failed: of("failed") }
    }
}

impl RequestMetrics {
    fn new(families: &Families, lane: &str, action: &'static str, results: &[&'static str]) -> Self {
        Self {
            ended: Labelled::new(results, |result| at(&families.requests, &[lane, action, result])),
            duration: at(&families.request_duration, &[lane, action]),
            rate_limit: at(&families.rate_limit, &[lane, action]),
        }
    }
}

/// Returns a gauge whose value is not known yet. Zero would mean that nothing waits.
fn unknown(gauge: Gauge) -> Gauge {
    gauge.set(f64::NAN);
    gauge
}
