//! engine
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod io;
pub mod job;
pub mod limits;
pub mod time;
