//! The HTTP client: one pool of connections for all lanes, everything bounded, and the truth about what was sent.

mod client;
mod failure;
mod no_proxy;
mod request;
mod sending;
mod waits;
mod way;

pub(crate) use client::authority;
pub use client::{Client, Reply, TimeOuts};
pub use failure::{CallError, Reason, Stage};
pub use no_proxy::NoProxy;
pub(crate) use request::into_http;
pub use sending::Sending;
pub use waits::{Waiting, Waits};
pub use way::{Outside, Proxy, ProxyError};

/// Bytes of an answer's head that are read at most. Those of the API have less than 1 kB.
const HEAD_LEN_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests;
