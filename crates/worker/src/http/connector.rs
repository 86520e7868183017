//! Connects to an endpoint: directly, or for TLS through a tunnel of a proxy (CONNECT).

use std::{
    error::Error,
    fmt,
    net::IpAddr,
    pin::Pin,
    str::FromStr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{client::legacy::connect::proxy::Tunnel, rt::TokioIo};
use imageshare_core::disclosure::is_name;
use percent_encoding::percent_decode_str;
use socket2::{SockRef, TcpKeepalive};
use tokio::{net::TcpStream, time::timeout};
use tower_service::Service;
use zeroize::Zeroizing;

use super::{TimeOuts, no_proxy::NoProxy};
use crate::{
    address::{Address, AddressError, is_bare_word},
    net::{LookupError, NetError, Network},
    tls::Trust,
};

/// What stands for a user that may not be one.
const USER_NOT_SHOWN: &str = "[user not shown]";

/// The port of a proxy whose address names none.
const PROXY_PORT: u16 = 80;

/// How long a connection is silent before the system asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How a client reaches the network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// The certificates to trust.
    pub trust: Trust,
    /// The proxy for TLS; `None` for direct connections.
    pub proxy: Option<Proxy>,
}

/// A proxy for TLS, and the hosts that are reached without it. Its address may hold a password, which is not shown.
///
/// The address is parsed once, here. What is used are only the parts that this gave.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// `http://host:port`.
    address: Uri,
    /// The value of `Proxy-Authorization`, if the address names a user.
    authorization: Option<HeaderValue>,
    except: NoProxy,
    shown: String,
}

impl Proxy {
    /// What the address of a proxy looks like.
    pub const EXPECTED: &str = "http://[user:password@]host:port of a proxy";

    /// Returns the proxy for all hosts but these.
    #[must_use]
    pub fn with_exceptions(self, except: NoProxy) -> Self {
        Self { except, ..self }
    }

    fn serves(&self, to: &Uri) -> bool {
        is_tls(to) && !is_loopback(to) && !self.except.contains(host_of(to), port_of(to))
    }
}

impl FromStr for Proxy {
    type Err = AddressError;

    /// Reads `[http://][user:password@]host[:port]`.
    ///
    /// A percent escape in user and password stands for its byte; a `%` that begins no escape stands for itself.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let address = Address::split(text, &["http"])?;
        if address.has_path() {
            return Err(AddressError("has a path; write %2F for a slash in a password"));
        }
        if is_bare_word(text) {
            return Err(AddressError("a word without a dot, a scheme or a port"));
        }
        let Address { login, host, port, .. } = address;
        let login = login.map(|login| login.split_once(':').unwrap_or((login, "")));
        // A user without a password may be a token.
        let user = login.map(|(user, password)| match is_name(user) && !password.is_empty() {
            true => format!("{user}@"),
            false => format!("{USER_NOT_SHOWN}@"),
        });
        let shown_port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let shown = format!("http://{}{host}{shown_port}", user.unwrap_or_default());
        let address = format!("http://{host}:{}", port.unwrap_or(PROXY_PORT)).parse();
        let address = address.map_err(|_| AddressError("invalid host or port"))?;
        let decoded = |text| percent_decode_str(text).collect::<Vec<u8>>();
        let authorization = login.map(|(user, password)| basic_authorization(&decoded(user), &decoded(password)));
        Ok(Self { address, authorization, except: NoProxy::default(), shown })
    }
}

/// Returns the header that carries a user and a password (RFC 7617).
pub(crate) fn basic_authorization(user: &[u8], password: &[u8]) -> HeaderValue {
    let login = Zeroizing::new([user, b":", password].concat());
    let text = Zeroizing::new(format!("Basic {}", BASE64_STANDARD.encode(&*login)));
    let mut value = HeaderValue::from_str(&text).expect("base64 is visible ASCII");
    value.set_sensitive(true);
    value
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

type BoxError = Box<dyn Error + Send + Sync>;

type Connecting<T> = Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>>;

/// Connects, including TLS. The time-out of a connection begins after the lookup of its name, which has a time-out of its
/// own: otherwise a slow name server would use up every attempt.
#[derive(Clone)]
pub(super) struct Connector {
    https: HttpsConnector<ProxyConnector>,
    inner: ProxyConnector,
    time_outs: TimeOuts,
}

impl Connector {
    pub(super) const fn new(https: HttpsConnector<ProxyConnector>, inner: ProxyConnector, time_outs: TimeOuts) -> Self {
        Self { https, inner, time_outs }
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.https.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let first_hop = self.inner.first_hop(&to);
        let is_proxy = !std::ptr::eq(first_hop, &to);
        let (network, host) = (self.inner.direct.0.clone(), host_of(first_hop).to_owned());
        let (lookup_max, connect_max) = (self.time_outs.lookup(), self.time_outs.connect);
        let connecting = self.https.call(to);
        Box::pin(async move {
            // The result is cached for the connection.
            let looked_up = timeout(lookup_max, network.lookup(&host)).await;
            let looked_up = looked_up.unwrap_or(Err(NetError::Lookup(LookupError::TimeOut(lookup_max))));
            looked_up.map_err(|error| if is_proxy { NoTunnel(error.into()).into() } else { BoxError::from(error) })?;
            timeout(connect_max, connecting).await.unwrap_or_else(|_| Err(ConnectTimeOut(connect_max).into()))
        })
    }
}

/// Connects below TLS, directly or through a proxy.
#[derive(Clone, Debug)]
pub(super) struct ProxyConnector {
    direct: Direct,
    proxy: Option<Arc<Proxy>>,
}

impl ProxyConnector {
    pub(super) fn new(proxy: Option<Proxy>) -> Self {
        Self { direct: Direct(Network::of_process()), proxy: proxy.map(Arc::new) }
    }

    /// Returns the address that is connected to.
    fn first_hop<'a>(&'a self, to: &'a Uri) -> &'a Uri {
        self.proxy.as_ref().filter(|proxy| proxy.serves(to)).map_or(to, |proxy| &proxy.address)
    }
}

impl Service<Uri> for ProxyConnector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let Some(proxy) = self.proxy.as_ref().filter(|proxy| proxy.serves(&to)) else { return self.direct.call(to) };
        let mut tunnel = Tunnel::new(proxy.address.clone(), self.direct.clone());
        if let Some(authorization) = &proxy.authorization {
            tunnel = tunnel.with_auth(authorization.clone());
        }
        let connecting = tunnel.call(to);
        Box::pin(async { connecting.await.map_err(|error| BoxError::from(NoTunnel(error.into()))) })
    }
}

