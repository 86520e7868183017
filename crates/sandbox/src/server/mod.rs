//! The sandbox as a server: plain HTTP or TLS, for use inside a process and as a program.
//!
//! ```
//! use imageshare_sandbox::{Config, Sandbox, StartError};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), StartError> {
//! let sandbox = Sandbox::start(Config::default()).await?;
//! println!("listening on {}", sandbox.addr());
//! sandbox.stop().await;
//! # Ok(())
//! # }
//! ```

mod admin;
mod api;
pub(crate) mod hosts;
mod incoming;
mod metadata;
mod payload;
mod response;
mod socket;
mod state;
mod tls;
mod tunnel;

/// The sandbox over real sockets, with a client that signs with the code of the verifier.
#[cfg(test)]
mod tests {
    mod core_client;
    mod faults;
    mod kit;
    mod proxy;
    mod refusals;
    mod responses;
    mod shutdown;
}

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

use socket::{ResetSwitch, Socket};
use state::State;
use tls::Authority;
pub use tls::{CertificateError, is_certificate_name};
use tunnel::{Protocol, Tunnel, TunnelSlot};

use crate::{
    clock::{Clock, Now},
    faults::Faults,
    saved_state::SavedState,
    world::World,
};

/// The maximum number of connections.
const CONNECTIONS_MAX: usize = 2560;

/// How long the head of a request may take, and how long a connection may be idle.
const HEAD_SECONDS_MAX: Duration = Duration::from_secs(30);

/// The maximum length of a request's head with its query in bytes, and of the read buffer of a body.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// How long a TLS handshake may take.
const HANDSHAKE_SECONDS_MAX: Duration = Duration::from_secs(10);

/// The maximum length of all large bodies in memory, in KiB. Their parsed form may take ten times as much while the
/// request is processed.
const BODY_ROOM_KILOBYTES: usize = 32 * 1024;

/// How long a stop waits for responses in flight.
const GRACE: Duration = Duration::from_secs(1);

/// The settings of a sandbox.
#[derive(Clone, Debug)]
pub struct Config {
    /// The address to listen on; port 0 selects a free port.
    pub listen: SocketAddr,
    /// The world at the start.
    pub world: World,
    /// The images and shares at the start, in place of those of the world.
    pub state: Option<SavedState>,
    /// The faults at the start.
    pub faults: Faults,
    /// The delay of each response of the API, not of the admin interface or the metadata service.
    pub latency: Duration,
    /// The limit in requests per second, by key, of each action that lists or changes shares, or that creates, copies,
    /// changes or deletes images; 0 makes all actions unlimited. DescribeImages has four times the limit; the other
    /// actions have their documented limits.
    pub rps: u32,
    /// The protocol of the address.
    pub scheme: Scheme,
}

impl Default for Config {
    /// The open world on a free port of the loopback address, with the documented limits, without faults or latency.
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            world: World::open(),
            state: None,
            faults: Faults::default(),
            latency: Duration::ZERO,
            rps: 10,
            scheme: Scheme::Http,
        }
    }
}

/// The protocol that a sandbox speaks on its address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Plain HTTP.
    Http,
    /// HTTP over TLS, with a certificate for the names of the API, for this machine and for these names: DNS names or IP
    /// addresses.
    Https(Vec<String>),
}

/// A sandbox could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The sandbox cannot listen on the address.
    #[error("cannot listen on {addr}: {reason}")]
    Listen {
        /// The address.
        addr: SocketAddr,
        /// The error of the system.
        reason: io::Error,
    },
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] CertificateError),
}

