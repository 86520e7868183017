//! What comes to the driver, and what it says to whoever started it.

use std::time::SystemTime;

use imageshare_core::Credential;
use imageshare_engine::{
    io::{CallId, LaneId, Notice, Outcome},
    job::{Job, Report},
};

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
    /// A refused credential has no successor, for this reason: one printable line.
    RefreshFailed(LaneId, String),
}

/// A job and what became of it.
#[derive(Clone, Debug)]
pub struct Settled<I> {
    /// What came with it.
    pub identity: I,
    /// Its lane.
    pub lane: LaneId,
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
        /// What the server's clock showed.
        date: Option<SystemTime>,
    },
    /// A lane's source was asked for another credential.
    Refreshed {
        /// The lane.
        lane: LaneId,
        /// What it has now.
        found: Result<Credential, String>,
    },
}
