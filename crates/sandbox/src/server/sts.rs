//! STS: temporary keys, and whose key it is.

use std::fmt;

use imageshare_core::{ids::AccountId, text::excerpt};
use serde_json::{Map, Value, json};

use super::{
    clock::api_time,
    parameters::{Parameters, invalid},
};
use crate::ledger::Refusal;

const SECONDS_DEFAULT: u64 = 7200;
/// The longest that a temporary key lives.
pub(super) const SECONDS_MAX: u64 = 43_200;

/// A role that is to be assumed.
#[derive(Debug)]
pub(super) struct Role {
    /// The root account that has the role, and that the temporary key acts for.
    pub(super) account: AccountId,
    seconds: u64,
}

/// What somebody else says of the caller.
#[derive(Debug)]
pub(super) struct WebIdentity {
    provider_id: String,
    token: String,
}

/// A temporary key as the answer shows it.
pub(super) struct TemporaryKey {
    pub(super) secret_id: String,
    pub(super) secret_key: String,
    pub(super) token: String,
    pub(super) expires_at: u64,
}

impl Role {
    pub(super) fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let arn = from.required_text("RoleArn")?;
        let session = from.required_text("RoleSessionName")?;
        let seconds = from.number("DurationSeconds")?.unwrap_or(SECONDS_DEFAULT);
        for text in ["ExternalId", "Policy", "SerialNumber", "SourceIdentity", "TokenCode"] {
            from.text(text)?;
        }
        from.ignore("Tags");
        let refused = |name, found: &str, allowed| Err(invalid("InvalidParameter.ParamError", name, found, allowed));
        let Some(account) = account_of(&arn) else {
            return refused("RoleArn", &arn, "allowed is qcs::cam::uin/UIN:roleName/NAME or :role/ID");
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
        if !(2..=128).contains(&session.len()) || !session.bytes().all(is_name) {
            return refused("RoleSessionName", &session, "allowed are 2 to 128 letters, digits and _+=,.@-");
        }
        if !(1..=SECONDS_MAX).contains(&seconds) {
            let code = "InvalidParameter.OverTimeError";
            return Err(invalid(code, "DurationSeconds", &seconds.to_string(), "allowed are 1 to 43200"));
        }
        Ok(Self { account, seconds })
    }

    pub(super) const fn expires_at(&self, now: u64) -> u64 {
        now.saturating_add(self.seconds)
    }
}

impl WebIdentity {
    pub(super) fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let identity =
            Self { provider_id: from.required_text("ProviderId")?, token: from.required_text("WebIdentityToken")? };
        // A JWT is three texts with points between them.
        let parts: Vec<_> = identity.token.split('.').collect();
        if parts.len() != 3 || parts.contains(&"") {
            return Err(identity.refused());
        }
        Ok(identity)
    }

    /// Whether the world vouches for it; one that names no identities vouches for all.
    pub(super) fn check(&self, known: &[(String, String)]) -> Result<(), Refusal> {
        let is_this =
            |(provider_id, token): &(String, String)| *provider_id == self.provider_id && *token == self.token;
        if known.is_empty() || known.iter().any(is_this) { Ok(()) } else { Err(self.refused()) }
    }

    fn refused(&self) -> Refusal {
        let message = format!("The identity token is not one of the provider {}.", excerpt(&self.provider_id));
        Refusal::new("InvalidParameter.WebIdentityTokenError", message)
    }
}

impl fmt::Debug for TemporaryKey {
    /// Neither key nor token is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemporaryKey").field("secret_id", &self.secret_id).finish_non_exhaustive()
    }
}

impl TemporaryKey {
    /// As a file of the worker's has it.
    pub(super) fn file(&self) -> Value {
        json!({
            "secret_id": self.secret_id, "secret_key": self.secret_key, "token": self.token,
            "expires_at": api_time(self.expires_at),
        })
    }

    /// As the metadata service shows it.
    pub(super) fn of_instance(&self) -> Value {
        json!({
            "TmpSecretId": self.secret_id, "TmpSecretKey": self.secret_key, "Token": self.token,
            "ExpiredTime": self.expires_at, "Expiration": api_time(self.expires_at), "Code": "Success",
        })
    }

    pub(super) fn answer(&self) -> Map<String, Value> {
        Map::from_iter([
            (
                "Credentials".to_owned(),
                json!({"Token": self.token, "TmpSecretId": self.secret_id, "TmpSecretKey": self.secret_key}),
            ),
            ("ExpiredTime".to_owned(), json!(self.expires_at)),
            ("Expiration".to_owned(), json!(api_time(self.expires_at))),
        ])
    }
}

/// GetCallerIdentity.
pub(super) fn caller_identity(account: AccountId) -> Map<String, Value> {
    let id = account.to_string();
    Map::from_iter([
        ("Arn".to_owned(), json!(format!("qcs::cam::uin/{id}:uin/{id}"))),
        ("AccountId".to_owned(), json!(id)),
        ("UserId".to_owned(), json!(id)),
        ("PrincipalId".to_owned(), json!(id)),
        ("Type".to_owned(), json!("CAMUser")),
    ])
}

/// `qcs::cam::uin/<uin>:roleName/<name>` or `...:role/<id>`.
fn account_of(arn: &str) -> Option<AccountId> {
    let (account, role) = arn.strip_prefix("qcs::cam::uin/")?.split_once(':')?;
    let name = role.strip_prefix("roleName/").or_else(|| role.strip_prefix("role/"))?;
    account.parse().ok().filter(|_| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_account_of_a_role_is_in_its_name() {
        for arn in [
            "qcs::cam::uin/100009999999:roleName/share",
            "qcs::cam::uin/100009999999:role/4611686018427397919",
            "qcs::cam::uin/100009999999:role/tencentcloudServiceRoleName/x",
        ] {
            assert_eq!(account_of(arn).map(AccountId::get), Some(100_009_999_999), "{arn}");
        }
        for arn in ["", "qcs::cam::uin/1:role/x", "qcs::cam::uin/100009999999", "qcs::cam::uin/100009999999:role/"] {
            assert_eq!(account_of(arn), None, "{arn}");
        }
    }
}
