//! GetCallerIdentity: the account that the credential belongs to.
//!
//! The vendor's list of STS actions: [API Category (1150/49443)](https://www.tencentcloud.com/document/product/1150/49443).

use alloc::string::String;

use serde::{Deserialize, Deserializer};

use super::{Action, STS};
use crate::{
    ids::AccountId,
    params::{ParameterWriter, Parameters},
    response::NotAnAnswer,
    scalar::Scalar,
};

/// Requests the identity of the caller. It has no parameters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GetCallerIdentity;

/// The identity of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerIdentity {
    /// The root account: an image cannot be shared with it.
    pub account_id: AccountId,
    /// The caller's resource name, such as `qcs::cam::uin/100009999999:uin/100009999999`. Safe to print.
    pub arn: Option<String>,
}

impl Parameters for GetCallerIdentity {
    fn write_parameters(&self, _: &mut impl ParameterWriter) {}
}

impl Action for GetCallerIdentity {
    const NAME: &'static str = "GetCallerIdentity";
    const SERVICE: &'static str = STS.0;
    const VERSION: &'static str = STS.1;
    type Answer = CallerIdentity;

    fn answer<'de, D: Deserializer<'de>>(members: D) -> Result<Result<CallerIdentity, NotAnAnswer>, D::Error> {
        #[derive(Deserialize)]
        struct Members<'a> {
            #[serde(rename = "AccountId", borrow)]
            account_id: Scalar<'a>,
            #[serde(rename = "Arn", borrow)]
            arn: Option<Scalar<'a>>,
        }

        let Members { account_id: member, arn } = Members::deserialize(members)?;
        let account_id = member.to_account_id().ok_or_else(|| {
            NotAnAnswer::new(alloc::format!(
                "AccountId: invalid value {} (expected a root account id of 5 to 19 digits)",
                member.to_excerpt()
            ))
        });
        Ok(account_id.map(|account_id| CallerIdentity { account_id, arn: arn.as_ref().and_then(Scalar::to_shown) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{params::json, response::parse};

    #[test]
    fn body_is_an_empty_object() {
        assert_eq!(json(&GetCallerIdentity), "{}");
    }

    #[test]
    fn answer_as_documented() {
        let body = br#"{
    "Response": {
        "Arn": "qcs::cam::uin/100009999999:uin/100009999999",
        "AccountId": "100009999999",
        "UserId": "100009999999",
        "PrincipalId": "100009999999",
        "Type": "RootAccount",
        "RequestId": "fb1b0c2a-6e7d-4d3f-9d6e-2f8f6a4c5b1d"
    }
}"#;
        let caller = parse::<GetCallerIdentity>(200, body).unwrap().answer;
        assert_eq!(caller.account_id.get(), 100_009_999_999);
        assert_eq!(caller.arn.as_deref(), Some("qcs::cam::uin/100009999999:uin/100009999999"));
    }

    #[test]
    fn identity_without_root_account_is_unreadable() {
        let body = br#"{"Response":{"AccountId":"me","RequestId":"x"}}"#;
        assert_eq!(
            parse::<GetCallerIdentity>(200, body).unwrap_err().to_string(),
            "not an API response: AccountId: invalid value \"me\" \
             (expected a root account id of 5 to 19 digits)"
        );
        assert!(parse::<GetCallerIdentity>(200, br#"{"Response":{"RequestId":"x"}}"#).is_err());
    }
}
