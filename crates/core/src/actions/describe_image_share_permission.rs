//! DescribeImageSharePermission: the accounts that an image is shared with.
//!
//! The vendor's page: [DescribeImageSharePermission (213/33273)](https://www.tencentcloud.com/document/api/213/33273).

use alloc::vec::Vec;

use serde::{Deserialize, Deserializer};

use super::{Action, CVM};
use crate::{
    UnixSeconds,
    ids::{AccountId, ImageId},
    params::{ParameterWriter, Parameters},
    response::{List, Listed, NotAnAnswer, present},
    scalar::Scalar,
};

/// Lists the accounts that an image is shared with. There is no paging: a response has up to 500 entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeImageSharePermission {
    /// The image.
    pub image_id: ImageId,
}

/// An account that the image is shared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SharedAccount {
    /// The account.
    pub account_id: AccountId,
    /// Since when, if the response has it in the documented form.
    pub created_time: Option<UnixSeconds>,
}

impl Parameters for DescribeImageSharePermission {
    fn write_parameters(&self, to: &mut impl ParameterWriter) {
        to.text("ImageId", self.image_id.as_str());
    }
}

impl Action for DescribeImageSharePermission {
    const NAME: &'static str = "DescribeImageSharePermission";
    const SERVICE: &'static str = CVM.0;
    const VERSION: &'static str = CVM.1;
    type Answer = Vec<SharedAccount>;

    /// A missing set, or an entry with an invalid account, makes the whole response invalid: without it, the listing would prove
    /// that an account does not have the image.
    fn answer<'de, D: Deserializer<'de>>(members: D) -> Result<Result<Vec<SharedAccount>, NotAnAnswer>, D::Error> {
        #[derive(Deserialize)]
        struct Members {
            #[serde(rename = "SharePermissionSet", default, deserialize_with = "present")]
            shares: Option<List<SharedAccount>>,
        }

        let Members { shares } = Members::deserialize(members)?;
        Ok(List::read("SharePermissionSet", shares))
    }
}

/// The documented names, and those that older texts and clients have.
#[derive(Deserialize)]
pub(crate) struct Entry<'a> {
    #[serde(rename = "AccountId", borrow)]
    account_id: Option<Scalar<'a>>,
    #[serde(rename = "Account", borrow)]
    account: Option<Scalar<'a>>,
    #[serde(rename = "CreatedTime", borrow)]
    created_time: Option<Scalar<'a>>,
    #[serde(rename = "CreateTime", borrow)]
    create_time: Option<Scalar<'a>>,
}

impl Listed for SharedAccount {
    type Entry<'a> = Entry<'a>;

    fn read(entry: &Entry<'_>, index: usize) -> Result<Self, NotAnAnswer> {
        let account = entry.account_id.as_ref().or(entry.account.as_ref()).unwrap_or(&Scalar::Null);
        let account_id = account.to_account_id().ok_or_else(|| {
            NotAnAnswer::new(alloc::format!(
                "SharePermissionSet[{index}].AccountId: invalid value {} (expected a root account id of 5 to 19 digits)",
                account.to_excerpt()
            ))
        })?;
        let created_time = entry.created_time.as_ref().or(entry.create_time.as_ref());
        let created_time =
            created_time.and_then(Scalar::as_text).and_then(UnixSeconds::from_rfc3339).map(|(time, _)| time);
        Ok(Self { account_id, created_time })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;
    use crate::{params::json, response::parse};

    fn read(set: &str) -> Result<Vec<SharedAccount>, String> {
        let body = alloc::format!(
            r#"{{"Response":{{"SharePermissionSet":{set},"RequestId":"71e69b56-32be-4412-ab45-49eded6a87be"}}}}"#
        );
        parse::<DescribeImageSharePermission>(200, body.as_bytes())
            .map(|answered| answered.answer)
            .map_err(|failure| failure.to_string())
    }

    fn ids(set: &str) -> Vec<u64> {
        read(set).unwrap().iter().map(|share| share.account_id.get()).collect()
    }

    #[test]
    fn body_names_image() {
        let action = DescribeImageSharePermission { image_id: "img-6pb6lrmy".parse().unwrap() };
        assert_eq!(json(&action), r#"{"ImageId":"img-6pb6lrmy"}"#);
    }

    #[test]
    fn listing_as_documented() {
        let body = br#"{
    "Response": {
        "SharePermissionSet": [
            {
                "CreatedTime": "2020-09-25T07:18:31Z",
                "AccountId": "1038493875"
            },
            {
                "CreatedTime": "2025-06-27T04:53:20Z",
                "AccountId": "100022975249"
            }
        ],
        "RequestId": "9a1b7f0e-6a0f-4a0c-8f6f-1d7f2a0f3a11"
    }
}"#;
        let answered = parse::<DescribeImageSharePermission>(200, body).unwrap();
        let expected =
            [(1_038_493_875, 1_601_018_311), (100_022_975_249, 1_751_000_000)].map(|(id, time)| SharedAccount {
                account_id: AccountId::new(id).unwrap(),
                created_time: Some(UnixSeconds::new(time).unwrap()),
            });
        assert_eq!(answered.answer, expected);
    }

    #[test]
    fn older_names_numbers_and_unknown_members_are_read() {
        let set = r#"[{"Account":"1038493875","CreateTime":"2020-09-25T07:18:31Z"},{"AccountId":100022975249,"X":{}},
            {"AccountId":null,"Account":909619400},{"AccountId":"2700036","Account":"1038493875","CreatedTime":7}]"#;
        assert_eq!(ids(set), [1_038_493_875, 100_022_975_249, 909_619_400, 2_700_036]);
        let read = read(set).unwrap();
        assert_eq!(read.first().unwrap().created_time.unwrap().get(), 1_601_018_311);
        assert_eq!(read.last().unwrap().created_time, None);
    }

    #[test]
    fn null_set_is_empty_and_missing_is_invalid() {
        assert!(ids("null").is_empty());
        assert!(ids("[]").is_empty());
        let body = br#"{"Response":{"MaxSharePermission":50,"RequestId":"x"}}"#;
        assert_eq!(
            parse::<DescribeImageSharePermission>(200, body).unwrap_err().to_string(),
            "not an API response: SharePermissionSet: missing (expected a list or null)"
        );
    }

    #[test]
    fn invalid_account_makes_the_response_invalid() {
        let message = |found: &str| {
            alloc::format!(
                "not an API response: SharePermissionSet[1].AccountId: invalid value {found} \
                 (expected a root account id of 5 to 19 digits)"
            )
        };
        for (entry, found) in [
            (r#"{"AccountId":"abc\u001b"}"#, r#""abc\u{1b}""#),
            (r#"{"AccountId":12}"#, "12"),
            (r#"{"AccountId":["1038493875"]}"#, "a value of another type"),
            (r#"{"AccountId":null}"#, "null"),
            ("{}", "null"),
        ] {
            let set = alloc::format!(r#"[{{"AccountId":"1038493875"}},{entry}]"#);
            assert_eq!(read(&set), Err(message(found)));
        }
        for set in [r#"["1038493875"]"#, "[null]", r#"{"AccountId":"1038493875"}"#, "7"] {
            assert!(read(set).is_err(), "{set}");
        }
    }
}
