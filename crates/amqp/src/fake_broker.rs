//! A broker for tests. It opens connections and channels as RabbitMQ does; a script answers all other methods.

use std::net::{Ipv4Addr, SocketAddr};

use lapin::{
    ConnectionProperties,
    protocol::{AMQPClass, basic, channel, confirm, connection, parse_class},
    types::{FieldTable, LongString, ShortString},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use crate::{FRAME_MAX, HEAD_LEN, Message, PROTOCOL_HEADER, encode_method};

const NO_ROUTE: u16 = 312;

/// A broker that accepts connections until it is dropped.
#[derive(Debug)]
pub struct FakeBroker {
    address: SocketAddr,
    task: AbortHandle,
}

/// The limits that a broker announces when a connection is opened.
#[derive(Clone, Copy, Debug)]
pub struct BrokerLimits {
    /// Channels of a connection; 0 means no limit.
    pub channel_max: u16,
    /// Bytes of a frame; 0 means no limit.
    pub frame_max: u32,
    /// Seconds between heartbeats; 0 means that the client decides.
    pub heartbeat: u16,
}

impl Default for BrokerLimits {
    fn default() -> Self {
        Self { channel_max: 0, frame_max: FRAME_MAX, heartbeat: 60 }
    }
}

impl FakeBroker {
    /// Starts a broker. The script gets the channel and each method that does not open a connection or channel, and returns
    /// the frames to send.
    pub async fn start(script: impl FnMut(u16, &AMQPClass) -> Vec<Vec<u8>> + Send + 'static) -> Self {
        Self::with_limits(BrokerLimits::default(), script).await
    }

    /// Starts a broker with other limits.
    ///
    /// # Panics
    /// If no port is free.
    pub async fn with_limits(
        limits: BrokerLimits,
        mut script: impl FnMut(u16, &AMQPClass) -> Vec<Vec<u8>> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                // The client may end the connection at any time.
                serve(client, limits, &mut script).await.ok();
            }
        });
        Self { address, task: task.abort_handle() }
    }

    /// The address of the broker.
    #[must_use]
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.address)
    }

    /// Opens a connection by the client library.
    ///
    /// # Panics
    /// If that fails.
    pub async fn connect(&self) -> lapin::Connection {
        let properties = ConnectionProperties::default();
        lapin::Connection::connect(&self.url(), properties).await.expect("the broker accepts the connection")
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(
    mut client: TcpStream,
    limits: BrokerLimits,
    script: &mut impl FnMut(u16, &AMQPClass) -> Vec<Vec<u8>>,
) -> std::io::Result<()> {
    client.read_exact(&mut [0; PROTOCOL_HEADER.len()]).await?;
    let (mechanisms, locales) = (LongString::from("PLAIN"), LongString::from("en_US"));
    let (version_major, version_minor, server_properties) = (0, 9, FieldTable::default());
    let start = connection::Start { version_major, version_minor, server_properties, mechanisms, locales };
    let start = AMQPClass::Connection(connection::AMQPMethod::Start(start));
    client.write_all(&encode_method(0, &start)).await?;
    loop {
        let (channel, Some(received)) = read(&mut client).await? else { continue };
        let answers = match opening(&received, limits) {
            Some(answer) => vec![encode_method(channel, &answer)],
            None => script(channel, &received),
        };
        client.write_all(&answers.concat()).await?;
    }
}

/// Reads a frame: its channel, and its method if it has one.
async fn read(client: &mut TcpStream) -> std::io::Result<(u16, Option<AMQPClass>)> {
    let mut head = [0; HEAD_LEN];
    client.read_exact(&mut head).await?;
    let [kind, channel_high, channel_low, size @ ..] = head;
    let mut rest = vec![0; u32::from_be_bytes(size) as usize + 1];
    client.read_exact(&mut rest).await?;
    let method = if kind == 1 { parse_class(&*rest).ok().map(|(_, method)| method) } else { None };
    Ok((u16::from_be_bytes([channel_high, channel_low]), method))
}

fn opening(method: &AMQPClass, limits: BrokerLimits) -> Option<AMQPClass> {
    let answer = match method {
        AMQPClass::Connection(connection::AMQPMethod::StartOk(_)) => {
            let BrokerLimits { channel_max, frame_max, heartbeat } = limits;
            let tune = connection::Tune { channel_max, frame_max, heartbeat };
            AMQPClass::Connection(connection::AMQPMethod::Tune(tune))
        }
        AMQPClass::Connection(connection::AMQPMethod::Open(_)) => {
            AMQPClass::Connection(connection::AMQPMethod::OpenOk(connection::OpenOk {}))
        }
        AMQPClass::Connection(connection::AMQPMethod::Close(_)) => {
            AMQPClass::Connection(connection::AMQPMethod::CloseOk(connection::CloseOk {}))
        }
        AMQPClass::Channel(channel::AMQPMethod::Open(_)) => {
            AMQPClass::Channel(channel::AMQPMethod::OpenOk(channel::OpenOk {}))
        }
        AMQPClass::Confirm(confirm::AMQPMethod::Select(_)) => {
            AMQPClass::Confirm(confirm::AMQPMethod::SelectOk(confirm::SelectOk {}))
        }
        _ => return None,
    };
    Some(answer)
}

/// Encodes properties and body of a delivered or returned message on channel 1, from raw properties (flags included).
#[must_use]
pub fn content(properties: &[u8], body: &[u8]) -> Vec<u8> {
    let header = [&[0, 60, 0, 0][..], &(body.len() as u64).to_be_bytes(), properties].concat();
    let frame = |kind: u8, payload: &[u8]| {
        let size = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
        [&[kind, 0, 1][..], &size, payload, &[0xce]].concat()
    };
    let bodies = body.chunks(FRAME_MAX as usize - 8).flat_map(|part| frame(3, part));
    frame(2, &header).into_iter().chain(bodies).collect()
}

/// Two messages for the default exchange.
#[must_use]
pub fn two_messages() -> [Message; 2] {
    ["first", "second"].map(|name| Message::json("", name.into(), name.into(), b"{}".to_vec()))
}

/// A script that waits for two messages, then returns the second one and confirms both in order, as RabbitMQ may.
pub fn return_second_of_two(second: &Message) -> impl FnMut(u16, &AMQPClass) -> Vec<Vec<u8>> + Send + 'static {
    let returned = basic::Return {
        reply_code: NO_ROUTE,
        reply_text: ShortString::from("NO_ROUTE"),
        exchange: second.exchange.clone(),
        routing_key: second.routing_key.clone(),
    };
    let message_id = second.properties.message_id().clone().unwrap_or_default();
    // Only the flag of the message id.
    let properties = [&[0, 0x80, u8::try_from(message_id.as_str().len()).unwrap_or(0)], message_id.as_str().as_bytes()];
    let (properties, body) = (properties.concat(), second.body.clone());
    let ack = |tag| {
        let ack = basic::Ack { delivery_tag: tag, multiple: false };
        encode_method(1, &AMQPClass::Basic(basic::AMQPMethod::Ack(ack)))
    };
    let mut published = 0;
    move |_, received| {
        published += u32::from(matches!(received, AMQPClass::Basic(basic::AMQPMethod::Publish(_))));
        if published < 2 {
            return vec![];
        }
        published = 0;
        let returned = encode_method(1, &AMQPClass::Basic(basic::AMQPMethod::Return(returned.clone())));
        vec![returned, content(&properties, &body), ack(1), ack(2)]
    }
}
