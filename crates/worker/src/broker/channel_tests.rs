//! A broker that allows few channels: a socket that answers as RabbitMQ without any exchange or queue does.

use std::net::Ipv4Addr;

use lapin::{
    protocol::{AMQPClass, channel, connection, parse_class},
    types::{FieldTable, LongString, ShortString},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use super::{
    Connection, Error, TimeOuts, Url,
    frames::{self, HEAD_LEN, PROTOCOL_HEADER},
    topology,
};

const NOT_FOUND: u16 = 404;

/// Connects to a broker that allows so many channels. The handle ends the broker.
async fn connect(channel_max: u16) -> (Connection, AbortHandle) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("amqp://guest:guest@{}/%2f", listener.local_addr().unwrap());
    let broker = tokio::spawn(async move { serve(listener.accept().await.unwrap().0, channel_max).await });
    let url: Url = url.parse().unwrap();
    (Connection::open(&url, "test", TimeOuts::default()).await.unwrap(), broker.abort_handle())
}

async fn serve(mut client: TcpStream, channel_max: u16) {
    client.read_exact(&mut [0; PROTOCOL_HEADER.len()]).await.unwrap();
    let (mechanisms, locales) = (LongString::from("PLAIN"), LongString::from("en_US"));
    let (version_major, version_minor, server_properties) = (0, 9, FieldTable::default());
    let start = connection::Start { version_major, version_minor, server_properties, mechanisms, locales };
    let start = AMQPClass::Connection(connection::AMQPMethod::Start(start));
    client.write_all(&frames::method(0, &start)).await.unwrap();
    // It ends with its client.
    while let Some((channel, method)) = read(&mut client).await {
        if let Some(answer) = method.and_then(|method| answer(&method, channel_max)) {
            client.write_all(&frames::method(channel, &answer)).await.unwrap();
        }
    }
}

/// Reads a frame: its channel, and its method unless it is a heartbeat.
async fn read(client: &mut TcpStream) -> Option<(u16, Option<AMQPClass>)> {
    let mut head = [0; HEAD_LEN];
    client.read_exact(&mut head).await.ok()?;
    let [_, channel_high, channel_low, size @ ..] = head;
    let mut rest = vec![0; u32::from_be_bytes(size) as usize + 1];
    client.read_exact(&mut rest).await.ok()?;
    let method = parse_class(&*rest).ok().map(|(_, method)| method);
    Some((u16::from_be_bytes([channel_high, channel_low]), method))
}

fn answer(method: &AMQPClass, channel_max: u16) -> Option<AMQPClass> {
    let of_connection = |method| Some(AMQPClass::Connection(method));
    let of_channel = |method| Some(AMQPClass::Channel(method));
    match method {
        AMQPClass::Connection(connection::AMQPMethod::StartOk(_)) => {
            let tune = connection::Tune { channel_max, frame_max: frames::FRAME_MAX, heartbeat: 60 };
            of_connection(connection::AMQPMethod::Tune(tune))
        }
        AMQPClass::Connection(connection::AMQPMethod::Open(_)) => {
            of_connection(connection::AMQPMethod::OpenOk(connection::OpenOk {}))
        }
        AMQPClass::Channel(channel::AMQPMethod::Open(_)) => of_channel(channel::AMQPMethod::OpenOk(channel::OpenOk {})),
        AMQPClass::Exchange(_) | AMQPClass::Queue(_) => {
            let reply_text = ShortString::from("NOT_FOUND");
            let close = channel::Close { reply_code: NOT_FOUND, reply_text, class_id: 0, method_id: 0 };
            of_channel(channel::AMQPMethod::Close(close))
        }
        _ => None,
    }
}

#[tokio::test]
async fn channel_beyond_channel_max_names_it() {
    let (connection, broker) = connect(2).await;
    let channels = [connection.channel().await.unwrap(), connection.channel().await.unwrap()];
    let error = connection.channel().await.unwrap_err();
    assert_eq!(error, Error::ChannelMax { allowed: 2, needed: 3 });
    assert_eq!(error.to_string(), "channel_max: the broker allows 2 channels (expected at least 3)");
    assert!(error.is_configuration());
    drop(channels);
    broker.abort();
}

/// Each missing item costs a channel: 3 exchanges and 3 queues, and an exchange and a queue for the lane.
#[tokio::test]
async fn check_names_the_channel_max_it_needs() {
    for (channel_max, allowed) in [(1, false), (7, false), (8, true), (0, true)] {
        let (connection, broker) = connect(channel_max).await;
        let checked = topology::check(&connection, ["default"]).await;
        match allowed {
            true => assert_eq!(checked.map(|differences| differences.len()), Ok(8), "{channel_max}"),
            false => assert_eq!(checked, Err(Error::ChannelMax { allowed: channel_max, needed: 17 }), "{channel_max}"),
        }
        broker.abort();
    }
}
