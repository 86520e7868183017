//! DescribeZones: the zones of a region.

use imageshare_core::ids::Region;
use serde_json::{Value, json};

use super::{Context, Members, Parameters, Request};
use crate::ledger::{REGIONS, Refusal, RegionInfo};

/// How many zones each region has.
const ZONES: usize = 3;

#[derive(Debug)]
pub(super) struct DescribeZones;

impl Request for DescribeZones {
    fn read(_: &mut Parameters) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let region = context.region;
        let position = REGIONS.iter().position(|info| info.id == region.as_str()).unwrap_or(REGIONS.len());
        let city = RegionInfo::of(region).map_or(region.as_str(), |info| info.city());
        let zone = |(index, zone): (usize, String)| {
            // Any number that is unique will do.
            let id = 100_000 * (position + 1) + index + 1;
            let name = format!("{city} Zone {}", index + 1);
            json!({"Zone": zone, "ZoneName": name, "ZoneId": id.to_string(), "ZoneState": "AVAILABLE"})
        };
        let set: Vec<Value> = zones(region).enumerate().map(zone).collect();
        Ok(vec![("TotalCount", json!(set.len())), ("ZoneSet", Value::Array(set))])
    }
}

/// Returns the zones of a region.
pub(super) fn zones(region: Region) -> impl Iterator<Item = String> {
    (1..=ZONES).map(move |number| format!("{region}-{number}"))
}

#[cfg(test)]
mod tests {
    use super::super::kit::Requests;
    use super::*;

    #[test]
    fn zones_belong_to_the_region_of_the_request() {
        let zones = |region| Requests::new(region).ok("DescribeZones", json!({}));
        let set = zones("ap-singapore");
        assert_eq!(set["TotalCount"], ZONES);
        let first = json!({
            "Zone": "ap-singapore-1", "ZoneName": "Singapore Zone 1", "ZoneId": "1300001", "ZoneState": "AVAILABLE",
        });
        assert_eq!(set["ZoneSet"][0], first);
        assert_eq!(zones("ap-atlantis")["ZoneSet"][2]["Zone"], "ap-atlantis-3");
    }
}
