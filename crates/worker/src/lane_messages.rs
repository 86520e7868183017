//! The messages between the driver and the sources of jobs: deliveries, their reports, and the ownership of lanes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::SystemTime,
};

use imageshare_engine::{
    io::{CloseReason, LaneId},
    job::{Job, Mode, Report},
};

use crate::ownership_proof::OwnershipProof;

/// A job on its way to the driver.
#[derive(Clone, Debug)]
pub struct Delivery<I> {
    /// What identifies the report: name, labels, and anything else that the source needs. Returned unchanged.
    pub identity: I,
    /// The lane that serves the job, by [`route`](crate::lanes::route).
    pub lane: LaneId,
    /// The job for each of its images, at least one. The driver sets their deadlines from `expires_at`.
    pub jobs: Vec<Job>,
    /// When no part of the job may begin any more.
    pub expires_at: Option<SystemTime>,
}

/// A job with its report.
#[derive(Clone, Debug)]
pub struct SettledJob<I> {
    /// The identity of its delivery.
    pub identity: I,
    /// Its lane.
    pub lane: LaneId,
    /// The requested state.
    pub mode: Mode,
    /// The outcome of each account for each image, in the order of the delivery.
    pub reports: Vec<Report>,
    /// When it was received, by this machine's clock.
    pub received_at: SystemTime,
    /// When its last outcome was known, by this machine's clock.
    pub finished_at: SystemTime,
    /// The time at the engine's moment 0, by this machine's clock.
    pub engine_epoch: SystemTime,
}

/// The number of a subscription. Each subscription of a process has another number, and a later one a higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// What the subscription of a lane sends to the driver, in this order: up, deliveries, down. It is up from its first
/// delivery on: before that another worker may be the consumer of the lane.
#[derive(Debug)]
pub enum FromLane<I> {
    /// Jobs of the lane follow.
    Up {
        /// The lane.
        lane: LaneId,
        /// The subscription.
        epoch: Epoch,
        /// Shows that the lane is ours. Calls need it.
        proof: Arc<OwnershipProof>,
    },
    /// A job arrived.
    Delivered(Epoch, Delivery<I>),
    /// The subscription ended. The broker redelivers what was not acknowledged.
    Down {
        /// The lane.
        lane: LaneId,
        /// The subscription.
        epoch: Epoch,
    },
}

/// What the driver sends to the subscription of a lane. A message for an earlier subscription has no effect.
#[derive(Debug)]
pub enum ToLane<I> {
    /// Consume the lane, until it is requeued or lost.
    Consume,
    /// A job has its report: publish it, then acknowledge the delivery, in the order of these messages.
    Settled(Box<SettledJob<I>>, UnpublishedOutcomes),
    /// Acknowledge what is due, then end the subscription gently, which requeues the rest.
    Requeue(Epoch, Requeue),
    /// End the subscription gently, if there is one, and do not consume the lane until the next [`Self::Consume`].
    Release,
    /// End the subscription at once: this process was suspended and may have lost the lane.
    Cut(Epoch),
}

/// Why a lane is requeued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// It was closed for too long. It is consumed again when it opens.
    Closed(CloseReason),
    /// The process ends.
    Drain,
    /// A job was held for as long as one may be.
    Lease,
    /// A job did not fit into the lane's share of the items that the process may hold. All jobs that did are finished.
    Operations,
    /// The operator pauses it.
    Paused,
}

/// Outcomes that wait to be published. They count against the lane's share of items until this is dropped.
#[derive(Debug)]
pub struct UnpublishedOutcomes {
    count: usize,
    total: Arc<AtomicUsize>,
}

impl<I> Delivery<I> {
    /// Returns how many accounts it names, counted for each of its images.
    #[must_use]
    pub fn accounts(&self) -> usize {
        self.jobs.iter().map(|job| job.account_ids.len()).sum()
    }
}

impl<I> SettledJob<I> {
    /// Returns the number of outcomes in its reports.
    #[must_use]
    pub fn outcomes(&self) -> usize {
        self.reports.iter().map(outcomes).sum()
    }
}

/// Returns the number of outcomes in a report.
pub(crate) const fn outcomes(report: &Report) -> usize {
    report.outcomes.len() + report.cancelled.len()
}

impl Requeue {
    /// Returns the word for it in logs, metrics and documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed(_) => "closed",
            Self::Drain => "drain",
            Self::Lease => "lease",
            Self::Operations => "operations",
            Self::Paused => "paused",
        }
    }
}

impl UnpublishedOutcomes {
    /// Adds this number of outcomes to a total.
    pub(crate) fn add(count: usize, total: &Arc<AtomicUsize>) -> Self {
        total.fetch_add(count, Relaxed);
        Self { count, total: Arc::clone(total) }
    }
}

impl Drop for UnpublishedOutcomes {
    fn drop(&mut self) {
        self.total.fetch_sub(self.count, Relaxed);
    }
}
