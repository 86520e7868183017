//! Stage 3: the key of a day, and the signature.

use alloc::{string::ToString, vec::Vec};
use core::fmt;

use hmac::{
    HmacReset, KeyInit, Mac,
    digest::{FixedOutput, FixedOutputReset},
};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{CredentialScope, HexDigest};
use crate::{
    credential::{REDACTED, SecretKey},
    time::UtcDate,
};

/// A key on the way from the secret key to the signing key. Wiped when dropped.
pub type DerivedKey = Zeroizing<[u8; 32]>;

/// The key of a day and a service. Wiped when dropped, never shown.
///
/// It is kept as an HMAC that has taken the key and no message. Each signature returns to that state, so the key is hashed
/// once.
#[derive(Clone)]
pub struct SigningKey {
    scope: CredentialScope,
    keyed: HmacReset<Sha256>,
}

impl SigningKey {
    /// Derives the key.
    #[must_use]
    pub fn derive(secret_key: &SecretKey, scope: CredentialScope) -> Self {
        let key = secret_signing(&secret_service(&secret_date(secret_key, scope.date()), scope.service()));
        Self { scope, keyed: keyed(&*key) }
    }

    /// Returns what the key is for.
    #[must_use]
    pub const fn scope(&self) -> &CredentialScope {
        &self.scope
    }

    /// Signs a string to sign.
    #[must_use]
    pub fn sign(&mut self, string_to_sign: &[u8]) -> HexDigest {
        self.keyed.update(string_to_sign);
        HexDigest::new(self.keyed.finalize_fixed_reset().into())
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

/// The output goes straight into memory that is wiped.
fn step(key: &[u8], message: &str) -> DerivedKey {
    let mut derived = DerivedKey::default();
    keyed(key).chain_update(message).finalize_into((&mut *derived).into());
    derived
}

fn keyed(key: &[u8]) -> HmacReset<Sha256> {
    HmacReset::new_from_slice(key).expect("HMAC takes a key of any length")
}

#[cfg(test)]
mod tests {
    use hmac::digest::block_api::{Buffer, CoreProxy};
    use zeroize::ZeroizeOnDrop;

    use super::*;
    use crate::UnixSeconds;

    #[test]
    fn derived_keys_are_the_documented_ones() {
        let key = SecretKey::new("*".repeat(32)).unwrap();
        let now = UnixSeconds::new(1_551_113_065).unwrap();
        let date_key = secret_date(&key, now.date());
        let service_key = secret_service(&date_key, "cvm");
        let signing = secret_signing(&service_key);
        let hex = |key: &DerivedKey| HexDigest::new(**key).to_string();
        assert_eq!(hex(&date_key), "da98fb70dcf6b112dc21038d1eeeb3a95c74b4dcb12c1131f864f6066bd02be0");
        assert_eq!(hex(&service_key), "8d70cbefb03939f929db64d32dc2ba89b1095620119fe3e050e2b18c5bd2752f");
        assert_eq!(hex(&signing), "b596b923aad85185e2d1f6659d2a062e0a86731226e021e61bfe06f7ed05f5af");
        assert_eq!(alloc::format!("{:?}", SigningKey::derive(&key, CredentialScope::new(now, "cvm"))), "[secret]");
    }
    /// An HMAC is made of two states of its hash and a buffer. They are wiped only with the feature `zeroize` of the hash
    /// crates, without which this does not compile.
    #[test]
    fn key_is_wiped_on_drop() {
        const fn is_wiped<T: ZeroizeOnDrop>() {}
        is_wiped::<<Sha256 as CoreProxy>::Core>();
        is_wiped::<Buffer<<HmacReset<Sha256> as CoreProxy>::Core>>();
        is_wiped::<DerivedKey>();
    }
}
