//! SyncImages: copies of an image in other regions.

use imageshare_core::{
    ids::{ImageId, Region},
    text::excerpt,
};
use serde_json::{Value, json};

use super::{
    Context, Members, Parameters, Request, modify_image_attribute::NAME_CHARS_MAX, parameters::image as parse_image,
};
use crate::ledger::{Execution, ImageCopy, REGIONS, Refusal};

#[derive(Debug)]
pub(super) struct SyncImages {
    image: ImageId,
    regions: Vec<Region>,
    name: Option<String>,
    encrypted: bool,
    /// Whether the response has the new ids.
    is_set_required: bool,
    execution: Execution,
}

impl Request for SyncImages {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let images = from.required_texts("ImageIds")?;
        let image = match images.as_slice() {
            [] => return Err(Refusal::missing_parameter("ImageIds")),
            [image] => parse_image(image)?,
            _ => {
                let message = format!("The number of `ImageIds` is {}, which exceeds the limit 1.", images.len());
                return Err(Refusal::new("InvalidImageId.TooLarge", message));
            }
        };
        let region = |text: &String| {
            let unknown = |_| format!("The region {} does not exist.", excerpt(text));
            text.parse().map_err(unknown).map_err(|message| Refusal::new("InvalidRegion.NotFound", message))
        };
        let regions = from.required_list("DestinationRegions", REGIONS.len())?;
        let encrypted = from.flag("Encrypt")?;
        if from.text("KmsKeyId")?.is_some() && !encrypted {
            let message = "The parameter `KmsKeyId` is only valid with `Encrypt`.";
            return Err(Refusal::new("InvalidParameter.InvalidKmsKeyId", message));
        }
        let name = from.short_text("ImageName", NAME_CHARS_MAX, "InvalidParameterValue.LimitExceeded")?;
        Ok(Self {
            image,
            regions: regions.iter().map(region).collect::<Result<_, _>>()?,
            name: name.filter(|name| !name.is_empty()),
            encrypted,
            is_set_required: from.flag("ImageSetRequired")?,
            execution: from.execution()?,
        })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let Self { image, regions, name, encrypted, is_set_required, execution } = self;
        let targets: Vec<(Region, ImageId)> = regions.iter().map(|&region| (region, context.new_image())).collect();
        let copy = ImageCopy { image: *image, name: name.clone(), encrypted: *encrypted, targets };
        context.ledger.copy_image(context.scope()?, &copy, *execution)?;
        let set: Vec<Value> = match is_set_required {
            true => copy.targets.iter().map(|(region, id)| json!({"ImageId": id, "Region": region})).collect(),
            false => Vec::new(),
        };
        Ok(vec![("ImageSet", Value::Array(set))])
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::Requests;
    use super::*;

    const IMAGE: &str = "img-6pb6lrmy";
    const NAME: &str = "golden-2026.11-singapore";

    fn sync(regions: &[&str]) -> Value {
        json!({"ImageIds": [IMAGE], "DestinationRegions": regions, "ImageSetRequired": true})
    }

    #[test]
    fn copies_are_syncing_then_normal() {
        let mut requests = Requests::new("ap-singapore");
        let set = requests.ok("SyncImages", sync(&["ap-tokyo", "eu-frankfurt"]))["ImageSet"].take();
        assert_eq!([&set[0]["Region"], &set[1]["Region"]], ["ap-tokyo", "eu-frankfurt"]);
        assert!(set[0]["ImageId"] != set[1]["ImageId"] && set[0]["ImageId"] != IMAGE, "{set}");
        requests.now += 1500;
        let copy = requests.image("ap-tokyo", NAME);
        assert_eq!([&copy["ImageId"], &copy["ImageState"]], [&set[0]["ImageId"], &json!("SYNCING")]);
        assert_eq!(copy["SyncPercent"], 50);
        // New faults end only the occupation by faults.
        requests.ledger.release_all();
        assert_eq!(requests.image("ap-singapore", NAME)["ImageState"], "SYNCING", "the source is occupied");
        requests.check("SyncImages", sync(&["ap-seoul"]), "FailedOperation.InvalidImageState");
        requests.now += 1500;
        assert_eq!(requests.image("ap-tokyo", NAME)["ImageState"], "NORMAL");
        let mut silent = sync(&["ap-seoul"]);
        silent["ImageSetRequired"] = json!(false);
        silent["ImageName"] = json!("renamed");
        assert_eq!(requests.ok("SyncImages", silent), json!({"ImageSet": []}));
        assert_eq!(requests.image("ap-seoul", "renamed")["ImageType"], "PRIVATE_IMAGE");
    }

