//! DescribeRegions.

use serde_json::{Value, json};

use super::{Context, Members, Parameters, Request};
use crate::ledger::{REGIONS, Refusal};

#[derive(Debug)]
pub(super) struct DescribeRegions;

impl Request for DescribeRegions {
    fn read(_: &mut Parameters) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn perform(&self, _: &mut Context<'_>) -> Result<Members, Refusal> {
        let region = |region: crate::ledger::RegionInfo| json!({"Region": region.id, "RegionName": region.name, "RegionState": "AVAILABLE"});
        let set: Vec<Value> = REGIONS.into_iter().map(region).collect();
        Ok(vec![("TotalCount", json!(set.len())), ("RegionSet", Value::Array(set))])
    }
}

#[cfg(test)]
mod tests {
    use super::super::kit::Requests;
    use super::*;

    #[test]
    fn regions_are_listed_with_their_names() {
        let set = Requests::new("ap-tokyo").ok("DescribeRegions", json!({}));
        assert_eq!(set["TotalCount"], REGIONS.len());
        let singapore = json!({
            "Region": "ap-singapore", "RegionName": "Southeast Asia (Singapore)", "RegionState": "AVAILABLE",
        });
        assert!(set["RegionSet"].as_array().unwrap().contains(&singapore), "{set}");
    }
}
