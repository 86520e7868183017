//! The decisions of imageshare: one deterministic state machine for all share jobs of a process.
//!
//! The engine does no IO. Time is an argument, randomness follows from a seed, a call is a command whose outcome is an input.
//! The same seed and the same inputs give the same commands to the byte, so a history can be simulated, replayed and shrunk.
//!
//! # How to drive it
//!
//! 1. Bring a lane up: [`Input::LaneUp`](io::Input::LaneUp).
//! 2. After each input, [`poll`](Engine::poll) until it returns [`WaitUntil`](io::Command::WaitUntil) or
//!    [`Idle`](io::Command::Idle), and carry out the commands in their order.
//! 3. Sign and send a [`Call`](io::Command::Call) at once. Send [`Sent`](io::Input::Sent) when the request is written to an
//!    open connection, and [`Answer`](io::Input::Answer) exactly once, when the call ended.
//! 4. Poll again at the moment of `WaitUntil`. Polling earlier or more often is harmless.
//!
//! `now` is milliseconds of one monotonic clock and never decreases.
//!
//! ```
//! use imageshare_core::Permission;
//! use imageshare_engine::{
//!     Engine,
//!     io::{Action, Answer, Command, Input, LaneId, Outcome, DeliveryId},
//!     job::{Job, Mode},
//!     limits::{LaneLimits, Limits},
//!     policy::Policy,
//!     time::Instant,
//! };
//!
//! let mut engine = Engine::new(Policy::WORKER, Limits::default(), 42);
//! engine.handle(Instant(0), Input::LaneUp(LaneId(0), LaneLimits::default()));
//! let job = Job {
//!     region: "ap-singapore".parse()?,
//!     image_id: "img-6pb6lrmy".parse()?,
//!     mode: Mode::Share,
//!     account_ids: ["1038493875".parse()?].into(),
//!     deadline: None,
//!     force: false,
//!     redelivered: false,
//! };
//! engine.handle(Instant(0), Input::Job { delivery: DeliveryId(1), lane: LaneId(0), job });
//!
//! // The first slot is one interval after the lane came up. The engine lists the image's shares first.
//! let Command::WaitUntil(first) = engine.poll(Instant(0)) else { panic!() };
//! let Command::Call { call, action: Action::ReadShares { .. }, .. } = engine.poll(first) else { panic!() };
//! engine.handle(first, Input::Sent(call));
//! let no_shares = Outcome::Accepted(Answer::Shares(Vec::new()));
//! engine.handle(Instant(200), Input::Answer { call, outcome: no_shares });
//!
//! // Then it sends the difference, and settles the delivery.
//! let Command::Call { call, action, .. } = engine.poll(Instant(200)) else { panic!() };
//! assert!(matches!(action, Action::Modify { permission: Permission::Share, .. }));
//! engine.handle(Instant(300), Input::Answer { call, outcome: Outcome::Accepted(Answer::Modified(None)) });
//! let Command::Settle { delivery, report } = engine.poll(Instant(300)) else { panic!() };
//! assert_eq!((delivery, report.requests), (DeliveryId(1), 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Glossary
//!
//! A **lane** is one rate-limit bucket: a credential and an endpoint host. An **image** is one of a lane and region. A
//! **job** names one image and its accounts, and an **item** is one account of one job. The first items of an account that
//! request the same change are one **operation**: sent once, it completes all of them. A write without a response leaves its
//! accounts **in doubt** until it can no longer take effect. A refused list that is sent in parts is a **split**.
//!
//! # Structure
//!
//! The engine consists of lanes, images and one schedule. An image is a state machine: it receives jobs and completed calls,
//! and returns which calls it wants, when it must be visited again, and which jobs are finished. It sees the time, the limits
//! and some facts about its lane, but no lane, no other image and no queue. The engine reschedules an image after each call
//! into it, in one place.
//!
//! The [`rules`] are a page of this documentation.
#![expect(
    clippy::indexing_slicing,
    reason = "arenas are indexed by keys that they returned, and lists by kinds of calls; neither comes from outside"
)]
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod arena;
mod call;
mod context;
mod engine;
mod image;
mod images;
mod lane;
mod pacer;
mod random;
mod reaction;
mod refusals;
mod schedule;

pub mod io;
pub mod job;
pub mod limits;
pub mod policy;
pub mod time;

#[doc = include_str!("rules.md")]
pub mod rules {}

pub use engine::{Engine, LaneNumbers, LaneStatus};