    #[test]
    fn shared_image_is_copied_within_its_region() {
        let mut requests = Requests::new("ap-singapore");
        requests.ok(
            "ModifyImageSharePermission",
            json!({"ImageId": IMAGE, "AccountIds": ["100044440001"], "Permission": "SHARE"}),
        );
        requests.caller = "100044440001";
        requests.check("SyncImages", sync(&["ap-tokyo"]), "InvalidParameterValue.InvalidRegion");
        let id = requests.ok("SyncImages", sync(&["ap-singapore"]))["ImageSet"][0]["ImageId"].clone();
        let copy = requests.ok("DescribeImages", json!({"ImageIds": [id]}))["ImageSet"][0].take();
        assert_eq!([&copy["ImageCreator"], &copy["ImageType"]], ["100044440001", "PRIVATE_IMAGE"]);
        requests.caller = "100044440002";
        requests.check("SyncImages", sync(&["ap-singapore"]), "InvalidImageId.NotFound");
    }

    #[test]
    fn mistakes_have_documented_codes() {
        let mut requests = Requests::new("ap-singapore");
        requests.check_each(
            "SyncImages",
            &sync(&["ap-tokyo"]),
            &[
                ("ImageIds", Value::Null, "MissingParameter"),
                ("ImageIds", json!([]), "MissingParameter"),
                ("ImageIds", json!([IMAGE, IMAGE]), "InvalidImageId.TooLarge"),
                ("ImageIds", json!(["lhbp-1"]), "InvalidImageId.Malformed"),
                ("ImageIds", json!(["img-00000000"]), "InvalidImageId.NotFound"),
                ("ImageIds", json!(IMAGE), "InvalidParameter"),
                ("DestinationRegions", Value::Null, "MissingParameter"),
                ("DestinationRegions", json!(["Mars"]), "InvalidRegion.NotFound"),
                ("DestinationRegions", json!(["ap-atlantis"]), "InvalidRegion.NotFound"),
                ("DestinationRegions", json!(["ap-guangzhou"]), "InvalidRegion.Unavailable"),
                ("DestinationRegions", json!(["ap-singapore"]), "InvalidParameterValue.InvalidRegion"),
                ("DestinationRegions", json!(["ap-tokyo", "ap-tokyo"]), "InvalidImageName.Duplicate"),
                ("DestinationRegions", json!(vec!["ap-tokyo"; 19]), "InvalidParameterValue.LimitExceeded"),
                ("ImageName", json!("x".repeat(61)), "InvalidParameterValue.LimitExceeded"),
                ("KmsKeyId", json!("key"), "InvalidParameter.InvalidKmsKeyId"),
                ("Encrypt", json!(true), "InvalidParameterValue.InvalidRegion"),
                ("DryRun", json!(true), "DryRunOperation"),
            ],
        );
        requests.ledger.dials.image_quota = 0;
        requests.check("SyncImages", sync(&["ap-tokyo"]), "ImageQuotaLimitExceeded");
        requests.region = "ap-guangzhou";
        let creating = json!({"ImageIds": ["img-19mu3fy3"], "DestinationRegions": ["ap-shanghai"]});
        requests.now = 0;
        requests.check("SyncImages", creating, "FailedOperation.InvalidImageState");
    }
}
