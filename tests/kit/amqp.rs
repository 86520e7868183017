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
use tokio::runtime::Runtime;

use crate::PATIENCE;

/// Publishes in flight.
const WINDOW: usize = 500;

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
        Self::try_open(url).unwrap()
    }

    /// # Errors
    ///
    /// Why the broker does not let in who has this address.
    #[track_caller]
    pub fn try_open(url: &str) -> lapin::Result<Self> {
        try_to("open a connection of the kit", async {
            let runtime = async_rs::Runtime::tokio_current();
            let connection = Connection::connect_with_runtime(url, ConnectionProperties::default(), runtime).await?;
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(Self { connection, channel })
        })
    }

    /// Whether the broker has not closed it.
    pub fn is_open(&self) -> bool {
        self.connection.status().connected()
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
        let mut messages = messages.into_iter().peekable();
        while messages.peek().is_some() {
            let window: Vec<_> = messages.by_ref().take(WINDOW).collect();
            wait("a publish of the kit", async {
                let mut confirms = Vec::with_capacity(WINDOW);
                for (body, properties) in window {
                    let sent = self.channel.basic_publish(exchange.into(), key.into(), options, &body, properties);
                    confirms.push(sent.await?);
                }
                for confirm in confirms {
                    let confirmation = confirm.await?;
                    assert!(confirmation.is_ack() && confirmation.take_message().is_none(), "nobody takes {key}");
                }
                Ok(())
            });
        }
    }

    /// Does something on a channel of its own.
    ///
    /// # Errors
    ///
    /// The reply code with which the broker refuses it.
    #[track_caller]
    pub fn attempt<T, F>(&self, what: &str, action: impl FnOnce(Channel) -> F) -> Result<T, u16>
    where
        F: Future<Output = lapin::Result<T>>,
    {
        let channel = wait("a channel of the kit", self.connection.create_channel());
        try_to(what, action(channel)).map_err(|error| match error.kind() {
            ErrorKind::ProtocolError(error) => error.get_id(),
            other => panic!("{what}: {other:?}"),
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
        self.attempt("a publish of the kit", async |channel| {
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            channel.basic_publish(exchange.into(), key.into(), options, b"{}", properties).await?.await.map(drop)
        })
    }

    /// Takes so many messages off a queue, in its order.
    #[track_caller]
    pub fn take(&self, queue: &str, count: usize) -> Vec<Message> {
        let mut held = self.hold(queue, u16::MAX);
        let mut messages = Vec::with_capacity(count);
        for number in 0..count {
            let delivery = held.next(&format!("message {} of {count} in {queue}", number + 1));
            wait("an ack of the kit", delivery.ack(BasicAckOptions::default()));
            messages.push(delivery.into());
        }
        held.end();
        messages
    }

    /// Everything that a queue holds now.
    #[track_caller]
    pub fn take_all(&self, queue: &str) -> Vec<Message> {
        self.take(queue, self.ready(queue))
    }

    /// Takes messages off a queue one by one, in its order, as long as this says so. The last one is taken too.
    #[track_caller]
    pub fn take_while(&self, queue: &str, mut goes_on: impl FnMut(&Message) -> bool) {
        let mut held = self.hold(queue, 1);
        loop {
            let delivery = held.next(&format!("another message in {queue}"));
            wait("an ack of the kit", delivery.ack(BasicAckOptions::default()));
            let (headers, redelivered) = (delivery.properties.headers().clone(), delivery.redelivered);
            if !goes_on(&Message { body: delivery.data, headers, redelivered }) {
                return;
            }
        }
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

    /// Makes a quorum queue as a lane has it.
    #[track_caller]
    pub fn declare_like_a_lane(&self, queue: &str) {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        arguments.insert("x-single-active-consumer".into(), AMQPValue::Boolean(true));
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongInt(1_000_000));
        let dead = || AMQPValue::LongString("imageshare.dead".into());
        arguments.insert("x-dead-letter-exchange".into(), dead());
        arguments.insert("x-dead-letter-routing-key".into(), dead());
        arguments.insert("x-dead-letter-strategy".into(), AMQPValue::LongString("at-least-once".into()));
        arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
        let options = QueueDeclareOptions { durable: true, ..Default::default() };
        wait("a queue of the kit", self.channel.queue_declare(queue.into(), options, arguments));
    }

    /// Declares a durable classic queue with these arguments in the place of one of ours, with its binding.
    #[track_caller]
    pub fn declare_full(
        &self,
        queue: &str,
        exchange: &str,
        key: &str,
        arguments: impl IntoIterator<Item = (&'static str, AMQPValue)>,
    ) {
        self.delete(queue);
        let mut table = FieldTable::default();
        for (name, value) in arguments {
            table.insert(name.into(), value);
        }
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        wait("a declare of the kit", async {
            self.channel.queue_declare(queue.into(), options, table).await?;
            let (options, none) = (QueueBindOptions::default(), FieldTable::default());
            self.channel.queue_bind(queue.into(), exchange.into(), key.into(), options, none).await
        });
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
        self.next_or_end(what).expect("the consumer was not ended")
    }

    /// The next delivery, or nothing if the broker ended the consumer.
    #[track_caller]
    pub fn next_or_end(&mut self, what: &str) -> Option<Delivery> {
        let next = std::future::poll_fn(|context| Pin::new(&mut self.consumer).poll_next(context));
        wait(what, async { next.await.transpose() })
    }

    /// Ends it; what it holds goes back.
    fn end(self) {
        drop(self.consumer);
    }
}

impl From<Delivery> for Message {
    fn from(delivery: Delivery) -> Self {
        Self { body: delivery.data, headers: delivery.properties.headers().clone(), redelivered: delivery.redelivered }
    }
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
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let build = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = RUNTIME.get_or_init(build);
    let ended = runtime.block_on(async { tokio::time::timeout(PATIENCE, action).await });
    ended.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
