//! Temporary keys, as STS, the metadata service and the admin interface issue them.

use std::fmt;

use imageshare_core::ids::AccountId;
use serde_json::{Value, json};

use crate::{
    clock::api_time,
    ids::Ids,
    verify::{Key, Keys},
};

/// The maximum lifetime of a temporary key in seconds.
pub(crate) const SECONDS_MAX: u64 = 43_200;

/// A temporary key.
pub(crate) struct TemporaryKey {
    pub(crate) secret_id: String,
    pub(crate) secret_key: String,
    pub(crate) token: String,
    /// In Unix seconds.
    pub(crate) expires_at: u64,
}

impl fmt::Debug for TemporaryKey {
    /// Shows neither secret key nor token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemporaryKey").field("secret_id", &self.secret_id).finish_non_exhaustive()
    }
}

impl TemporaryKey {
    /// Issues a key of an account.
    pub(crate) fn issue(ids: &mut Ids, keys: &mut Keys, account: AccountId, expires_at: u64) -> Self {
        let key =
            Self { secret_id: format!("AKID{}", ids.next()), secret_key: ids.next(), token: ids.next(), expires_at };
        let temporary = Some((key.token.clone(), key.expires_at));
        keys.insert(key.secret_id.clone(), Key { secret_key: key.secret_key.clone(), account, temporary });
        key
    }

    /// Returns the worker's credential file.
    pub(crate) fn file(&self) -> Value {
        json!({
            "secret_id": self.secret_id, "secret_key": self.secret_key, "token": self.token,
            "expires_at": api_time(self.expires_at),
        })
    }

    /// Returns the document of the metadata service.
    pub(crate) fn of_instance(&self) -> Value {
        json!({
            "TmpSecretId": self.secret_id, "TmpSecretKey": self.secret_key, "Token": self.token,
            "ExpiredTime": self.expires_at, "Expiration": api_time(self.expires_at), "Code": "Success",
        })
    }
}
