//! What a whole run came to.

use std::collections::BTreeMap;

use imageshare_engine::io::{CloseReason, LaneId};

/// What a whole run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Jobs that were held at the end and have no report. Not 0 only if it was broken off.
    pub jobs_unsettled: u64,
    /// Requests written to a connection, by the API's name of the action.
    pub calls: BTreeMap<&'static str, u64>,
    /// Requests refused because there were too many.
    pub calls_throttled: u64,
    /// For every lane that was ever closed, why it was the last time.
    pub closed: BTreeMap<LaneId, Closing>,
    /// Whether somebody wanted it to end before it was done.
    pub is_interrupted: bool,
    /// Reports that nobody took: the receiver was gone, or too slow when an interrupted run came to its end.
    pub reports_lost: u64,
}

/// Why a lane was closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Whose fault it was.
    pub reason: CloseReason,
    /// What the API, or the connection, said last.
    pub detail: Box<str>,
    /// Whether the lane went on working afterwards.
    pub is_over: bool,
}
