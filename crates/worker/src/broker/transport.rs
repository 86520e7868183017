//! The TCP connection to the broker, with TLS if the address has that scheme, for the client library or a lane.
//!
//! The library could connect by itself, but has no time-out for that, and gives no access to the socket. Shutting down the
//! socket is the only way to end a frozen connection that requeues its deliveries in order.

use std::{
    fmt, io, mem,
    net::{Shutdown, SocketAddr, TcpStream as Socket},
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_rs::{
    Tokio,
    traits::{Executor, Reactor, RuntimeKit},
    util::Task,
};
use imageshare_amqp::{BrokerVersion, FRAME_MAX_MIN, ReadLimit, Scrubber};
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{Url, mechanism::Mechanism};
use crate::net::Network;

/// The broker allows only frames that are too short for the client library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame_max: the broker allows {bytes} bytes (expected at least {FRAME_MAX_MIN})")]
pub struct FrameMax {
    bytes: usize,
}

/// How long a connection is silent before the system probes the other side. Heartbeats are more frequent, but the broker
/// stops them during a memory alarm.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// An open connection. What arrives is scrubbed before the library reads it.
pub(super) struct Stream {
    wire: Wire,
    scrubber: Scrubber,
    shared: Arc<SharedWithStream>,
    /// The one with which the library logs in.
    mechanism: Mechanism,
}

/// What a connection shares with the stream under the library.
#[derive(Debug, Default)]
pub(super) struct SharedWithStream {
    pub(super) read_limit: ReadLimit,
    pub(super) broker: OnceLock<BrokerVersion>,
}

/// The socket, with or without TLS.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A handle to end a connection below the library.
#[derive(Clone, Default)]
pub(super) struct Cut(Arc<Mutex<CutState>>);

#[derive(Default)]
enum CutState {
    #[default]
    NotYet,
    Open(Socket),
    Cut,
}

/// The runtime for the client library: tokio, with [`Stream`] in place of its own.
#[derive(Clone, Debug)]
pub(super) struct Transport(Tokio);

impl Stream {
    /// Connects as [`Wire::connect`] does.
    pub(super) async fn connect(
        url: &Url,
        unanswered_max: Duration,
        cut: &Cut,
        shared: Arc<SharedWithStream>,
    ) -> io::Result<Self> {
        let wire = Wire::connect(url, unanswered_max, cut).await?;
        Ok(Self { wire, scrubber: Scrubber::default(), shared, mechanism: url.mechanism() })
    }
}

impl Wire {
    /// Connects. The caller limits the time. `unanswered_max` is how long sent bytes may stay unacknowledged before the system
    /// closes the connection.
    pub(super) async fn connect(url: &Url, unanswered_max: Duration, cut: &Cut) -> io::Result<Self> {
        let tcp = Network::of_process().connect(url.host(), url.port()).await.map_err(io::Error::other)?;
        // Publishes are small and wait for their confirms, so they must not wait for more bytes.
        tcp.set_nodelay(true)?;
        let socket = SockRef::from(&tcp);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE))?;
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        socket.set_tcp_user_timeout(Some(unanswered_max))?;
        let tcp = cut.keep(tcp)?;
        if !url.is_tls() {
            return Ok(Self::Plain(tcp));
        }
        // The root's dot is part of a name for the resolver only (RFC 6066, section 3).
        let name = ServerName::try_from(url.host().trim_end_matches('.').to_owned()).map_err(io::Error::other)?;
        // The files are read for each connection, so a new authority or certificate needs no restart.
        let tls = url.trust().config().map_err(io::Error::other)?;
        let tls = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?;
        Ok(Self::Tls(Box::new(tls)))
    }
}

impl Cut {
    /// Keeps a second handle of the socket, unless it was cut already.
    fn keep(&self, tcp: TcpStream) -> io::Result<TcpStream> {
        let socket = tcp.into_std()?;
        let mut kept = self.0.lock();
        if matches!(*kept, CutState::Cut) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        *kept = CutState::Open(socket.try_clone()?);
        TcpStream::from_std(socket)
    }

    /// Ends the connection in both directions at once, also one that is still being opened. To the broker it looks like the end
    /// of a killed process.
    pub(super) fn cut(&self) {
        if let CutState::Open(socket) = mem::replace(&mut *self.0.lock(), CutState::Cut) {
            // It may have been closed already.
            drop(socket.shutdown(Shutdown::Both));
        }
    }
}

impl Transport {
    /// Uses the current runtime.
    pub(super) fn current() -> Self {
        Self(Tokio::current())
    }
}

impl RuntimeKit for Transport {}

impl Executor for Transport {
    type Task<T: Send + 'static> = <Tokio as Executor>::Task<T>;

    fn block_on<T, F: Future<Output = T>>(&self, f: F) -> T {
        self.0.block_on(f)
    }

    fn spawn<T: Send + 'static, F: Future<Output = T> + Send + 'static>(&self, f: F) -> Task<Self::Task<T>> {
        self.0.spawn(f)
    }

    fn spawn_blocking<T: Send + 'static, F: FnOnce() -> T + Send + 'static>(&self, f: F) -> Task<Self::Task<T>> {
        self.0.spawn_blocking(f)
    }
}

impl Reactor for Transport {
    type TcpStream = Stream;
    type Sleep = Sleep;

    /// Not used: the library registers no socket of its own.
    fn register<H: Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl futures_io::AsyncRead + futures_io::AsyncWrite + Send + Unpin + 'static> {
        Err::<Stream, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, dur: Duration) -> Self::Sleep {
        self.0.sleep(dur)
    }

    fn interval(&self, dur: Duration) -> impl futures_core::Stream<Item = Instant> + Send + 'static {
        self.0.interval(dur)
    }

    /// Connections are made by [`Stream::connect`] only.
    fn tcp_connect_addr(&self, _: SocketAddr) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        std::future::ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

impl futures_io::AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let Self { wire, scrubber, shared, mechanism } = self.get_mut();
        loop {
            let copied = scrubber.read(buf);
            if copied > 0 || buf.is_empty() {
                return Poll::Ready(Ok(copied));
            }
            if !shared.read_limit.has_room(cx.waker()) {
                return Poll::Pending;
            }
            let mut read = ReadBuf::new(buf);
            ready!(Pin::new(&mut *wire).poll_read(cx, &mut read))?;
            let len = read.filled().len();
            let Some(bytes) = buf.get_mut(..len).filter(|bytes| !bytes.is_empty()) else { return Poll::Ready(Ok(0)) };
            let usable = scrubber.scrub(bytes);
            shared.read_limit.received(scrubber.take_bodies());
            if let Some((broker, offered)) = scrubber.take_broker() {
                // A connection is opened once.
                drop(shared.broker.set(broker));
                mechanism.check(&offered).map_err(io::Error::other)?;
            }
            if let Some(bytes) = scrubber.unusable_frame_max() {
                return Poll::Ready(Err(io::Error::other(FrameMax { bytes })));
            }
            if usable > 0 {
                return Poll::Ready(Ok(usable));
            }
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl futures_io::AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().wire).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().wire).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().wire).poll_shutdown(cx)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}
