//! Everything of imageshare that waits or reads: the wire formats of jobs and reports, settings, credentials, the
//! HTTP client, the broker, the driver that owns the engine, and the status and metrics of the process.

mod address;
mod causes;
mod events;
mod metrics;
mod net;
mod paths;
mod pauses;
mod spelling;

pub mod admin;
pub mod api;
pub mod broker;
pub mod credentials;
pub mod daemon;
pub mod drift;
pub mod driver;
pub mod endpoint;
pub mod environment;
pub mod http;
pub mod lane;
pub mod lane_messages;
pub mod lanes;
pub mod listing;
pub mod organization;
pub mod ownership_proof;
pub mod plan;
pub mod service_manager;
pub mod settings;
pub mod status;
pub mod tally;
pub mod tls;
pub mod wire;

/// Returns the whole milliseconds of a length of time.
fn millis(length: std::time::Duration) -> u64 {
    u64::try_from(length.as_millis()).unwrap_or(u64::MAX)
}

/// The revision of the source, from the variable `IMAGESHARE_REVISION` at build time, or `unknown`.
pub const REVISION: &str = match option_env!("IMAGESHARE_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
