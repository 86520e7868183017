//! Everything that logs and metrics show, as one type for each event. Its `record` has the message, the level and the fields,
//! and counts it.

use tracing::{error, info, warn};

mod api;
mod jobs;
mod lanes;

pub(crate) use api::{CallDetails, CallEnded, CallSent};
pub(crate) use jobs::{Delivered, Finished, QueuedJob, Read, Rejected, Settled};
pub(crate) use lanes::{CredentialFailed, CredentialRenewed, Noticed, OwnerIdentified, SourceWorks, Suspended};

/// Settings were reloaded.
pub(crate) struct Reloaded {
    /// Whether a setting differs that is only read at the start.
    pub(crate) needs_restart: bool,
}

/// Reloaded settings are invalid.
pub(crate) struct ReloadFailed<'a> {
    /// What is wrong: printable, without secrets.
    pub(crate) problem: &'a str,
}

/// The trusted authorities could not be read again.
pub(crate) struct TrustKept<'a> {
    /// What is wrong: printable.
    pub(crate) problem: &'a str,
}

impl Reloaded {
    pub(crate) fn record(&self) {
        info!("settings and credentials reloaded");
        if self.needs_restart {
            warn!("some changed settings need a restart: lanes, broker, or time-outs");
        }
    }
}

impl ReloadFailed<'_> {
    pub(crate) fn record(&self) {
        error!(problem = self.problem, "settings invalid; keeping the old ones");
    }
}

impl TrustKept<'_> {
    pub(crate) fn record(&self) {
        error!(problem = self.problem, "trusted certificates not reloaded; keeping the old ones");
    }
}
