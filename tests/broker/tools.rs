//! Scenarios with RabbitMQ and another tool: a browser, a Prometheus server, publishers in other languages.
//! `tests/deploy` runs them.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a helper of a test fails the test, as the test itself would"
)]

mod browser;
mod prometheus;
mod publishers;
