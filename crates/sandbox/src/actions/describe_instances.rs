//! DescribeInstances.

use serde_json::{Value, json};

use super::{
    Context, Members, Parameters, Request,
    filters::{Filter, Pagination},
    network::{SECURITY_GROUP, SUBNET, VPC},
    parameters::{IDS_MAX, check_ids},
};
use crate::{
    clock::api_time,
    ledger::{Instance, Refusal},
};

#[derive(Debug)]
pub(super) struct DescribeInstances {
    ids: Option<Vec<String>>,
    filters: Vec<Filter>,
    page: Pagination,
}

impl Request for DescribeInstances {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let ids = from.texts("InstanceIds")?.filter(|ids| !ids.is_empty());
        check_ids(ids.as_deref().unwrap_or_default(), "ins", "InvalidInstanceId.Malformed")?;
        if ids.as_ref().is_some_and(|ids| ids.len() > IDS_MAX) {
            let message = "The number of `InstanceIds` exceeds the limit 100.";
            return Err(Refusal::new("InvalidParameterValue.LimitExceeded", message));
        }
        let is_known =
            |name: &str| ["image-id", "instance-id", "instance-name", "instance-state", "zone"].contains(&name);
        let filters = Filter::read(from, is_known, "InvalidFilter")?;
        if ids.is_some() && !filters.is_empty() {
            let message = "The parameters `InstanceIds` and `Filters` cannot be given together.";
            return Err(Refusal::new("InvalidParameter", message));
        }
        Ok(Self { ids, filters, page: Pagination::read(from, "InvalidParameterValue")? })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let instances = context.ledger.machines.instances(context.scope()?).filter(|&(id, instance)| {
            let matches = |filter: &Filter| match filter.name.as_str() {
                "image-id" => filter.accepts(instance.image.as_str()),
                "instance-id" => filter.accepts(id),
                "instance-name" => filter.accepts(&instance.name),
                "instance-state" => filter.accepts(RUNNING),
                _ => filter.accepts(&instance.zone),
            };
            self.ids.as_ref().is_none_or(|ids| ids.iter().any(|listed| listed == id))
                && self.filters.iter().all(matches)
        });
        let instances: Vec<_> = instances.collect();
        let total = instances.len();
        let page = self.page.of(instances.into_iter().map(|(id, instance)| describe(id, instance)));
        Ok(vec![("TotalCount", json!(total)), ("InstanceSet", Value::Array(page))])
    }
}

const RUNNING: &str = "RUNNING";

/// The members of an instance. Those that requests do not set are the same for every instance.
fn describe(id: &str, instance: &Instance) -> Value {
    let tags: Vec<Value> = instance.tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
    json!({
        "InstanceId": id,
        "InstanceName": instance.name,
        "InstanceState": RUNNING,
        "InstanceType": instance.instance_type,
        "InstanceChargeType": "POSTPAID_BY_HOUR",
        "CPU": 2,
        "Memory": 4,
        "RestrictState": "NORMAL",
        "Placement": {"Zone": instance.zone, "ProjectId": 0, "HostId": null},
        "ImageId": instance.image,
        "OsName": "TencentOS Server 4 for x86_64",
        "CreatedTime": api_time(instance.created),
        "ExpiredTime": null,
        "SystemDisk": {"DiskType": "CLOUD_PREMIUM", "DiskId": id.replace("ins", "disk"), "DiskSize": 50},
        "DataDisks": [],
        "PrivateIpAddresses": ["10.0.0.5"],
        // Of the network that is reserved for documentation.
        "PublicIpAddresses": if instance.has_address { json!(["203.0.113.5"]) } else { Value::Null },
        "VirtualPrivateCloud": {"VpcId": VPC, "SubnetId": SUBNET, "AsVpcGateway": false},
        "SecurityGroupIds": [SECURITY_GROUP],
        "LoginSettings": {"KeyIds": instance.key_ids},
        "LatestOperation": "RunInstances",
        "LatestOperationState": "SUCCESS",
        "Tags": tags,
    })
}
