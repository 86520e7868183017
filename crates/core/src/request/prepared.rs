//! Everything of a request that does not depend on the time.

use alloc::{borrow::ToOwned as _, string::String, vec::Vec};
use core::fmt;

use sha2::{Digest, Sha256};

use super::{CONTENT_TYPE, Language, SIGNED_HEADERS, SignedRequest, Stamp, Target};
use crate::{
    UnixSeconds,
    actions::Action,
    ids::Region,
    params::write_json,
    tc3::{HexDigest, Method, SignedHeaders, write_canonical_start},
};

/// The header `Authorization` of a request that needs no signature.
const NO_SIGNATURE: &str = "SKIP";

/// A request that is ready except for the signature. [`prepare`] reuses its buffers for the next request, and for the same
/// action and host the start of the canonical request.
#[derive(Clone)]
pub struct Prepared {
    pub(super) service: &'static str,
    pub(super) version: &'static str,
    pub(super) action: &'static str,
    pub(super) host: String,
    pub(super) region: Option<Region>,
    pub(super) language: Option<Language>,
    pub(super) body: Vec<u8>,
    canonical_request: CanonicalText,
    pub(super) hashed_canonical_request: HexDigest,
}

/// Prepares an action for a target, in place of the request that `prepared` held.
pub fn prepare<A: Action>(action: &A, target: &Target<'_>, prepared: &mut Prepared) {
    if prepared.action != A::NAME || prepared.host != target.host.as_str() {
        prepared.action = A::NAME;
        target.host.as_str().clone_into(&mut prepared.host);
        prepared.canonical_request = CanonicalText::new(A::NAME, target.host.as_str());
    }
    prepared.service = A::SERVICE;
    prepared.version = A::VERSION;
    prepared.region = target.region;
    prepared.language = target.language;
    prepared.body.clear();
    write_json(action, &mut prepared.body);
    prepared.hashed_canonical_request = prepared.canonical_request.hash(&HexDigest::sha256(&prepared.body));
}

impl Prepared {
    /// Prepares an action in new buffers.
    #[must_use]
    pub fn new<A: Action>(action: &A, target: &Target<'_>) -> Self {
        let mut prepared = Self {
            service: A::SERVICE,
            version: A::VERSION,
            action: A::NAME,
            host: target.host.as_str().to_owned(),
            region: None,
            language: None,
            body: Vec::new(),
            canonical_request: CanonicalText::new(A::NAME, target.host.as_str()),
            hashed_canonical_request: HexDigest::new([0; 32]),
        };
        prepare(action, target, &mut prepared);
        prepared
    }

    /// Returns the action's name.
    #[must_use]
    pub const fn action(&self) -> &'static str {
        self.action
    }

    /// Returns the body, compact JSON.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// Returns the request without a signature, for an action whose parameters hold the proof: AssumeRoleWithWebIdentity.
    /// `stamp` may be any; it is overwritten.
    pub fn unsigned<'a>(&'a self, now: UnixSeconds, stamp: &'a mut Stamp) -> SignedRequest<'a> {
        itoa::Buffer::new().format(now.get()).clone_into(&mut stamp.timestamp);
        NO_SIGNATURE.clone_into(&mut stamp.authorization);
        SignedRequest { prepared: self, stamp, token: None }
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("action", &self.action)
            .field("host", &self.host)
            .field("region", &self.region)
            .field("body_len", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// The canonical request of an action to a host. Only its end changes: the hash of the body.
#[derive(Clone)]
struct CanonicalText {
    text: Vec<u8>,
    /// Bytes before the hash of the body.
    start_len: usize,
    /// Has hashed the whole blocks of the start.
    hashed: Sha256,
    hashed_len: usize,
}

impl CanonicalText {
    fn new(action: &str, host: &str) -> Self {
        let headers = [("content-type", CONTENT_TYPE), ("host", host), ("x-tc-action", action)];
        let headers =
            SignedHeaders::select(SIGNED_HEADERS, &headers).expect("every signed header is among the headers");
        let mut text = Vec::new();
        write_canonical_start(Method::Post, "", &headers, &mut text);
        let (blocks, _) = text.as_chunks::<64>();
        let blocks = blocks.as_flattened();
        Self { start_len: text.len(), hashed_len: blocks.len(), hashed: Sha256::new_with_prefix(blocks), text }
    }

    fn hash(&mut self, hashed_payload: &HexDigest) -> HexDigest {
        self.text.truncate(self.start_len);
        self.text.extend_from_slice(hashed_payload.as_bytes());
        let (_, rest) = self.text.split_at(self.hashed_len);
        let mut hasher = self.hashed.clone();
        hasher.update(rest);
        HexDigest::new(hasher.finalize_reset().into())
    }
}
