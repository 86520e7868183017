//! The network: one VPC with one subnet and one security group, the same in every world and region. Contains the common code
//! of their listings.

use serde_json::{Value, json};

use super::{
    Members, Parameters,
    filters::{Filter, Pagination},
    parameters::{IDS_MAX, check_ids, invalid},
};
use crate::ledger::Refusal;

pub(super) const VPC: &str = "vpc-5lz2f7j0";
pub(super) const SUBNET: &str = "subnet-e1gnlaw2";
pub(super) const SECURITY_GROUP: &str = "sg-4fztlopx";

/// When the network was created, in the format of the VPC product.
pub(super) const CREATED: &str = "2026-11-02 08:15:30";

/// Checks the VPC and subnet of an instance: both or none.
pub(super) fn check_placement(vpc: Option<&str>, subnet: Option<&str>) -> Result<(), Refusal> {
    match (vpc, subnet) {
        (None, None) | (Some(VPC), Some(SUBNET)) => Ok(()),
        _ => {
            let message = format!("The VPC or its subnet does not exist (expected `{VPC}` and `{SUBNET}`).");
            Err(Refusal::new("InvalidParameterValue.InvalidVpcIdSubnetIdNotFound", message))
        }
    }
}

pub(super) fn check_security_groups(ids: &[String]) -> Result<(), Refusal> {
    let unknown = |id: &String| invalid("InvalidSecurityGroupId.NotFound", "SecurityGroupIds", id, "it does not exist");
    ids.iter().find(|id| *id != SECURITY_GROUP).map_or(Ok(()), |id| Err(unknown(id)))
}

/// A request for resources of the VPC product.
#[derive(Debug)]
pub(super) struct Listing {
    ids: Vec<String>,
    filters: Vec<Filter>,
    page: Pagination,
}

/// A kind of resource.
pub(super) struct Kind {
    /// The parameter with ids.
    pub(super) ids: &'static str,
    /// The prefix of its ids.
    pub(super) prefix: &'static str,
    /// The member of the response.
    pub(super) set: &'static str,
    /// The filters, each with the member of the resource that it compares. The first one is the id.
    pub(super) filters: &'static [(&'static str, &'static str)],
}

impl Kind {
    fn member(&self, filter: &str) -> Option<&'static str> {
        self.filters.iter().find(|(name, _)| *name == filter).map(|(_, member)| *member)
    }
}

impl Listing {
    pub(super) fn read(from: &mut Parameters, kind: &Kind) -> Result<Self, Refusal> {
        let ids = from.texts(kind.ids)?.unwrap_or_default();
        check_ids(&ids, kind.prefix, "InvalidParameterValue.Malformed")?;
        if ids.len() > IDS_MAX {
            let message = format!("The number of `{}` exceeds the limit {IDS_MAX}.", kind.ids);
            return Err(Refusal::new("InvalidParameterValue.LimitExceeded", message));
        }
        let is_known = |name: &str| kind.member(name).is_some();
        let filters = Filter::read(from, is_known, "InvalidParameter.FilterInvalidKey")?;
        if !ids.is_empty() && !filters.is_empty() {
            let message = format!("The parameters `{}` and `Filters` cannot be given together.", kind.ids);
            return Err(Refusal::new("InvalidParameter.Coexist", message));
        }
        Ok(Self { ids, filters, page: Pagination::read_texts(from, "InvalidParameterValue.Range")? })
    }

    /// Answers it with the only resource of the kind.
    pub(super) fn answer(&self, kind: &Kind, resource: Value) -> Result<Members, Refusal> {
        let text = |member: &str| resource.get(member).and_then(Value::as_str).unwrap_or_default().to_owned();
        let id = kind.filters.first().map(|(_, member)| text(member)).unwrap_or_default();
        if let Some(unknown) = self.ids.iter().find(|listed| **listed != id) {
            return Err(invalid("ResourceNotFound", kind.ids, unknown, "it does not exist"));
        }
        let matches = self
            .filters
            .iter()
            .all(|filter| kind.member(&filter.name).is_some_and(|member| filter.accepts(&text(member))));
        let total = usize::from(matches);
        let page = self.page.of(matches.then_some(resource).into_iter());
        Ok(vec![("TotalCount", json!(total)), (kind.set, Value::Array(page))])
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::Requests;
    use super::*;

    #[track_caller]
    fn check(action: &str, kind: &Kind, id: &str) {
        let mut requests = Requests::new("ap-tokyo");
        let by_filter = |value: &str| json!({"Filters": [{"Name": kind.filters[0].0, "Values": [value]}]});
        for parameters in [json!({}), json!({kind.ids: [id]}), by_filter(id)] {
            let response = requests.ok(action, parameters);
            assert_eq!(response["TotalCount"], 1);
            assert_eq!(response[kind.set][0][kind.filters[0].1], id);
        }
        assert_eq!(requests.ok(action, by_filter("x")), json!({"TotalCount": 0, kind.set: []}));
        let mut both = by_filter(id);
        both[kind.ids] = json!([id]);
        for (parameters, code) in [
            (both, "InvalidParameter.Coexist"),
            (json!({kind.ids: ["x"]}), "InvalidParameterValue.Malformed"),
            (json!({kind.ids: [format!("{}-00000000", kind.prefix)]}), "ResourceNotFound"),
            (json!({kind.ids: vec![id; 101]}), "InvalidParameterValue.LimitExceeded"),
            (json!({"Filters": [{"Name": "colour", "Values": []}]}), "InvalidParameter.FilterInvalidKey"),
            (json!({"Limit": "0"}), "InvalidParameterValue.Range"),
        ] {
            requests.check(action, parameters, code);
        }
        assert_eq!(requests.ok(action, json!({"Offset": "1", "Limit": "10"}))[kind.set], json!([]));
    }

    #[test]
    fn vpc_subnet_and_security_group_are_listed() {
        check("DescribeVpcs", &super::super::describe_vpcs::KIND, VPC);
        check("DescribeSubnets", &super::super::describe_subnets::KIND, SUBNET);
        check("DescribeSecurityGroups", &super::super::describe_security_groups::KIND, SECURITY_GROUP);
    }
}
