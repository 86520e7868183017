//! Scenarios of the command line with processes, sandboxes and files. They need only Rust.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a helper of a test fails the test, as the test itself would"
)]

use std::{sync::Mutex, thread};

mod commands;
mod documentation;
mod interrupts;
mod repository;
mod secrets;
mod transcripts;
mod words;

/// Runs a check for each case, eight at a time, since the programs mostly wait.
fn run_concurrently<T: Sync>(cases: &[T], check: impl Fn(&T) + Sync) {
    let rest = Mutex::new(cases.iter());
    // A closure, so that the lock is released before the check.
    let next = || rest.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(case) = next() {
                    check(case);
                }
            });
        }
    });
}
