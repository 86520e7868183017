//! AssumeRole: a temporary key of a role.

use imageshare_core::ids::AccountId;
use serde_json::json;

use super::{Context, Members, Parameters, Request, parameters::invalid};
use crate::{
    clock::api_time,
    ledger::Refusal,
    temporary_key::{SECONDS_MAX, TemporaryKey},
};

const SECONDS_DEFAULT: u64 = 7200;

#[derive(Debug)]
pub(super) struct AssumeRole {
    /// The root account that owns the role and that the temporary key belongs to.
    account: AccountId,
    seconds: u64,
}

impl Request for AssumeRole {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
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

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let Self { account, seconds } = *self;
        if !context.ledger.accounts.exists(account) && Some(account) != context.caller {
            return Err(Refusal::new("ResourceNotFound.RoleNotFound", "The role does not exist."));
        }
        let expires_at = context.now.unix_seconds.saturating_add(seconds);
        let key = TemporaryKey::issue(context.ids, context.keys, account, expires_at);
        Ok(vec![
            ("Credentials", json!({"Token": key.token, "TmpSecretId": key.secret_id, "TmpSecretKey": key.secret_key})),
            ("ExpiredTime", json!(expires_at)),
            ("Expiration", json!(api_time(expires_at))),
        ])
    }
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
