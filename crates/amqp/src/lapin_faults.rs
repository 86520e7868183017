//! The faults of lapin 4.12.3 that this crate works around. A test fails once the library no longer has the fault.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use lapin::{
    Channel, Confirmation, Connection, ConnectionProperties, Consumer, ErrorKind, PublisherConfirm,
    options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions},
    protocol::{
        AMQPClass,
        basic::{self, parse_properties},
        channel, parse_class, queue,
    },
    types::{FieldTable, ShortString},
};
use tokio::time::timeout;

use crate::{
    FRAME_MAX_MIN, Message, encode_method,
    fake_broker::{self, BrokerLimits, FakeBroker, content},
};

/// The timeout for operations that take milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// After this time without a result, a test assumes that there will be none.
const SILENCE: Duration = Duration::from_secs(1);

const NO_PROPERTIES: &[u8] = &[0, 0];

fn long(content: &[u8]) -> Vec<u8> {
    [&u32::try_from(content.len()).unwrap().to_be_bytes()[..], content].concat()
}

fn headers(table: &[u8]) -> Vec<u8> {
    [&(1_u16 << 13).to_be_bytes()[..], &long(table)].concat()
}

/// Returns a broker that sends these frames once it has a consumer.
async fn broker_that_delivers(frames: Vec<Vec<u8>>) -> FakeBroker {
    FakeBroker::start(answer_consume(frames)).await
}

fn answer_consume(frames: Vec<Vec<u8>>) -> impl FnMut(u16, &AMQPClass) -> Vec<Vec<u8>> + Send + 'static {
    move |channel, received| match received {
        AMQPClass::Basic(basic::AMQPMethod::Consume(_)) => {
            let consumed = basic::ConsumeOk { consumer_tag: "c".into() };
            let consumed = encode_method(channel, &AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(consumed)));
            [vec![consumed], frames.clone()].concat()
        }
        _ => vec![],
    }
}

fn deliver() -> Vec<u8> {
    let (consumer_tag, exchange, routing_key) = ("c".into(), ShortString::default(), ShortString::default());
    let deliver = basic::Deliver { consumer_tag, delivery_tag: 1, redelivered: false, exchange, routing_key };
    encode_method(1, &AMQPClass::Basic(basic::AMQPMethod::Deliver(deliver)))
}

async fn consume(connection: &Connection) -> Consumer {
    let channel = connection.create_channel().await.unwrap();
    let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
    channel.basic_consume("q".into(), "c".into(), options, arguments).await.unwrap()
}

async fn publish(channel: &Channel, message: &Message) -> lapin::Result<PublisherConfirm> {
    let Message { exchange, routing_key, properties, body } = message.clone();
    let options = BasicPublishOptions { mandatory: true, immediate: false };
    channel.basic_publish(exchange, routing_key, options, &body, properties).await
}

/// Seen: a header name of two bytes 0xff 0xfe ends the connection.
#[tokio::test]
async fn non_utf8_name_ends_connection() {
    let broker = broker_that_delivers(vec![deliver(), content(&headers(b"\x02\xff\xfeV"), b"{}")]).await;
    let connection = broker.connect().await;
    let mut consumer = consume(&connection).await;
    let next = timeout(PATIENCE, consumer.next()).await.unwrap();
    assert!(matches!(next, Some(Err(_))), "{next:?}");
    assert!(!connection.status().connected());
}

/// Seen: tables 10,000 deep overflow the stack. With enough stack they are parsed, however deep they are.
#[test]
fn nested_tables_are_parsed_recursively() {
    let nested = (0..10_000).fold(Vec::new(), |inner, _| [&b"\x01aF"[..], &long(&inner)].concat());
    let bytes = headers(&nested);
    let parse = move || {
        let parsed = parse_properties(bytes.as_slice()).map(|(_, properties)| properties);
        let is_parsed = parsed.is_ok();
        // Dropping them recurses too.
        drop(parsed);
        is_parsed
    };
    let thread = std::thread::Builder::new().stack_size(1 << 30).spawn(parse).unwrap();
    assert!(thread.join().unwrap());
}

/// Seen: RabbitMQ adds `x-delivery-count` to headers that already fill a frame, and the connection ends.
#[tokio::test]
async fn header_above_frame_max_ends_connection() {
    let frame_max = u32::try_from(FRAME_MAX_MIN).unwrap();
    let table = [&b"\x01aS"[..], &long(&vec![b'x'; FRAME_MAX_MIN])].concat();
    let frames = vec![deliver(), content(&headers(&table), b"{}")];
    let broker =
        FakeBroker::with_limits(BrokerLimits { frame_max, ..BrokerLimits::default() }, answer_consume(frames)).await;
    let connection = broker.connect().await;
    let mut consumer = consume(&connection).await;
    let next = timeout(PATIENCE, consumer.next()).await.unwrap();
    assert!(matches!(next, Some(Err(_))), "{next:?}");
}

