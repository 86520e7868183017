//! DescribeVpcs.

use serde_json::json;

use super::{
    Context, Members, Parameters, Request,
    network::{CREATED, Kind, Listing, VPC},
};
use crate::ledger::Refusal;

pub(super) const KIND: Kind = Kind {
    ids: "VpcIds",
    prefix: "vpc",
    set: "VpcSet",
    filters: &[("vpc-id", "VpcId"), ("vpc-name", "VpcName"), ("cidr-block", "CidrBlock")],
};

#[derive(Debug)]
pub(super) struct DescribeVpcs(Listing);

impl Request for DescribeVpcs {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        Listing::read(from, &KIND).map(Self)
    }

    fn perform(&self, _: &mut Context<'_>) -> Result<Members, Refusal> {
        let vpc = json!({
            "VpcId": VPC,
            "VpcName": "imageshare-sandbox",
            "CidrBlock": "10.0.0.0/16",
            "IsDefault": true,
            "EnableMulticast": false,
            "EnableDhcp": true,
            "DhcpOptionsId": "",
            "DnsServerSet": ["183.60.82.98", "183.60.83.19"],
            "DomainName": "",
            "Ipv6CidrBlock": "",
            "AssistantCidrSet": [],
            "TagSet": [],
            "CreatedTime": CREATED,
        });
        self.0.answer(&KIND, vpc)
    }
}
