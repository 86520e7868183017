//! AssumeRoleWithWebIdentity: a temporary credential of a role, for a token of an identity provider.
//!
//! The vendor's list of STS actions: [API Category (1150/49443)](https://www.tencentcloud.com/document/product/1150/49443).

use alloc::string::String;

use serde::Deserializer;

use super::{Action, AssumedRole, STS, assume_role::assumed_role};
use crate::{
    credential::Token,
    params::{ParameterWriter, Parameters},
    response::NotAnAnswer,
};

/// Requests a temporary credential with an identity token, such as that of a pod. The token is the only proof: the request is
/// [not signed](crate::request::Prepared::unsigned).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssumeRoleWithWebIdentity {
    /// The name of the identity provider in the account.
    pub provider_id: String,
    /// The token of the provider, a JWT.
    pub web_identity_token: Token,
    /// The role, such as `qcs::cam::uin/100009999999:roleName/share`.
    pub role_arn: String,
    /// The name under which the calls are logged: 2 to 128 letters, digits or `+=,.@_-`.
    pub role_session_name: String,
    /// Its lifetime in seconds: 7,200 if not given, at most 43,200.
    pub duration_seconds: Option<u64>,
}

impl Parameters for AssumeRoleWithWebIdentity {
    fn write_parameters(&self, to: &mut impl ParameterWriter) {
        to.text("ProviderId", &self.provider_id);
        to.text("WebIdentityToken", self.web_identity_token.expose());
        to.text("RoleArn", &self.role_arn);
        to.text("RoleSessionName", &self.role_session_name);
        if let Some(seconds) = self.duration_seconds {
            to.number("DurationSeconds", seconds);
        }
    }
}

impl Action for AssumeRoleWithWebIdentity {
    const NAME: &'static str = "AssumeRoleWithWebIdentity";
    const SERVICE: &'static str = STS.0;
    const VERSION: &'static str = STS.1;
    type Answer = AssumedRole;

    fn answer<'de, D: Deserializer<'de>>(members: D) -> Result<Result<AssumedRole, NotAnAnswer>, D::Error> {
        assumed_role(members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::json;

    #[test]
    fn token_is_sent_and_not_shown() {
        let action = AssumeRoleWithWebIdentity {
            provider_id: "cls-12345678".into(),
            web_identity_token: "topsecret.of.jwt".parse().unwrap(),
            role_arn: "qcs::cam::uin/100009999999:roleName/share".into(),
            role_session_name: "imageshare".into(),
            duration_seconds: Some(7_200),
        };
        assert_eq!(
            json(&action),
            r#"{"ProviderId":"cls-12345678","WebIdentityToken":"topsecret.of.jwt","RoleArn":"qcs::cam::uin/100009999999:roleName/share","RoleSessionName":"imageshare","DurationSeconds":7200}"#
        );
        let shown = alloc::format!("{action:?}");
        assert!(!shown.contains("topsecret"), "{shown}");
    }
}
