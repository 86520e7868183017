//! DescribeOrganizationMembers: the members of the organization, a page at a time.

use serde_json::{Value, json};

use super::{
    Context, Members, Parameters, Request,
    parameters::{Page, tags},
};
use crate::{
    ledger::Refusal,
    world::{Member, Organization},
};

/// When organization, nodes and members were created.
pub(super) const CREATED: &str = "2026-11-02 08:15:30";

/// The members that a request selects.
#[derive(Debug)]
pub(super) struct DescribeOrganizationMembers {
    page: Page,
    /// A part of the name or of the account id.
    search_key: Option<String>,
    node_id: Option<u64>,
    node_name: Option<String>,
    tags: Vec<(String, String)>,
}

impl Request for DescribeOrganizationMembers {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        for unused in ["AuthName", "Lang", "Product"] {
            from.text(unused)?;
        }
        Ok(Self {
            page: Page::read(from)?,
            search_key: from.text("SearchKey")?,
            node_id: from.number("NodeId")?,
            node_name: from.text("NodeName")?,
            tags: tags(from)?,
        })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let organization = context.organization()?;
        if let Some(id) = self.node_id.filter(|id| organization.node(*id).is_none()) {
            let message = format!("The organization node `{id}` does not exist.");
            return Err(Refusal::new("ResourceNotFound.OrganizationNodeNotExist", message));
        }
        let members = organization.members.iter().filter(|member| self.selects(organization, member));
        Ok(self.page.members(members.map(|member| describe(organization, member))))
    }
}

impl DescribeOrganizationMembers {
    fn selects(&self, organization: &Organization, member: &Member) -> bool {
        let has_key = |key: &String| member.name.contains(key) || member.account.to_string().contains(key);
        let is_in = |name: &String| organization.node(member.node).is_some_and(|node| node.name == *name);
        self.search_key.as_ref().is_none_or(has_key)
            && self.node_id.is_none_or(|id| id == member.node)
            && self.node_name.as_ref().is_none_or(is_in)
            && self.tags.iter().all(|(key, value)| member.tags.get(key) == Some(value))
    }
}

fn describe(organization: &Organization, member: &Member) -> Value {
    let Member { account, name, node, is_confirmed, .. } = member;
    json!({
        "MemberUin": account.get(),
        "Name": name,
        "MemberType": "Invite",
        "OrgPolicyType": "Financial",
        "OrgPolicyName": "",
        "OrgPermission": [],
        "NodeId": node,
        "NodeName": organization.node(*node).map(|node| &node.name),
        "Remark": "",
        "CreateTime": CREATED,
        "UpdateTime": CREATED,
        "IsAllowQuit": "Denied",
        "PayUin": null,
        "PayName": null,
        "OrgIdentity": [],
        "BindStatus": "Valid",
        "PermissionStatus": if *is_confirmed { "Confirmed" } else { "UnConfirmed" },
        "Tags": super::parameters::described_tags(&member.tags),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: Value, code: &str, message: &str) {
        let Value::Object(members) = body else { panic!("a body is an object") };
        let refusal = DescribeOrganizationMembers::read(&mut Parameters::new(members, false)).unwrap_err();
        assert_eq!((&*refusal.code, refusal.message.as_str()), (code, message));
    }

    #[test]
    fn invalid_pages_are_refused() {
        check(json!({"Limit": 50}), "MissingParameter", "The request is missing a required parameter `Offset`.");
        check(json!({"Offset": 0}), "MissingParameter", "The request is missing a required parameter `Limit`.");
        for limit in [0, 51] {
            let message = format!("The value \"{limit}\" of the parameter `Limit` is invalid: expected 1 to 50.");
            check(json!({"Offset": 0, "Limit": limit}), "InvalidParameter", &message);
        }
        let message = "The value \"75\" of the parameter `Offset` is invalid: expected a multiple of Limit.";
        check(json!({"Offset": 75, "Limit": 50}), "InvalidParameter", message);
        let tags = vec![json!({"TagKey": "env", "TagValue": "prod"}); 11];
        let message = "The value \"11\" of the parameter `Tags` is invalid: expected at most 10 tags.";
        check(json!({"Offset": 0, "Limit": 50, "Tags": tags}), "InvalidParameter", message);
    }
}
