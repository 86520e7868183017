//! The real engine against the ledger in virtual time, with faults and a checker. One seed is one history.
#![allow(clippy::indexing_slicing, reason = "it ends where a bug shows, and sees nothing from outside")]

pub mod broker;
pub mod checker;
pub mod coverage;
pub mod fault;
pub mod random;
pub mod run;
pub mod scale;
pub mod scenario;

mod process;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
