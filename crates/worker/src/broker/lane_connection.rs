//! The connection of one lane. It consumes one queue, acknowledges, and asks whether the lane is still ours. It is never
//! repaired, and ends in one of two ways, as [`Connection`](super::Connection) does. One more of these asks for
//! [depths](super::depths) and consumes nothing.
//!
//! It has no thread of its own, and no buffers for idle frames (see [`Decoder`]).

use std::{
    io, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use imageshare_amqp::{
    BrokerVersion, Decoder, FRAME_MAX, Frame, IncomingMessage, MalformedFrame, PROTOCOL_HEADER, encode_heartbeat,
    encode_method,
};
use lapin::{
    protocol::{AMQPClass, basic, channel, connection, queue},
    types::{AMQPValue, FieldTable, LongString, ShortString},
};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split},
    sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    Error, TimeOuts, Url,
    connection::REPLY_SUCCESS,
    mechanism::Mechanism,
    topology::{Depth, PROOF},
    transport::{Cut, Wire},
};
use crate::wire::job::JOB_BYTES_MAX;

/// Bytes per read.
const READ_LEN: usize = 16 * 1024;

/// Bytes of a body that are kept if it is longer than a job may be: enough to recognize it.
const TRUNCATED_LEN: usize = 64 * 1024;

/// The one channel.
const CHANNEL: u16 = 1;

/// An open connection, with one channel.
pub(super) struct LaneConnection {
    incoming: LaneReader,
    outgoing: LaneWriter,
}

/// The side that reads.
pub(super) struct LaneReader {
    wire: ReadHalf<Wire>,
    /// Received bytes, and how many of them are decoded.
    bytes: Vec<u8>,
    decoded: usize,
    decoder: Decoder,
    /// Bytes of bodies that all lanes may have received and not parsed.
    room: Arc<Semaphore>,
    shared: Arc<LaneConnectionState>,
}

/// The side that writes. Dropping it cuts the connection.
pub(super) struct LaneWriter {
    shared: Arc<LaneConnectionState>,
    cut: Cut,
    writer: AbortHandle,
    time_outs: TimeOuts,
    broker: BrokerVersion,
}

/// A message and the bytes that are reserved for its body.
pub(super) type Reserved = (IncomingMessage, OwnedSemaphorePermit);

#[derive(Debug, Default)]
struct LaneConnectionState {
    /// Bytes to write. While the socket accepts none they are at most an acknowledgement of 21 bytes for each unacknowledged
    /// delivery and one question: the next question waits for the answer to the last one.
    bytes: Mutex<Vec<u8>>,
    written: Notify,
    /// Waits for the answer to `queue.declare`.
    question: Mutex<Option<oneshot::Sender<Depth>>>,
    /// Bytes received so far.
    received: AtomicU64,
    /// Whether it is reading at the moment.
    is_reading: AtomicBool,
}

/// What was received by some moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReadProgress {
    received: u64,
    is_reading: bool,
}

impl ReadProgress {
    /// Returns whether an answer may still be behind deliveries: some arrived since that moment, or reading has stopped.
    pub(super) const fn is_behind_since(self, before: Self) -> bool {
        !self.is_reading || self.received > before.received
    }
}

impl LaneConnection {
    /// Opens a connection that the broker lists under `name`. `room` limits the bytes of bodies.
    pub(super) async fn open(url: &Url, name: &str, time_outs: TimeOuts, room: Arc<Semaphore>) -> Result<Self, Error> {
        let cut = Cut::default();
        let limit = time_outs.connect_limit();
        let opened = timeout(limit, Self::handshake(url, name, time_outs, &cut, room)).await;
        let opened = opened.unwrap_or(Err(Error::TimeOut { call: "connect", after: limit }));
        if opened.is_err() {
            cut.cut();
        }
        opened
    }

