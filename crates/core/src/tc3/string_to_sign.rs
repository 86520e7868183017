//! Stage 2: the string to sign.

use alloc::{string::String, vec::Vec};
use core::fmt;

use super::{ALGORITHM, HexDigest};
use crate::{UnixSeconds, time::UtcDate};

/// What a [`SigningKey`](super::SigningKey) is for: a UTC day and a service. Shown as `<date>/<service>/tc3_request`.
#[derive(Clone, Debug)]
pub struct CredentialScope {
    time: UnixSeconds,
    service: String,
    text: String,
}

impl CredentialScope {
    /// Returns the scope of requests to a service, the first label of its host (`cvm`, `sts`), at a time. Only the UTC day
    /// of the time counts; the local day is a common mistake.
    #[must_use]
    pub fn new(time: UnixSeconds, service: &str) -> Self {
        Self { time, service: service.into(), text: alloc::format!("{}/{service}/tc3_request", time.date()) }
    }

    /// Returns the UTC day.
    #[must_use]
    pub fn date(&self) -> UtcDate {
        self.time.date()
    }

    /// Returns the service.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// Returns the scope as it stands in the string to sign and in the header `Authorization`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns whether a request to this service at this time has this scope.
    #[must_use]
    pub fn covers(&self, time: UnixSeconds, service: &str) -> bool {
        self.time.day() == time.day() && self.service == service
    }
}

impl fmt::Display for CredentialScope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

/// Appends the four lines: algorithm, timestamp, scope, hash of the canonical request. The timestamp is that of the header
/// `X-TC-Timestamp`, the [`UnixSeconds`] of the request in decimal digits.
pub fn string_to_sign(
    timestamp: &str,
    scope: &CredentialScope,
    hashed_canonical_request: &HexDigest,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(ALGORITHM.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(timestamp.as_bytes());
    out.push(b'\n');
    out.extend_from_slice(scope.as_str().as_bytes());
    out.push(b'\n');
    out.extend_from_slice(hashed_canonical_request.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_has_utc_day_of_timestamp() {
        let now = UnixSeconds::new(1_551_113_065).unwrap();
        let mut text = Vec::new();
        string_to_sign("1551113065", &CredentialScope::new(now, "cvm"), &HexDigest::sha256(b""), &mut text);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "TC3-HMAC-SHA256\n1551113065\n2019-02-25/cvm/tc3_request\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn scope_covers_its_day_and_service_only() {
        let at = |seconds| UnixSeconds::new(seconds).unwrap();
        let scope = CredentialScope::new(at(1_751_068_799), "cvm");
        assert!(scope.covers(at(1_751_068_799), "cvm") && scope.covers(at(1_750_982_400), "cvm"));
        assert!(!scope.covers(at(1_751_068_800), "cvm"), "the next day");
        assert!(!scope.covers(at(1_750_982_399), "cvm"), "the day before");
        assert!(!scope.covers(at(1_751_068_799), "sts"));
    }
}
