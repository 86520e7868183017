//! One AMQP connection: opened within a time-out, never repaired, ended in one of two ways.

use std::{fmt, io, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use imageshare_amqp::BrokerVersion;
use lapin::{Channel, ConnectionProperties, Consumer, ErrorKind, Event, message::Delivery};
use tokio::time::timeout;

use super::{
    Error, Url,
    transport::{Cut, SharedWithStream, Stream, Transport},
};

/// The reply code of a regular close (AMQP 0-9-1, reply-success).
pub(super) const REPLY_SUCCESS: u16 = 200;

/// Limits for the time of calls to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeOuts {
    /// For opening a connection, from name resolution to the end of the handshake. At most 10 s.
    pub connect: Duration,
    /// For any other call.
    pub call: Duration,
    /// The heartbeat, in whole seconds, at least one: the requested one, or in an open connection of a lane the agreed one. A
    /// peer that is silent for twice as long is dead.
    pub heartbeat: Duration,
}

/// The longest frame, in bytes: what brokers allow by default. Without it, a broker without a limit would make the library
/// allocate without limit.
const FRAME_MAX: u32 = 128 * 1024;

/// The same for a connection with short calls only.
pub(super) const SMALL_FRAME_MAX: u32 = 8 * 1024;

/// The longest time that a connection may take to open.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// A connection. After its first error it is unusable: drop it and open another one.
///
/// Dropping it [cuts](Self::cut) it. Drop it before its consumers and channels: a dropped consumer cancels itself, and the
/// broker then requeues its deliveries in the wrong order.
pub struct Connection {
    library: lapin::Connection,
    cut: Cut,
    shared: Arc<SharedWithStream>,
    time_outs: TimeOuts,
}

impl Default for TimeOuts {
    fn default() -> Self {
        Self { connect: CONNECT_MAX, call: Duration::from_secs(10), heartbeat: Duration::from_secs(10) }
    }
}

impl TimeOuts {
    /// Returns the limit for opening a connection.
    pub(super) fn connect_limit(&self) -> Duration {
        self.connect.min(CONNECT_MAX)
    }
}

impl Connection {
    /// Opens a connection that the broker lists under `name`.
    ///
    /// # Errors
    /// If the broker cannot be reached, refuses, or does not answer in time.
    pub async fn open(url: &Url, name: &str, time_outs: TimeOuts) -> Result<Self, Error> {
        Self::open_with(url, name, time_outs, FRAME_MAX).await
    }

    /// The same with frames of at most this many bytes. The library comes to use 64 times as much memory.
    pub(super) async fn open_with(url: &Url, name: &str, time_outs: TimeOuts, frame_max: u32) -> Result<Self, Error> {
        let (cut, shared) = (Cut::default(), Arc::<SharedWithStream>::default());
        let heartbeat = u16::try_from(time_outs.heartbeat.as_secs()).unwrap_or(u16::MAX).max(1);
        let (kept, of_stream, url_of_socket) = (cut.clone(), Arc::clone(&shared), url.clone());
        let unanswered_max = time_outs.heartbeat * 2;
        let limit = time_outs.connect_limit();
        // The library runs this on a thread of its own, which continues after the time-out.
        let connect = async move |_, _| {
            let connecting = Stream::connect(&url_of_socket, unanswered_max, &kept, Arc::clone(&of_stream));
            let connected = timeout(limit, connecting).await;
            let stream = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            stream.map(lapin::tcp::AsyncTcpStream::Plain).map_err(lapin::Error::from)
        };
        let runtime = async_rs::Runtime::new(Transport::current());
        let opening =
            lapin::Connection::connector(url.to_uri(heartbeat, frame_max), runtime, connect, properties(name));
        match timeout(limit, opening).await {
            Ok(Ok(library)) => Ok(Self { library, cut, shared, time_outs }),
            Ok(Err(error)) => {
                cut.cut();
                Err(Error::from_opening(&error, url.is_tls()))
            }
            Err(_) => {
                cut.cut();
                Err(Error::TimeOut { call: "connect", after: limit })
            }
        }
    }

