//! DeleteImages.

use imageshare_core::ids::ImageId;

use super::{Context, Members, Parameters, Request, parameters::image};
use crate::ledger::{Execution, Refusal};

const IMAGES_MAX: usize = 100;

#[derive(Debug)]
pub(super) struct DeleteImages {
    images: Vec<ImageId>,
    execution: Execution,
}

impl Request for DeleteImages {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let images = from.required_list("ImageIds", IMAGES_MAX)?;
        // Images of the sandbox have no snapshots that could be deleted with them.
        from.flag("DeleteBindedSnap")?;
        Ok(Self { images: images.iter().map(|id| image(id)).collect::<Result<_, _>>()?, execution: from.execution()? })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        context.ledger.delete_images(context.scope()?, &self.images, self.execution)?;
        Ok(Members::new())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::kit::Requests;
    use crate::ledger::{Image, ImageType, Ledger};

    const IMAGE: &str = "img-6pb6lrmy";

    fn permission(permission: &str) -> Value {
        json!({"ImageId": IMAGE, "AccountIds": ["100044440001"], "Permission": permission})
    }

    #[test]
    fn image_is_deleted_once_its_shares_are_cancelled() {
        let mut requests = Requests::new("ap-singapore");
        let delete = json!({"ImageIds": [IMAGE], "DeleteBindedSnap": true});
        requests.ok("ModifyImageSharePermission", permission("SHARE"));
        requests.check("DeleteImages", delete.clone(), "InvalidImageId.InShared");
        requests.caller = "100044440001";
        requests.check("DeleteImages", delete.clone(), "InvalidParameterValue.InvalidImageIdIsShared");
        requests.caller = crate::world::ACCOUNT;
        requests.ok("ModifyImageSharePermission", permission("CANCEL"));
        requests.ok("DeleteImages", delete.clone());
        assert_eq!(requests.ok("DescribeImages", json!({"ImageIds": [IMAGE]}))["TotalCount"], 0);
        requests.check("DeleteImages", delete, "InvalidImageId.NotFound");
    }

    #[test]
    fn deleted_image_of_an_open_world_stays_deleted() {
        let mut requests = Requests::new("ap-singapore");
        requests.ledger = Ledger::open();
        requests.ok("DeleteImages", json!({"ImageIds": [IMAGE]}));
        assert_eq!(requests.ok("DescribeImages", json!({"ImageIds": [IMAGE]}))["TotalCount"], 0);
        requests.check("ModifyImageSharePermission", permission("SHARE"), "InvalidImageId.NotFound");
    }

    #[test]
    fn mistakes_have_documented_codes_and_delete_nothing() {
        let mut requests = Requests::new("ap-singapore");
        let region = requests.region.parse().unwrap();
        let public = Image { image_type: ImageType::Public, ..Image::normal(requests.caller.parse().unwrap(), region) };
        requests.ledger.put_image("img-public01".parse().unwrap(), public);
        let images = requests.ledger.state().count();
        requests.check_each(
            "DeleteImages",
            &json!({"ImageIds": [IMAGE]}),
            &[
                ("ImageIds", Value::Null, "MissingParameter"),
                ("ImageIds", json!([]), "MissingParameter"),
                ("ImageIds", json!(vec![IMAGE; 101]), "InvalidParameterValue.LimitExceeded"),
                ("ImageIds", json!([IMAGE, "lhbp-1"]), "InvalidImageId.Malformed"),
                ("ImageIds", json!([IMAGE, "img-00000000"]), "InvalidImageId.NotFound"),
                ("ImageIds", json!([IMAGE, "img-gvbnzy6f"]), "InvalidImageId.NotFound"),
                ("ImageIds", json!([IMAGE, "img-qlzp4oea"]), "InvalidImageId.InShared"),
                ("ImageIds", json!(["img-public01"]), "InvalidParameterValue.InvalidImageId"),
                ("DeleteBindedSnap", json!("yes"), "InvalidParameter"),
                ("DryRun", json!(true), "DryRunOperation"),
            ],
        );
        requests.region = "ap-guangzhou";
        requests.now = 0;
        requests.check("DeleteImages", json!({"ImageIds": ["img-19mu3fy3"]}), "InvalidImageId.IncorrectState");
        assert_eq!(requests.ledger.state().count(), images);
    }
}
