//! The API keys of the sandbox.

use std::{collections::BTreeMap, collections::VecDeque, fmt};

use imageshare_core::ids::AccountId;

use crate::ledger::Refusal;

/// The maximum number of temporary keys; the oldest is dropped.
const TEMPORARY_KEYS_MAX: usize = 10_000;

/// An API key.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// The secret key.
    pub secret_key: String,
    /// The root account that owns it.
    pub account: AccountId,
    /// The token of a temporary key, and when it expires in Unix seconds. `None` for a permanent key.
    pub temporary: Option<(String, u64)>,
}

impl Key {
    /// Checks the token of a request against the key.
    pub(super) fn check_token(&self, token: Option<&str>, now: u64) -> Result<(), Refusal> {
        let failure = |message: &str| Err(Refusal::new("AuthFailure.TokenFailure", message));
        match (&self.temporary, token.filter(|token| !token.is_empty())) {
            (None, None) => Ok(()),
            (None, Some(_)) => failure("The token does not belong to the key."),
            (Some(_), None) => failure("The token of the temporary key is missing."),
            (Some((expected, _)), Some(token)) if expected != token => failure("The token is invalid."),
            (Some((_, expires_at)), Some(_)) if *expires_at <= now => failure("The token has expired."),
            (Some(_), Some(_)) => Ok(()),
        }
    }
}

impl fmt::Debug for Key {
    /// Shows neither secret key nor token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("account", &self.account).finish_non_exhaustive()
    }
}

/// API keys by their ids.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    by_id: BTreeMap<String, Key>,
    /// Ids of temporary keys, oldest first.
    temporary: VecDeque<String>,
}

impl Keys {
    /// Adds or replaces a key.
    pub fn insert(&mut self, secret_id: String, key: Key) {
        if key.temporary.is_some() {
            if self.temporary.len() >= TEMPORARY_KEYS_MAX
                && let Some(oldest) = self.temporary.pop_front()
            {
                self.by_id.remove(&oldest);
            }
            self.temporary.push_back(secret_id.clone());
        }
        self.by_id.insert(secret_id, key);
    }

    /// Whether a key with this id exists.
    #[must_use]
    pub fn contains(&self, secret_id: &str) -> bool {
        self.by_id.contains_key(secret_id)
    }

    pub(super) fn get(&self, secret_id: &str) -> Result<&Key, Refusal> {
        self.by_id.get(secret_id).ok_or_else(|| {
            Refusal::new(
                "AuthFailure.SecretIdNotFound",
                "The SecretId is not found, please ensure that your SecretId is correct.",
            )
        })
    }
}
