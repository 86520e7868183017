//! Parameters of a call: one description of each action, written as JSON or as flat pairs, and read back from pairs.
//!
//! An action describes itself once, to a [`ParameterWriter`]. [`json`] makes of it the compact body of a POST,
//! [`Pairs`] the flat names of a GET and of signature version 1: `AccountIds.0`, `Filters.0.Values.0`. The way back,
//! [`Pairs::parse`] and [`Pairs::tree`], is for whoever stands in for the server.

mod json;
mod pairs;
mod percent;
mod read;

pub use json::{json, write_json};
pub use pairs::Pairs;
pub use percent::encode;
pub use read::{DEPTH_MAX, PAIRS_MAX, ReadError};

use crate::ids::AccountId;

/// What can describe its parameters.
pub trait Parameters {
    /// Gives every parameter that is set, once, to the writer. A parameter that is not set is left out: the vendor
    /// advises against empty ones.
    fn write_parameters(&self, to: &mut impl ParameterWriter);
}

/// Takes the parameters of a call in the order in which they are to stand in a body.
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
}
