//! ModifyImageAttribute: the name, the description and the family of an image.

use imageshare_core::ids::ImageId;

use super::{Context, Members, Parameters, Request, parameters::invalid};
use crate::ledger::{Attributes, Refusal};

pub(super) const NAME_CHARS_MAX: usize = 60;
pub(super) const DESCRIPTION_CHARS_MAX: usize = 256;
const FAMILY_CHARS_MAX: usize = 128;

#[derive(Debug)]
pub(super) struct ModifyImageAttribute {
    image: ImageId,
    attributes: Attributes,
}

impl Request for ModifyImageAttribute {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let too_large = "InvalidParameterValue.TooLarge";
        let image = from.required_image("ImageId")?;
        let attributes = Attributes {
            // An empty name keeps the current one.
            name: from.short_text("ImageName", NAME_CHARS_MAX, too_large)?.filter(|name| !name.is_empty()),
            description: from.short_text("ImageDescription", DESCRIPTION_CHARS_MAX, too_large)?,
            family: family(from)?,
            deprecated: from.optional_flag("ImageDeprecated")?,
            tags: None,
        };
        Ok(Self { image, attributes })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        context.ledger.set_attributes(context.scope()?, self.image, self.attributes.clone())?;
        Ok(Members::new())
    }
}

/// Takes the family of an image.
pub(super) fn family(from: &mut Parameters) -> Result<Option<String>, Refusal> {
    let code = "InvalidParameterValue.InvalidImageFamily";
    let family = from.short_text("ImageFamily", FAMILY_CHARS_MAX, code)?;
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    match family {
        Some(family) if !family.bytes().all(is_valid) => {
            Err(invalid(code, "ImageFamily", &family, "expected letters, digits and -_."))
        }
        family => Ok(family),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::kit::Requests;

    const IMAGE: &str = "img-6pb6lrmy";

    #[test]
    fn named_attributes_change_and_others_stay() {
        let mut requests = Requests::new("ap-singapore");
        let name = json!({"ImageId": IMAGE, "ImageName": "renamed", "ImageFamily": "web"});
        requests.ok("ModifyImageAttribute", name);
        let rest = json!({"ImageId": IMAGE, "ImageDescription": "old", "ImageName": "", "ImageDeprecated": true});
        requests.ok("ModifyImageAttribute", rest);
        let image = requests.image("ap-singapore", "renamed");
        assert_eq!([&image["ImageDescription"], &image["ImageFamily"]], ["old", "web"]);
        assert_eq!(image["ImageDeprecated"], true);
    }

    #[test]
    fn mistakes_have_documented_codes() {
        let mut requests = Requests::new("ap-singapore");
        requests.check_each(
            "ModifyImageAttribute",
            &json!({"ImageId": IMAGE}),
            &[
                ("ImageId", Value::Null, "MissingParameter"),
                ("ImageId", json!("lhbp-1"), "InvalidImageId.Malformed"),
                ("ImageId", json!("img-00000000"), "InvalidImageId.NotFound"),
                ("ImageName", json!("golden-2026.10-singapore"), "InvalidImageName.Duplicate"),
                ("ImageName", json!("x".repeat(61)), "InvalidParameterValue.TooLarge"),
                ("ImageDescription", json!("x".repeat(257)), "InvalidParameterValue.TooLarge"),
                ("ImageFamily", json!("x".repeat(129)), "InvalidParameterValue.InvalidImageFamily"),
                ("ImageDeprecated", json!("true"), "InvalidParameter"),
            ],
        );
        requests.caller = "1038493875";
        let shared = json!({"ImageId": "img-qlzp4oea", "ImageName": "mine"});
        requests.check("ModifyImageAttribute", shared, "UnsupportedOperation.SharedImageModifyUnsupported");
        requests.caller = crate::world::ACCOUNT;
        requests.region = "ap-guangzhou";
        requests.now = 0;
        requests.check("ModifyImageAttribute", json!({"ImageId": "img-19mu3fy3"}), "InvalidImageId.IncorrectState");
    }
}
