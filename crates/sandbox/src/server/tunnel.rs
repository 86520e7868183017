//! `CONNECT`: the sandbox as an HTTP proxy that answers every tunnel itself. Nothing is ever forwarded.

use std::sync::{Arc, Mutex, PoisonError};

use http::{Response, StatusCode, request::Parts, uri::Authority};
use hyper::upgrade::OnUpgrade;
use imageshare_core::text::excerpt;

use super::{api::page, hosts, payload::Payload};

/// How a tunnel continues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    /// Plain HTTP, to port 80.
    Http,
    /// TLS with a certificate for this name, to port 443.
    Tls(String),
}

impl Protocol {
    /// Returns the protocol for the target of a tunnel, or `None` if the sandbox refuses the target.
    fn for_target(target: &Authority) -> Option<Self> {
        match target.port_u16()? {
            80 => Some(Self::Http),
            443 if hosts::is_service(target.host()) => Some(Self::Tls(target.host().to_ascii_lowercase())),
            _ => None,
        }
    }
}

/// A tunnel that was accepted and begins when the response has been sent.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) protocol: Protocol,
    pub(super) upgrade: OnUpgrade,
}

/// Where a request handler leaves an accepted tunnel for its connection. A connection inside a tunnel has no slot.
#[derive(Clone, Debug, Default)]
pub(super) struct TunnelSlot(Arc<Mutex<Option<Tunnel>>>);

impl TunnelSlot {
    pub(super) fn take(&self) -> Option<Tunnel> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn put(&self, tunnel: Tunnel) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tunnel);
    }
}

/// Answers a `CONNECT` request.
pub(super) fn answer(slot: Option<&TunnelSlot>, parts: &mut Parts) -> Response<Payload> {
    let protocol = parts.uri.authority().and_then(Protocol::for_target);
    match (slot, protocol, parts.extensions.remove::<OnUpgrade>()) {
        (Some(slot), Some(protocol), Some(upgrade)) => {
            slot.put(Tunnel { protocol, upgrade });
            Response::new(Payload::whole(""))
        }
        _ => {
            let target = excerpt(&parts.uri.to_string());
            let problem = format!(
                "CONNECT {target}: refused (expected NAME:443 with a name of the API, STS or the metadata service, or \
                 any NAME:80; the sandbox forwards nothing)\n"
            );
            page(StatusCode::FORBIDDEN, "text/plain", Payload::whole(problem))
        }
    }
}
