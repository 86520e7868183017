//! The actions that the sandbox implements, one file each: the parameters, the effect and the response.
//!
//! A new action is a file with a type that implements `Request`, and a row of the table below.

mod assume_role;
mod assume_role_with_web_identity;
mod create_image;
mod create_key_pair;
mod delete_images;
mod delete_key_pairs;
mod describe_image_quota;
mod describe_image_share_permission;
mod describe_images;
mod describe_instances;
mod describe_organization;
mod describe_organization_members;
mod describe_organization_nodes;
mod describe_regions;
mod describe_security_groups;
mod describe_subnets;
mod describe_vpcs;
mod describe_zones;
mod disassociate_instances_key_pairs;
mod filters;
mod get_caller_identity;
mod instance_role;
mod modify_image_attribute;
mod modify_image_share_permission;
mod network;
mod parameters;
mod run_instances;
mod sync_images;
mod tags;
mod terminate_instances;

use std::{borrow::Cow, fmt, str::FromStr};

use imageshare_core::{
    ids::{AccountId, ImageId, Region},
    text::excerpt,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use assume_role::AssumeRole;
use assume_role_with_web_identity::AssumeRoleWithWebIdentity;
use create_image::CreateImage;
use create_key_pair::CreateKeyPair;
use delete_images::DeleteImages;
use delete_key_pairs::DeleteKeyPairs;
use describe_image_quota::DescribeImageQuota;
use describe_image_share_permission::DescribeImageSharePermission;
use describe_images::DescribeImages;
use describe_instances::DescribeInstances;
use describe_organization::DescribeOrganization;
use describe_organization_members::DescribeOrganizationMembers;
use describe_organization_nodes::DescribeOrganizationNodes;
use describe_regions::DescribeRegions;
use describe_security_groups::DescribeSecurityGroups;
use describe_subnets::DescribeSubnets;
use describe_vpcs::DescribeVpcs;
use describe_zones::DescribeZones;
use disassociate_instances_key_pairs::DisassociateInstancesKeyPairs;
use get_caller_identity::GetCallerIdentity;
use instance_role::InstanceRole;
use modify_image_attribute::ModifyImageAttribute;
use modify_image_share_permission::ModifyImageSharePermission;
pub(crate) use parameters::Parameters;
use run_instances::RunInstances;
use sync_images::SyncImages;
use terminate_instances::TerminateInstances;

use crate::{
    clock::Now,
    ids::Ids,
    ledger::{Ledger, Refusal, Scope},
    verify::Keys,
    world::{Organization, World},
};

/// Defines [`Action`] from a table of names, products and limits. The name is also the type of its requests.
macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident($product:ident, $limit:expr),)*) => {
        /// An action of the API, or a request of an instance to the metadata service.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String")]
        pub enum Action {
            $($(#[$doc])* $name,)*
        }

        impl Action {
            /// All actions, ordered by name.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            const fn row(self) -> Row {
                match self {
                    $(Self::$name => Row {
                        name: stringify!($name),
                        product: Product::$product,
                        limit: $limit,
                        read: read::<$name>,
                    },)*
                }
            }
        }
    };
}

