//! A local stand-in for the part of the CVM API that shares images.
//!
//! [`ledger`] and [`rate`] are pure: they know images, accounts, rules and windows, take the time as a number, and
//! are all that is left without the feature `server`. The simulation of the engine runs on them.
#![cfg_attr(not(any(test, feature = "server")), no_std)]

extern crate alloc;

pub mod ledger;
pub mod rate;

#[cfg(feature = "server")]
pub mod action;
#[cfg(feature = "server")]
pub mod faults;
#[cfg(feature = "server")]
pub mod log;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod stats;
#[cfg(feature = "server")]
pub mod verify;
#[cfg(feature = "server")]
pub mod world;

#[cfg(feature = "server")]
pub use server::{Config, Sandbox, StartError};
#[cfg(feature = "server")]
pub use world::World;
