//! The way out: straight, or for TLS through a proxy that makes a tunnel (CONNECT).

use std::{
    error::Error,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::{
    client::{
        legacy::connect::{HttpConnector, proxy::Tunnel},
        proxy::matcher::Matcher,
    },
    rt::TokioIo,
};
use imageshare_core::disclosure::is_name;
use tokio::net::TcpStream;
use tower_service::Service;

use super::names::Names;
use crate::{
    endpoint::{host_and_port, is_bare_word},
    tls::Trust,
};

/// What stands for a user that may not be one.
const USER_NOT_SHOWN: &str = "[user not shown]";

/// What a client needs to know of the network outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outside {
    /// Whom to trust.
    pub trust: Trust,
    /// Through whom to go, for TLS; `None` for nobody.
    pub proxy: Option<Proxy>,
}

/// A proxy for TLS, and the hosts that need none. Its address may hold a password, which is not shown.
#[derive(Clone)]
pub struct Proxy {
    matcher: Arc<Matcher>,
    url: String,
    except: String,
    shown: String,
}

impl Proxy {
    /// The proxy at `[http://][user:password@]host[:port]`, but not for the hosts that `except` lists as `NO_PROXY` does:
    /// names with all below them, addresses and networks, or `*`.
    ///
    /// # Errors
    /// If it is no such address: what is allowed, without what was found.
    pub fn new(url: &str, except: &str) -> Result<Self, String> {
        let refused = |found: &str| Err(format!("found {found}, allowed is http://host:port of a proxy"));
        let rest = match url.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return refused("another scheme"),
            None => url,
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return refused("a path, a query or a fragment (%2F, %3F or %23 in a password)");
        }
        let (who, host) = rest.rsplit_once('@').map_or((None, rest), |(who, host)| (Some(who), host));
        if is_bare_word(url) {
            return refused("a word without a dot, a scheme or a port");
        }
        let Some((host, port)) = host_and_port(host) else { return refused("no host and port that could be one") };
        // A user without a password may be a token.
        let user = who.map(|who| match who.split_once(':') {
            Some((user, password)) if !password.is_empty() && is_name(user) => format!("{user}@"),
            _ => format!("{USER_NOT_SHOWN}@"),
        });
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        let shown = format!("http://{}{host}{port}", user.unwrap_or_default());
        let url = format!("http://{rest}");
        let matcher = Matcher::builder().https(url.clone()).no(except.to_owned()).build();
        Ok(Self { matcher: Arc::new(matcher), url, except: except.to_owned(), shown })
    }
}

impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        (&self.url, &self.except) == (&other.url, &other.except)
    }
}

impl Eq for Proxy {}

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

/// Connects, below TLS.
#[derive(Clone, Debug)]
pub(super) struct Way {
    direct: HttpConnector<Names>,
    proxy: Option<Proxy>,
}

impl Way {
    pub(super) const fn new(direct: HttpConnector<Names>, proxy: Option<Proxy>) -> Self {
        Self { direct, proxy }
    }
}

type Failure = Box<dyn Error + Send + Sync>;

impl Service<Uri> for Way {
    type Response = TokioIo<TcpStream>;
    type Error = Failure;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Failure>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.direct.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        // A stand-in on this machine, and whatever is plain, is reached straight.
        let proxy = self.proxy.as_ref().filter(|_| !is_loopback(&to));
        match proxy.and_then(|proxy| proxy.matcher.intercept(&to)) {
            Some(through) => {
                let mut tunnel = Tunnel::new(through.uri().clone(), self.direct.clone());
                if let Some(auth) = through.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                let connecting = tunnel.call(to);
                Box::pin(async { connecting.await.map_err(|error| Failure::from(NoTunnel(error.into()))) })
            }
            None => {
                let connecting = self.direct.call(to);
                Box::pin(async { connecting.await.map_err(Into::into) })
            }
        }
    }
}

/// The proxy made no tunnel.
#[derive(Debug, thiserror::Error)]
#[error("no tunnel through the proxy")]
pub(super) struct NoTunnel(#[source] Failure);

fn is_loopback(to: &Uri) -> bool {
    let host = to.host().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse().is_ok_and(|address: std::net::IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_an_address_and_its_password_is_not_shown() {
        for (url, shown) in [
            ("http://proxy.example:3128", "http://proxy.example:3128"),
            ("proxy.example:3128/", "http://proxy.example:3128"),
            ("HTTP://ada:topsecret@10.0.0.1:8080", "http://ada@10.0.0.1:8080"),
            ("http://ada:top@secret@proxy.example", "http://ada@proxy.example"),
            ("http://topsecret@proxy.example", "http://[user not shown]@proxy.example"),
            ("http://top%2Fsecret:x@proxy.example", "http://[user not shown]@proxy.example"),
        ] {
            let proxy = Proxy::new(url, "").unwrap();
            assert_eq!((proxy.to_string(), format!("{proxy:?}")), (shown.to_owned(), shown.to_owned()));
        }
        for url in [
            "https://topsecret@proxy.example",
            "socks5://proxy.example",
            "http://",
            "http://a b",
            "x:topsecret",
            "http://ada:12/topsecret@proxy.example",
            "http://ada:12/topsecret",
            "http://proxy.example?topsecret",
            "ada:topsecret",
            "topsecret",
            "Gu5t9xGARNpq86cd98joQYCN3topsecret",
        ] {
            let error = Proxy::new(url, "").unwrap_err();
            assert!(
                error.ends_with("allowed is http://host:port of a proxy") && !error.contains("topsecret"),
                "{error}"
            );
        }
    }

    #[test]
    fn the_proxy_is_for_tls_only_and_not_for_the_hosts_that_need_none() {
        let proxy = Proxy::new("proxy.example:3128", "internal.example, 10.0.0.0/8").unwrap();
        let goes = |to: &'static str| {
            let to = Uri::from_static(to);
            proxy.matcher.intercept(&to).is_some() && !is_loopback(&to)
        };
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
