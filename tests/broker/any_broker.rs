//! Scenarios that do no harm to their broker: they also run with the one that `IMAGESHARE_TEST_BROKER` names.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a helper of a test fails the test, as the test itself would"
)]

mod check;
mod closed_lanes;
mod service;
mod throttle;
mod worker;
