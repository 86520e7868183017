//! `NO_PROXY`: the hosts that are reached without the proxy.

use std::{fmt, net::IpAddr, str::FromStr};

use imageshare_core::disclosure::is_name;
use ipnet::IpNet;

use crate::address::host_and_port;

/// Hosts that are reached without the proxy.
///
/// Entries are separated by commas or spaces. `name`, `.name` and `*.name` all mean the name and everything below it, as
/// in curl. An address means itself, `address/bits` its network, `:port` behind any of these only that port, and `*`
/// everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoProxy(Vec<NoProxyEntry>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct NoProxyEntry {
    hosts: Hosts,
    port: Option<u16>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Hosts {
    All,
    /// In lower case.
    Name(String),
    Network(IpNet),
}

impl NoProxy {
    /// What the list looks like.
    pub const EXPECTED: &str = "names, .suffixes, addresses and networks, each with an optional port, or *";

    /// Returns whether a host is reached without the proxy. An IPv6 address may be in brackets.
    #[must_use]
    pub(super) fn contains(&self, host: &str, port: u16) -> bool {
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        self.0.iter().any(|entry| entry.port.is_none_or(|only| only == port) && entry.hosts.contain(&host))
    }
}

impl Hosts {
    fn contain(&self, host: &str) -> bool {
        match self {
            Self::All => true,
            Self::Name(name) => {
                host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            Self::Network(network) => {
                host.parse().is_ok_and(|address: IpAddr| network.contains(&address.to_canonical()))
            }
        }
    }

    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::All);
        }
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        if let Some(network) = bare.parse().ok().or_else(|| bare.parse().ok().map(|address: IpAddr| address.into())) {
            return Some(Self::Network(network));
        }
        let name = text.strip_prefix('*').unwrap_or(text);
        let name = name.strip_prefix('.').unwrap_or(name).trim_end_matches('.');
        // The local network's names have no dot.
        let (name, port) = host_and_port(name)?;
        port.is_none().then(|| Self::Name(name.to_string()))
    }
}

impl fmt::Display for NoProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = self.0.iter().map(NoProxyEntry::to_string).collect();
        f.write_str(&shown.join(","))
    }
}

impl fmt::Display for NoProxyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.hosts, self.port) {
            (Hosts::All, _) => f.write_str("*")?,
            (Hosts::Name(name), _) => f.write_str(name)?,
            (Hosts::Network(network), Some(_)) if network.addr().is_ipv6() => write!(f, "[{network}]")?,
            (Hosts::Network(network), _) => write!(f, "{network}")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

impl FromStr for NoProxy {
    type Err = String;

    /// # Errors
    /// With the first entry that is not understood. It is quoted only if it is a plain name.
    fn from_str(text: &str) -> Result<Self, String> {
        let entries = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|entry| !entry.is_empty());
        let parse = |(number, text): (usize, &str)| {
            let quoted = if is_name(text) { format!(" \"{text}\"") } else { String::new() };
            entry(text).ok_or_else(|| format!("invalid entry {}{quoted}", number + 1))
        };
        entries.enumerate().map(parse).collect::<Result<_, _>>().map(Self)
    }
}

fn entry(text: &str) -> Option<NoProxyEntry> {
    if let Some(hosts) = Hosts::parse(text) {
        return Some(NoProxyEntry { hosts, port: None });
    }
    let (hosts, port) = text.rsplit_once(':')?;
    let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok())??;
    Some(NoProxyEntry { hosts: Hosts::parse(hosts)?, port: Some(port) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(except: &str, direct: &[&str], proxied: &[&str]) {
        let except: NoProxy = except.parse().unwrap();
        for (hosts, is_direct) in [(direct, true), (proxied, false)] {
            for host in hosts {
                let (name, port) = host_and_port(host).unwrap();
                assert_eq!(except.contains(&name.to_string(), port.unwrap_or(443)), is_direct, "{host}");
            }
        }
    }

    #[test]
    fn usual_forms_are_understood() {
        check("", &[], &["a.example"]);
        check("*", &["a.example", "10.0.0.1", "[::1]"], &[]);
        check("a.example", &["a.example", "A.Example", "b.a.example", "a.example."], &["ba.example", "example"]);
        check(".a.example", &["a.example", "b.a.example"], &["ba.example"]);
        check("*.a.example", &["a.example", "b.a.example"], &["ba.example"]);
        check("localhost,registry", &["registry", "localhost"], &["a.example"]);
        check("a.example , b.example\tc.example,,", &["a.example", "b.example", "c.example"], &["d.example"]);
        check("a.example:8443", &["a.example:8443", "b.a.example:8443"], &["a.example"]);
        check("10.1.2.3", &["10.1.2.3"], &["10.1.2.4", "110.1.2.3"]);
        check("10.0.0.0/8,192.168.1.128/25", &["10.9.9.9", "192.168.1.200"], &["11.0.0.1", "192.168.1.1"]);
        check("10.0.0.0/8:8443", &["10.9.9.9:8443"], &["10.9.9.9"]);
        check("0.0.0.0/0", &["1.2.3.4"], &["[::1]", "a.example"]);
        check("::1,[fd00::1],fd01::/16", &["[::1]", "[fd00::1]", "[fd01:2::1]"], &["[fd02::1]", "1.2.3.4"]);
        check("[::1]:8443", &["[::1]:8443"], &["[::1]"]);
        check("my_host,host.", &["my_host", "host"], &["myhost"]);
    }

    #[test]
    fn entry_that_is_not_understood_is_an_error() {
        for (text, problem) in [
            ("a.example,10.0.0.0/33", "invalid entry 2"),
            ("10.0.0.0/x", "invalid entry 1"),
            ("http://a.example", "invalid entry 1"),
            ("a.example:0x50", "invalid entry 1"),
            ("a.example:99999", "invalid entry 1"),
            ("a*.example", "invalid entry 1"),
            ("a.example/8", "invalid entry 1"),
            ("a..example", "invalid entry 1 \"a..example\""),
            ("user:topsecret@a.example", "invalid entry 1"),
            ("a;b.example", "invalid entry 1"),
        ] {
            let error = text.parse::<NoProxy>().unwrap_err();
            assert!(error.starts_with(problem) && !error.contains("topsecret"), "{text}: {error}");
        }
    }
}
