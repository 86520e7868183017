//! The protocol of the Tencent Cloud API 3.0, as far as sharing machine images needs it, without IO.
//!
//! Nothing here waits, reads a clock, draws a random number or opens anything: the crate is `no_std`, time and nonce are
//! arguments, and the caller sends the signed request with any HTTP client.
//!
//! # The contract
//!
//! 1. Text from outside is parsed once, at the edge, into the types of [`ids`] and [`credential`]. After that an id is valid by
//!    its type, and only `expose` returns a secret.
//! 2. An [action](actions) is [prepared](request::prepare) for a target: body and hashes, nothing that depends on time.
//! 3. At the moment of sending, and again for every retry, a [`Signer`](request::Signer) signs it for the current
//!    second, which may differ from the server's clock by at most 300 s.
//! 4. [`response::parse`] takes status and body. It returns the typed answer, or the API's error with its [class](Class), or the
//!    error that this is not an API response; then the outcome of the request is unknown.
//!
//! No input makes a function panic. Errors name the problem and what is expected, and are safe to print.
//!
//! ```
//! use imageshare_core::{
//!     Class, Credential, Permission, UnixSeconds,
//!     actions::ModifyImageSharePermission,
//!     request::{Host, Prepared, Signer, Target},
//!     response::{self, Failure},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let action = ModifyImageSharePermission {
//!     image_id: "img-6pb6lrmy".parse()?,
//!     account_ids: vec!["1038493875".parse()?, "100022975249".parse()?],
//!     permission: Permission::Share,
//! };
//! let region = Some("ap-singapore".parse()?);
//! let host = Host::new("cvm.intl.tencentcloudapi.com")?;
//! let prepared = Prepared::new(&action, &Target { host, region, language: None });
//!
//! let credential = Credential {
//!     secret_id: "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE".parse()?,
//!     secret_key: "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE".parse()?,
//!     token: None,
//! };
//! let mut signer = Signer::new(credential);
//! let request = signer.sign(&prepared, UnixSeconds::new(1_751_000_000)?);
//! assert_eq!((request.method(), request.path()), ("POST", "/"));
//! assert_eq!(
//!     request.body(),
//!     br#"{"ImageId":"img-6pb6lrmy","AccountIds":["1038493875","100022975249"],"Permission":"SHARE"}"#
//! );
//! assert!(request.headers().any(|header| header == ("X-TC-Timestamp", "1751000000")));
//!
//! // Send it with any HTTP client, then:
//! let body = br#"{"Response":{"RequestId":"71e69b56-32be-4412-ab45-49eded6a87be"}}"#;
//! let done = response::parse::<ModifyImageSharePermission>(200, body)?;
//! assert_eq!(done.request_id.unwrap().as_str(), "71e69b56-32be-4412-ab45-49eded6a87be");
//!
//! let body = br#"{"Response":{"Error":{"Code":"OverQuota","Message":"too many"},"RequestId":"x"}}"#;
//! match response::parse::<ModifyImageSharePermission>(200, body) {
//!     Err(Failure::Api(error)) => assert_eq!(error.class(), Class::Quota),
//!     other => panic!("{other:?}"),
//! }
//!
//! let failure = response::parse::<ModifyImageSharePermission>(502, b"<html>Bad Gateway</html>").unwrap_err();
//! assert!(matches!(failure, Failure::NotAnAnswer(_)));
//! # Ok(())
//! # }
//! ```
//!
//! # Where things are
//!
//! | module | holds |
//! |---|---|
//! | [`actions`] | one file per API action: request, answer, how it is read |
//! | [`code`] | error code to [`Class`], one table |
//! | [`credential`] | secret id, secret key, token |
//! | [`disclosure`] | what of a configured value may be shown |
//! | [`ids`] | accounts, images, regions, requests |
//! | [`params`] | one description of an action's parameters, as JSON or as flat pairs |
//! | [`request`] | from an action to a signed request, without allocating |
//! | [`response`] | from status and body to an answer |
//! | [`tc3`] | signature version 3, one file a stage of its specification: the readable reference |
//! | [`text`] | foreign text made safe to show |
//! | [`time`] | wall seconds and their UTC date |
//! | [`v1`] | signature version 1, for compatibility |
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod permission;
mod scalar;

pub mod actions;
pub mod code;
pub mod credential;
pub mod disclosure;
pub mod ids;
pub mod params;
pub mod request;
pub mod response;
pub mod tc3;
pub mod text;
pub mod time;
pub mod v1;

pub use code::Class;
pub use credential::Credential;
pub use permission::Permission;
pub use time::UnixSeconds;
