//! The organization of the world: nodes and member accounts. No request changes them.

use std::collections::{BTreeMap, BTreeSet};

use imageshare_core::ids::AccountId;
use schemars::JsonSchema;
use serde::Deserialize;

use super::file::ACCOUNT;

/// An organization of accounts.
// Ids are strings here, so that all mistakes are reported at once.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Organization")]
pub(super) struct FileOrganization {
    /// The account that administers it. Default: the account of the first key.
    #[schemars(regex(pattern = ACCOUNT))]
    admin: Option<String>,
    /// Its nodes (departments). Default: a root node with the id 1.
    #[serde(default)]
    nodes: Vec<FileNode>,
    /// Its members, without the administrator.
    #[serde(default)]
    members: Vec<FileMember>,
}

/// A node of an organization.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Node")]
struct FileNode {
    /// Its id.
    id: u64,
    /// The id of the node above it. The first node has none.
    parent: Option<u64>,
    /// Its name.
    name: String,
    /// Its tags, as keys and values.
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

/// A member account of an organization.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Member")]
struct FileMember {
    /// The account.
    #[schemars(regex(pattern = ACCOUNT))]
    uin: String,
    /// Its name.
    #[serde(default)]
    name: String,
    /// Default: the first node.
    node: Option<u64>,
    /// Whether the account has accepted its membership.
    #[serde(default = "confirmed")]
    confirmed: bool,
    /// Its tags, as keys and values.
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

const fn confirmed() -> bool {
    true
}

/// The nodes and members of an organization.
#[derive(Clone, Debug)]
pub(crate) struct Organization {
    pub(crate) admin: AccountId,
    /// In the order of the file, the root first.
    pub(crate) nodes: Vec<Node>,
    /// The administrator first, then the members in the order of the file.
    pub(crate) members: Vec<Member>,
}

/// A node of the organization.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: u64,
    /// `None` for the root.
    pub(crate) parent: Option<u64>,
    pub(crate) name: String,
    pub(crate) tags: BTreeMap<String, String>,
}

/// A member of the organization.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) account: AccountId,
    pub(crate) name: String,
    pub(crate) node: u64,
    pub(crate) is_confirmed: bool,
    pub(crate) tags: BTreeMap<String, String>,
}

impl Organization {
    /// Checks a section of a world file. `note` takes each problem with its key.
    pub(super) fn new(
        file: &FileOrganization,
        first_account: Option<AccountId>,
        mut note: impl FnMut(&str, &str),
    ) -> Option<Self> {
        let mut account = |at: &str, text: &str| {
            text.parse::<AccountId>().map_err(|error| note(&format!("organization.{at}"), &error.to_string())).ok()
        };
        let admin = file.admin.as_ref().map_or(first_account, |text| account("admin", text));
        let accounts: Vec<Option<AccountId>> = (0..)
            .zip(&file.members)
            .map(|(index, member)| account(&format!("members[{index}].uin"), &member.uin))
            .collect();
        let nodes = Self::nodes(file, &mut note);
        let ids: BTreeSet<u64> = nodes.iter().map(|node| node.id).collect();
        let root = nodes.first()?.id;
        let of_admin = Member {
            account: admin?,
            name: "Administrator".to_owned(),
            node: root,
            is_confirmed: true,
            tags: BTreeMap::new(),
        };
        let mut members = vec![of_admin];
        let mut known = BTreeSet::from([admin?]);
        for (index, (member, account)) in file.members.iter().zip(accounts).enumerate() {
            let at = |key: &str| format!("organization.members[{index}].{key}");
            let Some(account) = account else { continue };
            if !known.insert(account) {
                note(&at("uin"), &format!("duplicate account {account} (expected once, and not the administrator)"));
            }
            let node = member.node.unwrap_or(root);
            if !ids.contains(&node) {
                note(&at("node"), &format!("unknown node {node} (expected the id of a node)"));
            }
            let FileMember { name, confirmed, tags, .. } = member;
            members.push(Member { account, name: name.clone(), node, is_confirmed: *confirmed, tags: tags.clone() });
        }
        Some(Self { admin: admin?, nodes, members })
    }

    fn nodes(file: &FileOrganization, note: &mut impl FnMut(&str, &str)) -> Vec<Node> {
        if file.nodes.is_empty() {
            return vec![Node { id: 1, parent: None, name: "Root".to_owned(), tags: BTreeMap::new() }];
        }
        let mut nodes: Vec<Node> = Vec::new();
        for (index, FileNode { id, parent, name, tags }) in file.nodes.iter().enumerate() {
            let at = |key: &str| format!("organization.nodes[{index}].{key}");
            if nodes.iter().any(|node| node.id == *id) {
                note(&at("id"), &format!("duplicate id {id} (expected once)"));
            }
            // So no node is above itself.
            let is_parent_known = parent.is_some_and(|parent| nodes.iter().any(|node| node.id == parent));
            match (index, parent) {
                (0, Some(_)) => note(&at("parent"), "not allowed for the first node (expected the root first)"),
                (1.., _) if !is_parent_known => {
                    note(&at("parent"), "missing or unknown (expected the id of a node above)");
                }
                _ => {}
            }
            nodes.push(Node { id: *id, parent: *parent, name: name.clone(), tags: tags.clone() });
        }
        nodes
    }

    /// Returns a node by its id.
    pub(crate) fn node(&self, id: u64) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Option<Organization>, Vec<String>) {
        let mut problems = Vec::new();
        let file: FileOrganization = toml::from_str(text).unwrap();
        let admin = "100009999999".parse().ok();
        let organization = Organization::new(&file, admin, |at, what| problems.push(format!("{at}: {what}")));
        (organization, problems)
    }

    #[test]
    fn administrator_is_the_first_member() {
        let (organization, problems) = read("members = [{ uin = \"100022975249\", confirmed = false }]");
        let organization = organization.unwrap();
        let members: Vec<_> = organization.members.iter().map(|member| (member.account.get(), member.node)).collect();
        assert_eq!((members, problems), (vec![(100_009_999_999, 1), (100_022_975_249, 1)], Vec::new()));
        assert!(!organization.members[1].is_confirmed);
    }

    #[test]
    fn every_invalid_member_and_node_is_reported() {
        let (_, problems) = read(
            "nodes = [{ id = 1, name = \"Root\" }, { id = 1, parent = 1, name = \"A\" }, { id = 3, parent = 3, name = \"B\" }]\n\
             members = [{ uin = \"x\" }, { uin = \"100009999999\" }, { uin = \"100022975249\", node = 9 }]",
        );
        assert_eq!(
            problems,
            [
                "organization.members[0].uin: invalid value \"x\" (expected a root account id of 5 to 19 digits without a \
                 leading zero)",
                "organization.nodes[1].id: duplicate id 1 (expected once)",
                "organization.nodes[2].parent: missing or unknown (expected the id of a node above)",
                "organization.members[1].uin: duplicate account 100009999999 (expected once, and not the administrator)",
                "organization.members[2].node: unknown node 9 (expected the id of a node)",
            ]
        );
    }
}