    async fn handshake(
        url: &Url,
        name: &str,
        time_outs: TimeOuts,
        cut: &Cut,
        room: Arc<Semaphore>,
    ) -> Result<Self, Error> {
        let unreachable = |error: io::Error| Error::unreachable(&error, url.is_tls());
        let wire = Wire::connect(url, time_outs.heartbeat * 2, cut).await.map_err(unreachable)?;
        let (read, mut write) = split(wire);
        let shared = Arc::new(LaneConnectionState::default());
        let mut incoming = LaneReader {
            wire: read,
            bytes: Vec::new(),
            decoded: 0,
            decoder: Decoder::new(JOB_BYTES_MAX, TRUNCATED_LEN),
            room,
            shared: Arc::clone(&shared),
        };
        write.write_all(PROTOCOL_HEADER).await.map_err(unreachable)?;
        let start = incoming.opening(url.is_tls(), |method| match method {
            AMQPClass::Connection(connection::AMQPMethod::Start(start)) => Some(start),
            _ => None,
        });
        let start = start.await?;
        url.mechanism().check(start.mechanisms.as_bytes()).map_err(Error::Login)?;
        let broker = BrokerVersion::from_start(&start);
        let start_ok = connection::AMQPMethod::StartOk(start_ok(url, name));
        write.write_all(&encode_method(0, &AMQPClass::Connection(start_ok))).await.map_err(unreachable)?;
        let tune = incoming.opening(url.is_tls(), |method| match method {
            AMQPClass::Connection(connection::AMQPMethod::Tune(tune)) => Some(tune),
            _ => None,
        });
        let tune = tune.await?;
        let asked = u16::try_from(time_outs.heartbeat.as_secs()).unwrap_or(u16::MAX).max(1);
        let heartbeat = lower(tune.heartbeat.into(), asked.into());
        let tune_ok = connection::TuneOk {
            channel_max: tune.channel_max,
            frame_max: lower(tune.frame_max, FRAME_MAX),
            heartbeat: u16::try_from(heartbeat).unwrap_or(asked),
        };
        let open = connection::Open { virtual_host: short(url.vhost()) };
        for method in [connection::AMQPMethod::TuneOk(tune_ok), connection::AMQPMethod::Open(open)] {
            write.write_all(&encode_method(0, &AMQPClass::Connection(method))).await.map_err(unreachable)?;
        }
        let opened = incoming.opening(url.is_tls(), |method| match method {
            AMQPClass::Connection(connection::AMQPMethod::OpenOk(_)) => Some(()),
            _ => None,
        });
        opened.await?;
        let open = AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}));
        write.write_all(&encode_method(CHANNEL, &open)).await.map_err(unreachable)?;
        let opened = incoming.opening(url.is_tls(), |method| match method {
            AMQPClass::Channel(channel::AMQPMethod::OpenOk(_)) => Some(()),
            _ => None,
        });
        opened.await?;
        // The agreed one: after it the broker ends a silent connection, and gives the lane to another worker.
        let heartbeat = Duration::from_secs(heartbeat.into());
        let time_outs = TimeOuts { heartbeat, ..time_outs };
        let writer = tokio::spawn(write_all(write, Arc::clone(&shared), cut.clone(), heartbeat / 2)).abort_handle();
        Ok(Self { incoming, outgoing: LaneWriter { shared, cut: cut.clone(), writer, time_outs, broker } })
    }

    /// Consumes a queue, with at most this many unacknowledged deliveries.
    pub(super) async fn consume(&mut self, queue: &str, prefetch: u16) -> Result<(), Error> {
        let Self { incoming, outgoing } = self;
        let limit = outgoing.time_outs.call;
        let qos = basic::Qos { prefetch_count: prefetch, global: false };
        outgoing.send(&AMQPClass::Basic(basic::AMQPMethod::Qos(qos)));
        let is_set = incoming.answer("basic.qos", |method| match method {
            AMQPClass::Basic(basic::AMQPMethod::QosOk(_)) => Some(()),
            _ => None,
        });
        within(limit, "basic.qos", is_set).await?;
        let consume = consume(queue, "", FieldTable::default());
        outgoing.send(&AMQPClass::Basic(basic::AMQPMethod::Consume(consume)));
        let is_consumed = incoming.answer("basic.consume", |method| match method {
            AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(_)) => Some(()),
            _ => None,
        });
        within(limit, "basic.consume", is_consumed).await
    }

    /// Returns both sides, for one loop each.
    pub(super) const fn split(&mut self) -> (&mut LaneReader, &LaneWriter) {
        (&mut self.incoming, &self.outgoing)
    }

    /// Returns the limits for calls.
    pub(super) const fn time_outs(&self) -> TimeOuts {
        self.outgoing.time_outs
    }

    /// Waits until the broker has applied all acknowledgements, and drops what arrives meanwhile.
    ///
    /// The broker does not answer an acknowledgement, and a connection that ends loses those not yet applied: a channel has up
    /// to 32 commands under way to a quorum queue and keeps further ones back. A consumer is added and removed by commands
    /// that the queue applies in order and the broker answers: the first answer shows that what was under way is applied, the
    /// second one the same of what was kept back. The consumer has a lower priority and receives nothing.
    pub(super) async fn until_acks_are_applied(&mut self, queue: &str) -> Result<(), Error> {
        /// Names the consumer on this channel.
        const LAST: &str = "last";
        let Self { incoming, outgoing } = self;
        let mut arguments = FieldTable::default();
        arguments.insert("x-priority".into(), AMQPValue::LongInt(-1));
        let add = consume(queue, LAST, arguments);
        outgoing.send(&AMQPClass::Basic(basic::AMQPMethod::Consume(add)));
        let is_added = incoming.discard(|method| matches!(method, AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(_))));
        within(outgoing.time_outs.call, "basic.consume", is_added).await?;
        let remove = basic::Cancel { consumer_tag: short(LAST), nowait: false };
        outgoing.send(&AMQPClass::Basic(basic::AMQPMethod::Cancel(remove)));
        let is_removed = incoming.discard(|method| matches!(method, AMQPClass::Basic(basic::AMQPMethod::CancelOk(_))));
        within(outgoing.time_outs.call, "basic.cancel", is_removed).await
    }

    /// Closes it by the protocol, with consumer and channel alive: the broker requeues deliveries in order. It may lose
    /// acknowledgements that it has [not applied](Self::until_acks_are_applied).
    pub(super) async fn close(&mut self) -> Result<(), Error> {
        let Self { incoming, outgoing } = self;
        let (reply_code, reply_text) = (REPLY_SUCCESS, short("OK"));
        let close = connection::Close { reply_code, reply_text, class_id: 0, method_id: 0 };
        outgoing.write(&encode_method(0, &AMQPClass::Connection(connection::AMQPMethod::Close(close))));
        let is_closed =
            |method: &AMQPClass| matches!(method, AMQPClass::Connection(connection::AMQPMethod::CloseOk(_)));
        within(outgoing.time_outs.call, "connection.close", incoming.discard(is_closed)).await
    }
}

