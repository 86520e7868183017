//! Whole-system scenarios: real processes, a real sandbox, real files.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a helper of a test fails the test, as the test itself would"
)]

mod kit;

mod api_faults;
mod bad_input;
mod broker_faults;
mod closed_lanes;
mod cluster;
mod commands;
mod credentials;
mod dead;
mod demo;
mod documentation;
mod endings;
mod hand_over;
mod hostile_api;
mod hostile_clients;
mod hostile_headers;
mod hostile_publisher;
mod house;
mod junk;
mod kit_itself;
mod lanes;
mod limits;
mod metrics;
mod outside;
mod page;
mod permissions;
mod policies;
mod publish;
mod publishers;
mod reload;
mod secrets;
mod service;
mod settings;
mod sign;
mod throttle;
mod tls;
mod worker;
