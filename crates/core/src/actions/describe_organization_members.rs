//! DescribeOrganizationMembers: the member accounts of a Tencent Cloud Organization.
//!
//! The vendor's page: [DescribeOrganizationMembers (1031/52062)](https://www.tencentcloud.com/document/product/1031/52062).

use alloc::{string::String, vec::Vec};

use serde::{Deserialize, Deserializer};

use super::{Action, ORGANIZATION};
use crate::{
    ids::AccountId,
    params::{ParameterWriter, Parameters},
    response::{List, Listed, NotAnAnswer, present},
    scalar::Scalar,
};

/// Lists one page of the members of the organization that the key's account administers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribeOrganizationMembers {
    /// Members before the page; a multiple of [`PAGE_LEN`](Self::PAGE_LEN).
    pub offset: u64,
    /// Only the members of this node.
    pub node_id: Option<u64>,
    /// Only members that have all of these tags, at most [`TAGS_MAX`](Self::TAGS_MAX).
    pub tags: Vec<Tag>,
}

/// A tag of a resource.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag {
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// A page of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationMembers {
    /// Members on all pages.
    pub total: u64,
    /// The members of this page.
    pub members: Vec<OrganizationMember>,
}

/// A member of an organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationMember {
    /// Its root account.
    pub account_id: AccountId,
    /// Its name. Safe to print.
    pub name: Option<String>,
    /// Its node.
    pub node_id: Option<u64>,
    /// The name of its node. Safe to print.
    pub node_name: Option<String>,
    /// `Confirmed`, or `UnConfirmed` for an account that has not accepted its membership. Safe to print.
    pub permission_status: Option<String>,
}

impl DescribeOrganizationMembers {
    /// Members of a page: the most that the API allows.
    pub const PAGE_LEN: u64 = 50;

    /// Tags that a request may have.
    pub const TAGS_MAX: usize = 10;
}

impl OrganizationMember {
    /// Whether the account has accepted its membership. A response without the status counts as accepted.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.permission_status.as_deref().is_none_or(|status| status == "Confirmed")
    }
}

impl Parameters for DescribeOrganizationMembers {
    fn write_parameters(&self, to: &mut impl ParameterWriter) {
        to.number("Offset", self.offset);
        to.number("Limit", Self::PAGE_LEN);
        if !self.tags.is_empty() {
            to.objects("Tags", &self.tags);
        }
        if let Some(node_id) = self.node_id {
            to.number("NodeId", node_id);
        }
    }
}

impl Parameters for Tag {
    fn write_parameters(&self, to: &mut impl ParameterWriter) {
        to.text("TagKey", &self.key);
        to.text("TagValue", &self.value);
    }
}

impl Action for DescribeOrganizationMembers {
    const NAME: &'static str = "DescribeOrganizationMembers";
    const SERVICE: &'static str = ORGANIZATION.0;
    const VERSION: &'static str = ORGANIZATION.1;
    type Answer = OrganizationMembers;

    /// A missing list or total, or a member with an invalid account, makes the whole response invalid: a SYNC with the list
    /// would cancel the shares of accounts that it lacks.
    fn answer<'de, D: Deserializer<'de>>(members: D) -> Result<Result<OrganizationMembers, NotAnAnswer>, D::Error> {
        #[derive(Deserialize)]
        struct Members<'a> {
            #[serde(rename = "Total", borrow)]
            total: Option<Scalar<'a>>,
            #[serde(rename = "Items", default, deserialize_with = "present")]
            items: Option<List<OrganizationMember>>,
        }

        let Members { total, items } = Members::deserialize(members)?;
        let member = total.unwrap_or(Scalar::Null);
        let total = member.to_number().ok_or_else(|| {
            NotAnAnswer::new(alloc::format!("Total: invalid value {} (expected a number)", member.to_excerpt()))
        });
        Ok(total.and_then(|total| Ok(OrganizationMembers { total, members: List::read("Items", items)? })))
    }
}

#[derive(Deserialize)]
pub(crate) struct Entry<'a> {
    #[serde(rename = "MemberUin", borrow)]
    member_uin: Option<Scalar<'a>>,
    #[serde(rename = "Name", borrow)]
    name: Option<Scalar<'a>>,
    #[serde(rename = "NodeId", borrow)]
    node_id: Option<Scalar<'a>>,
    #[serde(rename = "NodeName", borrow)]
    node_name: Option<Scalar<'a>>,
    #[serde(rename = "PermissionStatus", borrow)]
    permission_status: Option<Scalar<'a>>,
}

