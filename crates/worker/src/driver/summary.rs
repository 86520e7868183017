//! What a whole run came to.

use std::collections::BTreeMap;

use imageshare_engine::io::{CloseReason, LaneId};

use super::progress::AccountCounts;

/// What a whole run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Jobs taken in.
    pub jobs_received: u64,
    /// Jobs that got their report.
    pub jobs_settled: u64,
    /// Jobs given back to their source.
    pub jobs_given_back: u64,
    /// Jobs that were held at the end and have no report. Not 0 only after a second interrupt.
    pub jobs_unsettled: u64,
    /// Jobs without any failed account.
    pub jobs_succeeded: u64,
    /// Accounts by what became of them.
    pub accounts: AccountCounts,
    /// Requests written to a connection, by the API's name of the action.
    pub calls: BTreeMap<&'static str, u64>,
    /// Requests refused because there were too many.
    pub calls_throttled: u64,
    /// For every lane that was ever closed, why it was the last time.
    pub closed: BTreeMap<LaneId, Closing>,
    /// Whether somebody wanted it to end before it was done.
    pub is_interrupted: bool,
    /// Reports that nobody took: the receiver was gone, or too slow after a second interrupt.
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