impl LaneReader {
    /// Returns the next message with its bytes reserved, or `None` if the broker ended the consumer. If the future is dropped
    /// while it waits for room, the connection is unusable.
    pub(super) async fn next(&mut self) -> Result<Option<Reserved>, Error> {
        let mut reserved = None;
        loop {
            let message = match self.frame().await.map_err(|error| lost("basic.deliver", &error))? {
                Frame::Content(len) => {
                    let bytes = u32::try_from(len).unwrap_or(u32::MAX);
                    let permit = Arc::clone(&self.room).acquire_many_owned(bytes).await;
                    reserved = Some(permit.map_err(|_| lost("basic.deliver", &io::ErrorKind::Interrupted.into()))?);
                    self.decoder.begin_body()
                }
                Frame::Message(message) => Some(*message),
                Frame::Method(method) => match *method {
                    AMQPClass::Basic(basic::AMQPMethod::Cancel(_)) => return Ok(None),
                    method => {
                        self.take("basic.deliver", &method)?;
                        None
                    }
                },
            };
            if let Some(message) = message {
                let reserved = reserved.take().expect("a message is complete only after its bytes were reserved");
                return Ok(Some((message, reserved)));
            }
        }
    }

    /// Waits for the answer to a call, before anything is consumed.
    async fn answer<T>(&mut self, call: &'static str, pick: impl Fn(AMQPClass) -> Option<T>) -> Result<T, Error> {
        loop {
            if let Frame::Method(method) = self.frame().await.map_err(|error| lost(call, &error))? {
                self.take(call, &method)?;
                if let Some(answer) = pick(*method) {
                    return Ok(answer);
                }
            }
        }
    }

    /// Waits for the answer to a call while the connection is opened.
    async fn opening<T>(&mut self, is_tls: bool, pick: impl Fn(AMQPClass) -> Option<T>) -> Result<T, Error> {
        loop {
            if let Frame::Method(method) = self.frame().await.map_err(|error| Error::unreachable(&error, is_tls))? {
                if let Some((code, text)) = closed(&method) {
                    return Err(Error::from_refusal(code, text));
                }
                if let Some(answer) = pick(*method) {
                    return Ok(answer);
                }
            }
        }
    }

    /// Processes a method other than a delivery.
    fn take(&self, call: &'static str, method: &AMQPClass) -> Result<(), Error> {
        if let Some((code, text)) = closed(method) {
            return Err(Error::from_close(call, code, text));
        }
        if let AMQPClass::Queue(queue::AMQPMethod::DeclareOk(declared)) = method
            && let Some(question) = self.shared.question.lock().take()
        {
            // The loop that asked may have ended.
            question.send(Depth { ready: declared.message_count, consumers: declared.consumer_count }).ok();
        }
        Ok(())
    }

