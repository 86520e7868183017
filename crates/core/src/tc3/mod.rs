//! Signature version 3, TC3-HMAC-SHA256: one file a stage, as the vendor's specification has them.
//!
//! 1. [`CanonicalRequest`]: what of the request is signed, in one form; its hash holds no time.
//! 2. [`string_to_sign`]: that hash with the time and the [`CredentialScope`].
//! 3. [`SigningKey`]: the secret key derived for a day and a service, in three steps.
//! 4. [`authorization`]: the header that carries the signature.
//!
//! [`sign`] strings them together and keeps every stage to be looked at. [`request`](crate::request) does the same for
//! the actions without allocating and is tested equal to it.

mod authorization;
mod canonical_request;
mod hex;
mod sha256;
mod signing_key;
mod string_to_sign;

use alloc::string::String;

pub use authorization::authorization;
pub use canonical_request::{CanonicalRequest, Method, SignedHeaders, SignedHeadersError};
pub(crate) use canonical_request::{write_header, write_names};
pub use hex::HexDigest;
pub(crate) use sha256::Template;
pub use signing_key::{DerivedKey, SigningKey, secret_date, secret_service, secret_signing};
pub use string_to_sign::{CredentialScope, string_to_sign};

use crate::{Credential, UnixSeconds};

/// The name of the algorithm.
pub const ALGORITHM: &str = "TC3-HMAC-SHA256";

/// Every stage of a signature, to be looked at one by one; without `Debug`, as its last ones are not for logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Stages {
    /// Stage 1.
    pub canonical_request: String,
    /// `<date>/<service>/tc3_request`.
    pub credential_scope: String,
    /// Stage 2.
    pub string_to_sign: String,
    /// Stage 3, 64 hexadecimal digits.
    pub signature: HexDigest,
    /// Stage 4, the value of the header `Authorization`.
    pub authorization: String,
}

/// Signs any request: any host, service and set of headers, any body by its hash.
#[must_use]
pub fn sign(request: &CanonicalRequest<'_>, service: &str, credential: &Credential, now: UnixSeconds) -> Stages {
    let scope = CredentialScope { date: now.date(), service };
    let (mut canonical_request, mut to_sign, mut header) = (String::new(), String::new(), String::new());
    request.write(&mut canonical_request);
    string_to_sign(now, scope, &HexDigest::sha256(canonical_request.as_bytes()), &mut to_sign);
    let signature = SigningKey::derive(&credential.secret_key, scope).sign(to_sign.as_bytes());
    authorization(&credential.secret_id, scope, request.headers.names(), &signature, &mut header);
    Stages {
        canonical_request,
        credential_scope: alloc::format!("{scope}"),
        string_to_sign: to_sign,
        signature,
        authorization: header,
    }
}