    /// Returns the version of the broker.
    #[must_use]
    pub fn broker(&self) -> BrokerVersion {
        self.shared.broker.get().cloned().unwrap_or_default()
    }

    /// Opens a channel.
    ///
    /// # Errors
    /// If the call fails or takes too long.
    pub async fn channel(&self) -> Result<Channel, Error> {
        let allowed = self.channel_max();
        let opening = async {
            match self.library.create_channel().await {
                Err(error) if matches!(error.kind(), ErrorKind::ChannelsLimitReached) => Ok(None),
                opened => opened.map(Some),
            }
        };
        let opened = bounded(self.time_outs.call, "channel.open", opening).await?;
        opened.ok_or_else(|| Error::ChannelMax { allowed, needed: usize::from(allowed) + 1 })
    }

    /// Returns how many channels the broker allows.
    pub(super) fn channel_max(&self) -> u16 {
        match self.library.configuration().channel_max() {
            0 => u16::MAX,
            max => max,
        }
    }

    /// Returns the events of the connection. They have to be read, since the library keeps them without limit.
    pub fn events(&self) -> impl futures_core::Stream<Item = Event> + Send + 'static {
        self.library.events_listener()
    }

    /// Stops reading from now on while the library holds too many bytes of messages that
    /// [`next_delivery`](Self::next_delivery) has not returned.
    pub(super) fn limit_reading(&self) {
        self.shared.read_limit.turn_on();
    }

    /// Returns the next delivery of a consumer; `None` if the consumer ended. Dropping the future loses no delivery.
    pub(super) async fn next_delivery(&self, consumer: &mut Consumer) -> Option<lapin::Result<Delivery>> {
        /// How long the library may return nothing before what it holds must be the beginning of a longer message.
        const PARTIAL: Duration = Duration::from_millis(100);
        loop {
            let Ok(next) = timeout(PARTIAL, consumer.next()).await else {
                // That beginning must not stop the rest of the message.
                self.shared.read_limit.taken(usize::MAX);
                continue;
            };
            if let Some(Ok(delivery)) = &next {
                self.shared.read_limit.taken(delivery.data.len());
            }
            return next;
        }
    }

    /// Returns the limits for calls.
    #[must_use]
    pub const fn time_outs(&self) -> TimeOuts {
        self.time_outs
    }

    /// Returns whether the library has not seen its end.
    pub(super) fn is_open(&self) -> bool {
        self.library.status().connected()
    }

    /// Returns whether the broker accepts no messages for lack of memory or disk.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.library.status().blocked()
    }

    /// Closes it by the protocol, with consumers and channels alive: the broker requeues deliveries in order. It may lose
    /// acknowledgements that it has not applied.
    ///
    /// # Errors
    /// If the broker does not answer in time. The connection is closed all the same.
    pub async fn close(&self) -> Result<(), Error> {
        bounded(self.time_outs.call, "connection.close", self.library.close(REPLY_SUCCESS, "OK".into())).await
    }

    /// Ends the connection below the library at once, as if the process was killed. The broker requeues deliveries in order.
    pub fn cut(&self) {
        self.cut.cut();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.cut();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("status", self.library.status()).finish_non_exhaustive()
    }
}

/// Awaits a call of the library for at most `limit`.
///
/// # Errors
/// If it fails or takes longer. The error names the `call`.
pub async fn bounded<T>(
    limit: Duration,
    call: &'static str,
    future: impl Future<Output = lapin::Result<T>>,
) -> Result<T, Error> {
    match timeout(limit, future).await {
        Ok(ended) => ended.map_err(|error| Error::from_call(call, &error)),
        Err(_) => Err(Error::TimeOut { call, after: limit }),
    }
}

fn properties(name: &str) -> ConnectionProperties {
    ConnectionProperties::default()
        .with_connection_name(name.into())
        .with_client_property("product".into(), "imageshare".into())
        .with_client_property("version".into(), env!("CARGO_PKG_VERSION").into())
        .with_client_property("platform".into(), "Rust".into())
}
