//! Scenarios with RabbitMQ nodes, workers and sandboxes.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a helper of a test fails the test, as the test itself would"
)]

/// Scenarios that leave the broker unharmed. They also run with the broker that `IMAGESHARE_TEST_BROKER` names.
mod any_broker {
    mod closed_lanes;
    mod throttle;
    mod worker;
}
mod broker_faults;
mod cluster;
mod credentials;
mod dead_letters;
mod documentation;
mod hostile_headers;
mod hostile_publisher;
mod invalid_messages;
mod message_properties;
mod metrics;
mod outside;
mod permissions;
mod publish;
mod rabbitmq;
mod reload;
mod takeover;
mod tls;
mod transcripts;
