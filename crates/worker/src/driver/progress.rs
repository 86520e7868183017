//! How far a run has come: numbers that anybody may read while it goes on.

use std::{
    ops::AddAssign,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use imageshare_engine::{
    io::{CloseReason, LaneId},
    job::{AccountOutcome, Report},
};

/// The numbers of a run that goes on. The driver writes, anybody reads; neither waits for the other.
#[derive(Debug, Default)]
pub struct Progress {
    jobs_received: AtomicU64,
    jobs_settled: AtomicU64,
    accounts_received: AtomicU64,
    accounts_changed: AtomicU64,
    accounts_unchanged: AtomicU64,
    accounts_failed: AtomicU64,
    accounts_cancelled: AtomicU64,
    calls_sent: AtomicU64,
    calls_throttled: AtomicU64,
    closed: Mutex<Vec<(LaneId, CloseReason)>>,
}

/// The numbers at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Jobs taken in.
    pub jobs_received: u64,
    /// Jobs that have their report.
    pub jobs_settled: u64,
    /// Accounts that the jobs taken in named, repeated ones too.
    pub accounts_received: u64,
    /// Accounts that have their outcome.
    pub accounts: AccountCounts,
    /// Requests written to a connection.
    pub calls_sent: u64,
    /// Requests refused because there were too many.
    pub calls_throttled: u64,
    /// Lanes that make no calls now, and why.
    pub closed: Vec<(LaneId, CloseReason)>,
}

/// Accounts by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountCounts {
    /// Brought to what was wished.
    pub changed: u64,
    /// As wished from the beginning.
    pub unchanged: u64,
    /// Not known to be as wished.
    pub failed: u64,
    /// Taken off a list by a SYNC, in which its job did not name them. Those that could not be taken off are in
    /// `failed`.
    pub cancelled: u64,
}

impl AccountCounts {
    /// The accounts of one report.
    #[must_use]
    pub fn of(report: &Report) -> Self {
        let mut counts = Self::default();
        for (_, outcome) in &report.outcomes {
            match outcome {
                AccountOutcome::Changed => counts.changed += 1,
                AccountOutcome::Unchanged => counts.unchanged += 1,
                AccountOutcome::Failed(_) => counts.failed += 1,
            }
        }
        for (_, outcome) in &report.cancelled {
            match outcome {
                AccountOutcome::Changed | AccountOutcome::Unchanged => counts.cancelled += 1,
                AccountOutcome::Failed(_) => counts.failed += 1,
            }
        }
        counts
    }
}

impl AddAssign for AccountCounts {
    fn add_assign(&mut self, other: Self) {
        self.changed += other.changed;
        self.unchanged += other.unchanged;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
    }
}

impl Progress {
    /// The numbers now. Each is right; that they were so at the same moment is not promised.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            jobs_received: self.jobs_received.load(Relaxed),
            jobs_settled: self.jobs_settled.load(Relaxed),
            accounts_received: self.accounts_received.load(Relaxed),
            accounts: AccountCounts {
                changed: self.accounts_changed.load(Relaxed),
                unchanged: self.accounts_unchanged.load(Relaxed),
                failed: self.accounts_failed.load(Relaxed),
                cancelled: self.accounts_cancelled.load(Relaxed),
            },
            calls_sent: self.calls_sent.load(Relaxed),
            calls_throttled: self.calls_throttled.load(Relaxed),
            closed: self.closed.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    pub(super) fn job_received(&self, accounts: usize) {
        self.jobs_received.fetch_add(1, Relaxed);
        self.accounts_received.fetch_add(accounts as u64, Relaxed);
    }

    pub(super) fn job_settled(&self, accounts: AccountCounts) {
        self.accounts_changed.fetch_add(accounts.changed, Relaxed);
        self.accounts_unchanged.fetch_add(accounts.unchanged, Relaxed);
        self.accounts_failed.fetch_add(accounts.failed, Relaxed);
        self.accounts_cancelled.fetch_add(accounts.cancelled, Relaxed);
        self.jobs_settled.fetch_add(1, Relaxed);
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
    use std::sync::Arc;

    use imageshare_core::ids::AccountId;
    use imageshare_engine::job::{Failure, local};

    use super::*;

    #[test]
    fn every_account_of_a_report_is_counted_once() {
        let failed = Failure { code: local::NO_ANSWER.into(), message: "silence".into(), request_id: None };
        let failed = AccountOutcome::Failed(Arc::new(failed));
        let numbered = |first: u64, outcomes: &[AccountOutcome]| -> Vec<(AccountId, AccountOutcome)> {
            (first..).zip(outcomes).map(|(id, outcome)| (AccountId::new(id).unwrap(), outcome.clone())).collect()
        };
        let report = Report {
            outcomes: numbered(100_000, &[AccountOutcome::Changed, AccountOutcome::Unchanged, failed.clone()]),
            cancelled: numbered(200_000, &[AccountOutcome::Changed, AccountOutcome::Changed, failed]),
            duplicates: 0,
            requests: 1,
        };
        let counts = AccountCounts::of(&report);
        assert_eq!(counts, AccountCounts { changed: 1, unchanged: 1, failed: 2, cancelled: 2 });

        let progress = Progress::default();
        progress.job_received(3);
        progress.job_settled(counts);
        let snapshot = progress.snapshot();
        assert_eq!((snapshot.jobs_settled, snapshot.accounts_received, snapshot.accounts), (1, 3, counts));
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
