//! Signs prepared requests.

use alloc::{borrow::ToOwned as _, string::String, vec::Vec};
use core::fmt;

use super::{Prepared, SIGNED_HEADERS, SignedRequest};
use crate::{
    Credential, UnixSeconds,
    tc3::{self, CredentialScope, SigningKey},
};

/// Signs with one credential. Keeps the key of the day, and the buffers from one signature to the next, so that signing
/// allocates only when the day or the service changes.
pub struct Signer {
    credential: Credential,
    key: Option<SigningKey>,
    string_to_sign: Vec<u8>,
    stamp: Stamp,
    /// Where the signature begins in `stamp.authorization`, whose start is that of `key`.
    signature_at: usize,
}

/// The headers of a request that depend on the time.
#[derive(Clone, Default)]
pub struct Stamp {
    pub(super) timestamp: String,
    pub(super) authorization: String,
}

impl Signer {
    /// Returns a signer for a credential. The service is the action's.
    #[must_use]
    pub fn new(credential: Credential) -> Self {
        Self { credential, key: None, string_to_sign: Vec::new(), stamp: Stamp::default(), signature_at: 0 }
    }

    /// Returns the credential.
    #[must_use]
    pub const fn credential(&self) -> &Credential {
        &self.credential
    }

    /// Signs a prepared request for a second of wall time, which may differ from the server's clock by at most 300 s. So
    /// sign a request right before it is sent, and sign it again before it is sent again.
    pub fn sign<'a>(&'a mut self, prepared: &'a Prepared, now: UnixSeconds) -> SignedRequest<'a> {
        let Self { credential, key, string_to_sign, stamp, signature_at } = self;
        let Stamp { timestamp, authorization } = stamp;
        // Dropped before the next one is derived, so that it is wiped first.
        key.take_if(|key| !key.scope().covers(now, prepared.service));
        let key = key.get_or_insert_with(|| {
            let scope = CredentialScope::new(now, prepared.service);
            authorization.clear();
            tc3::write_authorization_start(&credential.secret_id, &scope, SIGNED_HEADERS, authorization);
            *signature_at = authorization.len();
            SigningKey::derive(&credential.secret_key, scope)
        });
        itoa::Buffer::new().format(now.get()).clone_into(timestamp);
        string_to_sign.clear();
        tc3::string_to_sign(timestamp, key.scope(), &prepared.hashed_canonical_request, string_to_sign);
        authorization.truncate(*signature_at);
        authorization.push_str(key.sign(string_to_sign).as_str());
        SignedRequest { prepared, stamp: &self.stamp, token: credential.token.as_ref() }
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("credential", &self.credential).finish_non_exhaustive()
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stamp").field("timestamp", &self.timestamp).finish_non_exhaustive()
    }
}
