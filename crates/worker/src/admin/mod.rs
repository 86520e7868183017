//! The admin server: the state of the process, by HTTP. It changes nothing and holds no secret.
//!
//! | path | response |
//! |---|---|
//! | `/` | a page for people that shows `/status` and refreshes itself |
//! | `/livez` | 200 while the driver's loop turns, else 503 |
//! | `/readyz` | 200 if the process is ready ([`Readiness`]), else 503; with the reasons |
//! | `/status` | the state of every lane |
//! | `/metrics` | metrics for Prometheus |
//!
//! On a loopback address it accepts only requests for that address or for `localhost` (see `host_check.rs`).
//!
//! It runs on a thread of its own and only reads [`Status`], so it neither waits for the work nor delays it. Slow and numerous
//! clients replace each other and take nothing else.

mod answer;
mod host_check;
mod page;
mod status_json;

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, convert::Infallible, io, net::SocketAddr, sync::Arc, thread, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::oneshot,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use self::{answer::answer, host_check::HostCheck};
use crate::status::Status;

/// Connections at once. Another one closes the oldest.
const CONNECTIONS_MAX: usize = 32;

/// The time-out of a request's head.
const HEAD_MAX: Duration = Duration::from_secs(5);

/// The time-out of a connection, which carries one request.
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// Bytes of a request's head.
const HEAD_LEN_MAX: usize = 16 * 1024;

/// The pause after a connection could not be accepted, usually for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What `/readyz` requires.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Readiness {
    /// The process works and is connected to the broker. A problem of a lane has a metric and an alert: an image that is not
    /// ready or a key that expired must not stop a rollout.
    #[default]
    Broker,
    /// Besides, every lane can work, and reports can be published.
    Lanes,
}

impl Readiness {
    /// All, in the order of their strictness.
    pub const ALL: [Self; 2] = [Self::Broker, Self::Lanes];

    /// Returns the word for it in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Broker => "broker",
            Self::Lanes => "lanes",
        }
    }
}

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct Admin {
    addr: SocketAddr,
    _runs: oneshot::Sender<Infallible>,
}

/// What a response is made of.
#[derive(Clone, Debug)]
struct Server {
    status: Arc<Status>,
    readiness: Readiness,
    host_check: HostCheck,
}

/// The server cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} for status and metrics: {reason}")]
pub struct CannotListen {
    addr: SocketAddr,
    reason: io::Error,
}

impl Admin {
    /// Starts a server. Port 0 is any free port. It listens when this returns.
    ///
    /// # Errors
    /// If it cannot listen on the address, or its thread cannot be started.
    pub fn start(listen: SocketAddr, readiness: Readiness, status: Arc<Status>) -> Result<Self, CannotListen> {
        Self::try_start(listen, readiness, status).map_err(|reason| CannotListen { addr: listen, reason })
    }

    fn try_start(listen: SocketAddr, readiness: Readiness, status: Arc<Status>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let server = Server { status, readiness, host_check: HostCheck::new(addr) };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (runs, ended) = oneshot::channel();
        thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    never = accept(listener, server) => match never {},
                    // It ends with its drop only.
                    _ = ended => {}
                }
            });
        })?;
        Ok(Self { addr, _runs: runs })
    }

    /// Returns the address on which it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Accepts connections.
async fn accept(listener: TcpListener, server: Server) -> Infallible {
    let mut connections = JoinSet::new();
    let mut in_order: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        in_order.retain(|connection| !connection.is_finished());
        if in_order.len() >= CONNECTIONS_MAX
            && let Some(oldest) = in_order.pop_front()
        {
            oldest.abort();
        }
        in_order.push_back(connections.spawn(timeout(CONNECTION_MAX, serve(stream, server.clone()))));
    }
}

/// Responds to one request. Errors of the connection do not matter.
async fn serve(stream: TcpStream, server: Server) {
    let service = service_fn(|request| {
        let response = answer(&server, &request);
        async { Ok::<_, Infallible>(response) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_LEN_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    drop(connection.await);
}
