//! The actions that the sandbox implements, one file each: the parameters, the effect and the response.
//!
//! A new action is a file with a type that implements `Request`, and a row of the table below.

mod assume_role;
mod assume_role_with_web_identity;
mod describe_image_share_permission;
mod describe_images;
mod describe_organization;
mod describe_organization_members;
mod describe_organization_nodes;
mod get_caller_identity;
mod instance_role;
mod modify_image_share_permission;
mod parameters;

use std::{borrow::Cow, fmt, str::FromStr};

use imageshare_core::{
    ids::{AccountId, Region},
    text::excerpt,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use assume_role::AssumeRole;
use assume_role_with_web_identity::AssumeRoleWithWebIdentity;
use describe_image_share_permission::DescribeImageSharePermission;
use describe_images::DescribeImages;
use describe_organization::DescribeOrganization;
use describe_organization_members::DescribeOrganizationMembers;
use describe_organization_nodes::DescribeOrganizationNodes;
use get_caller_identity::GetCallerIdentity;
use instance_role::InstanceRole;
use modify_image_share_permission::ModifyImageSharePermission;
pub(crate) use parameters::Parameters;

use crate::{
    clock::Now,
    ids::Ids,
    ledger::{Ledger, Refusal},
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

actions! {
    /// Issues a temporary key.
    AssumeRole(Sts, Limit::PerSecond(600)),
    /// Issues a temporary key in exchange for the token of an identity provider.
    AssumeRoleWithWebIdentity(Sts, Limit::PerSecond(20)),
    /// Lists the accounts that an image is shared with.
    DescribeImageSharePermission(Cvm, Limit::Rps(1)),
    /// Lists images with their attributes.
    DescribeImages(Cvm, Limit::Rps(4)),
    /// Describes the organization of the key's account.
    DescribeOrganization(Organization, Limit::PerSecond(20)),
    /// Lists the members of the organization.
    DescribeOrganizationMembers(Organization, Limit::PerSecond(20)),
    /// Lists the nodes of the organization.
    DescribeOrganizationNodes(Organization, Limit::PerSecond(20)),
    /// Returns the account of the key.
    GetCallerIdentity(Sts, Limit::PerSecond(20)),
    /// Returns the temporary key of an instance's role.
    InstanceRole(Metadata, Limit::None),
    /// Shares an image, or cancels its shares.
    ModifyImageSharePermission(Cvm, Limit::Rps(1)),
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
    /// A number of its own.
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
}

impl Product {
    /// The products with an API.
    pub(crate) const API: [Self; 3] = [Self::Cvm, Self::Organization, Self::Sts];

    /// Returns its name in a credential scope and in host names.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cvm => "cvm",
            Self::Metadata => "metadata",
            Self::Organization => "organization",
            Self::Sts => "sts",
        }
    }

    /// Whether its requests name a region.
    pub(crate) const fn is_regional(self) -> bool {
        !matches!(self, Self::Organization)
    }

    /// Returns the version of its API.
    pub(crate) const fn version(self) -> &'static str {
        match self {
            Self::Cvm => "2017-03-12",
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

/// What a request is performed with.
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
        assert!(error.ends_with(" or ModifyImageSharePermission)"), "{error}");
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