// The vendor documents the limits of the two sharing actions, DescribeImages, SyncImages and STS. The other limits are
// assumptions: no source of this project has them.
actions! {
    /// Issues a temporary key.
    AssumeRole(Sts, Limit::PerSecond(600)),
    /// Issues a temporary key in exchange for the token of an identity provider.
    AssumeRoleWithWebIdentity(Sts, Limit::PerSecond(20)),
    /// Creates an image of an instance.
    CreateImage(Cvm, Limit::Rps(1)),
    /// Creates a key pair.
    CreateKeyPair(Cvm, Limit::PerSecond(10)),
    /// Deletes images.
    DeleteImages(Cvm, Limit::Rps(1)),
    /// Deletes key pairs.
    DeleteKeyPairs(Cvm, Limit::PerSecond(10)),
    /// Returns how many images an account may have in a region.
    DescribeImageQuota(Cvm, Limit::PerSecond(20)),
    /// Lists the accounts that an image is shared with.
    DescribeImageSharePermission(Cvm, Limit::Rps(1)),
    /// Lists images with their attributes.
    DescribeImages(Cvm, Limit::Rps(4)),
    /// Lists instances.
    DescribeInstances(Cvm, Limit::PerSecond(40)),
    /// Describes the organization of the key's account.
    DescribeOrganization(Organization, Limit::PerSecond(20)),
    /// Lists the members of the organization.
    DescribeOrganizationMembers(Organization, Limit::PerSecond(20)),
    /// Lists the nodes of the organization.
    DescribeOrganizationNodes(Organization, Limit::PerSecond(20)),
    /// Lists regions.
    DescribeRegions(Cvm, Limit::PerSecond(20)),
    /// Lists security groups.
    DescribeSecurityGroups(Vpc, Limit::PerSecond(100)),
    /// Lists subnets.
    DescribeSubnets(Vpc, Limit::PerSecond(100)),
    /// Lists VPCs.
    DescribeVpcs(Vpc, Limit::PerSecond(100)),
    /// Lists the zones of a region.
    DescribeZones(Cvm, Limit::PerSecond(20)),
    /// Removes key pairs from instances.
    DisassociateInstancesKeyPairs(Cvm, Limit::PerSecond(10)),
    /// Returns the account of the key.
    GetCallerIdentity(Sts, Limit::PerSecond(20)),
    /// Returns the temporary key of an instance's role.
    InstanceRole(Metadata, Limit::None),
    /// Changes the attributes of an image.
    ModifyImageAttribute(Cvm, Limit::Rps(1)),
    /// Shares an image, or cancels its shares.
    ModifyImageSharePermission(Cvm, Limit::Rps(1)),
    /// Creates instances.
    RunInstances(Cvm, Limit::PerSecond(10)),
    /// Copies an image to other regions.
    SyncImages(Cvm, Limit::Rps(1)),
    /// Deletes instances.
    TerminateInstances(Cvm, Limit::PerSecond(20)),
}

/// A row of the table.
struct Row {
    name: &'static str,
    product: Product,
    limit: Limit,
    read: fn(&mut Parameters) -> Result<Box<dyn Request>, Refusal>,
}

/// The maximum number of requests per second and key.
#[derive(Clone, Copy)]
enum Limit {
    /// Unlimited.
    None,
    /// A fixed number.
    PerSecond(u32),
    /// A multiple of the setting `rps`.
    Rps(u32),
}

/// A product: the service in a credential scope, and the version of its API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Product {
    /// Machines and images.
    Cvm,
    /// The metadata service of an instance, which has no API.
    Metadata,
    /// Organizations of accounts.
    Organization,
    /// Temporary keys.
    Sts,
    /// Networks.
    Vpc,
}

impl Product {
    /// The products with an API.
    pub(crate) const API: [Self; 4] = [Self::Cvm, Self::Organization, Self::Sts, Self::Vpc];

    /// Returns its name in a credential scope and in host names.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cvm => "cvm",
            Self::Metadata => "metadata",
            Self::Organization => "organization",
            Self::Sts => "sts",
            Self::Vpc => "vpc",
        }
    }

    /// Whether its requests name a region.
    pub(crate) const fn is_regional(self) -> bool {
        !matches!(self, Self::Organization)
    }

    /// Returns the version of its API.
    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::Cvm | Self::Vpc => "2017-03-12",
            Self::Metadata => "latest",
            Self::Organization => "2021-03-31",
            Self::Sts => "2018-08-13",
        }
    }
}

/// A request of an action, after the checks of the gateway.
pub(crate) trait Request: fmt::Debug + Send {
    /// Takes its parameters.
    ///
    /// # Errors
    /// With the documented code of a missing or invalid parameter.
    fn read(from: &mut Parameters) -> Result<Self, Refusal>
    where
        Self: Sized;

    /// Performs it and returns the response.
    ///
    /// # Errors
    /// With the documented code.
    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal>;
}

