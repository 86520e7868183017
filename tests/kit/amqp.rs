//! A client of the broker that is not the one under test: publishes jobs, collects what comes out, meddles with queues.

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

use crate::PATIENCE;

/// A connection with one channel.
pub struct Amqp {
    connection: Connection,
    channel: Channel,
}

/// What came out of a queue.
#[derive(Debug)]
pub struct Message {
    pub body: Vec<u8>,
    pub headers: Option<FieldTable>,
    pub redelivered: bool,
}

/// Messages that a consumer of the kit holds. Dropped, they stay with the connection, which ends with its `Amqp`.
pub struct Held {
    consumer: Consumer,
}

impl Amqp {
    #[track_caller]
    pub fn open(url: &str) -> Self {
        wait("a connection of the kit", async {
            let runtime = async_rs::Runtime::tokio_current();
            let connection = Connection::connect_with_runtime(url, ConnectionProperties::default(), runtime).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(Self { connection, channel })
        })
    }

    /// Publishes messages as they are, and waits until the broker has them all.
    #[track_caller]
    pub fn publish_to(
        &self,
        exchange: &str,
        key: &str,
        messages: impl IntoIterator<Item = (Vec<u8>, BasicProperties)>,
    ) {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        wait("a publish of the kit", async {
            let mut confirms = Vec::new();
            for (body, properties) in messages {
                let sent = self.channel.basic_publish(exchange.into(), key.into(), options, &body, properties);
                confirms.push(sent.await?);
            }
            for confirm in confirms {
                let confirmation = confirm.await?;
                assert!(confirmation.is_ack() && confirmation.take_message().is_none(), "no queue takes {key}");
            }
            Ok(())
        });
    }

    /// Does something on a channel of its own.
    ///
    /// # Errors
    ///
    /// The reply code with which the broker refuses it.
    #[track_caller]
    pub fn attempt<T, F>(&self, action: impl FnOnce(Channel) -> F) -> Result<T, u16>
    where
        F: Future<Output = lapin::Result<T>>,
    {
        let channel = wait("a channel of the kit", self.connection.create_channel());
        try_to("an attempt of the kit", action(channel)).map_err(|error| match error.kind() {
            ErrorKind::ProtocolError(error) => error.get_id(),
            other => panic!("{other:?}"),
        })
    }

    /// Publishes a message.
    ///
    /// # Errors
    ///
    /// The reply code with which the broker refuses it.
    #[track_caller]
    pub fn try_publish(&self, exchange: &str, key: &str, properties: BasicProperties) -> Result<(), u16> {
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        self.attempt(async |channel| {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            channel.basic_publish(exchange.into(), key.into(), options, b"{}", properties).await?.await.map(drop)
        })
    }

    /// Takes so many messages off a queue, in its order.
    #[track_caller]
    pub fn take(&self, queue: &str, count: usize) -> Vec<Message> {
        let mut held = self.hold(queue, u16::MAX);
        (1..=count).map(|number| held.take(&format!("message {number} of {count} in {queue}"))).collect()
    }

    /// Everything that a queue holds now.
    #[track_caller]
    pub fn take_all(&self, queue: &str) -> Vec<Message> {
        self.take(queue, self.ready(queue))
    }

    /// Begins to consume and acknowledges nothing.
    #[track_caller]
    pub fn hold(&self, queue: &str, prefetch: u16) -> Held {
        let consumer = wait("a consumer of the kit", async {
            let channel = self.connection.create_channel().await?;
            channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
            let options = BasicConsumeOptions::default();
            channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await
        });
        Held { consumer }
    }

    /// Messages of a queue that wait for a consumer.
    #[track_caller]
    pub fn ready(&self, queue: &str) -> usize {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let declared = self.channel.queue_declare(queue.into(), options, FieldTable::default());
        wait("a look at a queue", declared).message_count() as usize
    }

    /// Makes a queue that is none of ours, also by its arguments.
    #[track_caller]
    pub fn declare_another(&self, queue: &str) {
        let quorum = ("x-queue-type", text("quorum"));
        self.declare(queue, [quorum, ("x-dead-letter-exchange", text("imageshare.dead"))]);
    }

    /// Makes a classic queue that refuses messages beyond so many, with a binding.
    #[track_caller]
    pub fn declare_full(&self, queue: &str, len_max: u32, exchange: &str, key: &str) {
        self.delete(queue);
        let len_max = ("x-max-length", AMQPValue::LongLongInt(len_max.into()));
        self.declare(queue, [len_max, ("x-overflow", text("reject-publish"))]);
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        let bound = self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none);
        wait("a binding of the kit", bound);
    }

    fn declare(&self, queue: &str, arguments: impl IntoIterator<Item = (&'static str, AMQPValue)>) {
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        let arguments = table(arguments);
        wait("a queue of the kit", self.channel.queue_declare(queue.into(), options, arguments));
    }

    /// Removes what waits in a queue.
    #[track_caller]
    pub fn purge(&self, queue: &str) {
        wait("the purge of a queue", self.channel.queue_purge(queue.into(), QueuePurgeOptions::default()));
    }

    /// Deletes a queue with what is in it.
    #[track_caller]
    pub fn delete(&self, queue: &str) {
        wait("the end of a queue", self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()));
    }
}

impl Held {
    /// The next delivery.
    #[track_caller]
    pub fn next(&mut self, what: &str) -> Delivery {
        let next = std::future::poll_fn(|context| Pin::new(&mut self.consumer).poll_next(context));
        wait(what, async { next.await.transpose() }).expect("the consumer was not ended")
    }

    /// The next message, which is acknowledged.
    #[track_caller]
    pub fn take(&mut self, what: &str) -> Message {
        let delivery = self.next(what);
        wait("an ack of the kit", delivery.ack(BasicAckOptions::default()));
        let (headers, redelivered) = (delivery.properties.headers().clone(), delivery.redelivered);
        Message { body: delivery.data, headers, redelivered }
    }
}

impl Message {
    /// Its body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The text of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers.as_ref()?.inner().get(name)?.as_long_string().map(ToString::to_string)
    }
}

/// Headers and arguments.
fn table(entries: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

/// The properties of a message with headers.
pub fn with_headers(headers: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> BasicProperties {
    properties().with_headers(table(headers))
}

/// A header that is a text.
pub fn text(text: impl Into<Vec<u8>>) -> AMQPValue {
    AMQPValue::LongString(text.into().into())
}

/// Of a message that survives the broker's restart.
pub fn properties() -> BasicProperties {
    BasicProperties::default().with_delivery_mode(2).with_content_type("application/json".into())
}

/// Waits for the broker, as long as the kit's patience lasts.
#[track_caller]
fn wait<T>(what: &str, action: impl Future<Output = lapin::Result<T>>) -> T {
    try_to(what, action).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// The same where the broker may refuse.
#[track_caller]
fn try_to<T>(what: &str, action: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
    let ended = runtime().block_on(async { tokio::time::timeout(PATIENCE, action).await });
    ended.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// The runtime of the kit's own connections.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    RUNTIME.get_or_init(build)
}
