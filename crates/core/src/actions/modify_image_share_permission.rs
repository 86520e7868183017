//! ModifyImageSharePermission: share an image with accounts, or stop sharing it.
//!
//! The vendor's page: [ModifyImageSharePermission (213/15710)](https://cloud.tencent.com/document/api/213/15710).

use alloc::vec::Vec;

use serde::{Deserialize as _, Deserializer, de::IgnoredAny};

use super::{Action, CVM};
use crate::{
    Permission,
    ids::{AccountId, ImageId},
    params::{ParameterWriter, Parameters},
    response::NotAnAnswer,
};

/// Shares an image with a list of accounts, or stops sharing it. The response has no members of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModifyImageSharePermission {
    /// The image, in state NORMAL.
    pub image_id: ImageId,
    /// Root accounts, each once, at least one. No limit is documented; an image may be shared with 500. The vendor's page calls
    /// the parameter `AccountIds.N`, after its [flat form](crate::params#flattening-accountidsn).
    pub account_ids: Vec<AccountId>,
    /// The change.
    pub permission: Permission,
}

impl Parameters for ModifyImageSharePermission {
    fn write_parameters(&self, to: &mut impl ParameterWriter) {
        to.text("ImageId", self.image_id.as_str());
        to.accounts("AccountIds", &self.account_ids);
        to.text("Permission", self.permission.as_str());
    }
}

impl Action for ModifyImageSharePermission {
    const NAME: &'static str = "ModifyImageSharePermission";
    const SERVICE: &'static str = CVM.0;
    const VERSION: &'static str = CVM.1;
    type Answer = ();

    fn answer<'de, D: Deserializer<'de>>(members: D) -> Result<Result<(), NotAnAnswer>, D::Error> {
        IgnoredAny::deserialize(members).map(|_| Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        params::{Pairs, json},
        response::{Answered, parse},
    };

    fn sample() -> ModifyImageSharePermission {
        ModifyImageSharePermission {
            image_id: "img-6pb6lrmy".parse().unwrap(),
            account_ids: ["1038493875", "100022975249"].map(|id| id.parse().unwrap()).into(),
            permission: Permission::Share,
        }
    }

    #[test]
    fn body_is_compact_json_with_text_ids() {
        assert_eq!(
            json(&sample()),
            r#"{"ImageId":"img-6pb6lrmy","AccountIds":["1038493875","100022975249"],"Permission":"SHARE"}"#
        );
    }

    #[test]
    fn flat_form_equals_the_vendors_example() {
        assert_eq!(
            Pairs::of(&sample()).to_query(),
            "AccountIds.0=1038493875&AccountIds.1=100022975249&ImageId=img-6pb6lrmy&Permission=SHARE"
        );
    }

    #[test]
    fn answer_is_a_request_id() {
        let body = br#"{
    "Response": {
        "RequestId": "71e69b56-32be-4412-ab45-49eded6a87be"
    }
}"#;
        let Answered { answer: (), request_id } = parse::<ModifyImageSharePermission>(200, body).unwrap();
        assert_eq!(request_id.unwrap().as_str(), "71e69b56-32be-4412-ab45-49eded6a87be");
    }
}
