//! STS: temporary keys, and the identity of the caller.

use std::fmt;

use imageshare_core::{ids::AccountId, text::excerpt};
use serde_json::{Value, json};

use super::{
    clock::api_time,
    parameters::{Parameters, invalid},
    response::Members,
};
use crate::ledger::Refusal;

const SECONDS_DEFAULT: u64 = 7200;
/// The maximum lifetime of a temporary key in seconds.
pub(super) const SECONDS_MAX: u64 = 43_200;

/// The role in a request.
#[derive(Debug)]
pub(super) struct Role {
    /// The root account that owns the role and that the temporary key belongs to.
    pub(super) account: AccountId,
    seconds: u64,
}

/// An identity token of a third party.
#[derive(Debug)]
pub(super) struct WebIdentity {
    provider_id: String,
    token: String,
}

/// A temporary key.
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
        let refused = |name, value: &str, problem| Err(invalid("InvalidParameter.ParamError", name, value, problem));
        let Some(account) = account_of(&arn) else {
            return refused("RoleArn", &arn, "expected qcs::cam::uin/UIN:roleName/NAME or :role/ID");
        };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
        if !(2..=128).contains(&session.len()) || !session.bytes().all(is_name) {
            return refused("RoleSessionName", &session, "expected 2 to 128 letters, digits and _+=,.@-");
        }
        if !(1..=SECONDS_MAX).contains(&seconds) {
            let code = "InvalidParameter.OverTimeError";
            return Err(invalid(code, "DurationSeconds", &seconds.to_string(), "expected 1 to 43200"));
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
        // A JWT is three nonempty strings separated by dots.
        let parts: Vec<_> = identity.token.split('.').collect();
        if parts.len() != 3 || parts.contains(&"") {
            return Err(identity.refused());
        }
        Ok(identity)
    }

    /// Checks that the world contains it. A world without identities accepts every token.
    pub(super) fn check(&self, known: &[(String, String)]) -> Result<(), Refusal> {
        let is_this =
            |(provider_id, token): &(String, String)| *provider_id == self.provider_id && *token == self.token;
        if known.is_empty() || known.iter().any(is_this) { Ok(()) } else { Err(self.refused()) }
    }

    fn refused(&self) -> Refusal {
        let message = format!("The identity token is not valid for the provider {}.", excerpt(&self.provider_id));
        Refusal::new("InvalidParameter.WebIdentityTokenError", message)
    }
}

impl fmt::Debug for TemporaryKey {
    /// Shows neither secret key nor token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemporaryKey").field("secret_id", &self.secret_id).finish_non_exhaustive()
    }
}

impl TemporaryKey {
    /// Returns the worker's credential file.
    pub(super) fn file(&self) -> Value {
        json!({
            "secret_id": self.secret_id, "secret_key": self.secret_key, "token": self.token,
            "expires_at": api_time(self.expires_at),
        })
    }

    /// Returns the document of the metadata service.
    pub(super) fn of_instance(&self) -> Value {
        json!({
            "TmpSecretId": self.secret_id, "TmpSecretKey": self.secret_key, "Token": self.token,
            "ExpiredTime": self.expires_at, "Expiration": api_time(self.expires_at), "Code": "Success",
        })
    }

    pub(super) fn members(&self) -> Members {
        let credentials = json!({"Token": self.token, "TmpSecretId": self.secret_id, "TmpSecretKey": self.secret_key});
        vec![
            ("Credentials", credentials),
            ("ExpiredTime", json!(self.expires_at)),
            ("Expiration", json!(api_time(self.expires_at))),
        ]
    }
}

/// Returns the response to GetCallerIdentity.
pub(super) fn caller_identity(account: AccountId) -> Members {
    let id = account.to_string();
    vec![
        ("Arn", json!(format!("qcs::cam::uin/{id}:uin/{id}"))),
        ("AccountId", json!(id)),
        ("UserId", json!(id)),
        ("PrincipalId", json!(id)),
        ("Type", json!("CAMUser")),
    ]
}

/// Returns the account in `qcs::cam::uin/<uin>:roleName/<name>` or `...:role/<id>`.
fn account_of(arn: &str) -> Option<AccountId> {
    let (account, role) = arn.strip_prefix("qcs::cam::uin/")?.split_once(':')?;
    let name = role.strip_prefix("roleName/").or_else(|| role.strip_prefix("role/"))?;
    account.parse().ok().filter(|_| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_arn_contains_its_account() {
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
