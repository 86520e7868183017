//! The checks of the fuzz targets: one function per target, which panics if a property does not hold.
//!
//! The targets in `fuzz/` call these functions. `tests/replay.rs` calls them with every input of the
//! committed corpus, which catches regressions without libFuzzer. Each checks more than the absence of panics: two parsers
//! agree, a round trip is the identity, errors are printable. Nothing reads a file or a clock, and memory is bounded by the
//! input.
//!
//! | target | input |
//! |---|---|
//! | [`engine`] | histories: a world, jobs and faults, four bytes each |
//! | [`headers`] | messages: properties and body |
//! | [`job`] | jobs as JSON |
//! | [`lines`] | files of jobs or accounts |
//! | [`params`] | JSON values, or pairs of a URL |
//! | [`response`] | response bodies |
//! | [`settings`] | settings files |
//! | [`signature`] | requests with their credentials |
#![allow(clippy::indexing_slicing, clippy::panic, reason = "a fuzz target reports a failure by a panic")]

mod engine;
mod headers;
mod job;
mod lines;
mod params;
mod response;
mod settings;
mod signature;
mod source;

use imageshare_core::text::printable;

pub use engine::engine;
pub use headers::headers;
pub use job::job;
pub use lines::lines;
pub use params::params;
pub use response::response;
pub use settings::settings;
pub use signature::signature;

/// The name of a target, which its binary in `fuzz/` and its lines in `fuzz/corpus.txt` share, and its check.
pub type FuzzTarget = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [FuzzTarget; 8] = [
    ("engine", engine),
    ("headers", headers),
    ("job", job),
    ("lines", lines),
    ("params", params),
    ("response", response),
    ("settings", settings),
    ("signature", signature),
];

/// Checks an input of a target.
///
/// # Panics
/// If a property does not hold, or no target has that name.
pub fn check(target: &str, data: &[u8]) {
    let (_, check) = TARGETS.iter().find(|(name, _)| *name == target).expect("the name of a target");
    check(data);
}

/// Asserts that a text is printable and has at most `chars_max` characters.
#[track_caller]
fn assert_shown(text: &str, chars_max: usize) {
    assert_eq!(printable(text, chars_max), text, "not printable, or more than {chars_max} characters");
}
