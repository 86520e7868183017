//! DescribeSecurityGroups.

use serde_json::json;

use super::{
    Context, Members, Parameters, Request,
    network::{CREATED, Kind, Listing, SECURITY_GROUP},
};
use crate::ledger::Refusal;

pub(super) const KIND: Kind = Kind {
    ids: "SecurityGroupIds",
    prefix: "sg",
    set: "SecurityGroupSet",
    filters: &[
        ("security-group-id", "SecurityGroupId"),
        ("security-group-name", "SecurityGroupName"),
        ("project-id", "ProjectId"),
    ],
};

#[derive(Debug)]
pub(super) struct DescribeSecurityGroups(Listing);

impl Request for DescribeSecurityGroups {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let listing = Listing::read(from, &KIND)?;
        from.ignore_all(&["OrderDirection", "OrderField"]);
        Ok(Self(listing))
    }

    fn perform(&self, _: &mut Context<'_>) -> Result<Members, Refusal> {
        let group = json!({
            "SecurityGroupId": SECURITY_GROUP,
            "SecurityGroupName": "imageshare-sandbox",
            "SecurityGroupDesc": "",
            "ProjectId": "0",
            "IsDefault": true,
            "TagSet": [],
            "CreatedTime": CREATED,
            "UpdateTime": CREATED,
        });
        self.0.answer(&KIND, group)
    }
}
