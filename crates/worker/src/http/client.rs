//! One call: takes a pooled connection or connects, writes, and reads a bounded response, all within the time-outs.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy,
    rt::{TokioExecutor, TokioTimer},
};
use imageshare_core::response::BODY_LEN_MAX;
use parking_lot::RwLock;
use rustls::ClientConfig;
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    CallError, CallStage, FailureReason, HEAD_LEN_MAX, NetworkSettings, Proxy, Sending, Waits,
    connector::{Connector, ProxyConnector},
    sending::WatchedBody,
};
use crate::tls::TlsError;

/// How long an idle connection is kept. The vendor closes one after about 30 s, and a request that is written at that moment
/// is in doubt.
const IDLE: Duration = Duration::from_secs(20);

/// Idle connections that are kept for one endpoint: as many as a lane has calls in flight by default.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOuts {
    /// The connection: TCP, the proxy's tunnel, TLS. The lookup of the name is not part of it.
    pub connect: Duration,
    /// The whole call, from its beginning to the last byte of the response.
    pub call: Duration,
}

/// The HTTP client. Clones share the pool.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Arc<RwLock<ConnectionPool>>,
    network: Arc<NetworkSettings>,
    time_outs: TimeOuts,
    waits: Waits,
}

/// The connections.
#[derive(Clone, Debug)]
struct ConnectionPool {
    connections: legacy::Client<Connector, WatchedBody>,
    /// Why no root certificates are available.
    roots_missing: Option<Arc<str>>,
}

/// A response with any status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpReply {
    /// The HTTP status.
    pub status: u16,
    /// The header `Date`.
    pub date: Option<SystemTime>,
    /// The whole body, at most [`BODY_LEN_MAX`] bytes.
    pub body: Bytes,
}

impl Default for TimeOuts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(3), call: Duration::from_secs(10) }
    }
}

impl TimeOuts {
    /// Returns the time-out of a name lookup: the time of a call without that of its connection, and at least half of the
    /// call.
    pub(super) fn lookup(self) -> Duration {
        self.call.saturating_sub(self.connect).max(self.call / 2)
    }
}

impl Client {
    /// Returns a client that trusts the root certificates of this machine, or those of `SSL_CERT_FILE`, and uses no proxy.
    ///
    /// # Errors
    /// If the TLS library refuses its own defaults.
    pub fn new(time_outs: TimeOuts) -> Result<Self, TlsError> {
        Self::with(NetworkSettings::default(), time_outs)
    }

    /// Returns a client with these settings. On a machine without root certificates calls over TLS fail and say so; plain
    /// calls to a sandbox on this machine need none.
    ///
    /// # Errors
    /// If a file of the settings is invalid.
    pub fn with(network: NetworkSettings, time_outs: TimeOuts) -> Result<Self, TlsError> {
        let pool = ConnectionPool::new(&network, time_outs)?;
        Ok(Self { pool: Arc::new(RwLock::new(pool)), network: Arc::new(network), time_outs, waits: Waits::default() })
    }

    /// Returns a client with these TLS settings.
    #[cfg(test)]
    pub(crate) fn with_tls(tls: ClientConfig, time_outs: TimeOuts) -> Self {
        let pool = ConnectionPool { connections: connections(tls, None, time_outs), roots_missing: None };
        Self { pool: Arc::new(RwLock::new(pool)), network: Arc::default(), time_outs, waits: Waits::default() }
    }

    /// Reads the files with certificates again. Calls in flight keep their connections.
    ///
    /// # Errors
    /// If a file is invalid. Then nothing changes.
    pub fn reread_trust(&self) -> Result<(), TlsError> {
        *self.pool.write() = ConnectionPool::new(&self.network, self.time_outs)?;
        Ok(())
    }

    /// Returns how long a call may take.
    #[must_use]
    pub const fn time_outs(&self) -> TimeOuts {
        self.time_outs
    }

    /// Returns the waits of its callers. Each call is a wait of its own.
    #[must_use]
    pub const fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Sends a request with an absolute address and a body that is not empty, once, and reads the response. Redirects are not
    /// followed. A request that a pooled connection lost before any of it was written is written to another one; nothing
    /// else is repeated.
    ///
    /// # Errors
    /// If no complete response came within the time-outs. [`CallError::sent`] is false only if no byte of the request left
    /// and none will.
    pub async fn call(&self, request: Request<Bytes>, sending: &Arc<Sending>) -> Result<HttpReply, CallError> {
        let host = authority(request.uri()).to_owned();
        let waiting = self.waits.begin(&host);
        let result = self.exchange(request, sending).await;
        self.waits.ended(&host, &result);
        drop(waiting);
        result
    }

