//! Everything that can be observed from outside, each as one type whose `record` says it: one place for its words, its
//! level and its fields.

mod broker;
mod daemon;
mod jobs;
mod lanes;

pub(crate) use broker::{GivenBack, Reconnects, Suspicious, TopologyDiffers};
pub(crate) use daemon::{ReloadFailed, Reloaded};
pub(crate) use jobs::{AckLost, Delivered, Rejected, Settled};
pub(crate) use lanes::{LaneChanged, Noticed, RefreshFailed, StoodStill};
