//! The admin server: what a process says of itself, by HTTP, to whoever may reach it. It changes nothing and knows no
//! secret.
//!
//! | path | answers |
//! |---|---|
//! | `/` | a page for people that shows `/status` and keeps itself up to date |
//! | `/livez` | 200 while the loop that does the work comes round, else 503 |
//! | `/readyz` | 200 if every lane can work, else 503 with the reasons |
//! | `/status` | everything about every lane |
//! | `/metrics` | for Prometheus |
//!
//! On a loopback address it answers only what was asked of that address or of `localhost`: `host_check.rs` says why.
//!
//! Nothing here waits for the work, or holds it up: all is read from what others have noted, on a thread of its own, so
//! that it answers however busy the others are. Clients that are slow, or many, take the place of each other and nothing
//! else.

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

/// Connections at once. For one more, the oldest has to go.
const CONNECTIONS_MAX: usize = 32;

/// How long the head of a request may take.
const HEAD_MAX: Duration = Duration::from_secs(5);

/// How long a connection may take from its beginning to its end: it carries one request.
const CONNECTION_MAX: Duration = Duration::from_secs(10);

/// Bytes of a request's head.
const HEAD_LEN_MAX: usize = 16 * 1024;

/// How long to wait when no connection can be taken, most likely for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A server that runs. Dropped, it ends.
#[derive(Debug)]
pub struct Admin {
    addr: SocketAddr,
    _runs: oneshot::Sender<Infallible>,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {addr} for status and metrics: {reason}")]
pub struct CannotListen {
    addr: SocketAddr,
    reason: io::Error,
}

impl Admin {
    /// Starts one. Port 0 is any that is free. It is listening when this returns.
    ///
    /// # Errors
    /// If the address cannot be listened on, or there is no thread for it.
    pub fn start(listen: SocketAddr, status: Arc<Status>) -> Result<Self, CannotListen> {
        Self::try_start(listen, status).map_err(|reason| CannotListen { addr: listen, reason })
    }

    fn try_start(listen: SocketAddr, status: Arc<Status>) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let addr = listener.local_addr()?;
        let host_check = HostCheck::new(addr);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let listener = {
            let _entered = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let (runs, ended) = oneshot::channel();
        thread::Builder::new().name("admin".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    never = accept(listener, status, host_check) => match never {},
                    // Only its drop can come.
                    _ = ended => {}
                }
            });
        })?;
        Ok(Self { addr, _runs: runs })
    }

    /// The address it listens on.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Takes connections for ever.
async fn accept(listener: TcpListener, status: Arc<Status>, host_check: HostCheck) -> Infallible {
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
        in_order.push_back(connections.spawn(timeout(CONNECTION_MAX, serve(stream, Arc::clone(&status), host_check))));
    }
}

/// Answers one request. How the connection ends is the client's business.
async fn serve(stream: TcpStream, status: Arc<Status>, host_check: HostCheck) {
    let service = service_fn(|request| {
        let answered = answer(&status, host_check, &request);
        async { Ok::<_, Infallible>(answered) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_LEN_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    drop(connection.await);
}
