//! Stage 2: the string to sign.

use alloc::string::String;
use core::fmt::{self, Write};

use super::{ALGORITHM, HexDigest};
use crate::{UnixSeconds, time::UtcDate};

/// For what a signature holds: a UTC day and a service. Shown as `<date>/<service>/tc3_request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CredentialScope<'a> {
    /// The UTC day of the timestamp; the local day is a known mistake.
    pub date: UtcDate,
    /// The service, the first label of the host: `cvm`, `sts`.
    pub service: &'a str,
}

impl fmt::Display for CredentialScope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/tc3_request", self.date, self.service)
    }
}

/// Appends the four lines: algorithm, seconds, scope, hash of the canonical request.
pub fn string_to_sign(
    now: UnixSeconds,
    scope: CredentialScope<'_>,
    hashed_canonical_request: &HexDigest,
    out: &mut String,
) {
    write!(out, "{ALGORITHM}\n{}\n{scope}\n{hashed_canonical_request}", now.get())
        .expect("writing numbers and texts to a String never fails");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_the_scope_is_the_utc_day_of_the_timestamp() {
        let now = UnixSeconds::new(1_551_113_065).unwrap();
        let mut text = String::new();
        string_to_sign(now, CredentialScope { date: now.date(), service: "cvm" }, &HexDigest::sha256(b""), &mut text);
        assert_eq!(
            text,
            "TC3-HMAC-SHA256\n1551113065\n2019-02-25/cvm/tc3_request\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }
}
