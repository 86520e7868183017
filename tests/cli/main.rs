//! Scenarios of the command line: real processes, the real sandbox, real files. They need nothing but Rust.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
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

/// Checks these, eight at a time, since their programs mostly wait.
fn side_by_side<T: Sync>(all: &[T], check: impl Fn(&T) + Sync) {
    let rest = Mutex::new(all.iter());
    // The lock is not held while one is checked.
    let next = || rest.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(one) = next() {
                    check(one);
                }
            });
        }
    });
}
