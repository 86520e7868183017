//! Everything of imageshare that waits or reads: the wire formats of jobs and reports, settings, credentials, the
//! HTTP client, and the driver that owns the engine.

pub mod wire;
