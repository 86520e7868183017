//! The actions of the API that imageshare calls, one file each: the request, and its response.
//!
//! Any other action is a type that implements [`Parameters`] and [`Action`], in any crate:
//!
//! ```
//! use imageshare_core::{
//!     actions::Action,
//!     params::{self, ParameterWriter, Parameters},
//!     response::{self, NotAnAnswer},
//! };
//! use serde::{Deserialize, Deserializer};
//!
//! /// DescribeInstances of CVM.
//! struct DescribeInstances {
//!     instance_ids: Vec<String>,
//! }
//!
//! impl Parameters for DescribeInstances {
//!     fn write_parameters(&self, to: &mut impl ParameterWriter) {
//!         to.texts("InstanceIds", &self.instance_ids);
//!     }
//! }
//!
//! impl Action for DescribeInstances {
//!     const NAME: &'static str = "DescribeInstances";
//!     const SERVICE: &'static str = "cvm";
//!     const VERSION: &'static str = "2017-03-12";
//!     /// The number of instances.
//!     type Answer = u64;
//!
//!     fn answer<'de, D: Deserializer<'de>>(members: D) -> Result<Result<u64, NotAnAnswer>, D::Error> {
//!         #[derive(Deserialize)]
//!         struct Members {
//!             #[serde(rename = "TotalCount")]
//!             total_count: u64,
//!         }
//!         Members::deserialize(members).map(|members| Ok(members.total_count))
//!     }
//! }
//!
//! let action = DescribeInstances { instance_ids: vec!["ins-09dx96dg".into()] };
//! assert_eq!(params::json(&action), r#"{"InstanceIds":["ins-09dx96dg"]}"#);
//!
//! let body = br#"{"Response":{"TotalCount":1,"InstanceSet":[],"RequestId":"71e69b56-32be-4412-ab45-49eded6a87be"}}"#;
//! assert_eq!(response::parse::<DescribeInstances>(200, body)?.answer, 1);
//! # Ok::<(), response::Failure>(())
//! ```
//!
//! `examples/sign_any_action.rs` signs such an action and prints a curl command.

mod assume_role;
mod assume_role_with_web_identity;
mod describe_image_share_permission;
mod describe_images;
mod describe_organization_members;
mod get_caller_identity;
mod modify_image_share_permission;

pub use assume_role::{AssumeRole, AssumedRole};
pub use assume_role_with_web_identity::AssumeRoleWithWebIdentity;
pub use describe_image_share_permission::{DescribeImageSharePermission, SharedAccount};
pub use describe_images::{DescribeImages, Image, ImageState};
pub use describe_organization_members::{DescribeOrganizationMembers, OrganizationMember, OrganizationMembers, Tag};
pub use get_caller_identity::{CallerIdentity, GetCallerIdentity};
pub use modify_image_share_permission::ModifyImageSharePermission;

use serde::Deserializer;

use crate::{params::Parameters, response::NotAnAnswer};

/// The service and version of the machine image actions.
const CVM: (&str, &str) = ("cvm", "2017-03-12");

/// The service and version of the actions of organizations.
const ORGANIZATION: (&str, &str) = ("organization", "2021-03-31");

/// The service and version of the security token actions.
const STS: (&str, &str) = ("sts", "2018-08-13");

/// A call of the API: its name, its parameters and its response.
pub trait Action: Parameters {
    /// The exact name, as in the header `X-TC-Action`.
    const NAME: &'static str;
    /// The service as in the credential scope.
    const SERVICE: &'static str;
    /// The version of the service's API.
    const VERSION: &'static str;
    /// The members of its response.
    type Answer;

    /// Reads the answer from the members of `Response`, ignoring unknown ones. Call
    /// [`response::parse`](crate::response::parse), which removes the members that every response has and handles errors.
    ///
    /// # Errors
    /// The deserializer's error if a member has the wrong type; the inner error if a member is invalid.
    fn answer<'de, D: Deserializer<'de>>(members: D) -> Result<Result<Self::Answer, NotAnAnswer>, D::Error>;
}
