//! What must hold for any bytes: one function for each fuzz target, which panics where it does not hold.
//!
//! The targets in `fuzz/` are one line each and call these; `tests/replay.rs` calls them with every input of the
//! committed corpus, so that what was found once stays mended without libFuzzer. Each asserts more than that nothing
//! panics: that two readings agree, that a way there and back is the identity, that what is refused is refused in words
//! that can be shown. Nothing here reads a file or a clock, and nothing is larger than its input allows.
//!
//! | target | what goes in |
//! |---|---|
//! | [`engine`] | histories: a world, jobs and faults, four bytes each |
//! | [`headers`] | messages: properties and body |
//! | [`job`] | jobs as JSON |
//! | [`lines`] | files of jobs or accounts |
//! | [`params`] | JSON values, or pairs of a URL |
//! | [`response`] | response bodies |
//! | [`settings`] | settings files |
//! | [`signature`] | requests with their credentials |
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what a target asserts fails by a panic, which is what a fuzzer looks for"
)]

mod engine;
mod headers;
mod job;
mod lines;
mod params;
mod response;
mod settings;
mod shown;
mod signature;
mod source;

pub use engine::engine;
pub use headers::headers;
pub use job::job;
pub use lines::lines;
pub use params::params;
pub use response::response;
pub use settings::settings;
pub use signature::signature;

/// A target: its name, which is that of its file in `fuzz/fuzz_targets` and of its folder in `fuzz/corpus`, and its check.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 8] = [
    ("engine", engine),
    ("headers", headers),
    ("job", job),
    ("lines", lines),
    ("params", params),
    ("response", response),
    ("settings", settings),
    ("signature", signature),
];
