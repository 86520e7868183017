//! What comes to the driver, and what it says to whoever started it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::SystemTime,
};

use imageshare_core::{
    Credential,
    ids::{AccountId, RequestId},
};
use imageshare_engine::{
    io::{CallId, CloseReason, LaneId, Notice, Outcome},
    job::{Job, Mode, Report},
    limits::{LaneLimits, Limits},
};

use crate::{credentials::Loaded, proof::Proof};

/// A job on its way in.
#[derive(Clone, Debug)]
pub struct Delivery<I> {
    /// What the report is to be told by: name, labels, whatever the source knows the job by. Comes back untouched.
    pub identity: I,
    /// The lane that serves it, by [`route`](super::route).
    pub lane: LaneId,
    /// The job. Its deadline is made here, from `expires_at`.
    pub job: Job,
    /// When nothing of it is to be begun any more.
    pub expires_at: Option<SystemTime>,
}

/// What the driver says, in the order in which it happened.
#[derive(Clone, Debug)]
pub enum Said<I> {
    /// A job has its report.
    Settled(Box<Settled<I>>),
    /// The jobs of a lane that could not be done now: the source may deliver them again.
    GivenBack {
        /// The lane.
        lane: LaneId,
        /// Its jobs, in the order in which they came.
        jobs: Vec<I>,
    },
    /// Something that people should hear of.
    Notice(LaneId, Notice),
    /// The source of a credential gives none, for this reason: one printable line.
    RefreshFailed(LaneId, String),
}

/// A job and what became of it.
#[derive(Clone, Debug)]
pub struct Settled<I> {
    /// What came with it.
    pub identity: I,
    /// Its lane.
    pub lane: LaneId,
    /// What it asked for.
    pub mode: Mode,
    /// What became of it.
    pub report: Report,
    /// When it came in, by this machine's clock.
    pub received_at: SystemTime,
    /// When its last account was known, by this machine's clock.
    pub finished_at: SystemTime,
}

/// Everything that can wake the driver.
pub(super) enum Event<I> {
    /// A job came.
    Job(Box<Delivery<I>>),
    /// No more jobs will come.
    SourceEnded,
    /// A call or a refresh came on.
    News(News),
    /// Somebody wants this to end.
    Interrupt,
    /// A moment came that was waited for.
    Tick,
}

/// What the tasks that the driver started have to tell it.
pub(super) enum News {
    /// A request is being written to an open connection.
    Sent(CallId),
    /// A call ended.
    Answer {
        /// Which.
        call: CallId,
        /// How.
        outcome: Outcome,
        /// Of an accepted request.
        request_id: Option<RequestId>,
        /// The generation of the credential that signed it; `None` of a call that was not signed.
        generation: Option<u64>,
    },
    /// A lane's source was asked for another credential, because the one at hand was refused.
    Refreshed {
        /// The lane.
        lane: LaneId,
        /// What it has now.
        found: Result<Credential, String>,
    },
    /// A lane has another credential.
    Renewed {
        /// The lane.
        lane: LaneId,
        /// What it has now.
        loaded: Loaded,
    },
    /// More is known of whose a lane's credential is.
    Owner {
        /// The lane.
        lane: LaneId,
    },
    /// The source of a lane's credential gives none. The last one is kept.
    SourceFailed {
        /// The lane.
        lane: LaneId,
        /// Why, in one printable line.
        problem: String,
    },
    /// The source of a lane's credential gives again what it gave before.
    SourceWorks {
        /// The lane.
        lane: LaneId,
    },
}

/// Which subscription of its lane it is. Every one of a process has another number, and a later one a higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Epoch(pub u64);

/// What the subscription of a lane tells the driver, in this order: up, deliveries, down. It is up from its first
/// delivery on: before that another worker may have the lane.
#[derive(Debug)]
pub enum FromLane<I> {
    /// Jobs of the lane come from now on.
    Up {
        /// The lane.
        lane: LaneId,
        /// Of this subscription.
        epoch: Epoch,
        /// What shows that the lane is ours. Calls need it.
        proof: Arc<Proof>,
    },
    /// A job came.
    Delivered(Epoch, Delivery<I>),
    /// The subscription ended; whatever it delivered and was not acknowledged comes again.
    Down {
        /// The lane.
        lane: LaneId,
        /// Of this subscription.
        epoch: Epoch,
    },
}

/// What the driver tells the subscription of a lane. An order for a subscription that ended since is void.
#[derive(Debug)]
pub enum ToLane<I> {
    /// Consume the lane, until it is given back or lost.
    Consume,
    /// A job has its report: publish it, then acknowledge the delivery, in the order in which these come.
    Settled(Box<Settled<I>>, Outcomes),
    /// Acknowledge what is due, then end the subscription gently.
    Requeue(Epoch, Requeue),
    /// End the subscription at once: this process stood still and may have lost the lane meanwhile.
    Cut(Epoch),
}

/// Why a lane is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeue {
    /// It was closed for too long; it is consumed again when it opens.
    Closed(CloseReason),
    /// The process ends.
    Drain,
    /// A job has been held as long as one may be.
    Lease,
    /// A job did not fit into the lane's share of the items that the process may hold. All jobs that did are finished.
    Operations,
}

/// What whoever runs the process wants of the driver.
#[derive(Debug)]
pub enum Order {
    /// Other limits, those of the lanes in their order, and what the sources of their credentials have now.
    Reload {
        /// Of the engine.
        limits: Box<Limits>,
        /// Of each lane, with the account that its credential has to be of.
        lanes: Vec<(LaneLimits, Option<AccountId>)>,
    },
    /// Finish what is in flight, give all lanes back, end.
    Drain,
}

/// Outcomes that wait to be published: they count against the bound of the process until this is dropped.
#[derive(Debug)]
pub struct Outcomes {
    count: usize,
    total: Arc<AtomicUsize>,
}

impl Requeue {
    /// The word for it in logs, metrics and documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed(_) => "closed",
            Self::Drain => "drain",
            Self::Lease => "lease",
            Self::Operations => "operations",
        }
    }
}

impl Outcomes {
    /// So many more in this total.
    pub(super) fn add(count: usize, total: &Arc<AtomicUsize>) -> Self {
        total.fetch_add(count, Relaxed);
        Self { count, total: Arc::clone(total) }
    }
}

impl Drop for Outcomes {
    fn drop(&mut self) {
        self.total.fetch_sub(self.count, Relaxed);
    }
}
