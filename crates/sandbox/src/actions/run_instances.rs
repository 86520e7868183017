//! RunInstances: instances that images can be made of. Disks, charges and further services are ignored.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use imageshare_core::ids::ImageId;
use serde_json::json;

use super::{
    Context, Members, Parameters, Request,
    describe_zones::zones,
    network,
    parameters::{check_ids, invalid},
    tags,
};
use crate::ledger::{Execution, Instance, Refusal};

const NAME_CHARS_MAX: usize = 128;
const TOKEN_CHARS_MAX: usize = 64;
const TYPE_CHARS_MAX: usize = 32;
const USER_DATA_BYTES_MAX: usize = 16 * 1024;
const COUNT_MAX: u64 = 100;
const KEYS_MAX: usize = 1;

#[derive(Debug)]
pub(super) struct RunInstances {
    zone: String,
    image: ImageId,
    instance_type: String,
    name: String,
    key_ids: Vec<String>,
    has_address: bool,
    tags: Vec<(String, String)>,
    count: u64,
    execution: Execution,
}

impl Request for RunInstances {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let mut placement = from.object("Placement")?;
        let zone = placement.required_text("Zone")?;
        placement.ignore_all(&["HostId", "HostIds", "ProjectId"]);
        placement.finish()?;
        let image = from.required_image("ImageId")?;
        let malformed = "InvalidInstanceType.Malformed";
        let instance_type = from.short_text("InstanceType", TYPE_CHARS_MAX, malformed)?;
        let instance_type = instance_type.unwrap_or_else(|| "S5.MEDIUM4".to_owned());
        if !instance_type.contains('.')
            || !instance_type.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
        {
            return Err(invalid(malformed, "InstanceType", &instance_type, "expected a type such as S5.MEDIUM4"));
        }
        let count = from.number("InstanceCount")?.unwrap_or(1);
        if !(1..=COUNT_MAX).contains(&count) {
            return Err(invalid("InvalidParameterValue", "InstanceCount", &count.to_string(), "expected 1 to 100"));
        }
        let name = from.short_text("InstanceName", NAME_CHARS_MAX, "InvalidInstanceName.TooLong")?.unwrap_or_default();
        from.short_text("ClientToken", TOKEN_CHARS_MAX, "InvalidClientToken.TooLong")?;
        if let Some(data) = from.text("UserData")?
            && STANDARD.decode(&data).map_or(true, |data| data.len() > USER_DATA_BYTES_MAX)
        {
            let message = "The parameter `UserData` is invalid (expected Base64 of at most 16 KiB).";
            return Err(Refusal::new("InvalidParameterValue.InvalidUserDataFormat", message));
        }
        let key_ids = login(&mut from.object("LoginSettings")?)?;
        let mut network = from.object("VirtualPrivateCloud")?;
        network::check_placement(network.text("VpcId")?.as_deref(), network.text("SubnetId")?.as_deref())?;
        network.ignore_all(&["AsVpcGateway", "Ipv6AddressCount", "PrivateIpAddresses"]);
        network.finish()?;
        network::check_security_groups(&from.texts("SecurityGroupIds")?.unwrap_or_default())?;
        let has_address =
            from.object("InternetAccessible")?.number("InternetMaxBandwidthOut")?.is_some_and(|out| out > 0);
        let tags = tags::read(from)?;
        let execution = from.execution()?;
        from.ignore_all(&IGNORED);
        Ok(Self { zone, image, instance_type, name, key_ids, has_address, tags, count, execution })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let scope = context.scope()?;
        if !zones(scope.region).any(|zone| zone == self.zone) {
            let problem = "it is not a zone of the region";
            return Err(invalid("InvalidZone.MismatchRegion", "Placement.Zone", &self.zone, problem));
        }
        let instance = Instance {
            owner: scope.caller,
            region: scope.region,
            zone: self.zone.clone(),
            image: self.image,
            name: self.name.clone(),
            instance_type: self.instance_type.clone(),
            key_ids: self.key_ids.clone(),
            has_address: self.has_address,
            tags: self.tags.clone(),
            created: scope.now / 1000,
            imaged_until: 0,
        };
        let ids: Vec<String> = (0..self.count).map(|_| context.new_machine_id("ins")).collect();
        context.ledger.run_instances(scope, &ids, &instance, self.execution)?;
        Ok(vec![("InstanceIdSet", json!(ids))])
    }
}

/// Returns the key pairs of `LoginSettings`.
fn login(from: &mut Parameters) -> Result<Vec<String>, Refusal> {
    let key_ids = from.texts("KeyIds")?.unwrap_or_default();
    check_ids(&key_ids, "skey", "InvalidKeyPairId.Malformed")?;
    if key_ids.len() > KEYS_MAX {
        let message = "The number of `KeyIds` exceeds the limit 1.";
        return Err(Refusal::new("InvalidParameterValue.LimitExceeded", message));
    }
    if from.text("Password")?.is_some() && !key_ids.is_empty() {
        let message = "The parameters `KeyIds` and `Password` cannot be given together.";
        return Err(Refusal::new("InvalidParameter.ParameterConflict", message));
    }
    Ok(key_ids)
}

