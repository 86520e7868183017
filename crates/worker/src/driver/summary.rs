//! The summary of a run.

use std::collections::BTreeMap;

use imageshare_engine::io::{CloseReason, LaneId};

/// The summary of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Jobs without a report. Always 0 unless calls were broken off.
    pub jobs_unsettled: u64,
    /// Requests written to a connection, by the API's name of the action.
    pub calls: BTreeMap<&'static str, u64>,
    /// Requests that were throttled.
    pub calls_throttled: u64,
    /// The last closing of each lane that was ever closed.
    pub closed: BTreeMap<LaneId, Closing>,
    /// Whether it was interrupted.
    pub is_interrupted: bool,
    /// Reports without a receiver: it was gone, or too slow at the end of an interrupted run.
    pub reports_lost: u64,
}

/// Why a lane was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Why it was closed.
    pub reason: CloseReason,
    /// The last message of the API or of the connection.
    pub detail: Box<str>,
    /// Whether the lane opened again.
    pub is_over: bool,
}
