//! The tests' own AMQP client: publishes jobs, takes reports, changes queues.

use std::{future::Future, pin::Pin, sync::OnceLock};

use futures_core::Stream as _;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ErrorKind,
    message::Delivery,
    options::{
        BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
        QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
    },
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::TIMEOUT;

/// A connection with one channel.
pub struct AmqpClient {
    connection: Connection,
    channel: Channel,
}

/// A message from a queue.
#[derive(Debug)]
pub struct ReceivedMessage {
    pub body: Vec<u8>,
    pub headers: Option<FieldTable>,
    pub redelivered: bool,
}

/// A consumer. Its unacknowledged messages stay with the connection, which its [`AmqpClient`] closes on drop.
pub struct TestConsumer {
    consumer: Consumer,
}

impl AmqpClient {
    #[track_caller]
    pub fn connect(url: &str) -> Self {
        block_on("the test client connects", async {
            let runtime = async_rs::Runtime::tokio_current();
            let connection = Connection::connect_with_runtime(url, ConnectionProperties::default(), runtime).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(Self { connection, channel })
        })
    }

    /// Publishes messages and waits for all confirms. Panics if one is nacked or returned.
    #[track_caller]
    pub fn publish_to(
        &self,
        exchange: &str,
        key: &str,
        messages: impl IntoIterator<Item = (Vec<u8>, BasicProperties)>,
    ) {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        block_on("the test client publishes", async {
            let mut confirms = Vec::new();
            for (body, properties) in messages {
                let sent = self.channel.basic_publish(exchange.into(), key.into(), options, &body, properties);
                confirms.push(sent.await?);
            }
            for confirm in confirms {
                let confirmation = confirm.await?;
                assert!(
                    confirmation.is_ack() && confirmation.take_message().is_none(),
                    "{exchange:?} {key}: unroutable"
                );
            }
            Ok(())
        });
    }

    /// Runs an action on a new channel.
    ///
    /// # Errors
    ///
    /// The reply code with which the broker closes the channel.
    #[track_caller]
    pub fn attempt<T, F>(&self, action: impl FnOnce(Channel) -> F) -> Result<T, u16>
    where
        F: Future<Output = lapin::Result<T>>,
    {
        let channel = block_on("the test client opens a channel", self.connection.create_channel());
        try_block_on("the test client attempts an action", action(channel)).map_err(|error| match error.kind() {
            ErrorKind::ProtocolError(error) => error.get_id(),
            other => panic!("{other:?}"),
        })
    }

    /// Publishes a message on a new channel.
    ///
    /// # Errors
    ///
    /// The reply code with which the broker closes the channel.
    #[track_caller]
    pub fn try_publish(&self, exchange: &str, key: &str, properties: BasicProperties) -> Result<(), u16> {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        self.attempt(async |channel| {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            channel.basic_publish(exchange.into(), key.into(), options, b"{}", properties).await?.await.map(drop)
        })
    }

    /// Consumes and acknowledges `count` messages of a queue, in its order.
    #[track_caller]
    pub fn take(&self, queue: &str, count: usize) -> Vec<ReceivedMessage> {
        let mut consumer = self.consume(queue, u16::MAX);
        let deliveries = (1..=count).map(|number| consumer.next(&format!("message {number} of {count} in {queue}")));
        let deliveries: Vec<_> = deliveries.collect();
        if let Some(last) = deliveries.last() {
            // Once: the broker loses later ones of many acknowledgements if the connection ends.
            let all = BasicAckOptions { multiple: true };
            block_on("the test client acknowledges", last.ack(all));
        }
        deliveries.into_iter().map(ReceivedMessage::from).collect()
    }

    /// Consumes and acknowledges every ready message of a queue.
    #[track_caller]
    pub fn take_all(&self, queue: &str) -> Vec<ReceivedMessage> {
        self.take(queue, self.ready(queue))
    }

