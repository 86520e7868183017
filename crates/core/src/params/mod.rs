//! Parameters of a call: one description of each action, written as JSON or as flat pairs.
//!
//! An action describes itself once, to a [`ParameterWriter`]. [`json`] makes of it the compact body of a POST,
//! [`Pairs`] the flat names of a GET and of signature version 1.
//!
//! # Flattening: `AccountIds.N`
//!
//! A query and a form have no lists and no objects. So each entry of a list becomes a pair of its own, whose name is the list's
//! name, a dot and an index from 0. The vendor's pages call such a parameter `AccountIds.N`. A member of an object gets the
//! object's name, a dot and its own: `Filters.0.Values.0`.
//!
//! | in a body | in a query |
//! |---|---|
//! | `{"ImageId":"img-6pb6lrmy"}` | `ImageId=img-6pb6lrmy` |
//! | `{"AccountIds":["10002","10003"]}` | `AccountIds.0=10002&AccountIds.1=10003` |
//! | `{"Filters":[{"Name":"image-id","Values":["img-6pb6lrmy"]}]}` | `Filters.0.Name=image-id&Filters.0.Values.0=img-6pb6lrmy` |
//! | `{"Limit":20,"DryRun":false}` | `DryRun=false&Limit=20` |
//! | an empty list, an empty object, null | nothing |
//!
//! ```
//! use imageshare_core::{
//!     Permission,
//!     actions::ModifyImageSharePermission,
//!     params::{Pairs, json},
//! };
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let action = ModifyImageSharePermission {
//!     image_id: "img-6pb6lrmy".parse()?,
//!     account_ids: vec!["10002".parse()?, "10003".parse()?],
//!     permission: Permission::Share,
//! };
//! assert_eq!(json(&action), r#"{"ImageId":"img-6pb6lrmy","AccountIds":["10002","10003"],"Permission":"SHARE"}"#);
//! assert_eq!(
//!     Pairs::of(&action).to_query(),
//!     "AccountIds.0=10002&AccountIds.1=10003&ImageId=img-6pb6lrmy&Permission=SHARE"
//! );
//! # Ok(())
//! # }
//! ```
//!
//! Names are sorted by their bytes, so `AccountIds.10` stands before `AccountIds.2`.

mod json;
mod pairs;
mod percent;

pub use json::{json, write_json};
pub use pairs::Pairs;
pub use percent::encode;

use crate::ids::AccountId;

/// A type that describes its parameters.
pub trait Parameters {
    /// Writes every parameter that is set, once. A parameter that is not set is left out: the vendor advises against empty
    /// ones.
    fn write_parameters(&self, to: &mut impl ParameterWriter);
}

/// Receives the parameters of a call in the order of the body.
///
/// Names are those of the vendor's page and need no escaping.
pub trait ParameterWriter {
    /// A text.
    fn text(&mut self, name: &'static str, text: &str);

    /// A whole number.
    fn number(&mut self, name: &'static str, number: u64);

    /// A list of texts.
    fn texts<T: AsRef<str>>(&mut self, name: &'static str, texts: &[T]);

    /// A list of account ids, which the API takes as texts.
    fn accounts(&mut self, name: &'static str, ids: &[AccountId]);

    /// A list of objects, each of which describes its members.
    fn objects<T: Parameters>(&mut self, name: &'static str, objects: &[T]);
}
