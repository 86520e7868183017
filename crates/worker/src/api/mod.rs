//! How the Tencent Cloud API is called: the one place that signs a request, sends it and reads the response.
//!
//! [`ApiSender`] is the sending half: it signs one request by the server's clock, sends it once, and returns a typed
//! outcome. The driver uses it alone, because the engine decides about retries. [`ApiClient`] adds a [`RetryPolicy`] for
//! the callers without an engine: listings, STS, and `check --connect`.

mod client;
mod clock;
mod request_log;
mod sender;

pub use client::{ApiClient, RetryPolicy};
pub use clock::SharedClock;
pub use request_log::REQUESTS;
pub use sender::{ApiFailure, ApiSender, CallOutcome};