/// Connects to the host of an address.
#[derive(Clone, Debug)]
struct Direct(Network);

impl Service<Uri> for Direct {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Connecting<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let network = self.0.clone();
        Box::pin(async move {
            let tcp = network.connect(host_of(&to), port_of(&to)).await?;
            tcp.set_nodelay(true)?;
            SockRef::from(&tcp).set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
            Ok(TokioIo::new(tcp))
        })
    }
}

/// The proxy made no tunnel.
#[derive(Debug, thiserror::Error)]
#[error("no tunnel through the proxy")]
pub(super) struct NoTunnel(#[source] BoxError);

/// The connection, its tunnel and its handshake took longer than this.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {} s", .0.as_secs_f64())]
pub(super) struct ConnectTimeOut(pub(super) Duration);

fn is_tls(to: &Uri) -> bool {
    to.scheme() == Some(&http::uri::Scheme::HTTPS)
}

/// Returns the host, an IPv6 address in brackets.
fn host_of(to: &Uri) -> &str {
    to.host().unwrap_or_default()
}

fn port_of(to: &Uri) -> u16 {
    to.port_u16().unwrap_or_else(|| if is_tls(to) { 443 } else { 80 })
}

/// A sandbox on this machine is reached directly.
fn is_loopback(to: &Uri) -> bool {
    let host = host_of(to).trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxy_password_is_hidden() {
        for (url, shown) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("proxy.example:3128/", "http://proxy.example:3128"),
            ("HTTP://ada:topsecret@10.0.0.1:8080", "http://ada@10.0.0.1:8080"),
            ("http://ada:top@secret@proxy.example", "http://ada@proxy.example"),
            ("http://topsecret@proxy.example", "http://[user not shown]@proxy.example"),
            ("http://top%2Fsecret:x@proxy.example", "http://[user not shown]@proxy.example"),
        ] {
            let proxy: Proxy = url.parse().unwrap();
            assert_eq!((proxy.to_string(), format!("{proxy:?}")), (shown.to_owned(), shown.to_owned()));
        }
        for url in [
            "https://topsecret@proxy.example",
            "socks5://proxy.example",
            "http://",
            "http://a b",
            "x:topsecret",
            "http://ada:12/topsecret@proxy.example",
            "http://ada:topsecret\n@proxy.example",
            "http://ada:12?topsecret@proxy.example",
            "http://ada:12#topsecret@proxy.example",
            "http://ada:12/topsecret",
            "http://proxy.example?topsecret",
            "ada:topsecret",
            "topsecret",
            "Gu5t9xGARNpq86cd98joQYCN3topsecret",
        ] {
            let error = url.parse::<Proxy>().unwrap_err().to_string();
            assert!(!error.contains("topsecret"), "{error}");
        }
    }

    #[track_caller]
    fn check_login(login: &str, sent: &str) {
        let proxy: Proxy = format!("http://{login}@proxy.example:3128").parse().unwrap();
        assert_eq!(proxy.address, "http://proxy.example:3128");
        let header = proxy.authorization.unwrap();
        let encoded = header.to_str().unwrap().strip_prefix("Basic ").unwrap();
        assert_eq!(String::from_utf8(BASE64_STANDARD.decode(encoded).unwrap()).unwrap(), sent);
    }

    #[test]
    fn any_password_reaches_proxy_as_it_is() {
        for password in (' '..='~').filter(|c| !"/?#%".contains(*c)) {
            check_login(&format!("ada:pa{password}ss"), &format!("ada:pa{password}ss"));
        }
        check_login("ada:p\u{e4}ssword", "ada:p\u{e4}ssword");
        check_login("ada:%2f%3F%23%25%40%3a%C3%A4", "ada:/?#%@:\u{e4}");
        check_login("ada:100%", "ada:100%");
        check_login("ada:%zz%40%", "ada:%zz@%");
        check_login("a%40b:c", "a@b:c");
        check_login("ada\\domain:c", "ada\\domain:c");
        check_login("token", "token:");
        assert_eq!("proxy.example:1".parse::<Proxy>().unwrap().authorization, None);
    }

    #[test]
    fn proxy_serves_tls_except_no_proxy_hosts() {
        let except = "internal.example, 10.0.0.0/8".parse().unwrap();
        let proxy = "proxy.example:3128".parse::<Proxy>().unwrap().with_exceptions(except);
        let goes = |to: &'static str| proxy.serves(&Uri::from_static(to));
        assert!(goes("https://cvm.intl.tencentcloudapi.com/") && goes("https://11.0.0.1/"));
        for straight in [
            "http://metadata.tencentyun.com/",
            "https://internal.example/",
            "https://cvm.internal.example/",
            "https://10.1.2.3/",
            "https://127.0.0.1:9700/",
            "https://localhost:9700/",
            "https://[::1]:9700/",
        ] {
            assert!(!goes(straight), "{straight}");
        }
    }
}
