//! GetCallerIdentity: the account of the key.

use serde_json::json;

use super::{Context, Members, Parameters, Request};
use crate::ledger::Refusal;

#[derive(Debug)]
pub(super) struct GetCallerIdentity;

impl Request for GetCallerIdentity {
    fn read(_: &mut Parameters) -> Result<Self, Refusal> {
        Ok(Self)
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let id = context.account()?.to_string();
        Ok(vec![
            ("Arn", json!(format!("qcs::cam::uin/{id}:uin/{id}"))),
            ("AccountId", json!(id)),
            ("UserId", json!(id)),
            ("PrincipalId", json!(id)),
            ("Type", json!("CAMUser")),
        ])
    }
}
