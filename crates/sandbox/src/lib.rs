//! A local fake of the Tencent Cloud API for sharing CVM images. It accepts the protocol of the official clients, and a script
//! determines which requests fail and how.
//!
//! # Contract
//!
//! 1. A request is processed completely when it has arrived, under one lock: counted, matched with the script of
//!    [`faults`], [verified](verify), metered, and applied to the [`ledger`]. Latency and faults only change the
//!    response and its time. The one exception is `apply_late`.
//! 2. A response of the API has status 200, the content type `application/json`, a `RequestId` and a `Date`.
//! 3. Undocumented behavior of the cloud is a [dial](ledger::Dials).
//! 4. No request can stop the sandbox or grow its memory without bound.
//!
//! # Modules
//!
//! | module | contents |
//! |---|---|
//! | [`ledger`] | images, accounts, shares and the rules. Pure: the simulation of the engine uses it too |
//! | [`rate`] | rate windows. Also pure; without the feature `server` only these two modules are built |
//! | [`verify`] | both signature versions; shares no code with the signer in `imageshare-core` |
//! | [`world`] | the world file: the state at the start |
//! | [`faults`] | the script: which requests fail, and how |
//! | [`saved_state`] | the state file: the images with their shares |
//! | [`document`] | the reader of these files, which locates problems |
//! | [`flat`] | the parser of queries and forms |
//! | [`actions`] | the actions, one file each |
//! | [`server`] | sockets, the checks of the gateway, the admin interface under `/_sandbox/` |
//! | [`stats`], [`log`] | counters and the request log |
#![cfg_attr(not(any(test, feature = "server")), no_std)]
#![cfg_attr(
    not(feature = "server"),
    allow(rustdoc::broken_intra_doc_links, reason = "the page describes the whole crate")
)]

extern crate alloc;

pub mod ledger;
pub mod rate;

#[cfg(feature = "server")]
pub mod actions;
#[cfg(feature = "server")]
mod clock;
#[cfg(feature = "server")]
pub mod document;
#[cfg(feature = "server")]
pub mod faults;
#[cfg(feature = "server")]
pub mod flat;
#[cfg(feature = "server")]
mod ids;
#[cfg(feature = "server")]
pub mod log;
#[cfg(feature = "server")]
pub mod saved_state;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod stats;
#[cfg(feature = "server")]
mod temporary_key;
#[cfg(feature = "server")]
pub mod verify;
#[cfg(feature = "server")]
pub mod world;

#[cfg(feature = "server")]
pub use server::{Config, Sandbox, Scheme, StartError};
#[cfg(feature = "server")]
pub use world::World;