/// Seen: a broker with `frame_max` 4096 ends the connection, because the library sends longer frames.
#[tokio::test]
async fn library_agrees_to_no_less_than_its_minimum() {
    let broker =
        FakeBroker::with_limits(BrokerLimits { frame_max: 4096, ..BrokerLimits::default() }, |_, _| vec![]).await;
    let connection = broker.connect().await;
    assert_eq!(usize::try_from(connection.configuration().frame_max()).unwrap(), FRAME_MAX_MIN);
}

/// Seen: a routing key of two bytes 0xff 0xfe ends the connection.
#[test]
fn non_utf8_routing_key_is_refused() {
    let deliver = [&[0, 60, 0, 60][..], b"\x01c", &1_u64.to_be_bytes(), &[0, 0], b"\x02\xff\xfe"].concat();
    assert!(parse_class(deliver.as_slice()).is_err());
}

/// Seen: the worker's memory grew to the length of the queue.
#[tokio::test]
async fn library_reads_what_nothing_takes() {
    const MESSAGES: usize = 64;
    let body = vec![b'x'; 1024 * 1024];
    let messages = (0..MESSAGES).flat_map(|_| [deliver(), content(NO_PROPERTIES, &body)]).collect();
    let broker = broker_that_delivers(messages).await;
    let connection = broker.connect().await;
    let mut consumer = consume(&connection).await;
    // The broker reads this only after it has written all messages: the library has read them, and nothing took one.
    let channel = timeout(PATIENCE, connection.create_channel()).await;
    assert!(channel.is_ok_and(|channel| channel.is_ok()));
    let delivery = consumer.next().await.unwrap().unwrap();
    assert_eq!(delivery.data.len(), body.len(), "of any length");
}

/// Seen: the second of two messages was returned, and the library attached it to the confirm of the first.
#[tokio::test]
async fn returned_message_is_attached_to_another_confirm() {
    let [first, second] = fake_broker::two_messages();
    let broker = FakeBroker::start(fake_broker::return_second_of_two(&second)).await;
    let channel = broker.connect().await.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let of_first = publish(&channel, &first).await.unwrap();
    let of_second = publish(&channel, &second).await.unwrap();
    let Confirmation::Ack(Some(returned)) = of_first.await.unwrap() else { panic!("the fault is gone") };
    assert_eq!(returned.delivery.routing_key, second.routing_key);
    assert_eq!(of_second.await.unwrap(), Confirmation::Ack(None));
}

/// Seen: with recovery on, a consumer whose channel the broker closed yields one error and then waits forever, on a
/// connection that looks healthy. Nothing consumes again.
#[tokio::test]
async fn recovery_leaves_a_consumer_waiting() {
    let consumers = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&consumers);
    let broker = FakeBroker::start(move |channel, received| {
        let AMQPClass::Basic(basic::AMQPMethod::Consume(_)) = received else { return vec![] };
        counted.fetch_add(1, SeqCst);
        let consumed = AMQPClass::Basic(basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag: "c".into() }));
        let reply_text = ShortString::from("PRECONDITION_FAILED");
        let close = channel::Close { reply_code: 406, reply_text, class_id: 0, method_id: 0 };
        let close = AMQPClass::Channel(channel::AMQPMethod::Close(close));
        vec![encode_method(channel, &consumed), encode_method(channel, &close)]
    })
    .await;
    let properties = ConnectionProperties::default().enable_auto_recover();
    let connection = Connection::connect(&broker.url(), properties).await.unwrap();
    let mut consumer = consume(&connection).await;
    let first = timeout(PATIENCE, consumer.next()).await.unwrap();
    assert!(matches!(first, Some(Err(_))), "{first:?}");
    let second = timeout(SILENCE, consumer.next()).await;
    assert!(second.is_err(), "{second:?}");
    assert!(connection.status().connected());
    assert_eq!(consumers.load(SeqCst), 1, "it does not consume again");
}

/// Seen: after one missing exchange, the check of the topology reported all later exchanges and queues as missing.
#[tokio::test]
async fn reused_channel_number_returns_old_error() {
    let mut is_declared = false;
    // With one channel allowed, its number is used again.
    let limits = BrokerLimits { channel_max: 1, ..BrokerLimits::default() };
    let broker = FakeBroker::with_limits(limits, move |channel, received| {
        let AMQPClass::Queue(queue::AMQPMethod::Declare(_)) = received else { return vec![] };
        let answer = if std::mem::replace(&mut is_declared, true) {
            let declared = queue::DeclareOk { queue: "q".into(), message_count: 0, consumer_count: 0 };
            AMQPClass::Queue(queue::AMQPMethod::DeclareOk(declared))
        } else {
            let reply_text = ShortString::from("NOT_FOUND");
            let close = channel::Close { reply_code: 404, reply_text, class_id: 0, method_id: 0 };
            AMQPClass::Channel(channel::AMQPMethod::Close(close))
        };
        vec![encode_method(channel, &answer)]
    })
    .await;
    let connection = broker.connect().await;
    let declare = async || {
        let channel = connection.create_channel().await?;
        channel.queue_declare("q".into(), QueueDeclareOptions::default(), FieldTable::default()).await
    };
    for call in ["that the broker refuses", "that it would accept"] {
        let error = timeout(PATIENCE, declare()).await.unwrap().unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::ProtocolError(error) if error.get_id() == 404), "{call}: {error}");
    }
}
