//! Everything that can be observed from outside, each as one type whose `record` says it: one place for its words, its
//! level and its fields, and for what it counts.

mod api;
mod broker;
mod daemon;
mod jobs;
mod lanes;

pub(crate) use api::{Answered, Call, Sent};
pub(crate) use broker::{
    Confirmed, CourtesiesLost, GivenBack, LimitsInspected, PriorityIgnored, PublisherChanged, Reconnects, Shortened,
    TooLong, TopologyDiffers,
};
pub(crate) use daemon::{ReloadFailed, Reloaded};
pub(crate) use jobs::{AckLost, Delivered, Finished, Read, Rejected, Settled};
pub(crate) use lanes::{CredentialRenewed, LaneChanged, Noticed, OwnerLearned, RefreshFailed, SourceWorks, StoodStill};