/// The context in which a request is performed.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    /// `None` for a request that needs no signature.
    pub(crate) caller: Option<AccountId>,
    pub(crate) region: Region,
    /// Whether another write on the image was in flight when the request arrived.
    pub(crate) is_simultaneous: bool,
    pub(crate) now: Now,
    pub(crate) ledger: &'a mut Ledger,
    pub(crate) keys: &'a mut Keys,
    pub(crate) ids: &'a mut Ids,
    pub(crate) world: &'a World,
}

impl Context<'_> {
    /// Returns the account of the key.
    ///
    /// # Errors
    /// If the request has no signature.
    pub(crate) fn account(&self) -> Result<AccountId, Refusal> {
        self.caller.ok_or_else(|| Refusal::new("AuthFailure.InvalidAuthorization", "The request has no signature."))
    }

    /// Returns the organization that the account of the key administers.
    ///
    /// # Errors
    /// If it administers none.
    pub(crate) fn organization(&self) -> Result<&Organization, Refusal> {
        let account = self.account()?;
        let organization = self.world.organization.as_ref().filter(|organization| organization.admin == account);
        organization.ok_or_else(|| {
            Refusal::new("ResourceNotFound.OrganizationNotExist", "The account administers no organization.")
        })
    }

    /// Returns time, account and region for the ledger.
    ///
    /// # Errors
    /// If the request has no signature.
    pub(crate) fn scope(&self) -> Result<Scope, Refusal> {
        Ok(Scope { now: self.now.millis(), caller: self.account()?, region: self.region })
    }

    /// Returns an id for a new image.
    fn new_image(&mut self) -> ImageId {
        loop {
            let id = self.ids.resource("img").parse().expect("eight hex digits make an image id");
            if !self.ledger.contains(id) {
                return id;
            }
        }
    }

    /// Returns an id for a new instance or key pair.
    fn new_machine_id(&mut self, prefix: &str) -> String {
        loop {
            let id = self.ids.resource(prefix);
            if !self.ledger.machines.contains(&id) {
                return id;
            }
        }
    }
}

/// The members of a successful response in their order, without `RequestId`.
pub(crate) type Members = Vec<(&'static str, Value)>;

/// A name that is not an action of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActionError(String);

impl fmt::Display for ActionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unknown action {} (expected", excerpt(&self.0))?;
        for (index, action) in Action::ALL.iter().enumerate() {
            let separator = match index {
                0 => " ",
                _ if index + 1 == Action::ALL.len() => " or ",
                _ => ", ",
            };
            write!(f, "{separator}{action}")?;
        }
        f.write_str(")")
    }
}

impl std::error::Error for ActionError {}

impl Action {
    /// The API's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().name
    }

    pub(crate) const fn product(self) -> Product {
        self.row().product
    }

    /// Returns the limit in requests per second and key for the setting `rps`, which is 10 by default as documented for
    /// the sharing actions. 0 is unlimited.
    #[must_use]
    pub const fn limit(self, rps: u32) -> u32 {
        match self.row().limit {
            _ if rps == 0 => 0,
            Limit::None => 0,
            Limit::PerSecond(limit) => limit,
            Limit::Rps(times) => rps.saturating_mul(times),
        }
    }

    /// Reads a request of the action.
    pub(crate) fn read(self, mut from: Parameters) -> Result<Box<dyn Request>, Refusal> {
        let request = (self.row().read)(&mut from)?;
        from.finish()?;
        Ok(request)
    }
}

fn read<R: Request + 'static>(from: &mut Parameters) -> Result<Box<dyn Request>, Refusal> {
    Ok(Box::new(R::read(from)?))
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Action {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.iter().copied().find(|action| action.as_str() == text).ok_or_else(|| ActionError(text.to_owned()))
    }
}

impl JsonSchema for Action {
    fn schema_name() -> Cow<'static, str> {
        "Action".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = Self::ALL.iter().map(|action| action.as_str()).collect();
        json_schema!({ "enum": names })
    }
}

