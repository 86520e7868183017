//! The decisions of imageshare: one deterministic state machine for all share jobs of a process.
//!
//! The engine knows nothing that is outside. Time is a number it is given, randomness a seed, a call is a value it
//! hands out and whose outcome it is told. The same seed and the same inputs give the same commands to the byte, so
//! a history can be simulated, replayed and shrunk.
//!
//! # How to drive it
//!
//! 1. Tell it of a lane: [`Input::LaneUp`](io::Input::LaneUp).
//! 2. After each input, [`poll`](Engine::poll) until it answers [`WaitUntil`](io::Command::WaitUntil) or
//!    [`Idle`](io::Command::Idle), and carry out what it says in that order.
//! 3. Sign and send a [`Call`](io::Command::Call) at once. Say [`Sent`](io::Input::Sent) when the request is written
//!    to an open connection, and [`Answer`](io::Input::Answer) when it ended, which every call does exactly once.
//! 4. Wake it when its time has come. To wake it early, or twice, does no harm.
//!
//! `now` is milliseconds of one monotonic clock and never runs backwards.
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
//! // The first slot is an interval after the lane came up; then it reads who has the image.
//! let Command::WaitUntil(first) = engine.poll(Instant(0)) else { panic!() };
//! let Command::Call { call, action: Action::ReadShares { .. }, .. } = engine.poll(first) else { panic!() };
//! engine.handle(first, Input::Sent(call));
//! let nobody = Outcome::Accepted(Answer::Shares(Vec::new()));
//! engine.handle(Instant(200), Input::Answer { call, outcome: nobody });
//!
//! // Then it sends the difference, and settles the delivery.
//! let Command::Call { call, action, .. } = engine.poll(Instant(200)) else { panic!() };
//! assert!(matches!(action, Action::Modify { permission: Permission::Share, .. }));
//! engine.handle(Instant(300), Input::Answer { call, outcome: Outcome::Accepted(Answer::Modified) });
//! let Command::Settle { delivery, report } = engine.poll(Instant(300)) else { panic!() };
//! assert_eq!((delivery, report.requests), (DeliveryId(1), 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The words
//!
//! A **lane** is one rate-limit bucket: a credential and an endpoint host. An **image** is one of a lane and region. A
//! **job** names one image and its accounts, and an **item** is one account of one job. The first items of an account that
//! request the same are one **operation**: sent once, it completes all of them. A write without a response leaves its
//! accounts **in doubt** until it can no longer be applied. A list that was refused is a **split** while it is tried in parts.
//!
//! # The parts
//!
//! The engine is lanes, images and one schedule. An image is a state machine of its own: it receives jobs and completed
//! calls, and says what it wants to send, when to look at it again and what is finished. It sees the time, the limits and
//! what concerns it of its lane, and no lane, no other image and no queue. The engine looks at an image again after each call
//! into it, in one place.
//!
//! The rules that they follow are on a page of their own: [`rules`].
#![expect(
    clippy::indexing_slicing,
    reason = "arenas are indexed by the keys that they gave out, and lists by kinds of calls; neither comes from outside"
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
