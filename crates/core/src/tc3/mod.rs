//! Signature version 3, TC3-HMAC-SHA256: one file per stage of the vendor's specification.
//!
//! 1. [`CanonicalRequest`]: the signed parts of the request in canonical form; its hash does not depend on the time.
//! 2. [`string_to_sign`]: that hash with the time and the [`CredentialScope`].
//! 3. [`SigningKey`]: the secret key derived for a day and a service, in three steps.
//! 4. [`authorization`]: the header that carries the signature.
//!
//! The vendor describes the algorithm on the page
//! [Signature v3 (213/30654)](https://cloud.tencent.com/document/api/213/30654). Its example, of an older revision that does
//! not sign the action:
//!
//! ```
//! use imageshare_core::{
//!     Credential, UnixSeconds,
//!     tc3::{self, CanonicalRequest, HexDigest, Method, SignedHeaders},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let body = r#"{"Limit": 1, "Filters": [{"Values": ["\u672a\u547d\u540d"], "Name": "instance-name"}]}"#;
//! let headers = [("Content-Type", "application/json; charset=utf-8"), ("Host", "cvm.tencentcloudapi.com")];
//! let request = CanonicalRequest {
//!     method: Method::Post,
//!     query: "",
//!     headers: &SignedHeaders::select("content-type;host", &headers)?,
//!     hashed_payload: HexDigest::sha256(body.as_bytes()),
//! };
//! let credential = Credential {
//!     secret_id: "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE".parse()?,
//!     secret_key: "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE".parse()?,
//!     token: None,
//! };
//! let stages = tc3::sign(&request, "cvm", &credential, UnixSeconds::new(1_551_113_065)?);
//! assert_eq!(stages.credential_scope, "2019-02-25/cvm/tc3_request");
//! assert_eq!(
//!     stages.authorization,
//!     "TC3-HMAC-SHA256 Credential=AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE/2019-02-25/cvm/tc3_request, \
//!      SignedHeaders=content-type;host, \
//!      Signature=72e494ea809ad7a8c8f7a4507b9bddcbaa8e581f516e8da2f66e2c5a96525168"
//! );
//! # Ok(())
//! # }
//! ```
//!
//! [`sign`] runs them once and returns every intermediate text, for any request. [`request`](crate::request) runs the same
//! stages for [actions](crate::actions), with buffers and a key that it keeps.

mod authorization;
mod canonical_request;
mod hex;
mod signing_key;
mod string_to_sign;

use alloc::{string::String, vec::Vec};

pub use authorization::authorization;
pub(crate) use authorization::write_authorization_start;
pub(crate) use canonical_request::write_canonical_start;
pub use canonical_request::{CanonicalRequest, Method, SignedHeaders, SignedHeadersError};
pub use hex::HexDigest;
pub use signing_key::{DerivedKey, SigningKey, secret_date, secret_service, secret_signing};
pub use string_to_sign::{CredentialScope, string_to_sign};

use crate::{Credential, UnixSeconds};

/// The name of the algorithm.
pub const ALGORITHM: &str = "TC3-HMAC-SHA256";

/// Every stage of a signature. Without `Debug`, since the last ones must not be logged.
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
    let (mut canonical_request, mut to_sign, mut header) = (Vec::new(), Vec::new(), String::new());
    let mut key = SigningKey::derive(&credential.secret_key, CredentialScope::new(now, service));
    request.write(&mut canonical_request);
    string_to_sign(
        itoa::Buffer::new().format(now.get()),
        key.scope(),
        &HexDigest::sha256(&canonical_request),
        &mut to_sign,
    );
    let signature = key.sign(&to_sign);
    let scope = key.scope();
    authorization(&credential.secret_id, scope, request.headers.names(), &signature, &mut header);
    let text = |bytes| String::from_utf8(bytes).expect("it is made of texts");
    Stages {
        canonical_request: text(canonical_request),
        credential_scope: scope.as_str().into(),
        string_to_sign: text(to_sign),
        signature,
        authorization: header,
    }
}
