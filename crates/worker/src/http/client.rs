//! One call: connect or take a pooled connection, write, read a bounded answer, all within the time-outs.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Uri, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use imageshare_core::response::BODY_LEN_MAX;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::time::{Instant, timeout, timeout_at};

use super::{CallError, HEAD_LEN_MAX, Reason, Sending, Stage, sending::WatchedBody};

/// How long a connection without a call is kept. The vendor closes them after about 30 s, and a request that meets
/// the closing is lost without anybody knowing whether it was applied.
const IDLE: Duration = Duration::from_secs(20);

/// Connections without a call that are kept for one endpoint: as many as a lane has calls in flight by default.
const IDLE_CONNECTIONS_MAX: usize = 16;

/// How long a connection is silent before the system asks whether the other side is still there.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOuts {
    /// Until the request is written to an open connection: name, connection, handshake.
    pub connect: Duration,
    /// The whole call, from its beginning to the last byte of the answer.
    pub call: Duration,
}

/// The client. Cheap to clone; clones share the pool.
#[derive(Clone, Debug)]
pub struct Client {
    pool: legacy::Client<HttpsConnector<HttpConnector>, WatchedBody>,
    time_outs: TimeOuts,
    roots_missing: Option<Arc<str>>,
}

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up: {0}")]
pub struct ClientError(#[from] rustls::Error);

/// What came back: any status, whoever answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// What the server's clock showed, if it said so.
    pub date: Option<SystemTime>,
    /// The whole body, at most [`BODY_LEN_MAX`] bytes.
    pub body: Bytes,
}

impl Default for TimeOuts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(3), call: Duration::from_secs(10) }
    }
}

impl Client {
    /// A client that trusts the root certificates of this machine, or those that `SSL_CERT_FILE` names. Where there
    /// are none, calls over TLS fail and say so; plain ones to a sandbox on this machine need none.
    ///
    /// # Errors
    /// If the TLS library refuses its own defaults, which means that it was built wrongly.
    pub fn new(time_outs: TimeOuts) -> Result<Self, ClientError> {
        let provider = Arc::new(ring::default_provider());
        match HttpsConnectorBuilder::new().with_provider_and_native_roots(Arc::clone(&provider)) {
            Ok(builder) => {
                let connector = builder.https_or_http().enable_http1().wrap_connector(tcp(time_outs));
                Ok(Self { pool: pool(connector), time_outs, roots_missing: None })
            }
            Err(error) => {
                let tls = ClientConfig::builder_with_provider(provider)
                    .with_safe_default_protocol_versions()?
                    .with_root_certificates(RootCertStore::empty())
                    .with_no_client_auth();
                let roots_missing = Some(format!("no root certificates on this machine: {error}").into());
                Ok(Self { roots_missing, ..Self::with_tls(tls, time_outs) })
            }
        }
    }

    /// A client with TLS settings of the caller's.
    #[must_use]
    pub fn with_tls(tls: ClientConfig, time_outs: TimeOuts) -> Self {
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
        let connector = builder.https_or_http().enable_http1().wrap_connector(tcp(time_outs));
        Self { pool: pool(connector), time_outs, roots_missing: None }
    }

    /// How long a call may take.
    #[must_use]
    pub const fn time_outs(&self) -> TimeOuts {
        self.time_outs
    }

    /// Sends a request with an absolute address and a body that is not empty, once, and reads the answer. Redirects
    /// are answers like others. A request that a pooled connection lost before any of it was written is written to
    /// another one; nothing else is repeated.
    ///
    /// # Errors
    /// If no whole answer came within the time-outs. [`CallError::sent`] is false only if no byte of the request left
    /// and none will.
    pub async fn call(&self, request: Request<Bytes>, sending: &Arc<Sending>) -> Result<Reply, CallError> {
        let TimeOuts { connect, call } = self.time_outs;
        let deadline = Instant::now() + call;
        let request = request.map(|bytes| WatchedBody::new(bytes, Arc::clone(sending)));
        let mut exchange = self.pool.request(request);
        let too_late = |stage, after| CallError { sent: true, reason: Reason::TimeOut { stage, after } };

        let answer = match timeout(connect.min(call), &mut exchange).await {
            Ok(answer) => answer,
            Err(_) if sending.abandon() => {
                let reason = Reason::TimeOut { stage: Stage::Connection, after: connect.min(call) };
                return Err(CallError { sent: false, reason });
            }
            Err(_) => timeout_at(deadline, exchange).await.map_err(|_| too_late(Stage::Answer, call))?,
        };
        let (head, body) = match answer {
            Ok(answer) => answer.into_parts(),
            Err(error) => return Err(CallError { sent: !sending.abandon(), reason: self.reason(&error) }),
        };
        let body = timeout_at(deadline, read(body)).await.map_err(|_| too_late(Stage::Body, call))?;
        let body = body.map_err(|reason| CallError { sent: true, reason })?;
        Ok(Reply { status: head.status.as_u16(), date: date(&head.headers), body })
    }

    /// Reads a page. It has to come within the time for a connection: who is asked so is near.
    ///
    /// # Errors
    /// If no whole answer came in that time.
    pub(crate) async fn get(&self, uri: Uri) -> Result<Reply, Reason> {
        let after = self.time_outs.connect.min(self.time_outs.call);
        let mut request = Request::new(WatchedBody::none());
        *request.uri_mut() = uri;
        let exchange = async {
            let (head, body) = self.pool.request(request).await.map_err(|error| self.reason(&error))?.into_parts();
            Ok(Reply { status: head.status.as_u16(), date: date(&head.headers), body: read(body).await? })
        };
        timeout(after, exchange).await.unwrap_or(Err(Reason::TimeOut { stage: Stage::Answer, after }))
    }

    /// What an error is about, with what is known of this machine.
    fn reason(&self, error: &(dyn Error + 'static)) -> Reason {
        match (Reason::of(error), &self.roots_missing) {
            (Reason::Tls(detail), Some(missing)) => Reason::Tls(format!("{detail}; {missing}")),
            (reason, _) => reason,
        }
    }
}

/// The lower half: name and connection.
fn tcp(time_outs: TimeOuts) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    // TLS is the upper half's.
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE));
    // Shared out among the addresses of a name, so that one that is away leaves time for the next.
    tcp.set_connect_timeout(Some(time_outs.connect));
    tcp
}

fn pool(connector: HttpsConnector<HttpConnector>) -> legacy::Client<HttpsConnector<HttpConnector>, WatchedBody> {
    legacy::Client::builder(TokioExecutor::new())
        // Without a timer of its own the pool never closes anything.
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
        .http1_max_buf_size(HEAD_LEN_MAX)
        .build(connector)
}

/// The whole body, unless it is longer than any answer: then what is still to come is not waited for, and the
/// connection is dropped with it.
async fn read(mut body: Incoming) -> Result<Bytes, Reason> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Reason::of(&error))?;
        // Trailers mean nothing to the API.
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > BODY_LEN_MAX {
            return Err(Reason::BodyTooLong(BODY_LEN_MAX));
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// The time in a `Date` header, which HTTP writes in the one form `Sun, 06 Nov 1994 08:49:37 GMT`.
fn date(headers: &HeaderMap) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(header::DATE)?.to_str().ok()?).ok()
}
