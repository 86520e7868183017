//! The last requests, for people and tests who want to know what a client really sent.

use std::collections::VecDeque;

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId},
};
use serde::Serialize;

/// Requests that are kept.
pub const ENTRIES_MAX: usize = 10_000;

/// Accounts of a request that are kept.
pub const ACCOUNTS_MAX: usize = 500;

/// A request.
#[derive(Clone, Debug, Serialize)]
pub struct LogEntry {
    /// When it arrived, RFC 3339 in UTC.
    pub time: String,
    /// The action it named, if the sandbox has it.
    pub action: Option<&'static str>,
    /// What was decided: an error code, `ok`, or the fault that took the place of a decision.
    pub code: String,
    /// The image it named, if well formed.
    pub image_id: Option<ImageId>,
    /// The permission it named, if there is such a one.
    pub permission: Option<Permission>,
    /// The well-formed accounts it named, in its order, at most [`ACCOUNTS_MAX`].
    pub accounts: Vec<AccountId>,
    /// `TC3` or `v1`, if it was signed at all.
    pub signature_version: Option<&'static str>,
    /// What it said about its client, made printable.
    pub client_tag: Option<String>,
    /// The fault that struck it.
    pub fault: Option<&'static str>,
    /// The `RequestId` of its response, whether the client received the response or not.
    pub request_id: String,
    /// Its `Host` header, made printable. Clients that connect through ports of their own differ in it.
    pub host: Option<String>,
    /// Under the fault `apply_late`, what the API did in the end; absent until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
}

/// The effect of a request that was held back.
#[derive(Clone, Debug, Serialize)]
pub struct Late {
    /// When it took effect or was refused, RFC 3339 in UTC.
    pub time: String,
    /// An error code, or `ok`.
    pub code: String,
}

/// The last [`ENTRIES_MAX`] requests.
#[derive(Debug, Default)]
pub struct Log(VecDeque<LogEntry>);

impl Log {
    /// Adds a request; the oldest makes room.
    pub fn push(&mut self, entry: LogEntry) {
        if self.0.len() >= ENTRIES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }

    /// Records the effect of a request that was held back, if the request is still remembered.
    pub fn late(&mut self, request_id: &str, late: Late) {
        if let Some(entry) = self.0.iter_mut().rev().find(|entry| entry.request_id == request_id) {
            entry.late = Some(late);
        }
    }

    /// The last so many, oldest first.
    pub fn last(&self, count: usize) -> impl Iterator<Item = &LogEntry> {
        self.0.iter().skip(self.0.len().saturating_sub(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_makes_room_and_the_last_come_oldest_first() {
        let mut log = Log::default();
        for number in 0..ENTRIES_MAX + 3 {
            log.push(LogEntry {
                time: number.to_string(),
                action: None,
                code: "ok".into(),
                image_id: None,
                permission: None,
                accounts: Vec::new(),
                signature_version: Some("TC3"),
                client_tag: None,
                fault: None,
                request_id: number.to_string(),
                host: None,
                late: None,
            });
        }
        assert_eq!(log.last(usize::MAX).count(), ENTRIES_MAX);
        assert_eq!(log.last(usize::MAX).next().unwrap().time, "3");
        let last: Vec<_> = log.last(2).map(|entry| &*entry.time).collect();
        assert_eq!(last, ["10001", "10002"]);
        log.late("10001", Late { time: "now".into(), code: "ok".into() });
        // A request that is no longer remembered has no entry.
        log.late("0", Late { time: "now".into(), code: "ok".into() });
        let late: Vec<_> =
            log.last(usize::MAX).filter(|entry| entry.late.is_some()).map(|entry| &*entry.time).collect();
        assert_eq!(late, ["10001"]);
    }
}