/// A running sandbox. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Sandbox {
    addr: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared>,
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Sandbox {
    /// Starts a sandbox on the runtime of the caller. It is listening when this returns.
    ///
    /// # Errors
    /// If it cannot listen on the address or TLS cannot be set up.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let Config { listen, world, state: saved, faults, latency, rps, scheme } = config;
        let authority = Arc::new(Authority::new()?);
        let (tls, scheme) = match scheme {
            Scheme::Http => (None, "http"),
            Scheme::Https(names) => {
                let names = hosts::certificate_names().into_iter().chain(names).collect();
                (Some(authority.acceptor(names)?), "https")
            }
        };
        let unable = |reason| StartError::Listen { addr: listen, reason };
        let listener = TcpListener::bind(listen).await.map_err(unable)?;
        let addr = listener.local_addr().map_err(unable)?;
        let clock = Clock::start();
        let now = Now { micros: clock.micros(), unix_seconds: Clock::unix_seconds() };
        let mut state = State::new(world, rps, faults, now);
        if let Some(saved) = saved {
            state.restore(saved);
        }
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            clock,
            latency,
            body_room: Semaphore::new(BODY_ROOM_KILOBYTES),
            authority,
        });
        let (stop, stopped) = watch::channel(());
        let task = tokio::spawn(accept(listener, Arc::clone(&shared), tls, stopped));
        Ok(Self { addr, scheme, shared, stop, task })
    }

    /// Returns the address it listens on.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the endpoint for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.addr)
    }

    /// Returns the PEM certificate of the authority that clients must trust, for TLS and for `CONNECT`.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.shared.authority.pem()
    }

    /// Returns the images and shares as they are now.
    #[must_use]
    pub fn state(&self) -> SavedState {
        SavedState::of(&self.shared.lock().ledger)
    }

    /// Stops accepting connections, waits up to one second for responses in flight, and ends. Returns the last state.
    pub async fn stop(self) -> SavedState {
        let Self { stop, task, shared, .. } = self;
        drop(stop);
        // An error means that the task panicked, and then nothing is left to stop.
        drop(task.await);
        SavedState::of(&shared.lock().ledger)
    }
}

/// The state of all connections.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    clock: Clock,
    latency: Duration,
    body_room: Semaphore,
    authority: Arc<Authority>,
}

impl Shared {
    /// Locks the state. A panic in one request must not affect the others, so a poisoned lock is ignored.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the time. Call it with the lock held, so that arrivals are counted in the order of their times.
    fn now(&self) -> Now {
        Now { micros: self.clock.micros(), unix_seconds: Clock::unix_seconds() }
    }
}

/// Accepts connections until the handle is stopped or dropped.
async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>, stopped: watch::Receiver<()>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut stop = stopped.clone();
    loop {
        while connections.try_join_next().is_some() {}
        let accept = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            _ = stop.changed() => break,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let (shared, tls, stopped) = (Arc::clone(&shared), tls.clone(), stopped.clone());
                connections.spawn(async move {
                    connection(stream, shared, tls, stopped).await;
                    drop(place);
                });
            }
            // Most likely out of file descriptors, until other connections end.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
    drop(listener);
    let ended = timeout(GRACE, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        connections.shutdown().await;
    }
}

/// Serves a connection. Its errors concern only the client.
async fn connection(stream: TcpStream, shared: Arc<Shared>, tls: Option<TlsAcceptor>, stopped: watch::Receiver<()>) {
    // Responses are small and written at once. Without this option they are only slower.
    drop(stream.set_nodelay(true));
    let switch = ResetSwitch::default();
    let socket = Socket::new(stream, switch.clone());
    let client = Client { switch, shared, stopped };
    let slot = TunnelSlot::default();
    match tls {
        None => client.serve(socket, Some(&slot)).await,
        Some(tls) => client.serve_tls(tls, socket, Some(&slot)).await,
    }
    let Some(Tunnel { protocol, upgrade }) = slot.take() else { return };
    let Ok(tunnel) = upgrade.await.map(TokioIo::new) else { return };
    match protocol {
        Protocol::Http => client.serve(tunnel, None).await,
        Protocol::Tls(name) => {
            if let Ok(tls) = client.shared.authority.acceptor(vec![name]) {
                client.serve_tls(tls, tunnel, None).await;
            }
        }
    }
}

/// A connected client.
struct Client {
    switch: ResetSwitch,
    shared: Arc<Shared>,
    stopped: watch::Receiver<()>,
}

impl Client {
    async fn serve_tls<S>(&self, tls: TlsAcceptor, socket: S, slot: Option<&TunnelSlot>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if let Ok(Ok(socket)) = timeout(HANDSHAKE_SECONDS_MAX, tls.accept(socket)).await {
            self.serve(socket, slot).await;
        }
    }

    /// Serves requests until the connection ends or becomes a tunnel, which is then in the slot.
    async fn serve<S>(&self, socket: S, slot: Option<&TunnelSlot>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service =
            service_fn(|request| api::answer(Arc::clone(&self.shared), self.switch.clone(), slot.cloned(), request));
        let mut stopped = self.stopped.clone();
        let mut connection = std::pin::pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_SECONDS_MAX)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(socket), service)
                .with_upgrades()
        );
        tokio::select! {
            ended = connection.as_mut() => drop(ended),
            _ = stopped.changed() => {
                connection.as_mut().graceful_shutdown();
                drop(connection.await);
            }
        }
    }
}
