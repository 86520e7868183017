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
//!     io::{Action, Answer, Command, Input, LaneId, Outcome, TicketId},
//!     job::{Job, Mode},
//!     limits::{LaneLimits, Limits},
//!     time::Instant,
//! };
//!
//! let mut engine = Engine::new(Limits::default(), 42);
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
//! engine.handle(Instant(0), Input::Job { ticket: TicketId(1), lane: LaneId(0), job });
//!
//! // The first slot is an interval after the lane came up; then it reads who has the image.
//! let Command::WaitUntil(first) = engine.poll(Instant(0)) else { panic!() };
//! let Command::Call { call, action: Action::ReadShares { .. }, .. } = engine.poll(first) else { panic!() };
//! engine.handle(first, Input::Sent(call));
//! let nobody = Outcome::Accepted(Answer::Shares(Vec::new()));
//! engine.handle(Instant(200), Input::Answer { call, outcome: nobody });
//!
//! // Then it sends the difference, and settles the ticket.
//! let Command::Call { call, action, .. } = engine.poll(Instant(200)) else { panic!() };
//! assert!(matches!(action, Action::Modify { permission: Permission::Share, .. }));
//! engine.handle(Instant(300), Input::Answer { call, outcome: Outcome::Accepted(Answer::Modified) });
//! let Command::Settle { ticket, report } = engine.poll(Instant(300)) else { panic!() };
//! assert_eq!((ticket, report.requests), (TicketId(1), 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The words
//!
//! A **lane** is one rate-limit bucket: a credential and an endpoint host. An **image** is one of a lane and region. A
//! **ticket** is one delivery of one job. A **wish** is one ticket's account and permission. The wishes of an account
//! stand in order of arrival; the neighbours at its front that want the same are one **operation**, sent once and
//! settling all of them. A write without an answer leaves its accounts in **doubt** until it can no longer be applied.
//! A reading is **believed** for an account if it began long enough after our last write to it. A **group** is a list
//! that failed and is tried in parts.
//!
//! # The rules, and where they live
//!
//! | rule | file in `engine/` |
//! |---|---|
//! | 1 read, then send the difference | `reading`, `decide` |
//! | 2 coalesce, in order | `tickets`, `writes`, `settle` |
//! | 3 one write in flight per image and worker; doubt is kept | `answers`, `decide`, `guard` |
//! | 4 pace | `pacer` beside `engine/`, `writes` |
//! | 5 isolate | `isolate`, `group` |
//! | 6 quota | `quota` |
//! | 7 whose fault | `answers`, `denied`, `key` |
//! | 8 hold in order, never shuffle | `busy`, `leave` |
//! | 9 a lane is open, or closed with a reason | `lanes` |
//! | 10 drain | `leave` |
//! | 11 bounds | [`limits`], and a named constant beside each list |
//! | the mode SYNC | `sync` |
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
mod lane;
mod pacer;
mod random;
mod reaction;
mod refusals;
mod schedule;

pub mod io;
pub mod job;
pub mod limits;
pub mod time;

pub use engine::{Engine, LaneNumbers, LaneStatus};
