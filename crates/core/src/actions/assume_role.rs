//! AssumeRole: a temporary credential of a role.
//!
//! The vendor's page: [AssumeRole (1150/49456)](https://www.tencentcloud.com/document/product/1150/49456).

use alloc::string::String;

use serde::{Deserialize, Deserializer};

use super::{Action, STS};
use crate::{
    Credential, UnixSeconds,
    credential::{SecretId, SecretKey, Token},
    params::{ParameterWriter, Parameters},
    response::NotAnAnswer,
    scalar::Scalar,
};

/// Requests a temporary credential, signed with a permanent key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumeRole {
    /// The role, such as `qcs::cam::uin/100009999999:roleName/share`.
    pub role_arn: String,
    /// The name under which the calls are logged: 2 to 128 letters, digits or `+=,.@_-`.
    pub role_session_name: String,
    /// Its lifetime in seconds: 7,200 if not given, at most 43,200.
    pub duration_seconds: Option<u64>,
    /// The external id that the role's owner requires: 2 to 128 letters, digits or `+=,.@:/-`.
    pub external_id: Option<String>,
}

/// A temporary credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumedRole {
    /// Id, key and token.
    pub credential: Credential,
    /// When it ends.
    pub expires_at: UnixSeconds,
}

impl Parameters for AssumeRole {
    fn write_parameters(&self, to: &mut impl ParameterWriter) {
        to.text("RoleArn", &self.role_arn);
        to.text("RoleSessionName", &self.role_session_name);
        if let Some(seconds) = self.duration_seconds {
            to.number("DurationSeconds", seconds);
        }
        if let Some(external_id) = &self.external_id {
            to.text("ExternalId", external_id);
        }
    }
}

impl Action for AssumeRole {
    const NAME: &'static str = "AssumeRole";
    const SERVICE: &'static str = STS.0;
    const VERSION: &'static str = STS.1;
    type Answer = AssumedRole;

    fn answer<'de, D: Deserializer<'de>>(members: D) -> Result<Result<AssumedRole, NotAnAnswer>, D::Error> {
        assumed_role(members)
    }
}

/// The response of every action that returns a temporary credential.
pub(super) fn assumed_role<'de, D: Deserializer<'de>>(
    members: D,
) -> Result<Result<AssumedRole, NotAnAnswer>, D::Error> {
    #[derive(Deserialize)]
    struct Members<'a> {
        #[serde(rename = "Credentials")]
        credentials: Credentials,
        #[serde(rename = "ExpiredTime", borrow)]
        expired_time: Option<Scalar<'a>>,
        #[serde(rename = "Expiration", borrow)]
        expiration: Option<Scalar<'a>>,
    }

    #[derive(Deserialize)]
    struct Credentials {
        #[serde(rename = "TmpSecretId")]
        secret_id: SecretId,
        #[serde(rename = "TmpSecretKey")]
        secret_key: SecretKey,
        #[serde(rename = "Token")]
        token: Token,
    }

    let Members { credentials, expired_time, expiration } = Members::deserialize(members)?;
    let number = || expired_time?.to_number().and_then(|seconds| UnixSeconds::new(seconds).ok());
    let text =
        || expiration.as_ref().and_then(Scalar::as_text).and_then(UnixSeconds::from_rfc3339).map(|(time, _)| time);
    let expires_at = number().or_else(text).ok_or_else(|| {
        NotAnAnswer::new("no expiry (expected ExpiredTime in seconds or Expiration as YYYY-MM-DDThh:mm:ssZ)")
    });
    let Credentials { secret_id, secret_key, token } = credentials;
    let credential = Credential { secret_id, secret_key, token: Some(token) };
    Ok(expires_at.map(|expires_at| AssumedRole { credential, expires_at }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{params::json, response::parse};

    const BODY: &str = r#"{
    "Response": {
        "Credentials": {
            "Token": "1siMD5r0tPAq9xpR6fs7sG9CnzF4tz",
            "TmpSecretId": "AKIDc-apxB00RKU82wHDzxL7",
            "TmpSecretKey": "q95K84wrzuE48frtQzyTkwNL4dXZ"
        },
        "ExpiredTime": 1543914376,
        "Expiration": "2018-12-04T09:06:16Z",
        "RequestId": "4daec797-9cd2-4f09-9e7a-7d4c43b2a74c"
    }
}"#;

    #[test]
    fn what_is_not_set_is_not_sent() {
        let mut action = AssumeRole {
            role_arn: "qcs::cam::uin/100009999999:roleName/share".into(),
            role_session_name: "imageshare".into(),
            duration_seconds: None,
            external_id: None,
        };
        assert_eq!(
            json(&action),
            r#"{"RoleArn":"qcs::cam::uin/100009999999:roleName/share","RoleSessionName":"imageshare"}"#
        );
        action.duration_seconds = Some(3_600);
        action.external_id = Some("a\"b".into());
        assert!(json(&action).ends_with(r#","DurationSeconds":3600,"ExternalId":"a\"b"}"#));
    }

    #[test]
    fn documented_response_is_a_credential_with_expiry() {
        let role = parse::<AssumeRole>(200, BODY.as_bytes()).unwrap().answer;
        assert_eq!(role.credential.secret_id.as_str(), "AKIDc-apxB00RKU82wHDzxL7");
        assert_eq!(role.credential.secret_key.expose(), "q95K84wrzuE48frtQzyTkwNL4dXZ");
        assert_eq!(role.credential.token.as_ref().unwrap().expose(), "1siMD5r0tPAq9xpR6fs7sG9CnzF4tz");
        assert_eq!(role.expires_at.get(), 1_543_914_376);
    }

    #[test]
    fn end_may_be_text_only() {
        let body = BODY.replace("\"ExpiredTime\": 1543914376,", "");
        assert_eq!(parse::<AssumeRole>(200, body.as_bytes()).unwrap().answer.expires_at.get(), 1_543_914_376);
        let body = body.replace("2018-12-04T09:06:16Z", "soon");
        assert_eq!(
            parse::<AssumeRole>(200, body.as_bytes()).unwrap_err().to_string(),
            "not an API response: no expiry (expected ExpiredTime in seconds or Expiration as YYYY-MM-DDThh:mm:ssZ)"
        );
    }

    #[test]
    fn role_key_and_token_are_never_shown() {
        let secrets = ["1siMD5", "q95K84"];
        let role = parse::<AssumeRole>(200, BODY.as_bytes()).unwrap();
        let shown = alloc::format!("{role:?}");
        assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
        let broken = [
            BODY.replace("q95K84wrzuE48frtQzyTkwNL4dXZ", "q95K84wrzuE48frtQzyTkwNL4dXZ\\n"),
            BODY.replace("\"1siMD5r0tPAq9xpR6fs7sG9CnzF4tz\"", "[\"1siMD5r0tPAq9xpR6fs7sG9CnzF4tz\"]"),
            BODY.replace("\"Credentials\": {", "\"Credentials\": \"q95K84wrzuE48frtQzyTkwNL4dXZ\", \"X\": {"),
            BODY.get(..BODY.len() / 2).unwrap().into(),
            BODY.get(1..).unwrap().into(),
        ];
        for body in broken {
            let failure = parse::<AssumeRole>(200, body.as_bytes()).unwrap_err();
            let shown = alloc::format!("{failure} {failure:?}");
            assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
        }
    }
}
