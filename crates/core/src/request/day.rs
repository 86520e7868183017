//! What is the same in every signature of a day: the key, and the texts but for the time and the hashes.

use alloc::string::String;

use super::SIGNED_HEADERS;
use crate::{
    Credential, UnixSeconds,
    tc3::{self, ALGORITHM, CredentialScope, HexDigest, SigningKey, Template},
};

/// Where the seconds stand in a string to sign.
const TIMESTAMP_AT: usize = ALGORITHM.len() + 1;

/// A day of a credential and a service.
pub(super) struct Day {
    number: u64,
    service: &'static str,
    timestamp_len: usize,
    key: SigningKey,
    string_to_sign: Template,
    /// Where the hash of the canonical request stands in it.
    hash_at: usize,
    /// The header with the last signature, which is the last thing in it.
    authorization: String,
}

impl Day {
    pub(super) fn new(credential: &Credential, service: &'static str, now: UnixSeconds, timestamp: &str) -> Self {
        let scope = CredentialScope { date: now.date(), service };
        let (mut string_to_sign, mut authorization) = (String::new(), String::new());
        tc3::string_to_sign(now, scope, &HexDigest::ZERO, &mut string_to_sign);
        tc3::authorization(&credential.secret_id, scope, SIGNED_HEADERS, &HexDigest::ZERO, &mut authorization);
        let key = SigningKey::derive(&credential.secret_key, scope);
        Self {
            number: now.day(),
            service,
            timestamp_len: timestamp.len(),
            string_to_sign: key.template(string_to_sign.as_bytes()),
            key,
            hash_at: string_to_sign.len() - HexDigest::LEN,
            authorization,
        }
    }

    /// Whether it is the day of this second, which also has as many digits as those before.
    pub(super) fn is_of(&self, service: &str, now: UnixSeconds, timestamp: &str) -> bool {
        self.number == now.day() && self.service == service && self.timestamp_len == timestamp.len()
    }

    /// The header for a second of this day.
    pub(super) fn authorization(&mut self, timestamp: &str, hashed_canonical_request: &HexDigest) -> &str {
        self.string_to_sign.replace(TIMESTAMP_AT, timestamp.as_bytes());
        self.string_to_sign.replace(self.hash_at, hashed_canonical_request.as_bytes());
        let signature = self.key.sign_template(&self.string_to_sign);
        self.authorization.truncate(self.authorization.len() - HexDigest::LEN);
        self.authorization.push_str(signature.as_str());
        &self.authorization
    }
}
