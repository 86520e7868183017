//! CreateImage: an image of an instance.

use serde_json::json;

use super::{
    Context, Members, Parameters, Request,
    modify_image_attribute::{DESCRIPTION_CHARS_MAX, NAME_CHARS_MAX, family},
    parameters::invalid,
    tags,
};
use crate::ledger::{Attributes, Execution, Refusal};

#[derive(Debug)]
pub(super) struct CreateImage {
    instance: String,
    attributes: Attributes,
    execution: Execution,
}

impl Request for CreateImage {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let too_large = "InvalidParameterValue.TooLarge";
        let name = from.short_text("ImageName", NAME_CHARS_MAX, too_large)?.filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| Refusal::missing_parameter("ImageName"))?;
        for name in ["ForcePoweroff", "Sysprep"] {
            if let Some(text) = from.text(name)?
                && !["true", "false"].contains(&text.to_ascii_lowercase().as_str())
            {
                return Err(invalid("InvalidParameterValue", name, &text, "expected TRUE or FALSE"));
            }
        }
        let snapshots = from.texts("SnapshotIds")?.unwrap_or_default();
        let disks = from.texts("DataDiskIds")?.unwrap_or_default();
        let instance = match (from.text("InstanceId")?, snapshots.first()) {
            (Some(instance), None) => instance,
            (Some(_), Some(_)) => {
                let message = "The parameters `InstanceId` and `SnapshotIds` cannot be given together.";
                return Err(Refusal::new("InvalidParameterConflict", message));
            }
            (None, None) => {
                let message = "One of the parameters `InstanceId` and `SnapshotIds` is required.";
                return Err(Refusal::new("InvalidParameter.SpecifyOneParameter", message));
            }
            // The sandbox has no snapshots.
            (None, Some(snapshot)) => {
                let code = "InvalidParameter.SnapshotNotFound";
                return Err(invalid(code, "SnapshotIds", snapshot, "the snapshot does not exist"));
            }
        };
        // Instances of the sandbox have no data disks.
        if let Some(disk) = disks.first() {
            let code = "InvalidParameter.DataDiskNotBelongSpecifiedInstance";
            return Err(invalid(code, "DataDiskIds", disk, "the instance does not have the disk"));
        }
        let attributes = Attributes {
            name: Some(name),
            description: from.short_text("ImageDescription", DESCRIPTION_CHARS_MAX, too_large)?,
            family: family(from)?,
            deprecated: None,
            tags: Some(tags::read(from)?),
        };
        Ok(Self { instance, attributes, execution: from.execution()? })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let Self { instance, attributes, execution } = self;
        let (scope, id) = (context.scope()?, context.new_image());
        context.ledger.create_image(scope, id, instance, attributes.clone(), *execution)?;
        Ok(vec![("ImageId", json!(id))])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::kit::Requests;
    use crate::ledger::CREATED_IMAGES_MAX;

    fn create(instance: &str, name: &str) -> Value {
        json!({"InstanceId": instance, "ImageName": name})
    }

    #[test]
    fn image_is_creating_then_normal() {
        let mut requests = Requests::new("ap-singapore");
        let instance = requests.instance();
        let mut parameters = create(&instance, "golden");
        parameters["ImageDescription"] = "nightly".into();
        parameters["ImageFamily"] = "web".into();
        parameters["ForcePoweroff"] = "True".into();
        parameters["TagSpecification"] = json!([{"ResourceType": "image", "Tags": [{"Key": "env", "Value": "test"}]}]);
        let id = requests.ok("CreateImage", parameters)["ImageId"].clone();
        let share = json!({"ImageId": id, "AccountIds": ["10001"], "Permission": "SHARE"});
        requests.now += 1500;
        let image = requests.image("ap-singapore", "golden");
        assert_eq!([&image["ImageId"], &image["ImageState"]], [&id, &json!("CREATING")]);
        assert_eq!([&image["CreatePercent"], &image["SyncPercent"]], [&json!(50), &Value::Null]);
        assert_eq!([&image["ImageDescription"], &image["ImageFamily"]], ["nightly", "web"]);
        assert_eq!(image["Tags"][0]["Key"], "env");
        requests.check("ModifyImageSharePermission", share.clone(), "InvalidParameterValue.InvalidImageState");
        requests.check("CreateImage", create(&instance, "other"), "MutexOperation.TaskRunning");
        requests.now += 1500;
        let image = requests.image("ap-singapore", "golden");
        assert_eq!([&image["ImageState"], &image["CreatePercent"]], [&json!("NORMAL"), &Value::Null]);
        requests.ok("ModifyImageSharePermission", share);
    }

    #[test]
    fn mistakes_have_documented_codes() {
        let mut requests = Requests::new("ap-singapore");
        let valid = create(&requests.instance(), "golden");
        requests.check_each(
            "CreateImage",
            &valid,
            &[
                ("ImageName", Value::Null, "MissingParameter"),
                ("ImageName", json!(""), "MissingParameter"),
                ("ImageName", json!("é".repeat(61)), "InvalidParameterValue.TooLarge"),
                ("ImageName", json!("golden-2026.11-singapore"), "InvalidImageName.Duplicate"),
                ("ImageDescription", json!("x".repeat(257)), "InvalidParameterValue.TooLarge"),
                ("ImageFamily", json!("web server"), "InvalidParameterValue.InvalidImageFamily"),
                ("InstanceId", Value::Null, "InvalidParameter.SpecifyOneParameter"),
                ("InstanceId", json!("ins-0000\u{1b}"), "InvalidInstanceId.NotFound"),
                ("SnapshotIds", json!(["snap-1"]), "InvalidParameterConflict"),
                ("DataDiskIds", json!(["disk-1"]), "InvalidParameter.DataDiskNotBelongSpecifiedInstance"),
                ("ForcePoweroff", json!("maybe"), "InvalidParameterValue"),
                ("ForcePoweroff", json!(true), "InvalidParameter"),
                ("DryRun", json!(true), "DryRunOperation"),
                ("Colour", json!("red"), "UnknownParameter"),
            ],
        );
        let snapshot = json!({"SnapshotIds": ["snap-1"], "ImageName": "golden"});
        requests.check("CreateImage", snapshot, "InvalidParameter.SnapshotNotFound");
        requests.region = "ap-guangzhou";
        requests.check("CreateImage", valid, "InvalidInstanceId.NotFound");
    }

    #[test]
    fn images_are_limited_per_region_and_in_all() {
        let mut requests = Requests::new("ap-singapore");
        requests.ledger.dials.create_ms = 0;
        requests.ledger.dials.image_quota = 4;
        let instance = requests.instance();
        requests.ok("CreateImage", create(&instance, "fourth"));
        requests.check("CreateImage", create(&instance, "fifth"), "ImageQuotaLimitExceeded");
        requests.ledger.dials.image_quota = usize::MAX;
        for number in requests.ledger.state().count()..CREATED_IMAGES_MAX {
            requests.ok("CreateImage", create(&instance, &number.to_string()));
        }
        requests.check("CreateImage", create(&instance, "last"), "ResourceInsufficient");
        assert_eq!(requests.ledger.state().count(), CREATED_IMAGES_MAX);
    }
}
