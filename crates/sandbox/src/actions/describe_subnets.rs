//! DescribeSubnets.

use serde_json::json;

use super::{
    Context, Members, Parameters, Request,
    describe_zones::zones,
    network::{CREATED, Kind, Listing, SUBNET, VPC},
};
use crate::ledger::Refusal;

pub(super) const KIND: Kind = Kind {
    ids: "SubnetIds",
    prefix: "subnet",
    set: "SubnetSet",
    filters: &[
        ("subnet-id", "SubnetId"),
        ("subnet-name", "SubnetName"),
        ("vpc-id", "VpcId"),
        ("cidr-block", "CidrBlock"),
        ("zone", "Zone"),
    ],
};

#[derive(Debug)]
pub(super) struct DescribeSubnets(Listing);

impl Request for DescribeSubnets {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        Listing::read(from, &KIND).map(Self)
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let subnet = json!({
            "SubnetId": SUBNET,
            "SubnetName": "imageshare-sandbox",
            "VpcId": VPC,
            "CidrBlock": "10.0.0.0/24",
            "Zone": zones(context.region).next(),
            "IsDefault": true,
            "EnableBroadcast": false,
            "RouteTableId": "rtb-4m956w3q",
            "NetworkAclId": "",
            "AvailableIpAddressCount": 253,
            "TotalIpAddressCount": 253,
            "Ipv6CidrBlock": "",
            "IsRemoteVpcSnat": false,
            "TagSet": [],
            "CreatedTime": CREATED,
        });
        self.0.answer(&KIND, subnet)
    }
}
