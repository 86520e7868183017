//! The HTTP client: one pool of connections for all lanes, bounded in every part, which records whether a request left.

mod client;
mod connector;
mod failure;
mod no_proxy;
mod sending;
mod waits;

pub use client::{Client, HttpReply, TimeOuts};
pub(crate) use connector::basic_authorization;
pub use connector::{NetworkSettings, Proxy};
pub use failure::{CallError, CallStage, FailureReason};
pub use no_proxy::NoProxy;
pub use sending::Sending;
pub use waits::{WaitGuard, Waits};

/// Bytes of a response's head. Those of the API have less than 1 kB.
const HEAD_LEN_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
