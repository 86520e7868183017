//! The log of the last requests: what each client really sent.

use std::collections::VecDeque;

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId},
};
use serde::Serialize;

use crate::verify::SignedText;

/// The maximum number of requests in the log.
pub const ENTRIES_MAX: usize = 10_000;

/// The maximum number of accounts of a request in the log.
pub const ACCOUNTS_MAX: usize = 500;

/// The number of requests whose signed texts are kept.
pub const SIGNED_TEXTS_MAX: usize = 1_000;

/// A request.
#[derive(Clone, Debug, Serialize)]
pub struct LogEntry {
    /// The arrival time, RFC 3339 in UTC.
    pub time: String,
    /// The action, if the sandbox implements it.
    pub action: Option<&'static str>,
    /// The outcome: an error code, `ok`, or the fault that replaced the response.
    pub code: String,
    /// The image, if well formed.
    pub image_id: Option<ImageId>,
    /// The permission, if valid.
    pub permission: Option<Permission>,
    /// The well-formed accounts in the order of the request, at most [`ACCOUNTS_MAX`].
    pub accounts: Vec<AccountId>,
    /// `TC3` or `v1`, or nothing if the request had no signature.
    pub signature_version: Option<&'static str>,
    /// The name of the client (`X-TC-RequestClient`), made printable.
    pub client_tag: Option<String>,
    /// The fault that affected it.
    pub fault: Option<&'static str>,
    /// The `RequestId` of its response, whether the client received the response or not.
    pub request_id: String,
    /// The HTTP method.
    pub method: String,
    /// The region, made printable.
    pub region: Option<String>,
    /// The id of the key, made printable, whether the sandbox has that key or not.
    pub secret_id: Option<String>,
    /// After a refused signature, the texts that the sandbox computed it over. Only the last
    /// [`SIGNED_TEXTS_MAX`] requests have them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signed_text: Option<SignedText>,
    /// Its `Host` header, made printable. It distinguishes clients that connect through different ports.
    pub host: Option<String>,
    /// With the fault `apply_late`, the late effect; absent until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late: Option<Late>,
}

/// The effect of a delayed request.
#[derive(Clone, Debug, Serialize)]
pub struct Late {
    /// When the request took effect or was refused, RFC 3339 in UTC.
    pub time: String,
    /// An error code, or `ok`.
    pub code: String,
}

/// The last [`ENTRIES_MAX`] requests.
#[derive(Debug, Default)]
pub struct Log(VecDeque<LogEntry>);

impl Log {
    /// Adds a request. A full log drops its oldest entry.
    pub fn push(&mut self, entry: LogEntry) {
        if self.0.len() >= ENTRIES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(entry);
        if let Some(entry) = self.0.len().checked_sub(SIGNED_TEXTS_MAX + 1).and_then(|index| self.0.get_mut(index)) {
            entry.signed_text = None;
        }
    }

    /// Records the effect of a delayed request, if the log still has that request.
    pub fn late(&mut self, request_id: &str, late: Late) {
        if let Some(entry) = self.0.iter_mut().rev().find(|entry| entry.request_id == request_id) {
            entry.late = Some(late);
        }
    }

    /// Returns the last `count` requests, oldest first.
    pub fn last(&self, count: usize) -> impl Iterator<Item = &LogEntry> {
        self.0.iter().skip(self.0.len().saturating_sub(count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oldest_entries_are_dropped() {
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
                method: "POST".into(),
                region: None,
                secret_id: None,
                signed_text: Some(SignedText { canonical_request: None, string_to_sign: "POST".into() }),
                host: None,
                late: None,
            });
        }
        assert_eq!(log.last(usize::MAX).count(), ENTRIES_MAX);
        assert_eq!(log.last(usize::MAX).next().unwrap().time, "3");
        assert_eq!(log.last(usize::MAX).filter(|entry| entry.signed_text.is_some()).count(), SIGNED_TEXTS_MAX);
        let last: Vec<_> = log.last(2).map(|entry| &*entry.time).collect();
        assert_eq!(last, ["10001", "10002"]);
        log.late("10001", Late { time: "now".into(), code: "ok".into() });
        // A request that was dropped has no entry.
        log.late("0", Late { time: "now".into(), code: "ok".into() });
        let late: Vec<_> =
            log.last(usize::MAX).filter(|entry| entry.late.is_some()).map(|entry| &*entry.time).collect();
        assert_eq!(late, ["10001"]);
    }
}