    /// Starts a consumer that acknowledges nothing by itself.
    #[track_caller]
    pub fn consume(&self, queue: &str, prefetch: u16) -> TestConsumer {
        let consumer = block_on("the test client consumes", async {
            let channel = self.connection.create_channel().await?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
        });
        TestConsumer { consumer }
    }

    /// Returns the number of ready messages of a queue.
    #[track_caller]
    pub fn ready(&self, queue: &str) -> usize {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let declared = self.channel.queue_declare(queue.into(), options, FieldTable::default());
        block_on("a queue is declared passively", declared).message_count() as usize
    }

    /// Declares a queue that imageshare does not own, with arguments that its own queues do not have.
    #[track_caller]
    pub fn declare_foreign(&self, queue: &str) {
        let quorum = ("x-queue-type", text("quorum"));
        self.declare(queue, [quorum, ("x-dead-letter-exchange", text("imageshare.dead"))]);
    }

    /// Replaces a queue by a bound classic queue that rejects messages beyond `len_max`.
    #[track_caller]
    pub fn declare_bounded(&self, queue: &str, len_max: u32, exchange: &str, key: &str) {
        self.delete(queue);
        let len_max = ("x-max-length", AMQPValue::LongLongInt(len_max.into()));
        self.declare(queue, [len_max, ("x-overflow", text("reject-publish"))]);
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        let bound = self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none);
        block_on("a queue is bound", bound);
    }

    fn declare(&self, queue: &str, arguments: impl IntoIterator<Item = (&'static str, AMQPValue)>) {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let arguments = table(arguments);
        block_on("a queue is declared", self.channel.queue_declare(queue.into(), options, arguments));
    }

    /// Removes all ready messages of a queue.
    #[track_caller]
    pub fn purge(&self, queue: &str) {
        block_on("a queue is purged", self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()));
    }

    /// Deletes a queue and its messages.
    #[track_caller]
    pub fn delete(&self, queue: &str) {
        block_on("a queue is deleted", self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()));
    }
}

impl TestConsumer {
    /// Waits for the next delivery and does not acknowledge it.
    #[track_caller]
    pub fn next(&mut self, what: &str) -> Delivery {
        let next = std::future::poll_fn(|context| Pin::new(&mut self.consumer).poll_next(context));
        block_on(what, async { next.await.transpose() }).expect("the consumer is not cancelled")
    }

    /// Waits for the next message and acknowledges it.
    #[track_caller]
    pub fn take(&mut self, what: &str) -> ReceivedMessage {
        let delivery = self.next(what);
        block_on("the test client acknowledges", delivery.ack(BasicAckOptions::default()));
        delivery.into()
    }
}

impl From<Delivery> for ReceivedMessage {
    fn from(delivery: Delivery) -> Self {
        let (headers, redelivered) = (delivery.properties.headers().clone(), delivery.redelivered);
        Self { body: delivery.data, headers, redelivered }
    }
}

impl ReceivedMessage {
    /// Parses the body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// Returns the text of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.as_ref()?.inner().get(name)?.as_long_string().map(ToString::to_string)
    }
}

fn table(entries: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

/// Returns [`properties`] with headers.
pub fn with_headers(headers: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> BasicProperties {
    properties().with_headers(table(headers))
}

/// Returns a text as the value of a header or argument.
pub fn text(text: impl Into<Vec<u8>>) -> AMQPValue {
    AMQPValue::LongString(text.into().into())
}

/// Returns the properties of a persistent JSON message.
pub fn properties() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into())
}

/// Runs an action of the client. Panics if it fails, or after [`TIMEOUT`].
#[track_caller]
fn block_on<T>(what: &str, action: impl Future<Output = lapin::Result<T>>) -> T {
    try_block_on(what, action).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// As [`block_on`], for an action that the broker may refuse.
#[track_caller]
fn try_block_on<T>(what: &str, action: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
    let result = runtime().block_on(async { tokio::time::timeout(TIMEOUT, action).await });
    result.unwrap_or_else(|_| panic!("timed out: {what}"))
}

/// Returns the runtime of the tests' own connections.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    RUNTIME.get_or_init(build)
}
