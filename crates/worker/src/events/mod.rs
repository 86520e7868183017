//! Everything that can be observed from outside, each as one type whose `record` says it: one place for its words, its
//! level and its fields.

mod lanes;

pub(crate) use lanes::{LaneChanged, Noticed, RefreshFailed, StoodStill};
