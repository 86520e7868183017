//! The credential of this instance's role, from the metadata service.

use std::time::SystemTime;

use imageshare_core::{
    UnixSeconds,
    credential::{Credential, SecretId, SecretKey, Token},
    disclosure::disclosed_name,
    text::excerpt,
};
use serde::Deserialize;

use super::{CredentialsError, Loaded, shown_name};
use crate::{
    endpoint::{Endpoint, METADATA_HOST},
    http::{Client, HttpReply},
};

/// The path of the roles.
const PATH: &str = "/latest/meta-data/cam/security-credentials/";

/// Bytes of a role's name.
const NAME_LEN_MAX: usize = 128;

/// The response of the service.
#[derive(Deserialize)]
struct RoleCredential {
    #[serde(rename = "Code")]
    code: Option<String>,
    #[serde(rename = "TmpSecretId")]
    secret_id: Option<SecretId>,
    #[serde(rename = "TmpSecretKey")]
    secret_key: Option<SecretKey>,
    #[serde(rename = "Token")]
    token: Option<Token>,
    #[serde(rename = "ExpiredTime")]
    expires_at: Option<CheckedSeconds>,
}

/// Checked seconds.
#[derive(Deserialize)]
#[serde(try_from = "u64")]
struct CheckedSeconds(UnixSeconds);

impl TryFrom<u64> for CheckedSeconds {
    type Error = imageshare_core::time::UnixSecondsError;

    fn try_from(seconds: u64) -> Result<Self, Self::Error> {
        UnixSeconds::new(seconds).map(Self)
    }
}

/// Returns whether a text can be the name of a role, so that a path may contain it.
pub(crate) fn is_role_name(text: &str) -> bool {
    (1..=NAME_LEN_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte))
}

/// Loads the credential of this role, or of the role that the instance has.
pub(super) async fn load(
    client: &Client,
    endpoint: Option<&Endpoint>,
    role: Option<&str>,
) -> Result<Loaded, CredentialsError> {
    let base = endpoint.map_or_else(|| format!("http://{METADATA_HOST}"), ToString::to_string);
    let refused = |problem: String| CredentialsError::Metadata { base: base.clone(), problem };
    let is_named = role.is_some();
    let role = match role {
        Some(role) => role.to_owned(),
        None => {
            let reply = get(client, &base, PATH).await?;
            let text = String::from_utf8_lossy(&reply.body);
            let name = text.trim();
            match (reply.status, is_role_name(name)) {
                (200, true) => name.to_owned(),
                (404, _) => return Err(refused("no role".to_owned())),
                (200, false) => return Err(refused("invalid name of a role".to_owned())),
                (status, _) => return Err(unexpected_status(&base, status)),
            }
        }
    };
    let HttpReply { status, date, body } = get(client, &base, &format!("{PATH}{role}")).await?;
    match status {
        200 => {}
        404 if is_named => return Err(CredentialsError::NoRole { base, role: excerpt(&disclosed_name(&role)) }),
        404 => return Err(refused(format!("no role {}", excerpt(&disclosed_name(&role))))),
        status => return Err(unexpected_status(&base, status)),
    }
    // The error of the parser may hold a part of the secret.
    let response: RoleCredential =
        serde_json::from_slice(&body).map_err(|_| refused("malformed or incomplete response".to_owned()))?;
    match response {
        RoleCredential {
            code: None,
            secret_id: Some(id),
            secret_key: Some(key),
            token: Some(token),
            expires_at: Some(end),
        } => Ok(loaded(id, key, token, &end, date, &role)),
        RoleCredential {
            code: Some(code),
            secret_id: Some(id),
            secret_key: Some(key),
            token: Some(token),
            expires_at: Some(end),
        } if code == "Success" => Ok(loaded(id, key, token, &end, date, &role)),
        RoleCredential { code: Some(code), .. } => Err(refused(format!("code {}", excerpt(&disclosed_name(&code))))),
        RoleCredential { .. } => Err(refused("incomplete credential".to_owned())),
    }
}

fn loaded(
    secret_id: SecretId,
    secret_key: SecretKey,
    token: Token,
    expires_at: &CheckedSeconds,
    date: Option<SystemTime>,
    role: &str,
) -> Loaded {
    let credential = Credential { secret_id, secret_key, token: Some(token) };
    Loaded::until(credential, format!("role {} of this instance", shown_name(role)), expires_at.0, date)
}

/// Returns the error of a status that is neither a success nor a missing role.
fn unexpected_status(base: &str, status: u16) -> CredentialsError {
    CredentialsError::Unreachable {
        subject: base.to_owned(),
        reason: format!("the metadata service answers status {status}"),
    }
}

async fn get(client: &Client, base: &str, path: &str) -> Result<HttpReply, CredentialsError> {
    let uri = format!("{base}{path}").parse().expect("an endpoint and a checked path make an address");
    let unreachable = |reason| CredentialsError::Unreachable { subject: base.to_owned(), reason };
    client.get(uri).await.map_err(|reason| unreachable(reason.to_string()))
}
