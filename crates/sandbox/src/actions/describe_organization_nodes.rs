//! DescribeOrganizationNodes: the nodes of the organization, a page at a time.

use serde_json::{Value, json};

use super::{
    Context, Members, Parameters, Request,
    describe_organization_members::CREATED,
    parameters::{Page, described_tags, tags},
};
use crate::{ledger::Refusal, world::Node};

/// The nodes that a request selects.
#[derive(Debug)]
pub(super) struct DescribeOrganizationNodes {
    page: Page,
    tags: Vec<(String, String)>,
}

impl Request for DescribeOrganizationNodes {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        Ok(Self { page: Page::read(from)?, tags: tags(from)? })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let has_tags = |node: &&Node| self.tags.iter().all(|(key, value)| node.tags.get(key) == Some(value));
        Ok(self.page.members(context.organization()?.nodes.iter().filter(has_tags).map(describe)))
    }
}

fn describe(node: &Node) -> Value {
    json!({
        "NodeId": node.id,
        "Name": node.name,
        // The root has the parent 0.
        "ParentNodeId": node.parent.unwrap_or_default(),
        "Remark": "",
        "CreateTime": CREATED,
        "UpdateTime": CREATED,
        "Tags": described_tags(&node.tags),
    })
}
