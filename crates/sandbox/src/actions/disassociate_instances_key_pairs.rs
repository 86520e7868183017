//! DisassociateInstancesKeyPairs: removes key pairs from instances.

use super::{
    Context, Members, Parameters, Request,
    parameters::{IDS_MAX, check_ids},
};
use crate::ledger::Refusal;

#[derive(Debug)]
pub(super) struct DisassociateInstancesKeyPairs {
    instances: Vec<String>,
    key_ids: Vec<String>,
}

impl Request for DisassociateInstancesKeyPairs {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let instances = from.required_list("InstanceIds", IDS_MAX)?;
        check_ids(&instances, "ins", "InvalidInstanceId.Malformed")?;
        let key_ids = from.required_list("KeyIds", IDS_MAX)?;
        check_ids(&key_ids, "skey", "InvalidKeyPairId.Malformed")?;
        // Every instance of the sandbox is running.
        if !from.flag("ForceStop")? {
            let message = "The instance is running (expected ForceStop, or a stopped instance).";
            return Err(Refusal::new("UnsupportedOperation.InstanceStateRunning", message));
        }
        Ok(Self { instances, key_ids })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        context.ledger.detach_key_pairs(context.scope()?, &self.instances, &self.key_ids)?;
        Ok(Members::new())
    }
}
