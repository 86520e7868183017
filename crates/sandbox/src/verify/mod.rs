//! Verifies signatures of both versions, as the vendor describes them.
//!
//! It shares no code with the signer in `imageshare-core`, so that one bug cannot be in both. It favors plain code over
//! speed.

mod keys;
mod tc3;
mod v1;

#[cfg(test)]
mod tests;

use http::HeaderMap;
use imageshare_core::{ids::AccountId, params::Pairs};
use serde::Serialize;

pub use keys::{Key, Keys};
#[cfg(test)]
pub(crate) use {tc3::authorize, v1::sign};

use crate::{ledger::Refusal, server::hosts::without_port};

/// The maximum difference between the timestamp of a request and the server's clock, in seconds.
const SKEW_SECONDS_MAX: u64 = 300;

/// The maximum length of a text in the log, in bytes.
pub const SIGNED_TEXT_BYTES_MAX: usize = 4096;

/// What the log shows instead of a token.
const HIDDEN: &str = "(hidden)";

/// A request as received.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The query after `?`, byte for byte.
    pub query: &'a str,
    /// The headers.
    pub headers: &'a HeaderMap,
    /// The body, byte for byte.
    pub body: &'a [u8],
    /// The pairs of the query or form, decoded, for signature version 1.
    pub pairs: &'a Pairs,
}

impl Received<'_> {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the hosts that a client may have signed: the header `Host` as sent, and without its port. The Node SDK
    /// signs the host without the port that it sends. The API listens on the default port only, where both are equal.
    fn signed_hosts(&self) -> impl Iterator<Item = &str> {
        let host = self.header("host").unwrap_or_default();
        std::iter::once(host).chain(without_port(host))
    }
}

/// The two signature versions of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureVersion {
    /// TC3-HMAC-SHA256, in the header `Authorization`.
    V3,
    /// HmacSHA1 or HmacSHA256, in the parameter `Signature`.
    V1,
}

impl SignatureVersion {
    /// Returns the version that the headers of a request indicate.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(http::header::AUTHORIZATION) { Self::V3 } else { Self::V1 }
    }

    /// Returns the name in the log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V3 => "TC3",
            Self::V1 => "v1",
        }
    }
}

/// The verified sender of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The id of the key.
    pub secret_id: String,
    /// The root account that owns the key.
    pub account: AccountId,
    /// The product in the credential scope; version 1 has no scope.
    pub service: Option<String>,
}

/// Checks key, clock, signature and token; `now` is the server's clock in Unix seconds.
///
/// # Errors
/// With the documented code of the first check that fails.
pub fn verify(received: &Received<'_>, keys: &Keys, now: u64) -> Result<Caller, Refusal> {
    match SignatureVersion::of(received.headers) {
        SignatureVersion::V3 => tc3::verify(received, keys, now),
        SignatureVersion::V1 => v1::verify(received, keys, now),
    }
}

/// The texts that a signature is computed over, for the log. Tokens are hidden.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SignedText {
    /// The canonical request; version 1 has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canonical_request: Option<String>,
    /// The string to sign.
    pub string_to_sign: String,
}

/// Returns the texts that the signature of a request should be computed over, each cut after
/// [`SIGNED_TEXT_BYTES_MAX`] bytes, or `None` if the request is too malformed for that.
#[must_use]
pub fn signed_text(received: &Received<'_>) -> Option<SignedText> {
    let (text, token) = match SignatureVersion::of(received.headers) {
        SignatureVersion::V3 => (tc3::signed_text(received)?, received.header("x-tc-token")),
        SignatureVersion::V1 => (v1::signed_text(received), received.pairs.get("Token")),
    };
    let shorten = |mut text: String| {
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            text = text.replace(token, HIDDEN).replace(&token.to_lowercase(), HIDDEN);
        }
        text.truncate(text.floor_char_boundary(SIGNED_TEXT_BYTES_MAX));
        text
    };
    let SignedText { canonical_request, string_to_sign } = text;
    Some(SignedText { canonical_request: canonical_request.map(shorten), string_to_sign: shorten(string_to_sign) })
}

fn check_clock(timestamp: u64, now: u64) -> Result<(), Refusal> {
    if timestamp.abs_diff(now) <= SKEW_SECONDS_MAX {
        return Ok(());
    }
    Err(Refusal::new(
        "AuthFailure.SignatureExpire",
        format!(
            "Signature expired. The timestamp `{timestamp}` differs from the server time `{now}` by over 5 minutes."
        ),
    ))
}

fn mismatch() -> Refusal {
    Refusal::new(
        "AuthFailure.SignatureFailure",
        "The provided credentials could not be validated. Please check your signature is correct.",
    )
}

/// Parses a whole number of a header or parameter, digits only.
fn whole_number(name: &str, text: &str) -> Result<u64, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or_else(|| {
        let value = imageshare_core::text::excerpt(text);
        Refusal::new("InvalidParameter", format!("The parameter `{name}` is {value}; it must be a whole number."))
    })
}
