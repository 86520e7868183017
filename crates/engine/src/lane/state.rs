//! Whether calls are made on a lane, and what changes that.

use alloc::boxed::Box;

use crate::{
    call::Kind,
    io::CloseReason,
    limits::{Limits, PROBE_PAUSE_MAX, PROBE_PAUSE_MIN},
    policy::Unfinished,
    time::{Instant, Millis},
};

/// Whether calls are made.
///
/// | from | to | when |
/// |---|---|---|
/// | `Down` | `Open` | the lane comes up |
/// | `Open` | `Refreshing` | a credential is refused for the first time |
/// | `Refreshing` | `Open` | another credential is there |
/// | `Refreshing` | `Closed` | there is none |
/// | `Open` | `Suspect` | five calls without a usable response, on one or two images |
/// | `Open` | `Closed` | the same on three images; a clock, account or permission that makes every call fail |
/// | `Suspect` | `Closed` | the probe fails |
/// | `Suspect`, `Closed` | `Open` | a probe, or the last call in flight, shows that the reason is gone |
/// | any but `Down`, `GivenUp` | `Leaving` | the lane is to be left: its lease ended, or the process ends |
/// | `Leaving` | `Down` | the last call in flight has ended and the jobs are requeued |
/// | `Open`, `Suspect`, `Closed` | `GivenUp` | closed, or silent, for `closed_for`, where jobs cannot be requeued |
/// | any | `Down` | the lane is lost |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LaneState {
    /// Not ours.
    Down,
    Open,
    /// A credential was refused for this kind of call, in these words, and another one is being fetched.
    Refreshing(Kind, Box<str>),
    /// It may have to be closed: the next probe decides.
    Suspect(Closed),
    Closed(Closed),
    /// No new calls; when the last one in flight has ended, the lane leaves.
    Leaving,
    /// It left, in the way of one-shot commands: what comes now is not attempted.
    GivenUp(CloseReason),
}

/// A lane without calls but for one probe at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) reason: CloseReason,
    /// Since when nothing worked.
    pub(super) since: Instant,
    /// What the API, or the connection, said last.
    pub(super) detail: Box<str>,
    /// The kind of call that shows whether it works again.
    pub(super) probe: Kind,
    /// When to probe next; `None` while a probe is in flight.
    pub(super) probe_at: Option<Instant>,
    /// Probes that failed. Tries of operations do not count from the first one on.
    pub(super) failed_probes: u32,
    pub(super) jobs: ClosedJobs,
}

/// Where the jobs of a closed lane are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClosedJobs {
    Held,
    /// They were requeued already, and the lane goes on probing.
    Requeued,
}

impl Closed {
    pub(super) const fn new(reason: CloseReason, probe: Kind, detail: Box<str>, since: Instant) -> Self {
        Self { reason, since, detail, probe, probe_at: None, failed_probes: 0, jobs: ClosedJobs::Held }
    }

    pub(super) fn pause(&self) -> Millis {
        Millis(PROBE_PAUSE_MIN.0 << self.failed_probes.min(16)).min(PROBE_PAUSE_MAX)
    }

    pub(super) fn has_jobs(&self) -> bool {
        self.jobs == ClosedJobs::Held
    }
}

impl LaneState {
    /// What is known of a lane without calls.
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

    /// When a lane without calls leaves. One that is only suspected has nothing to requeue yet in a worker.
    pub(super) fn leaves_at(&self, unfinished: Unfinished, limits: &Limits) -> Option<Instant> {
        let closed = self.closed()?;
        let is_certain = matches!(self, Self::Closed(_));
        let leaves = closed.has_jobs() && (is_certain || unfinished == Unfinished::Report);
        leaves.then_some(closed.since + limits.closed_for)
    }
}
