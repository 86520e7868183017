//! From an action to a signed request: prepared once, signed at the moment of sending and again for every retry.
//!
//! The canonical request holds no time, so [`prepare`] does everything that depends on the size of the request, and
//! [`Signer::sign`] costs three compressions whatever it is. With buffers that were used before, neither allocates.

mod day;
mod head;

use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, str};

use self::{day::Day, head::Head};
use crate::{
    Credential, UnixSeconds,
    actions::Action,
    credential::{REDACTED, Token},
    decimal,
    ids::Region,
    params::write_json,
    tc3::{HexDigest, Method},
};

/// The content type, to the byte: an HTTP library that adds a charset breaks the signature.
pub const CONTENT_TYPE: &str = "application/json";

/// The headers that are signed. Signing the action is not demanded but binds it to the signature.
pub const SIGNED_HEADERS: &str = "content-type;host;x-tc-action";

/// What stands in place of a signature where none is needed.
const NO_SIGNATURE: &str = "SKIP";

/// Where a call goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The host as the header `Host` shows it: without the port on 443, with it on any other.
    pub host: &'a str,
    /// The region of the image.
    pub region: Option<Region>,
    /// The language of messages, where the service translates them.
    pub language: Option<Language>,
}

/// A language of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// What the server of the China site speaks unasked.
    Chinese,
    /// English.
    English,
}

/// A request that is ready but for the signature. Reused for the next one by [`prepare`], it keeps its buffers, and of an
/// action to the same host the hash of what is the same.
#[derive(Clone)]
pub struct Prepared {
    service: &'static str,
    version: &'static str,
    region: Option<Region>,
    language: Option<Language>,
    body: Vec<u8>,
    head: Head,
    hashed_canonical_request: HexDigest,
}

/// Signs with one credential. Keeps the key of the day, and the texts from one signature to the next, so that they need
/// no new memory.
pub struct Signer {
    credential: Credential,
    day: Option<Day>,
    /// Digits.
    timestamp: Vec<u8>,
}

/// A request ready for any HTTP client: method, path, headers, body.
#[derive(Clone, Copy)]
pub struct SignedRequest<'a> {
    prepared: &'a Prepared,
    authorization: &'a str,
    timestamp: &'a str,
    token: Option<&'a Token>,
}

/// Prepares an action for a target, in place of whatever `prepared` held.
pub fn prepare<A: Action>(action: &A, target: &Target<'_>, prepared: &mut Prepared) {
    let Prepared { body, head, .. } = prepared;
    body.clear();
    write_json(action, body);
    if !head.is_of(A::NAME, target.host) {
        *head = Head::new(A::NAME, target.host);
    }
    prepared.hashed_canonical_request = head.hash_with(&HexDigest::sha256(body));
    prepared.service = A::SERVICE;
    prepared.version = A::VERSION;
    prepared.region = target.region;
    prepared.language = target.language;
}

impl Language {
    /// The header `X-TC-Language`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chinese => "zh-CN",
            Self::English => "en-US",
        }
    }
}

impl Prepared {
    /// An action prepared in new buffers.
    #[must_use]
    pub fn new<A: Action>(action: &A, target: &Target<'_>) -> Self {
        let mut prepared = Self {
            service: A::SERVICE,
            version: A::VERSION,
            region: None,
            language: None,
            body: Vec::new(),
            head: Head::new(A::NAME, target.host),
            hashed_canonical_request: HexDigest::ZERO,
        };
        prepare(action, target, &mut prepared);
        prepared
    }

    /// The action's name.
    #[must_use]
    pub const fn action(&self) -> &'static str {
        self.head.action()
    }

    /// The body, compact JSON.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The request without a signature, for an action whose parameters hold the proof: AssumeRoleWithWebIdentity.
    /// Its seconds are written to `timestamp`.
    pub fn unsigned<'a>(&'a self, now: UnixSeconds, timestamp: &'a mut String) -> SignedRequest<'a> {
        *timestamp = now.get().to_string();
        SignedRequest { prepared: self, authorization: NO_SIGNATURE, timestamp, token: None }
    }
}

impl Signer {
    /// A signer for a credential. The service is the action's.
    #[must_use]
    pub const fn new(credential: Credential) -> Self {
        Self { credential, day: None, timestamp: Vec::new() }
    }

    /// The credential.
    #[must_use]
    pub const fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Signs a prepared request for a second of wall time, which the server's clock may miss by at most 300 s. So it
    /// is signed when it is sent, and signed again when it is sent again.
    pub fn sign<'a>(&'a mut self, prepared: &'a Prepared, now: UnixSeconds) -> SignedRequest<'a> {
        let Self { credential, day, timestamp } = self;
        timestamp.clear();
        decimal::push(now.get(), timestamp);
        let timestamp = str::from_utf8(timestamp).expect("digits are ASCII");
        if day.as_ref().is_some_and(|day| !day.is_of(prepared.service, now, timestamp)) {
            *day = None;
        }
        let day = day.get_or_insert_with(|| Day::new(credential, prepared.service, now, timestamp));
        let authorization = day.authorization(timestamp, &prepared.hashed_canonical_request);
        SignedRequest { prepared, authorization, timestamp, token: credential.token.as_ref() }
    }
}

impl<'a> SignedRequest<'a> {
    /// The HTTP method.
    #[must_use]
    pub const fn method(&self) -> &'static str {
        Method::Post.as_str()
    }

    /// The path.
    #[must_use]
    pub const fn path(&self) -> &'static str {
        "/"
    }

    /// Every header that the API wants. `Authorization` and `X-TC-Token` are not to be shown.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, &'a str)> {
        let always = [
            ("Authorization", self.authorization),
            ("Content-Type", CONTENT_TYPE),
            ("Host", self.prepared.head.host()),
            ("X-TC-Action", self.prepared.action()),
            ("X-TC-Version", self.prepared.version),
            ("X-TC-Timestamp", self.timestamp),
        ];
        let region = self.prepared.region.as_ref().map(|region| ("X-TC-Region", region.as_str()));
        let language = self.prepared.language.map(|language| ("X-TC-Language", language.as_str()));
        let token = self.token.map(|token| ("X-TC-Token", token.expose()));
        always.into_iter().chain(region).chain(language).chain(token)
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        &self.prepared.body
    }
}

impl fmt::Debug for Prepared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prepared")
            .field("action", &self.action())
            .field("host", &self.head.host())
            .field("region", &self.region)
            .field("body_len", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("credential", &self.credential).finish_non_exhaustive()
    }
}

impl fmt::Debug for SignedRequest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.headers().map(|(name, value)| match name {
            "Authorization" | "X-TC-Token" => (name, REDACTED),
            _ => (name, value),
        });
        f.debug_map().entries(shown).entry(&"body_len", &self.body().len()).finish()
    }
}

#[cfg(test)]
mod tests;
