//! What is the same in every canonical request of an action to a host: all but the hash of the body, which comes last.

use alloc::string::String;

use super::{CONTENT_TYPE, SIGNED_HEADERS};
use crate::tc3::{HexDigest, Template, write_header, write_names};

/// The canonical request of an action to a host.
#[derive(Clone)]
pub(super) struct Head {
    action: &'static str,
    host: String,
    /// Where the hash of the body stands.
    payload_at: usize,
    canonical_request: Template,
}

impl Head {
    pub(super) fn new(action: &'static str, host: &str) -> Self {
        let mut text = String::from("POST\n/\n\n");
        write_header("content-type", CONTENT_TYPE, &mut text);
        write_header("host", host, &mut text);
        write_header("x-tc-action", action, &mut text);
        write_names(SIGNED_HEADERS, &mut text);
        let payload_at = text.len();
        text.push_str(HexDigest::ZERO.as_str());
        let canonical_request = Template::new(text.as_bytes(), HexDigest::LEN);
        Self { action, host: host.into(), payload_at, canonical_request }
    }

    pub(super) const fn action(&self) -> &'static str {
        self.action
    }

    pub(super) const fn host(&self) -> &str {
        self.host.as_str()
    }

    pub(super) fn is_of(&self, action: &str, host: &str) -> bool {
        self.action == action && self.host == host
    }

    /// The hash of the canonical request whose body has this hash.
    pub(super) fn hash_with(&mut self, hashed_payload: &HexDigest) -> HexDigest {
        self.canonical_request.replace(self.payload_at, hashed_payload.as_bytes());
        HexDigest::of(self.canonical_request.hash())
    }
}