impl Listed for OrganizationMember {
    type Entry<'a> = Entry<'a>;

    fn read(entry: &Entry<'_>, index: usize) -> Result<Self, NotAnAnswer> {
        let uin = entry.member_uin.as_ref().unwrap_or(&Scalar::Null);
        let account_id = uin.to_account_id().ok_or_else(|| {
            NotAnAnswer::new(alloc::format!(
                "Items[{index}].MemberUin: invalid value {} (expected a root account id of 5 to 19 digits)",
                uin.to_excerpt()
            ))
        })?;
        let shown = |member: &Option<Scalar<'_>>| member.as_ref().and_then(Scalar::to_shown);
        Ok(Self {
            account_id,
            name: shown(&entry.name),
            node_id: entry.node_id.as_ref().and_then(Scalar::to_number),
            node_name: shown(&entry.node_name),
            permission_status: shown(&entry.permission_status),
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;
    use crate::{
        params::{Pairs, json},
        response::parse,
    };

    #[test]
    fn tags_are_objects_and_flat_pairs() {
        let all = DescribeOrganizationMembers { offset: 0, node_id: None, tags: Vec::new() };
        assert_eq!(json(&all), r#"{"Offset":0,"Limit":50}"#);
        let tag = |key: &str, value: &str| Tag { key: key.into(), value: value.into() };
        let some = DescribeOrganizationMembers {
            offset: 50,
            node_id: Some(2001),
            tags: [tag("env", "a\"b"), tag("x", "")].into(),
        };
        assert_eq!(
            json(&some),
            r#"{"Offset":50,"Limit":50,"Tags":[{"TagKey":"env","TagValue":"a\"b"},{"TagKey":"x","TagValue":""}],"NodeId":2001}"#
        );
        assert_eq!(
            Pairs::of(&some).to_query(),
            "Limit=50&NodeId=2001&Offset=50&Tags.0.TagKey=env&Tags.0.TagValue=a%22b&Tags.1.TagKey=x&Tags.1.TagValue="
        );
    }

    fn read(items: &str) -> Result<Vec<OrganizationMember>, String> {
        let body = alloc::format!(r#"{{"Response":{{"Total":2,"Items":{items},"RequestId":"x"}}}}"#);
        parse::<DescribeOrganizationMembers>(200, body.as_bytes())
            .map(|answered| answered.answer.members)
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn members_as_documented_keep_every_digit() {
        let items = r#"[{"MemberUin":9007199254740993,"Name":"Acme\u001b","MemberType":"Invite","OrgPolicyType":"Financial",
            "OrgPolicyName":"x","OrgPermission":[{"Id":1,"Name":"view"}],"NodeId":2001,"NodeName":"Production","Remark":"",
            "CreateTime":"2021-11-09 10:00:00","UpdateTime":"2021-11-09 10:00:00","IsAllowQuit":"Allow","PayUin":"1",
            "PayName":"x","OrgIdentity":[],"BindStatus":"Valid","PermissionStatus":"Confirmed","Tags":[]},
            {"MemberUin":"100022975249","PermissionStatus":"UnConfirmed","Name":null}]"#;
        let members = read(items).unwrap();
        let member = members.first().unwrap();
        assert_eq!(member.account_id.get(), 9_007_199_254_740_993);
        assert_eq!((member.name.as_deref(), member.node_name.as_deref()), (Some("Acme "), Some("Production")));
        assert_eq!((member.node_id, member.is_confirmed()), (Some(2001), true));
        let other = members.last().unwrap();
        assert_eq!((other.name.as_deref(), other.node_id, other.is_confirmed()), (None, None, false));
    }

    #[test]
    fn incomplete_list_is_invalid() {
        for items in [r#"[{"MemberUin":1.00022975249e11}]"#, r#"[{"MemberUin":100022975249.0}]"#, "[{}]"] {
            assert!(read(items).unwrap_err().contains("Items[0].MemberUin: invalid value"), "{items}");
        }
        for (body, missing) in [
            (r#"{"Response":{"Items":[],"RequestId":"x"}}"#, "Total: invalid value null (expected a number)"),
            (r#"{"Response":{"Total":1,"RequestId":"x"}}"#, "Items: missing (expected a list or null)"),
        ] {
            let error = parse::<DescribeOrganizationMembers>(200, body.as_bytes()).unwrap_err().to_string();
            assert_eq!(error, alloc::format!("not an API response: {missing}"));
        }
        assert!(read("null").unwrap().is_empty());
    }
}