/// Parameters without an effect in the sandbox.
const IGNORED: [&str; 19] = [
    "ActionTimer",
    "CamRoleName",
    "ChcIds",
    "CpuTopology",
    "DataDisks",
    "DedicatedClusterId",
    "DisableApiTermination",
    "DisasterRecoverGroupIds",
    "EnableJumboFrame",
    "EnhancedService",
    "HostName",
    "HpcClusterId",
    "InstanceChargePrepaid",
    "InstanceChargeType",
    "InstanceMarketOptions",
    "LaunchTemplate",
    "Metadata",
    "MinCount",
    "SystemDisk",
];

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::kit::Requests;
    use crate::ledger::INSTANCES_MAX;

    fn run() -> Value {
        json!({"Placement": {"Zone": "ap-singapore-2"}, "ImageId": "img-6pb6lrmy", "InstanceName": "builder"})
    }

    #[test]
    fn instance_is_listed_until_it_is_terminated() {
        let mut requests = Requests::new("ap-singapore");
        let mut parameters = run();
        parameters["InternetAccessible"] = json!({"InternetMaxBandwidthOut": 1, "InternetChargeType": "x"});
        parameters["SystemDisk"] = json!({"DiskType": "CLOUD_PREMIUM", "DiskSize": 50});
        let ids = requests.ok("RunInstances", parameters)["InstanceIdSet"].take();
        let mut list = |parameters| requests.ok("DescribeInstances", parameters);
        let instance = list(json!({"InstanceIds": ids}))["InstanceSet"][0].take();
        assert_eq!([&instance["InstanceId"], &instance["InstanceState"]], [&ids[0], &json!("RUNNING")]);
        assert_eq!(instance["Placement"]["Zone"], "ap-singapore-2");
        assert_eq!(instance["PublicIpAddresses"][0], "203.0.113.5");
        let by_name = |name: &str| json!({"Filters": [{"Name": "instance-name", "Values": [name]}]});
        assert_eq!(list(by_name("builder"))["TotalCount"], 1);
        assert_eq!(list(by_name("other"))["TotalCount"], 0);
        assert_eq!(list(json!({"InstanceIds": ["ins-00000000"]}))["TotalCount"], 0);
        let terminate = json!({"InstanceIds": ids});
        requests.ok("TerminateInstances", terminate.clone());
        assert_eq!(requests.ok("DescribeInstances", json!({})), json!({"TotalCount": 0, "InstanceSet": []}));
        requests.check("TerminateInstances", terminate, "InvalidInstanceId.NotFound");
        requests.check("TerminateInstances", json!({"InstanceIds": ["i"]}), "InvalidInstanceId.Malformed");
        requests.check("DescribeInstances", json!({"InstanceIds": ["i"]}), "InvalidInstanceId.Malformed");
        requests.check("DescribeInstances", json!({"Filters": [{"Name": "colour"}]}), "InvalidFilter");
        requests.check("DescribeInstances", json!({"Limit": 101}), "InvalidParameterValue");
    }

    #[test]
    fn mistakes_have_documented_codes() {
        let mut requests = Requests::new("ap-singapore");
        requests.check_each(
            "RunInstances",
            &run(),
            &[
                ("Placement", Value::Null, "MissingParameter"),
                ("Placement", json!({"Zone": "ap-tokyo-1"}), "InvalidZone.MismatchRegion"),
                ("Placement", json!({"Zone": "ap-singapore-1", "Room": 1}), "UnknownParameter"),
                ("ImageId", json!("lhbp-1"), "InvalidImageId.Malformed"),
                ("ImageId", json!("img-00000000"), "InvalidImageId.NotFound"),
                ("InstanceType", json!("huge"), "InvalidInstanceType.Malformed"),
                ("InstanceCount", json!(0), "InvalidParameterValue"),
                ("InstanceName", json!("x".repeat(129)), "InvalidInstanceName.TooLong"),
                ("ClientToken", json!("x".repeat(65)), "InvalidClientToken.TooLong"),
                ("UserData", json!("#!"), "InvalidParameterValue.InvalidUserDataFormat"),
                ("LoginSettings", json!({"KeyIds": ["key"]}), "InvalidKeyPairId.Malformed"),
                ("LoginSettings", json!({"KeyIds": ["skey-00000000"]}), "ResourceNotFound.KeyPairNotFound"),
                (
                    "LoginSettings",
                    json!({"KeyIds": ["skey-00000000"], "Password": "x"}),
                    "InvalidParameter.ParameterConflict",
                ),
                (
                    "VirtualPrivateCloud",
                    json!({"VpcId": "vpc-1"}),
                    "InvalidParameterValue.InvalidVpcIdSubnetIdNotFound",
                ),
                ("SecurityGroupIds", json!(["sg-1"]), "InvalidSecurityGroupId.NotFound"),
                ("DryRun", json!(true), "DryRunOperation"),
                ("Colour", json!(1), "UnknownParameter"),
            ],
        );
        requests.now = 0;
        requests.region = "ap-guangzhou";
        let creating = json!({"Placement": {"Zone": "ap-guangzhou-1"}, "ImageId": "img-19mu3fy3"});
        requests.check("RunInstances", creating, "InvalidParameterValue.InvalidImageState");
    }

    #[test]
    fn instances_are_limited() {
        let mut requests = Requests::new("ap-singapore");
        let mut parameters = run();
        parameters["InstanceCount"] = json!(100);
        for _ in 0..INSTANCES_MAX / 100 {
            requests.ok("RunInstances", parameters.clone());
        }
        requests.check("RunInstances", run(), "LimitExceeded.CvmInstanceQuota");
    }
}
