//! The check of a request's host.
//!
//! A page can make the browser that shows it send requests to the browser's own machine: the page's host name suddenly
//! resolves to a loopback address (DNS rebinding), and the page reads the responses. Such a request still has that name as
//! its host. `localhost` and addresses are enough to reach a loopback address, so no other name is accepted there. On other
//! addresses any name may be right.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, Uri, header, uri::Authority};

/// The hosts that a request may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostCheck {
    /// Any host.
    Any,
    /// `localhost`, an address, or none.
    Loopback,
}

impl HostCheck {
    /// Returns the check of a server that listens on this address.
    pub(super) const fn new(listens: SocketAddr) -> Self {
        if listens.ip().is_loopback() { Self::Loopback } else { Self::Any }
    }

    /// Returns whether a request with this target and these headers may be answered.
    pub(super) fn accepts(self, target: &Uri, headers: &HeaderMap) -> bool {
        let is_here = |host: &str| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
        };
        let mut hosts = headers.get_all(header::HOST).iter();
        self == Self::Any
            || target.host().is_none_or(is_here)
                && hosts.all(|host| Authority::try_from(host.as_bytes()).is_ok_and(|host| is_here(host.host())))
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    #[track_caller]
    fn check(target: &str, hosts: &[&str], is_accepted: bool) {
        let mut request = Request::get(target).body(()).unwrap();
        for host in hosts {
            request.headers_mut().append(header::HOST, HeaderValue::from_str(host).unwrap());
        }
        let accepts =
            |listens: &str| HostCheck::new(listens.parse().unwrap()).accepts(request.uri(), request.headers());
        assert_eq!(
            (accepts("127.0.0.1:9701"), accepts("[::1]:9701")),
            (is_accepted, is_accepted),
            "{target} {hosts:?}"
        );
        assert!(accepts("0.0.0.0:9701") && accepts("10.0.0.7:9701"), "{target} {hosts:?}");
    }

    #[test]
    fn loopback_server_accepts_localhost_and_addresses_only() {
        for host in ["localhost", "LOCALHOST:9701", "127.0.0.1", "127.0.0.1:9701", "[::1]:9701", "10.0.0.7"] {
            check("/", &[host], true);
        }
        check("/", &[], true);
        check("http://localhost:9701/status", &["localhost:9701"], true);
        for host in
            ["pages.example", "pages.example:9701", "localhost.pages.example", "127.0.0.1.pages.example", "", "@"]
        {
            check("/", &[host], false);
        }
        check("/", &["localhost", "pages.example"], false);
        check("http://pages.example/status", &["localhost"], false);
        check("http://localhost/status", &["pages.example"], false);
    }
}
