//! How far a run has come: numbers that anybody may read while it goes on.

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use imageshare_engine::{
    io::{CloseReason, LaneId},
    job::Report,
};

/// The numbers of a run that goes on. The driver writes, anybody reads; neither waits for the other.
#[derive(Debug, Default)]
pub struct Progress {
    accounts_received: AtomicU64,
    accounts_settled: AtomicU64,
    calls_sent: AtomicU64,
    calls_throttled: AtomicU64,
    closed: Mutex<Vec<(LaneId, CloseReason)>>,
}

/// The numbers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Accounts that the jobs taken in named, repeated ones too.
    pub accounts_received: u64,
    /// Those of them whose job has its report: all of them in the end.
    pub accounts_settled: u64,
    /// Requests written to a connection.
    pub calls_sent: u64,
    /// Requests refused because there were too many.
    pub calls_throttled: u64,
    /// Lanes that make no calls now, and why.
    pub closed: Vec<(LaneId, CloseReason)>,
}

impl Progress {
    /// The numbers now. Each is right; that they were so at the same moment is not promised.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            accounts_received: self.accounts_received.load(Relaxed),
            accounts_settled: self.accounts_settled.load(Relaxed),
            calls_sent: self.calls_sent.load(Relaxed),
            calls_throttled: self.calls_throttled.load(Relaxed),
            closed: self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    pub(super) fn job_received(&self, accounts: usize) {
        self.accounts_received.fetch_add(accounts as u64, Relaxed);
    }

    /// What a SYNC took off a list was named by no job and is not counted.
    pub(super) fn job_settled(&self, report: &Report) {
        let named = report.outcomes.len() as u64 + u64::from(report.duplicates);
        self.accounts_settled.fetch_add(named, Relaxed);
    }

    pub(super) fn call_sent(&self) {
        self.calls_sent.fetch_add(1, Relaxed);
    }

    pub(super) fn call_throttled(&self) {
        self.calls_throttled.fetch_add(1, Relaxed);
    }

    pub(super) fn lane(&self, lane: LaneId, closed: Option<CloseReason>) {
        let mut lanes = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
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
    fn the_accounts_of_a_job_that_is_done_are_all_done_repeated_ones_too() {
        let account = |id| (AccountId::new(id).unwrap(), AccountOutcome::Changed);
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
    fn a_lane_is_closed_for_one_reason_until_it_opens() {
        let progress = Progress::default();
        progress.lane(LaneId(1), Some(CloseReason::Endpoint));
        progress.lane(LaneId(1), Some(CloseReason::Credential));
        assert_eq!(progress.snapshot().closed, [(LaneId(1), CloseReason::Credential)]);
        progress.lane(LaneId(1), None);
        assert!(progress.snapshot().closed.is_empty());
    }
}
