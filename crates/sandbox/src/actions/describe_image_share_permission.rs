//! DescribeImageSharePermission: the accounts that an image is shared with.

use imageshare_core::ids::ImageId;
use serde_json::{Value, json};

use super::{Context, Members, Parameters, Request};
use crate::{clock::api_time, ledger::Refusal};

#[derive(Debug)]
pub(super) struct DescribeImageSharePermission {
    image: ImageId,
}

impl Request for DescribeImageSharePermission {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        Ok(Self { image: from.required_image("ImageId")? })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let as_of = context.now.millis().saturating_sub(context.world.read_lag_ms);
        let shares = context.ledger.shares(as_of, context.account()?, context.region, self.image)?;
        let set: Vec<Value> = shares
            .into_iter()
            .map(|(id, created)| json!({"AccountId": id, "CreatedTime": api_time(created / 1000)}))
            .collect();
        Ok(vec![("SharePermissionSet", Value::Array(set))])
    }
}
