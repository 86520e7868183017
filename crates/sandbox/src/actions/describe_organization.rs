//! DescribeOrganization: the organization of the key's account.

use serde_json::json;

use super::{Context, Members, Parameters, Request, describe_organization_members::CREATED};
use crate::ledger::Refusal;

#[derive(Debug)]
pub(super) struct DescribeOrganization;

impl Request for DescribeOrganization {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        from.text("Lang")?;
        from.text("Product")?;
        Ok(Self)
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let organization = context.organization()?;
        let root = organization.nodes.first().map(|node| node.id);
        Ok(vec![
            ("OrgId", json!(1)),
            ("HostUin", json!(organization.admin.get())),
            ("NickName", json!("Organization")),
            ("OrgType", json!(1)),
            ("IsManager", json!(true)),
            ("OrgPolicyType", json!("Financial")),
            ("OrgPolicyName", json!("")),
            ("OrgPermission", json!([])),
            ("RootNodeId", json!(root)),
            ("CreateTime", json!(CREATED)),
            ("JoinTime", json!(CREATED)),
            ("IsAllowQuit", json!("Denied")),
        ])
    }
}
