//! What a driver shows of its work: the progress and the summary of a run, and the state of its lanes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use imageshare_engine::{
    io::{CloseReason, LaneId, Notice},
    job::Report,
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Closing, Summary};
use crate::status::Status;

/// The shortest time between two measurements of the lanes: the engine looks at each image for one.
const BETWEEN_MEASUREMENTS: Duration = Duration::from_millis(500);

/// Records what happens, for the callers of a run and for the admin server.
#[derive(Debug)]
pub(super) struct Observer {
    progress: Arc<Progress>,
    status: Arc<Status>,
    summary: Summary,
    measured_at: Option<Instant>,
}

impl Observer {
    pub(super) fn new(status: Arc<Status>) -> Self {
        Self { progress: Arc::default(), status, summary: Summary::default(), measured_at: None }
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    pub(super) const fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Returns the summary so far, to add to it.
    pub(super) const fn summary(&mut self) -> &mut Summary {
        &mut self.summary
    }

    pub(super) fn job_received(&self, accounts: usize) {
        self.progress.job_received(accounts);
    }

    pub(super) fn job_settled(&self, report: &Report) {
        self.progress.job_settled(report);
    }

    pub(super) fn call_sent(&mut self, action: &'static str) {
        *self.summary.calls.entry(action).or_default() += 1;
        self.progress.calls_sent.fetch_add(1, Relaxed);
    }

    pub(super) fn call_throttled(&mut self) {
        self.summary.calls_throttled += 1;
        self.progress.calls_throttled.fetch_add(1, Relaxed);
    }

    /// Records whether a lane is closed, if a notice shows it.
    pub(super) fn noticed(&mut self, lane: LaneId, notice: &Notice) {
        match notice {
            Notice::Closed { reason, detail } => {
                let closing = Closing { reason: *reason, detail: detail.clone(), is_over: false };
                self.summary.closed.insert(lane, closing);
                self.progress.lane(lane, Some(*reason));
                self.status.lane(lane).close(*reason);
            }
            Notice::Opened => {
                if let Some(closing) = self.summary.closed.get_mut(&lane) {
                    closing.is_over = true;
                }
                self.progress.lane(lane, None);
                self.status.lane(lane).open();
            }
            Notice::CannotList { .. }
            | Notice::BatchReduced(_)
            | Notice::CapReduced { .. }
            | Notice::ImageBusy { .. } => {}
        }
    }

    /// Records that a lane was given up. It ends as closed, even if no notice said so before.
    pub(super) fn gave_up(&mut self, lane: LaneId, reason: CloseReason) {
        let closing = Closing { reason, detail: Box::default(), is_over: false };
        self.summary.closed.entry(lane).or_insert(closing).is_over = false;
    }

    /// Records that the loop turned. Returns whether the lanes must be measured again.
    pub(super) fn turned(&mut self) -> bool {
        let now = Instant::now();
        self.status.turned();
        let is_due = self.measured_at.is_none_or(|at| now.saturating_duration_since(at) >= BETWEEN_MEASUREMENTS);
        if is_due {
            self.measured_at = Some(now);
        }
        is_due
    }
}

/// The progress of a run. The driver writes it, and any thread reads it; neither waits for the other.
#[derive(Debug, Default)]
pub struct Progress {
    accounts_received: AtomicU64,
    accounts_settled: AtomicU64,
    calls_sent: AtomicU64,
    calls_throttled: AtomicU64,
    closed: Mutex<Vec<(LaneId, CloseReason)>>,
}

/// The progress of a run at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Accounts that the received jobs name, including repeated ones.
    pub accounts_received: u64,
    /// Those of them whose job has its report.
    pub accounts_settled: u64,
    /// Requests written to a connection.
    pub calls_sent: u64,
    /// Requests that were throttled.
    pub calls_throttled: u64,
    /// Lanes that are closed now, and why.
    pub closed: Vec<(LaneId, CloseReason)>,
}

impl Progress {
    /// Returns the numbers now. They may be of slightly different moments.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            accounts_received: self.accounts_received.load(Relaxed),
            accounts_settled: self.accounts_settled.load(Relaxed),
            calls_sent: self.calls_sent.load(Relaxed),
            calls_throttled: self.calls_throttled.load(Relaxed),
            closed: self.closed.lock().clone(),
        }
    }

    fn job_received(&self, accounts: usize) {
        self.accounts_received.fetch_add(accounts as u64, Relaxed);
    }

    /// Accounts that a SYNC removed are named by no job and not counted.
    fn job_settled(&self, report: &Report) {
        let named = report.outcomes.len() as u64 + u64::from(report.duplicates);
        self.accounts_settled.fetch_add(named, Relaxed);
    }

    fn lane(&self, lane: LaneId, closed: Option<CloseReason>) {
        let mut lanes = self.closed.lock();
        lanes.retain(|(other, _)| *other != lane);
        lanes.extend(closed.map(|reason| (lane, reason)));
    }
}

#[cfg(test)]
mod tests {
    use imageshare_core::ids::AccountId;
    use imageshare_engine::job::AccountOutcome;

    use super::*;

    #[test]
    fn settled_job_settles_its_repeated_accounts_too() {
        let account = |id| (AccountId::new(id).unwrap(), AccountOutcome::Changed(None));
        let report = Report {
            outcomes: vec![account(100_000), account(100_001)],
            cancelled: vec![account(200_000)],
            duplicates: 1,
            requests: 1,
        };
        let progress = Progress::default();
        progress.job_received(3);
        progress.job_settled(&report);
        let snapshot = progress.snapshot();
        assert_eq!((snapshot.accounts_received, snapshot.accounts_settled), (3, 3));
    }

    #[test]
    fn closed_lane_keeps_its_reason() {
        let progress = Progress::default();
        progress.lane(LaneId(1), Some(CloseReason::Endpoint));
        progress.lane(LaneId(1), Some(CloseReason::Credential));
        assert_eq!(progress.snapshot().closed, [(LaneId(1), CloseReason::Credential)]);
        progress.lane(LaneId(1), None);
        assert!(progress.snapshot().closed.is_empty());
    }
}
