//! Where the API is reached: scheme, host and port, checked once.

use std::{fmt, str::FromStr};

use imageshare_core::{disclosure::has_key, request};
use url::Host;

/// Bytes that a host name may have (RFC 1035, section 2.3.4, without the root's dot).
const HOST_LEN_MAX: usize = 253;

/// The documented name of the metadata service of an instance.
pub(crate) const METADATA_HOST: &str = "metadata.tencentyun.com";

/// Bytes that one label of a host name may have.
const LABEL_LEN_MAX: usize = 63;

/// An endpoint of the API: `https://host[:port]`, or `http://` to a loopback address.
///
/// An attacker on the network can read and replay an unencrypted request, so plain HTTP is allowed only for a sandbox
/// on the same machine.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    scheme: UrlScheme,
    host: Host<String>,
    /// What stands in the Host header: the host, and the port unless it is the scheme's own.
    authority: String,
    port: u16,
}

/// How an endpoint is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UrlScheme {
    /// Plain, to loopback only.
    Http,
    /// TLS.
    Https,
}

/// Why a text is no endpoint. Never holds more of the text than a host and a port: the rest may be a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Plain HTTP to somewhere else.
    #[error("plain http:// to {authority}, which is not a loopback address")]
    PlainToElsewhere {
        /// The host and the port.
        authority: String,
    },
    /// Anything else.
    #[error("{0}")]
    Form(&'static str),
}

impl Endpoint {
    /// What an endpoint looks like.
    pub const EXPECTED: &str = "https://host[:port] or a bare host; http:// only to a loopback address";

    /// How it is spoken to.
    #[must_use]
    pub const fn scheme(&self) -> UrlScheme {
        self.scheme
    }

    /// The Host header: the host, and the port unless it is the scheme's own.
    #[must_use]
    pub fn authority(&self) -> request::Host<'_> {
        request::Host::new(&self.authority).expect("an endpoint is made of a checked host and port")
    }

    /// The host alone, lower case, an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> String {
        self.host.to_string()
    }

    /// The port that is connected to.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether it is on this machine, whatever the scheme.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// Where the service for temporary keys is that belongs to this endpoint.
    #[must_use]
    pub(crate) fn sts(&self) -> Self {
        self.of_service("sts")
    }

    /// Where another service of the API is: at the same site, in whatever region; a stand-in has it at the same place.
    #[must_use]
    pub(crate) fn of_service(&self, service: &str) -> Self {
        let Host::Domain(name) = &self.host else { return self.clone() };
        let site = ["internal.", "intl.", ""].map(|part| format!("{part}tencentcloudapi.com"));
        let site = site.iter().find(|site| name.strip_suffix(site.as_str()).is_some_and(|rest| rest.ends_with('.')));
        match site {
            Some(site) if self.scheme == UrlScheme::Https => Self::https(Host::Domain(format!("{service}.{site}"))),
            _ => self.clone(),
        }
    }

    fn https(host: Host<String>) -> Self {
        Self { scheme: UrlScheme::Https, authority: host.to_string(), host, port: UrlScheme::Https.default_port() }
    }

    /// The service that a signature's credential scope names: the first label of the host, and `otherwise` where the
    /// host is an address or `localhost`.
    #[must_use]
    pub fn service<'a>(&'a self, otherwise: &'a str) -> &'a str {
        match &self.host {
            Host::Domain(name) if !is_loopback(&self.host) => name.split('.').next().unwrap_or(otherwise),
            _ => otherwise,
        }
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text, |_| false)
    }
}

