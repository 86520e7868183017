//! DescribeImageQuota: how many images an account may have in a region.

use serde_json::json;

use super::{Context, Members, Parameters, Request};
use crate::ledger::Refusal;

#[derive(Debug)]
pub(super) struct DescribeImageQuota;

impl Request for DescribeImageQuota {
    fn read(_: &mut Parameters) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        Ok(vec![("ImageNumQuota", json!(context.ledger.dials.image_quota))])
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::kit::Requests;

    #[test]
    fn quota_is_that_of_the_dial() {
        let mut requests = Requests::new("ap-singapore");
        assert_eq!(requests.ok("DescribeImageQuota", json!({})), json!({"ImageNumQuota": 500}));
        requests.ledger.dials.image_quota = 10;
        assert_eq!(requests.ok("DescribeImageQuota", json!({})), json!({"ImageNumQuota": 10}));
        requests.check("DescribeImageQuota", json!({"ImageId": "img-6pb6lrmy"}), "UnknownParameter");
    }
}
