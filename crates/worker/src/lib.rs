//! Everything of imageshare that waits or reads: the wire formats of jobs and reports, settings, credentials, the
//! HTTP client, and the driver that owns the engine.

pub mod credentials;
pub mod endpoint;
pub mod http;
pub mod pauses;
pub mod settings;
pub mod wire;
