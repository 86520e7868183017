//! TerminateInstances.

use super::{
    Context, Members, Parameters, Request,
    parameters::{IDS_MAX, check_ids},
};
use crate::ledger::Refusal;

#[derive(Debug)]
pub(super) struct TerminateInstances {
    ids: Vec<String>,
}

impl Request for TerminateInstances {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let ids = from.required_list("InstanceIds", IDS_MAX)?;
        check_ids(&ids, "ins", "InvalidInstanceId.Malformed")?;
        from.flag("ReleaseAddress")?;
        from.flag("ReleasePrepaidDataDisks")?;
        Ok(Self { ids })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        context.ledger.terminate_instances(context.scope()?, &self.ids)?;
        Ok(Members::new())
    }
}
