//! Stage 3: the key of a day, and the signature.

use alloc::{string::ToString, vec::Vec};
use core::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{
    CredentialScope, HexDigest,
    sha256::{HmacKey, Template},
};
use crate::{
    credential::{REDACTED, SecretKey},
    time::UtcDate,
};

type HmacSha256 = Hmac<Sha256>;

/// A key on the way from the secret key to the signing key. Wiped when dropped.
pub type DerivedKey = Zeroizing<[u8; 32]>;

/// The key of a day and a service, as the two hash states that it gives HMAC: keeping these instead of the key spares
/// two compressions a signature. Wiped when dropped, never shown.
#[derive(Clone)]
pub struct SigningKey(HmacKey);

impl SigningKey {
    /// Derives the key.
    #[must_use]
    pub fn derive(secret_key: &SecretKey, scope: CredentialScope<'_>) -> Self {
        let key = secret_signing(&secret_service(&secret_date(secret_key, scope.date), scope.service));
        Self(HmacKey::new(&key))
    }

    /// The signature of a string to sign.
    #[must_use]
    pub fn sign(&self, string_to_sign: &[u8]) -> HexDigest {
        HexDigest::of(self.0.mac(string_to_sign))
    }

    /// A string to sign of which some bytes are replaced before each signature.
    pub(crate) fn template(&self, string_to_sign: &[u8]) -> Template {
        self.0.template(string_to_sign)
    }

    /// The signature of a [template](Self::template) of this key.
    pub(crate) fn sign_template(&self, string_to_sign: &Template) -> HexDigest {
        HexDigest::of(self.0.mac_of(string_to_sign))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// The first step: the secret key, `TC3` before it, over the date.
#[must_use]
pub fn secret_date(secret_key: &SecretKey, date: UtcDate) -> DerivedKey {
    let key = secret_key.expose().as_bytes();
    // Of its final size from the start, since a buffer that grows leaves copies behind.
    let mut prefixed = Zeroizing::new(Vec::with_capacity(3 + key.len()));
    prefixed.extend_from_slice(b"TC3");
    prefixed.extend_from_slice(key);
    step(&prefixed, &date.to_string())
}

/// The second step: that over the service.
#[must_use]
pub fn secret_service(secret_date: &DerivedKey, service: &str) -> DerivedKey {
    step(&**secret_date, service)
}

/// The third step: that over the fixed end of the scope.
#[must_use]
pub fn secret_signing(secret_service: &DerivedKey) -> DerivedKey {
    step(&**secret_service, "tc3_request")
}

fn step(key: &[u8], message: &str) -> DerivedKey {
    let keyed = HmacSha256::new_from_slice(key).expect("HMAC takes a key of any length");
    Zeroizing::new(keyed.chain_update(message).finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnixSeconds;

    #[test]
    fn the_documented_keys_come_out_and_the_signing_key_is_not_shown() {
        let key = SecretKey::new("*".repeat(32)).unwrap();
        let date = UnixSeconds::new(1_551_113_065).unwrap().date();
        let date_key = secret_date(&key, date);
        let service_key = secret_service(&date_key, "cvm");
        let signing = secret_signing(&service_key);
        let hex = |key: &DerivedKey| HexDigest::of(**key).to_string();
        assert_eq!(hex(&date_key), "da98fb70dcf6b112dc21038d1eeeb3a95c74b4dcb12c1131f864f6066bd02be0");
        assert_eq!(hex(&service_key), "8d70cbefb03939f929db64d32dc2ba89b1095620119fe3e050e2b18c5bd2752f");
        assert_eq!(hex(&signing), "b596b923aad85185e2d1f6659d2a062e0a86731226e021e61bfe06f7ed05f5af");
        assert_eq!(
            alloc::format!("{:?}", SigningKey::derive(&key, CredentialScope { date, service: "cvm" })),
            "[secret]"
        );
    }
}