impl Endpoint {
    /// Parses an address. Plain HTTP goes to this machine, and to hosts that `is_plain` accepts.
    fn parse(text: &str, is_plain: impl Fn(&Host<String>) -> bool) -> Result<Self, EndpointError> {
        let (scheme, rest) = match text.split_once("://") {
            None => (UrlScheme::Https, text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (UrlScheme::Https, rest),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (UrlScheme::Http, rest),
            Some(_) => return Err(EndpointError::Form("unknown scheme")),
        };
        if rest.contains('@') {
            return Err(EndpointError::Form("has a user or a password"));
        }
        if rest.contains(['/', '?', '#']) {
            return Err(EndpointError::Form("has a path, a query or a fragment"));
        }
        let (host, port) = split_port(rest).ok_or(EndpointError::Form("invalid port"))?;
        let host = parse_host(host).ok_or(EndpointError::Form("invalid host"))?;
        // It would be part of the signed name, which the API does not know.
        if matches!(&host, Host::Domain(name) if name.ends_with('.')) {
            return Err(EndpointError::Form("host ends in a dot"));
        }
        if is_bare_word(text) {
            return Err(EndpointError::Form("a word without a dot, a scheme or a port"));
        }
        let port = port.unwrap_or_else(|| scheme.default_port());
        let authority = if port == scheme.default_port() { host.to_string() } else { format!("{host}:{port}") };
        if scheme == UrlScheme::Http && !is_loopback(&host) && !is_plain(&host) {
            return Err(EndpointError::PlainToElsewhere { authority });
        }
        Ok(Self { scheme, host, authority, port })
    }
}

/// The metadata service of an instance, which is plain: beside what an endpoint may be, `http://metadata.tencentyun.com`
/// and link-local addresses such as `http://169.254.0.23`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetadataEndpoint(pub(crate) Endpoint);

impl FromStr for MetadataEndpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let endpoint = Endpoint::parse(text, |host| match host {
            Host::Domain(name) => name == METADATA_HOST,
            Host::Ipv4(address) => address.is_link_local(),
            Host::Ipv6(_) => false,
        });
        endpoint.map(Self)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl UrlScheme {
    /// The port that is meant when none is given.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// `http` or `https`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

impl fmt::Display for UrlScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Parses a host: a name, which becomes lower case, an IPv4 address, or an IPv6 address in brackets.
///
/// `url` also reads `127.1` and `0x7f.1` as addresses, and decodes percent escapes and Unicode in names. These are refused:
/// others read them as names.
fn parse_host(text: &str) -> Option<Host<String>> {
    let host = Host::parse(text).ok()?;
    let is_allowed = match &host {
        Host::Ipv4(address) => address.to_string() == text,
        Host::Ipv6(_) => true,
        Host::Domain(name) => {
            let name = name.strip_suffix('.').unwrap_or(name);
            // A key in place of an address would pass for a name.
            let is_plain = name.len() <= HOST_LEN_MAX && !name.starts_with('-') && !has_key(text);
            is_plain && text.strip_suffix('.').unwrap_or(text).split('.').all(is_label)
        }
    };
    is_allowed.then_some(host)
}

fn is_loopback(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// The host, lower case and an IPv6 address in brackets, and the port if there is one; `None` if the text is no such
/// thing.
pub(crate) fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = split_port(text)?;
    Some((parse_host(host)?.to_string(), port))
}

/// The host and the port; `None` if there is a colon but no port of 1 to 65,535 behind it.
fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    // The colons inside the brackets of an IPv6 address are its own.
    let after_brackets = text.find(']').map_or(0, |end| end + 1);
    let Some(colon) = text.get(after_brackets..)?.find(':').map(|at| after_brackets + at) else {
        return Some((text, None));
    };
    let (host, port) = (text.get(..colon)?, text.get(colon + 1..)?);
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    let port = port.parse().ok().filter(|&port| is_number && port != 0)?;
    Some((host, Some(port)))
}

/// Whether a text would pass for the name of a host in a local network, with nothing that proves that it is meant as
/// one: it may be a password in the wrong place.
pub(crate) fn is_bare_word(text: &str) -> bool {
    !text.contains(['.', ':']) && !text.eq_ignore_ascii_case("localhost")
}

/// Returns whether a text may be a label of a name that a resolver takes. Networks of containers use underscores, which
/// registered names may not have.
fn is_label(label: &str) -> bool {
    let is_inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=LABEL_LEN_MAX).contains(&label.len()) && label.bytes().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, shown: &str, authority: &str, service: &str) {
        let endpoint: Endpoint = text.parse().unwrap();
        assert_eq!(
            (endpoint.to_string().as_str(), endpoint.authority().as_str(), endpoint.service("cvm")),
            (shown, authority, service)
        );
    }

    #[test]
    fn api_and_sandbox_addresses_are_accepted() {
        let intl = "cvm.intl.tencentcloudapi.com";
        check(intl, "https://cvm.intl.tencentcloudapi.com", intl, "cvm");
        check("HTTPS://CVM.intl.TencentCloudAPI.com:443", "https://cvm.intl.tencentcloudapi.com", intl, "cvm");
        check(
            "sts.tencentcloudapi.com:8443",
            "https://sts.tencentcloudapi.com:8443",
            "sts.tencentcloudapi.com:8443",
            "sts",
        );
        check("http://127.0.0.1:9700", "http://127.0.0.1:9700", "127.0.0.1:9700", "cvm");
        check("http://127.8.9.10", "http://127.8.9.10", "127.8.9.10", "cvm");
        check("http://[::1]:80", "http://[::1]", "[::1]", "cvm");
        check("http://localhost:9700", "http://localhost:9700", "localhost:9700", "cvm");
        check("https://10.0.0.1:443", "https://10.0.0.1", "10.0.0.1", "cvm");
        check("https://my_gateway.example", "https://my_gateway.example", "my_gateway.example", "my_gateway");
        check("https://localhost:80", "https://localhost:80", "localhost:80", "cvm");
    }

    #[test]
    fn missing_port_is_the_default() {
        let port = |text: &str| text.parse::<Endpoint>().unwrap().port();
        assert_eq!((port("cvm.tencentcloudapi.com"), port("http://[::1]"), port("localhost:1")), (443, 80, 1));
    }

    #[test]
    fn sts_belongs_to_the_same_site() {
        let sts = |text: &str| text.parse::<Endpoint>().unwrap().sts().to_string();
        assert_eq!(sts("cvm.intl.tencentcloudapi.com"), "https://sts.intl.tencentcloudapi.com");
        assert_eq!(sts("cvm.eu-frankfurt.intl.tencentcloudapi.com"), "https://sts.intl.tencentcloudapi.com");
        assert_eq!(sts("cvm.tencentcloudapi.com"), "https://sts.tencentcloudapi.com");
        assert_eq!(sts("cvm.ap-shanghai-fsi.tencentcloudapi.com"), "https://sts.tencentcloudapi.com");
        assert_eq!(sts("cvm.internal.tencentcloudapi.com"), "https://sts.internal.tencentcloudapi.com");
        assert_eq!(sts("http://127.0.0.1:9700"), "http://127.0.0.1:9700");
        assert_eq!(sts("https://gateway.example:8443"), "https://gateway.example:8443");
        let organization = "cvm.intl.tencentcloudapi.com".parse::<Endpoint>().unwrap().of_service("organization");
        assert_eq!(organization.to_string(), "https://organization.intl.tencentcloudapi.com");
    }

    #[test]
    fn plain_http_goes_to_loopback_only() {
        for text in [
            "http://cvm.tencentcloudapi.com",
            "http://10.0.0.1:9700",
            "http://128.0.0.1",
            "http://[::2]",
            "http://localhost.example.com",
            "http://0.0.0.0:9700",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err().to_string();
            assert_eq!(error, format!("plain {}, which is not a loopback address", text.replace("//", "// to ")));
        }
    }

    #[test]
    fn metadata_service_is_plain_by_name_and_address() {
        for text in
            ["http://metadata.tencentyun.com", "http://169.254.0.23", "http://127.0.0.1:80", "https://a.example"]
        {
            assert!(text.parse::<MetadataEndpoint>().is_ok(), "{text}");
        }
        assert_eq!("http://169.254.0.23".parse::<Endpoint>().ok(), None);
        for text in ["http://10.0.0.1", "http://metadata.tencentyun.com.example", "http://a.metadata.tencentyun.com"] {
            let error = text.parse::<MetadataEndpoint>().unwrap_err();
            assert!(matches!(error, EndpointError::PlainToElsewhere { .. }), "{text}");
        }
    }

    #[test]
    fn anything_but_scheme_host_and_port_is_refused() {
        for text in [
            "",
            "https://",
            "ftp://host.example",
            "https://host.example/",
            "https://host.example/path",
            "https://host.example?query",
            "https://host.example#fragment",
            "host.example:",
            "host.example:0",
            "host.example:+80",
            "host.example:65536",
            "host.example:80:80",
            "host..example",
            "host.example.",
            "-host.example",
            "ho st.example",
            "127.1",
            "300.0.0.1",
            "[::1",
            "[::1]x",
            "::1",
            "hôst.example",
            "host.example\n",
        ] {
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::Form(_))), "{text:?}");
        }
        let error = "host.example.".parse::<Endpoint>().unwrap_err().to_string();
        assert!(error == "host ends in a dot", "{error}");
        let error = "https://host.example/path".parse::<Endpoint>().unwrap_err().to_string();
        assert!(error == "has a path, a query or a fragment", "{error}");
    }

    #[test]
    fn nothing_of_refused_address_is_shown() {
        for text in [
            "https://user:topsecret@host.example",
            "https://user:12/topsecret@host.example",
            "https://user:12/topsecret",
            "https://host.example/topsecret",
            "https://host.example?key=topsecret",
            "https://host.example#topsecret",
            "user:topsecret",
            "topsecret://host.example",
            "http://user:topsecret@host.example",
            "top_secret",
            "topsecret",
            "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!["topsecret", "top_secret", "Gu5t9"].iter().any(|part| shown.contains(part)), "{shown}");
        }
    }
}