    /// Reads until this method arrives, and drops everything else.
    async fn discard(&mut self, is_wanted: impl Fn(&AMQPClass) -> bool) -> Result<(), Error> {
        loop {
            match self.frame().await.map_err(|error| lost("connection.close", &error))? {
                Frame::Content(_) => drop(self.decoder.begin_body()),
                Frame::Message(_) => {}
                Frame::Method(method) if is_wanted(&method) => return Ok(()),
                Frame::Method(method) => self.take("connection.close", &method)?,
            }
        }
    }

    async fn frame(&mut self) -> io::Result<Frame> {
        loop {
            let rest = self.bytes.get_mut(self.decoded..).unwrap_or_default();
            let (taken, frame) = self.decoder.decode(rest).map_err(malformed)?;
            self.decoded += taken;
            if let Some(frame) = frame {
                return Ok(frame);
            }
            self.bytes.drain(..mem::take(&mut self.decoded));
            if self.bytes.is_empty() {
                // The last header may have been long.
                self.bytes.shrink_to(READ_LEN);
            }
            self.bytes.reserve(READ_LEN.saturating_sub(self.bytes.len()).max(READ_LEN / 2));
            self.shared.is_reading.store(true, Relaxed);
            let read = self.wire.read_buf(&mut self.bytes).await;
            self.shared.is_reading.store(false, Relaxed);
            match read? {
                0 => return Err(io::ErrorKind::ConnectionAborted.into()),
                len => self.shared.received.fetch_add(len as u64, Relaxed),
            };
        }
    }
}

impl LaneWriter {
    /// Acknowledges a delivery, or all up to it.
    pub(super) fn ack(&self, tag: u64, multiple: bool) {
        self.send(&AMQPClass::Basic(basic::AMQPMethod::Ack(basic::Ack { delivery_tag: tag, multiple })));
    }

    /// Asks for the depth of a queue, with an answer that proves that the node can commit.
    ///
    /// A node that is cut off and led the queue answers from its own state. That proves nothing, since the other nodes may have
    /// another leader. So an empty quorum queue is read first, on the same channel. Such a read is an entry in the log of the
    /// queue, which a node commits only with a majority. A node without one answers neither call.
    pub(super) async fn proven_depth(&self, queue: &str) -> Result<Depth, Error> {
        let get = basic::Get { queue: short(PROOF), no_ack: true };
        self.send(&AMQPClass::Basic(basic::AMQPMethod::Get(get)));
        self.depth(queue).await
    }

