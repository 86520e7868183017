//! engine
#![cfg_attr(not(test), no_std)]

extern crate alloc;

mod arena;
mod engine;
mod pacer;
mod random;

pub mod io;
pub mod job;
pub mod limits;
pub mod time;

pub use engine::{Engine, LaneStatus};
