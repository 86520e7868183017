//! The state of a lane.

use alloc::boxed::Box;

use crate::{
    call::Kind,
    io::CloseReason,
    limits::{Limits, PROBE_PAUSE_MAX, PROBE_PAUSE_MIN},
    policy::Unfinished,
    time::{Instant, Millis},
};

/// Whether a lane makes calls.
///
/// | from | to | when |
/// |---|---|---|
/// | `Down` | `Open` | the lane comes up |
/// | `Open` | `Refreshing` | a credential is refused for the first time |
/// | `Refreshing` | `Open` | another credential is in use |
/// | `Refreshing` | `Closed` | there is no other one |
/// | `Open` | `Suspect` | five calls without a usable response, on one or two images |
/// | `Open` | `Closed` | the same on three images; a clock, account or permission that makes every call fail |
/// | `Suspect` | `Closed` | the probe fails |
/// | `Suspect`, `Closed` | `Open` | a probe, or the last call in flight, shows that the reason is gone |
/// | any but `Down`, `GivenUp` | `Leaving` | the lease of a job ends, the process does, or the operator pauses the lane |
/// | `Leaving` | `Down` | the last call in flight has ended and the jobs are requeued |
/// | `Open`, `Suspect`, `Closed` | `GivenUp` | closed, or silent, for `closed_for`, if jobs are reported |
/// | any | `Down` | the lane belongs to another worker |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LaneState {
    /// It has no jobs, or another worker has it.
    Down,
    Open,
    /// A credential was refused for this kind of call, with this error, and another one is being fetched.
    Refreshing(Kind, Box<str>),
    /// The next probe decides whether it is closed.
    Suspect(Closed),
    Closed(Closed),
    /// No new calls. Its jobs end when the last call in flight has ended.
    Leaving,
    /// Its jobs were reported, and new jobs are not attempted.
    GivenUp(CloseReason),
}

/// A lane without calls except one probe at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) reason: CloseReason,
    /// Since when no call was good.
    pub(super) since: Instant,
    /// The last error of the API or the connection.
    pub(super) detail: Box<str>,
    /// The kind of call that shows whether it works again.
    pub(super) probe: Kind,
    /// When to probe next; `None` while a probe is in flight.
    pub(super) probe_at: Option<Instant>,
    /// Probes that failed. From the first one on, failures of operations do not count.
    pub(super) failed_probes: u32,
    pub(super) jobs: ClosedJobs,
}

/// Where the jobs of a closed lane are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClosedJobs {
    Held,
    /// They were requeued, and the lane still probes.
    Requeued,
}

impl Closed {
    pub(super) const fn new(reason: CloseReason, probe: Kind, detail: Box<str>, since: Instant) -> Self {
        Self { reason, since, detail, probe, probe_at: None, failed_probes: 0, jobs: ClosedJobs::Held }
    }

    pub(super) fn pause(&self) -> Millis {
        // The shift is bounded, since a lane may stay closed for months.
        Millis(PROBE_PAUSE_MIN.0 << self.failed_probes.min(16)).min(PROBE_PAUSE_MAX)
    }

    pub(super) fn has_jobs(&self) -> bool {
        self.jobs == ClosedJobs::Held
    }
}

impl LaneState {
    /// The details of a lane without calls.
    pub(super) const fn closed(&self) -> Option<&Closed> {
        match self {
            Self::Suspect(closed) | Self::Closed(closed) => Some(closed),
            Self::Down | Self::Open | Self::Refreshing(..) | Self::Leaving | Self::GivenUp(_) => None,
        }
    }

    pub(super) const fn closed_mut(&mut self) -> Option<&mut Closed> {
        match self {
            Self::Suspect(closed) | Self::Closed(closed) => Some(closed),
            Self::Down | Self::Open | Self::Refreshing(..) | Self::Leaving | Self::GivenUp(_) => None,
        }
    }

    /// Whether the lane may be closed from here.
    pub(super) const fn can_close(&self) -> bool {
        !matches!(self, Self::Down | Self::Leaving | Self::GivenUp(_))
    }

    /// When the jobs of a lane without calls end. A worker does not requeue the jobs of a lane that is only suspected.
    pub(super) fn leaves_at(&self, unfinished: Unfinished, limits: &Limits) -> Option<Instant> {
        let closed = self.closed()?;
        let is_certain = matches!(self, Self::Closed(_));
        let leaves = closed.has_jobs() && (is_certain || unfinished == Unfinished::Report);
        leaves.then_some(closed.since + limits.closed_for)
    }
}
