//! The bytes between us and the broker: a TCP connection of our own making, in TLS where the address says so, handed
//! to the client library.
//!
//! The library could connect by itself, but has no time-out there, and lets nobody at the socket. Shutting that down is
//! the one way to end a connection whose other side has stopped without telling the broker in the wrong order.

use std::{
    fmt, io, mem,
    net::{Shutdown, SocketAddr, TcpStream as Socket},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use async_rs::{
    Tokio,
    traits::{Executor, Reactor, RuntimeKit},
    util::Task,
};
use imageshare_amqp::{BrokerVersion, FRAME_MAX_MIN, ReadLimit, Scrubber};
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

/// The broker allows only frames that are shorter than those of the client library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("frame_max: the broker allows {bytes} bytes (expected at least {FRAME_MAX_MIN})")]
pub struct FrameMax {
    bytes: usize,
}

/// How long a connection is silent before the system asks whether the other side is still there. Heartbeats come more
/// often; this one is for the time of a memory alarm, in which the broker stops them.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// An open connection. What comes on it is made harmless before the library reads it.
pub(super) struct Stream {
    wire: Wire,
    scrubber: Scrubber,
    shared: Arc<SharedWithStream>,
    /// The one that the library uses.
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

/// What is kept of a connection to end it below the library.
#[derive(Clone, Default)]
pub(super) struct Cut(Arc<Mutex<Kept>>);

#[derive(Default)]
enum Kept {
    #[default]
    NotYet,
    Open(Socket),
    Cut,
}

/// What the client library runs on: tokio, with [`Stream`] in place of its own.
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
    /// Connects, within the time-out of whoever awaits it. `unanswered_max` is how long sent bytes may stay
    /// unacknowledged before the system gives the connection up.
    pub(super) async fn connect(url: &Url, unanswered_max: Duration, cut: &Cut) -> io::Result<Self> {
        let tcp = Network::of_process().connect(url.host(), url.port()).await.map_err(io::Error::other)?;
        // Publishes are small and wait for their confirms: none of them is to wait for more.
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
        // The files are read for each connection, so that a new authority or certificate needs no restart.
        let tls = url.trust().config().map_err(io::Error::other)?;
        let tls = TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?;
        Ok(Self::Tls(Box::new(tls)))
    }
}

impl Cut {
    /// Keeps a second handle of the socket, unless all is over already.
    fn keep(&self, tcp: TcpStream) -> io::Result<TcpStream> {
        let socket = tcp.into_std()?;
        let mut kept = self.lock();
        if matches!(*kept, Kept::Cut) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        *kept = Kept::Open(socket.try_clone()?);
        TcpStream::from_std(socket)
    }

    /// Ends the connection, both ways, at once; one that is still to come does not begin. The broker sees the end as it
    /// would that of a process that was killed.
    pub(super) fn cut(&self) {
        if let Kept::Open(socket) = mem::replace(&mut *self.lock(), Kept::Cut) {
            // It may have been closed already.
            drop(socket.shutdown(Shutdown::Both));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Transport {
    /// On the runtime that this is called in.
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

    /// The library registers no socket of its own, and what the bound of the trait is cannot be named here.
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