    /// Asks for the depth of a queue. Only one question may be outstanding. If the queue is missing, the broker closes the
    /// channel.
    ///
    /// The answer arrives behind earlier deliveries. While those keep arriving, or reading has stopped, it is awaited without
    /// limit, otherwise for a heartbeat.
    pub(super) async fn depth(&self, queue: &str) -> Result<Depth, Error> {
        let declare = queue::Declare {
            queue: short(queue),
            passive: true,
            durable: false,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        let (question, mut answer) = oneshot::channel();
        *self.shared.question.lock() = Some(question);
        self.send(&AMQPClass::Queue(queue::AMQPMethod::Declare(declare)));
        let (call, after) = ("queue.declare", self.time_outs.heartbeat);
        let mut before = self.progress();
        loop {
            match timeout(after, &mut answer).await {
                Ok(answer) => {
                    return answer.map_err(|_| lost(call, &io::ErrorKind::ConnectionAborted.into()));
                }
                Err(_) if self.progress().is_behind_since(before) => before = self.progress(),
                Err(_) => return Err(Error::TimeOut { call, after }),
            }
        }
    }

    /// Returns the limits for calls.
    pub(super) const fn time_outs(&self) -> TimeOuts {
        self.time_outs
    }

    /// Returns the version of the broker.
    pub(super) const fn broker(&self) -> &BrokerVersion {
        &self.broker
    }

    fn progress(&self) -> ReadProgress {
        ReadProgress { received: self.shared.received.load(Relaxed), is_reading: self.shared.is_reading.load(Relaxed) }
    }

    fn send(&self, method: &AMQPClass) {
        self.write(&encode_method(CHANNEL, method));
    }

    fn write(&self, frame: &[u8]) {
        self.shared.bytes.lock().extend_from_slice(frame);
        self.shared.written.notify_one();
    }
}

impl Drop for LaneWriter {
    fn drop(&mut self) {
        self.cut.cut();
        self.writer.abort();
    }
}

/// Writes, and sends a heartbeat after each pause without anything to write. If it fails, it cuts the connection, and the
/// reading side fails too.
async fn write_all(mut wire: WriteHalf<Wire>, shared: Arc<LaneConnectionState>, cut: Cut, pause: Duration) {
    loop {
        let bytes = mem::take(&mut *shared.bytes.lock());
        let written = if bytes.is_empty() {
            // Without heartbeats the pause is zero.
            let is_idle = tokio::select! {
                () = shared.written.notified() => false,
                () = sleep(pause), if !pause.is_zero() => true,
            };
            if is_idle { wire.write_all(&encode_heartbeat()).await } else { continue }
        } else {
            wire.write_all(&bytes).await
        };
        // TLS buffers until it is flushed.
        if written.is_err() || wire.flush().await.is_err() {
            return cut.cut();
        }
    }
}

/// Returns code and text if this method closes the connection or the channel.
fn closed(method: &AMQPClass) -> Option<(u16, &str)> {
    match method {
        AMQPClass::Connection(connection::AMQPMethod::Close(close)) => {
            Some((close.reply_code, close.reply_text.as_str()))
        }
        AMQPClass::Channel(channel::AMQPMethod::Close(close)) => Some((close.reply_code, close.reply_text.as_str())),
        _ => None,
    }
}

fn start_ok(url: &Url, name: &str) -> connection::StartOk {
    let long = |text: &str| AMQPValue::LongString(LongString::from(text));
    let mut capabilities = FieldTable::default();
    for capability in ["authentication_failure_close", "basic.nack", "connection.blocked", "consumer_cancel_notify"] {
        capabilities.insert(capability.into(), AMQPValue::Boolean(true));
    }
    let mut client_properties = FieldTable::default();
    for (name, value) in [
        ("connection_name", name),
        ("product", "imageshare"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("platform", "Rust"),
    ] {
        client_properties.insert(name.into(), long(value));
    }
    client_properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    let response = match url.mechanism() {
        Mechanism::External => String::new(),
        Mechanism::Plain => {
            let (user, password) = url.login();
            format!("\0{user}\0{password}")
        }
    };
    connection::StartOk {
        client_properties,
        mechanism: short(url.mechanism().as_str()),
        response: LongString::from(response),
        locale: short("en_US"),
    }
}

fn consume(queue: &str, tag: &str, arguments: FieldTable) -> basic::Consume {
    basic::Consume {
        queue: short(queue),
        consumer_tag: short(tag),
        no_local: false,
        no_ack: false,
        exclusive: false,
        nowait: false,
        arguments,
    }
}

/// Returns the lower limit. 0 means no limit of the broker.
fn lower(broker: u32, ours: u32) -> u32 {
    if broker == 0 { ours } else { broker.min(ours) }
}

/// Returns a short string. The settings check that names fit.
fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}

fn lost(call: &'static str, error: &io::Error) -> Error {
    Error::Lost { call, detail: imageshare_core::text::printable(&error.to_string(), 200) }
}

fn malformed(error: MalformedFrame) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

async fn within<T>(
    limit: Duration,
    call: &'static str,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    timeout(limit, future).await.unwrap_or(Err(Error::TimeOut { call, after: limit }))
}

#[cfg(test)]
mod tests {
    use imageshare_amqp::fake_broker::{BrokerLimits, FakeBroker};

    use super::*;

    #[tokio::test]
    async fn lower_heartbeat_of_broker_counts() {
        let limits = BrokerLimits { heartbeat: 4, ..BrokerLimits::default() };
        let broker = FakeBroker::with_limits(limits, |_, _| vec![]).await;
        let url = broker.url().parse().unwrap();
        let room = Arc::new(Semaphore::new(0));
        let connection = LaneConnection::open(&url, "test", TimeOuts::default(), room).await.unwrap();
        assert_eq!(connection.time_outs().heartbeat, Duration::from_secs(4), "10 s were requested");
    }

    #[test]
    fn lower_limit_counts_and_zero_is_none() {
        for (broker, agreed) in [(0, 131_072), (4096, 4096), (131_072, 131_072), (u32::MAX, 131_072)] {
            assert_eq!(lower(broker, FRAME_MAX), agreed);
        }
    }

    #[test]
    fn answer_may_be_behind_deliveries() {
        let at = |received, is_reading| ReadProgress { received, is_reading };
        assert!(!at(7, true).is_behind_since(at(7, true)));
        assert!(at(8, true).is_behind_since(at(7, true)));
        assert!(at(7, false).is_behind_since(at(7, true)), "reading has stopped");
    }
}
