//! Everything that logs and metrics show, as one type for each event. Its `record` has the message, the level and the fields,
//! and counts it.

mod api;
mod daemon;
mod jobs;
mod lanes;

pub(crate) use api::{CallDetails, CallEnded, CallSent};
pub(crate) use daemon::{ReloadFailed, Reloaded};
pub(crate) use jobs::{AckLost, Delivered, Finished, QueuedJob, Read, Rejected, Settled};
pub(crate) use lanes::{CredentialFailed, CredentialRenewed, Noticed, OwnerIdentified, SourceWorks, Suspended};
