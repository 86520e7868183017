//! A local stand-in for the part of the CVM API that shares images: it speaks the real protocol to real clients, and
//! what happens is decided by a script instead of by luck.
//!
//! # The contract
//!
//! 1. A request is decided at the moment it has arrived, all of it under one lock: counted, matched with the script of
//!    [`faults`], [verified](verify), metered, and carried out in the [`ledger`]. Latency and faults only change what
//!    its client learns of that, and when; the one exception is `apply_late`.
//! 2. What the API layer decides has status 200, the content type `application/json` to the letter, a `RequestId` and
//!    a `Date`, as the real one has.
//! 3. What nobody outside the cloud knows is a [dial](ledger::Dials), not an opinion.
//! 4. Nothing that a client sends makes it fall over or grow without bound.
//!
//! # Where things are
//!
//! | module | holds |
//! |---|---|
//! | [`ledger`] | images, accounts, shares and the rules. Pure: the simulation of the engine runs on it too |
//! | [`rate`] | rate windows. Pure as well; these two are all that is left without the feature `server` |
//! | [`verify`] | both signature versions, recomputed; shares no code with the signer in `imageshare-core` |
//! | [`world`] | the world file: what there is at the start |
//! | [`faults`] | the script: what goes wrong, with which request |
//! | [`flat`] | queries and forms, parsed |
//! | [`server`] | sockets, the five actions, the admin interface under `/_sandbox/` |
//! | [`stats`], [`log`] | what came in |
#![cfg_attr(not(any(test, feature = "server")), no_std)]
#![cfg_attr(
    not(feature = "server"),
    allow(rustdoc::broken_intra_doc_links, reason = "the page is written for all of it")
)]

extern crate alloc;

pub mod ledger;
pub mod rate;

#[cfg(feature = "server")]
pub mod action;
#[cfg(feature = "server")]
pub mod faults;
#[cfg(feature = "server")]
pub mod flat;
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
