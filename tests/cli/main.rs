//! Scenarios of the command line: real processes, the real sandbox, real files. They need nothing but Rust.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a helper of a test fails the test, as the test itself would"
)]

use std::thread;

mod commands;
mod documentation;
mod endings;
mod hostile_api;
mod limits;
mod repository;
mod secrets;
mod settings;
mod transcripts;

/// Checks all of these at once, since their programs mostly wait.
fn side_by_side<T: Sync>(all: &[T], check: impl Fn(&T) + Sync) {
    let check = &check;
    thread::scope(|scope| {
        for one in all {
            scope.spawn(move || check(one));
        }
    });
}
