//! The endpoint of the API: scheme, host and port, checked once.

use std::{fmt, str::FromStr};

use imageshare_core::request;
use url::Host;

use crate::address::{Address, AddressError, is_bare_word};

/// The documented name of the metadata service of an instance.
pub(crate) const METADATA_HOST: &str = "metadata.tencentyun.com";

/// An endpoint of the API: `https://host[:port]`, or `http://` to a loopback address.
///
/// An attacker on the network can read and replay an unencrypted request, so plain HTTP is allowed only for a sandbox
/// on the same machine.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    scheme: UrlScheme,
    host: Host<String>,
    /// The Host header: the host, and the port unless it is the scheme's default.
    authority: String,
    port: u16,
}

/// The scheme of an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UrlScheme {
    /// Unencrypted, to loopback addresses only.
    Http,
    /// TLS.
    Https,
}

/// Why a text is not an endpoint. Holds no more of the text than a host and a port: the rest may be a password.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Plain HTTP to a host other than this machine.
    #[error("plain http:// to {authority}, which is not a loopback address")]
    PlainToElsewhere {
        /// The host and the port.
        authority: String,
    },
    /// Anything else.
    #[error(transparent)]
    Address(#[from] AddressError),
}

impl Endpoint {
    /// The form of an endpoint, for errors.
    pub const EXPECTED: &str = "https://host[:port] or a bare host; http:// only to a loopback address";

    /// Returns the scheme.
    #[must_use]
    pub const fn scheme(&self) -> UrlScheme {
        self.scheme
    }

    /// Returns the Host header: the host, and the port unless it is the scheme's default.
    #[must_use]
    pub fn authority(&self) -> request::Host<'_> {
        request::Host::new(&self.authority).expect("an endpoint is made of a checked host and port")
    }

    /// Returns the host alone, in lower case, an IPv6 address in brackets.
    #[must_use]
    pub fn host(&self) -> String {
        self.host.to_string()
    }

    /// Returns the port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Returns whether it is on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        is_loopback(&self.host)
    }

    /// Returns the endpoint of STS, the service for temporary keys, at the same site.
    #[must_use]
    pub(crate) fn sts(&self) -> Self {
        self.of_service("sts")
    }

    /// Returns the endpoint of another service at the same site, for all regions. A sandbox serves it at its own address.
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

    /// Returns the service in the credential scope of a signature: the first label of the host, or `otherwise` if the host
    /// is an address or `localhost`.
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
    /// Parses an endpoint. Plain HTTP is allowed to this machine and to hosts that `is_plain` accepts.
    fn parse(text: &str, is_plain: impl Fn(&Host<String>) -> bool) -> Result<Self, EndpointError> {
        let refused = |problem| Err(AddressError(problem).into());
        let Address { scheme, login, host, port, path } = Address::split(text, &["http", "https"])?;
        let scheme = if scheme == Some("http") { UrlScheme::Http } else { UrlScheme::Https };
        if login.is_some() {
            return refused("has a user or a password");
        }
        if path.is_some() {
            return refused("has a path");
        }
        // The dot would become part of the signed host, which the API compares.
        if matches!(&host, Host::Domain(name) if name.ends_with('.')) {
            return refused("host ends in a dot");
        }
        if is_bare_word(text) {
            return refused("a word without a dot, a scheme or a port");
        }
        let port = port.unwrap_or_else(|| scheme.default_port());
        let authority = if port == scheme.default_port() { host.to_string() } else { format!("{host}:{port}") };
        if scheme == UrlScheme::Http && !is_loopback(&host) && !is_plain(&host) {
            return Err(EndpointError::PlainToElsewhere { authority });
        }
        Ok(Self { scheme, host, authority, port })
    }
}

/// The metadata service of an instance, which has no TLS: also `http://metadata.tencentyun.com` and link-local addresses
/// such as `http://169.254.0.23`.
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
    /// Returns the default port.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// Returns `http` or `https`.
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

fn is_loopback(host: &Host<String>) -> bool {
    match host {
        Host::Domain(name) => name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
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
            assert!(matches!(text.parse::<Endpoint>(), Err(EndpointError::Address(_))), "{text:?}");
        }
        let error = "host.example.".parse::<Endpoint>().unwrap_err().to_string();
        assert!(error == "host ends in a dot", "{error}");
        let error = "https://host.example/path".parse::<Endpoint>().unwrap_err().to_string();
        assert!(error == "has a path", "{error}");
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