impl TryFrom<String> for Action {
    type Error = ActionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod kit {
    use serde_json::{Map, Value};

    use super::{Action, Context, Parameters};
    use crate::{
        clock::Now,
        ids::Ids,
        ledger::{Ledger, Refusal},
        verify::Keys,
        world::{ACCOUNT, World},
    };

    /// Performs requests without a server, in the example world.
    pub(super) struct Requests {
        pub(super) ledger: Ledger,
        pub(super) caller: &'static str,
        pub(super) region: &'static str,
        /// In milliseconds.
        pub(super) now: u64,
        world: World,
        keys: Keys,
        ids: Ids,
    }

    impl Requests {
        pub(super) fn new(region: &'static str) -> Self {
            let world = World::example();
            let (ledger, keys, ids) = (world.begin(0), Keys::default(), Ids::new(1));
            Self { ledger, caller: ACCOUNT, region, now: 1_793_607_331_000, world, keys, ids }
        }

        pub(super) fn call(&mut self, action: &str, parameters: Value) -> Result<Value, Refusal> {
            let Value::Object(members) = parameters else { panic!("{parameters} is not an object") };
            let request = action.parse::<Action>().unwrap().read(Parameters::new(members, false))?;
            let mut context = Context {
                caller: Some(self.caller.parse().unwrap()),
                region: self.region.parse().unwrap(),
                is_simultaneous: false,
                now: Now { micros: self.now * 1000, unix_seconds: self.now / 1000 },
                ledger: &mut self.ledger,
                keys: &mut self.keys,
                ids: &mut self.ids,
                world: &self.world,
            };
            let members = request.perform(&mut context)?;
            Ok(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>().into())
        }

        /// Returns the response to a request that succeeds.
        #[track_caller]
        pub(super) fn ok(&mut self, action: &str, parameters: Value) -> Value {
            self.call(action, parameters).unwrap()
        }

        /// Checks that a request is refused with a code.
        #[track_caller]
        pub(super) fn check(&mut self, action: &str, parameters: Value, code: &str) {
            let shown = format!("{action} {parameters}");
            let refused = self.call(action, parameters).map_err(|refusal| refusal.code.into_owned());
            assert_eq!(refused, Err(code.to_owned()), "{shown}");
        }

        /// Checks a request with one parameter changed at a time; null removes it.
        #[track_caller]
        pub(super) fn check_each(&mut self, action: &str, valid: &Value, changes: &[(&str, Value, &str)]) {
            for (name, value, code) in changes {
                let mut parameters = valid.clone();
                parameters[name] = value.clone();
                self.check(action, parameters, code);
            }
        }

        /// Starts an instance and returns its id.
        pub(super) fn instance(&mut self) -> String {
            let zone = format!("{}-1", self.region);
            let image = self.ledger.state().map(|(id, _)| id).find(|&id| {
                let (caller, region) = (self.caller.parse().unwrap(), self.region.parse().unwrap());
                self.ledger.image(self.now, caller, region, id).is_ok_and(|view| view.is_some())
            });
            let run = serde_json::json!({"Placement": {"Zone": zone}, "ImageId": image});
            self.ok("RunInstances", run)["InstanceIdSet"][0].as_str().unwrap().to_owned()
        }

        /// Returns an image of a region, found by its name.
        pub(super) fn image(&mut self, region: &'static str, name: &str) -> Value {
            let before = std::mem::replace(&mut self.region, region);
            let filters = serde_json::json!({"Filters": [{"Name": "image-name", "Values": [name]}]});
            let image = self.ok("DescribeImages", filters)["ImageSet"][0].take();
            self.region = before;
            image
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_parse_by_exact_name() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(*action));
        }
        assert!(Action::ALL.is_sorted_by_key(|action| action.as_str()));
        let error = "describeImages\u{1b}".parse::<Action>().unwrap_err().to_string();
        assert!(error.starts_with(r#"unknown action "describeImages\u{1b}" (expected AssumeRole, "#), "{error}");
        assert!(error.ends_with(" or TerminateInstances)"), "{error}");
    }

    #[test]
    fn zero_rps_disables_all_limits() {
        assert!(Action::ALL.iter().all(|action| action.limit(0) == 0));
        for (action, limit) in [
            (Action::AssumeRole, 600),
            (Action::DescribeImages, 80),
            (Action::InstanceRole, 0),
            (Action::ModifyImageSharePermission, 20),
        ] {
            assert_eq!(action.limit(20), limit, "{action}");
        }
    }
}