    async fn exchange(&self, request: Request<Bytes>, sending: &Arc<Sending>) -> Result<HttpReply, CallError> {
        let call = self.time_outs.call;
        let deadline = Instant::now() + call;
        let request = request.map(|bytes| WatchedBody::new(bytes, Arc::clone(sending)));
        let pool = self.pool();
        let exchange = pool.connections.request(request);
        let too_late = |stage, after| CallError { sent: true, reason: FailureReason::TimeOut { stage, after } };

        let answer = match timeout_at(deadline, exchange).await {
            Ok(answer) => answer,
            Err(_) if sending.abandon() => {
                let reason = FailureReason::TimeOut { stage: CallStage::Connection, after: call };
                return Err(CallError { sent: false, reason });
            }
            Err(_) => return Err(too_late(CallStage::Answer, call)),
        };
        let (head, body) = match answer {
            Ok(answer) => answer.into_parts(),
            Err(error) => return Err(CallError { sent: !sending.abandon(), reason: pool.reason(&error) }),
        };
        let body = timeout_at(deadline, read(body)).await.map_err(|_| too_late(CallStage::Body, call))?;
        let body = body.map_err(|reason| CallError { sent: true, reason })?;
        Ok(HttpReply { status: head.status.as_u16(), date: date(&head.headers), body })
    }

    /// Gets a page, within the time-out of a call.
    ///
    /// # Errors
    /// If no complete response came in that time.
    pub(crate) async fn get(&self, uri: Uri) -> Result<HttpReply, FailureReason> {
        self.get_as(uri, None).await
    }

    /// The same with a header `Authorization`.
    pub(crate) async fn get_as(
        &self,
        uri: Uri,
        authorization: Option<HeaderValue>,
    ) -> Result<HttpReply, FailureReason> {
        let after = self.time_outs.call;
        let host = authority(&uri).to_owned();
        let _waiting = self.waits.begin(&host);
        let mut request = Request::new(WatchedBody::none());
        *request.uri_mut() = uri;
        if let Some(authorization) = authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization);
        }
        let pool = self.pool();
        let exchange = async {
            let answer = pool.connections.request(request).await.map_err(|error| pool.reason(&error))?;
            let (head, body) = answer.into_parts();
            Ok(HttpReply { status: head.status.as_u16(), date: date(&head.headers), body: read(body).await? })
        };
        let result = timeout(after, exchange).await;
        let result = result.unwrap_or(Err(FailureReason::TimeOut { stage: CallStage::Answer, after }));
        self.waits.ended(&host, &result);
        result
    }

    fn pool(&self) -> ConnectionPool {
        self.pool.read().clone()
    }
}

impl ConnectionPool {
    fn new(network: &NetworkSettings, time_outs: TimeOuts) -> Result<Self, TlsError> {
        let NetworkSettings { trust, proxy } = network;
        let (tls, roots_missing) = match trust.config() {
            Ok(tls) => (tls, None),
            Err(missing @ TlsError::NoRoots(_)) => (trust.config_without_roots()?, Some(missing.to_string().into())),
            Err(error) => return Err(error),
        };
        Ok(Self { connections: connections(tls, proxy.clone(), time_outs), roots_missing })
    }

    /// Returns the reason of an error, with what is missing on this machine.
    fn reason(&self, error: &(dyn Error + 'static)) -> FailureReason {
        match (FailureReason::of(error), &self.roots_missing) {
            (FailureReason::Tls(detail), Some(missing)) => FailureReason::Tls(format!("{detail}; {missing}")),
            (reason, _) => reason,
        }
    }
}

fn connections(tls: ClientConfig, proxy: Option<Proxy>, time_outs: TimeOuts) -> legacy::Client<Connector, WatchedBody> {
    let inner = ProxyConnector::new(proxy);
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    let connector = Connector::new(https.wrap_connector(inner.clone()), inner, time_outs);
    legacy::Client::builder(TokioExecutor::new())
        // Without a timer the pool never closes a connection.
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .http1_max_buf_size(HEAD_LEN_MAX)
        .build(connector)
}

/// Returns the host and port of an address, which has no user.
fn authority(uri: &Uri) -> &str {
    uri.authority().map_or("", |authority| authority.as_str())
}

/// Reads the whole body. If it is longer than any response of the API, the connection is dropped with the rest.
async fn read(mut body: Incoming) -> Result<Bytes, FailureReason> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| FailureReason::of(&error))?;
        // Trailers mean nothing to the API.
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > BODY_LEN_MAX {
            return Err(FailureReason::BodyTooLong(BODY_LEN_MAX));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// Returns the time of the header `Date`, which HTTP writes in the one form `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()
}
