//! From an action to a signed request: prepared once, signed at the moment of sending and again for every retry.
//!
//! The canonical request holds no time, so [`prepare`] does everything that depends on the size of the request, and
//! [`Signer::sign`] costs three compressions whatever it is. With buffers that were used before, neither allocates.

use alloc::string::String;
use core::fmt::{self, Write};

use crate::{
    Credential, UnixSeconds,
    actions::Action,
    credential::{REDACTED, Token},
    ids::Region,
    params::write_json,
    tc3::{self, CredentialScope, HexDigest, Method, SigningKey},
    time::UtcDate,
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

/// A request that is ready but for the signature. Reused for the next one by [`prepare`], it keeps its buffers.
#[derive(Clone)]
pub struct Prepared {
    action: &'static str,
    service: &'static str,
    version: &'static str,
    host: String,
    region: Option<Region>,
    language: Option<Language>,
    body: String,
    canonical_request: String,
    hashed_canonical_request: HexDigest,
}

/// Signs with one credential. Keeps the key of the day.
pub struct Signer {
    credential: Credential,
    day: Option<Day>,
}

struct Day {
    date: UtcDate,
    service: &'static str,
    key: SigningKey,
}

/// The texts of a signature, kept from one [`Signer::sign`] to the next so that they need no new memory.
#[derive(Clone, Default)]
pub struct SignBuffer {
    authorization: String,
    string_to_sign: String,
    timestamp: String,
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
    let Prepared { host, body, canonical_request, .. } = prepared;
    host.clear();
    host.push_str(target.host);
    body.clear();
    write_json(action, body);
    canonical_request.clear();
    canonical_request.push_str("POST\n/\n\n");
    tc3::write_header("content-type", CONTENT_TYPE, canonical_request);
    tc3::write_header("host", host, canonical_request);
    tc3::write_header("x-tc-action", A::NAME, canonical_request);
    tc3::write_end(SIGNED_HEADERS, &HexDigest::sha256(body.as_bytes()), canonical_request);
    prepared.hashed_canonical_request = HexDigest::sha256(canonical_request.as_bytes());
    prepared.action = A::NAME;
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
            action: A::NAME,
            service: A::SERVICE,
            version: A::VERSION,
            host: String::new(),
            region: None,
            language: None,
            body: String::new(),
            canonical_request: String::new(),
            hashed_canonical_request: HexDigest::of([0; 32]),
        };
        prepare(action, target, &mut prepared);
        prepared
    }

    /// The action's name.
    #[must_use]
    pub const fn action(&self) -> &'static str {
        self.action
    }

    /// The body, compact JSON.
    #[must_use]
    pub fn body(&self) -> &str {
        &self.body
    }

    /// The request without a signature, for an action whose parameters hold the proof: AssumeRoleWithWebIdentity.
    pub fn unsigned<'a>(&'a self, now: UnixSeconds, buffer: &'a mut SignBuffer) -> SignedRequest<'a> {
        write_timestamp(now, &mut buffer.timestamp);
        SignedRequest { prepared: self, authorization: NO_SIGNATURE, timestamp: &buffer.timestamp, token: None }
    }
}

impl Signer {
    /// A signer for a credential. The service is the action's.
    #[must_use]
    pub const fn new(credential: Credential) -> Self {
        Self { credential, day: None }
    }

    /// The credential.
    #[must_use]
    pub const fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Signs a prepared request for a second of wall time, which the server's clock may miss by at most 300 s. So it
    /// is signed when it is sent, and signed again when it is sent again.
    pub fn sign<'a>(
        &'a mut self,
        prepared: &'a Prepared,
        now: UnixSeconds,
        buffer: &'a mut SignBuffer,
    ) -> SignedRequest<'a> {
        let scope = CredentialScope { date: now.date(), service: prepared.service };
        let SignBuffer { authorization, string_to_sign, timestamp } = buffer;
        string_to_sign.clear();
        tc3::string_to_sign(now, scope, &prepared.hashed_canonical_request, string_to_sign);
        let signature = self.key(prepared.service, scope.date).sign(string_to_sign);
        authorization.clear();
        tc3::authorization(&self.credential.secret_id, scope, SIGNED_HEADERS, &signature, authorization);
        write_timestamp(now, timestamp);
        SignedRequest { prepared, authorization, timestamp, token: self.credential.token.as_ref() }
    }

    /// The key of a day and a service: the one kept, else derived anew and kept.
    fn key(&mut self, service: &'static str, date: UtcDate) -> &SigningKey {
        let kept = self.day.take().filter(|day| day.date == date && day.service == service);
        let derived = || {
            let key = SigningKey::derive(&self.credential.secret_key, CredentialScope { date, service });
            Day { date, service, key }
        };
        &self.day.insert(kept.unwrap_or_else(derived)).key
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
            ("Host", &self.prepared.host),
            ("X-TC-Action", self.prepared.action),
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
        self.prepared.body.as_bytes()
    }
}

fn write_timestamp(now: UnixSeconds, to: &mut String) {
    to.clear();
    write!(to, "{}", now.get()).expect("writing a number to a String never fails");
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

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("credential", &self.credential).finish_non_exhaustive()
    }
}

impl fmt::Debug for SignBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
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
