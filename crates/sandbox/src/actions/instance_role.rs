//! The temporary key of an instance's role. Only the metadata service returns it; faults can name it like an action.

use super::{Context, Members, Parameters, Request};
use crate::ledger::Refusal;

#[derive(Debug)]
pub(super) struct InstanceRole;

fn refused() -> Refusal {
    Refusal::new("InvalidAction", "The action does not exist for this product.")
}

impl Request for InstanceRole {
    fn read(_: &mut Parameters) -> Result<Self, Refusal> {
        Err(refused())
    }

    fn perform(&self, _: &mut Context<'_>) -> Result<Members, Refusal> {
        Err(refused())
    }
}
