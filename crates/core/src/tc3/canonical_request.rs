//! Stage 1: the canonical request.

use alloc::{string::String, vec::Vec};
use core::fmt;

use super::HexDigest;
use crate::text::excerpt;

/// The HTTP methods of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Parameters in the query.
    Get,
    /// Parameters in the body.
    Post,
}

/// The signed parts of a request.
#[derive(Clone, Debug)]
pub struct CanonicalRequest<'a> {
    /// The method.
    pub method: Method,
    /// What follows the `?` of the URL, byte for byte as it is sent; empty for a POST.
    pub query: &'a str,
    /// The headers that are signed.
    pub headers: &'a SignedHeaders<'a>,
    /// The hash of the body.
    pub hashed_payload: HexDigest,
}

/// Headers that are signed, in the order and with the spelling of the list `content-type;host;x-tc-action`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHeaders<'a> {
    names: &'a str,
    values: Vec<&'a str>,
}

/// A list of headers cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignedHeadersError {
    /// The request does not have the header.
    #[error("signed header {0} is not among the headers of the request")]
    Absent(String),
    /// The list is not in the server's order.
    #[error(
        "signed headers: invalid value {found} (expected lowercase names, each once, in ASCII order, separated by semicolons)"
    )]
    Order {
        /// The start of the list.
        found: String,
    },
}

impl Method {
    /// The method as HTTP writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
}

impl<'a> SignedHeaders<'a> {
    /// Picks the headers of a list such as `content-type;host` out of those of a request, whose names may have any
    /// case.
    ///
    /// # Errors
    /// If the list is not of lower-case names in ASCII order, each once, or names a header that is not there.
    pub fn select(names: &'a str, headers: &[(&'a str, &'a str)]) -> Result<Self, SignedHeadersError> {
        let list = || names.split(';');
        let is_name =
            |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase());
        if !list().all(is_name) || !list().zip(list().skip(1)).all(|(one, next)| one < next) {
            return Err(SignedHeadersError::Order { found: excerpt(names) });
        }
        let value = |name: &str| {
            let header = headers.iter().find(|(each, _)| each.eq_ignore_ascii_case(name));
            header.map(|(_, value)| *value).ok_or_else(|| SignedHeadersError::Absent(excerpt(name)))
        };
        Ok(Self { names, values: list().map(value).collect::<Result<_, _>>()? })
    }

    /// The list.
    #[must_use]
    pub const fn names(&self) -> &'a str {
        self.names
    }
}

impl CanonicalRequest<'_> {
    /// Appends the six fields, joined by line feeds. The path is always `/`.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_canonical_start(self.method, self.query, self.headers, out);
        out.extend_from_slice(self.hashed_payload.as_bytes());
    }
}

/// Appends all of a canonical request but the hash of the body, which is its last field. Requests of one action to one
/// host have this start in common.
pub(crate) fn write_canonical_start(method: Method, query: &str, headers: &SignedHeaders<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.extend_from_slice(b"\n/\n");
    out.extend_from_slice(query.as_bytes());
    out.push(b'\n');
    for (name, value) in headers.names.split(';').zip(&headers.values) {
        out.extend_from_slice(name.as_bytes());
        out.push(b':');
        out.extend(value.trim().bytes().map(|byte| byte.to_ascii_lowercase()));
        out.push(b'\n');
    }
    // Each header ends with a line feed, so the one that joins the fields leaves an empty line.
    out.push(b'\n');
    out.extend_from_slice(headers.names.as_bytes());
    out.push(b'\n');
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADERS: [(&str, &str); 3] =
        [("X-TC-Action", "DescribeInstances"), ("Content-Type", " application/json\t"), ("Host", "CVM.example")];

    #[test]
    fn values_are_trimmed_and_lowercase() {
        let headers = SignedHeaders::select("content-type;host;x-tc-action", &HEADERS).unwrap();
        let mut text = Vec::new();
        let hashed_payload = HexDigest::sha256(b"");
        CanonicalRequest { method: Method::Get, query: "b=1&a=%2F", headers: &headers, hashed_payload }
            .write(&mut text);
        assert_eq!(
            str::from_utf8(&text).unwrap(),
            "GET\n/\nb=1&a=%2F\ncontent-type:application/json\nhost:cvm.example\nx-tc-action:describeinstances\n\n\
             content-type;host;x-tc-action\ne3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[track_caller]
    fn check_refused(names: &str, message: &str) {
        assert_eq!(SignedHeaders::select(names, &HEADERS).unwrap_err().to_string(), message);
    }

    #[test]
    fn signed_headers_must_be_sorted_and_present() {
        check_refused(
            "content-type;host;x-tc-region",
            r#"signed header "x-tc-region" is not among the headers of the request"#,
        );
        for names in ["", "host;content-type", "host;host", "Host", "content-type;;host", "host;", "ho st"] {
            check_refused(
                names,
                &alloc::format!(
                    "signed headers: invalid value \"{names}\" \
                     (expected lowercase names, each once, in ASCII order, separated by semicolons)"
                ),
            );
        }
    }
}
