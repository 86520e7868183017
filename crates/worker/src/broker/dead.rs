//! Dead letters, looked at one by one in their order. What is not settled stays where it is.

use std::{future::poll_fn, pin::Pin, time::Duration};

use futures_core::Stream as _;
use imageshare_core::text::printable;
use lapin::{
    Acker, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};
use tokio::time::{sleep, timeout};

use super::{
    Connection, Error, Message, TimeOuts, Url, bounded,
    delivery::{default_id, header_text},
    headers,
    letters::untouched,
    publisher::PERSISTENT,
    topology,
};
use crate::wire::{
    Job, Rejection,
    job::{self, Defaults},
};

/// Characters of a header that are kept.
const HEADER_CHARS_MAX: usize = 500;

/// How long the broker may take to apply acks that it has taken. It does not say when it has.
const ACKS: Duration = Duration::from_millis(500);

/// Dead letters that are held at most, as many as AMQP can say: of those that stay, no more can be looked at.
const HELD_MAX: u16 = u16::MAX;

/// How long no letter may come until there are none left, whatever the broker has counted: somebody else may hold them.
const QUIET: Duration = Duration::from_secs(2);

/// The dead letters that were there when it was opened, the first 65,535 of those that stay. They are held until
/// it ends, and then all that were not settled are back in their place.
///
/// They are consumed, since what was taken by `basic.get` comes back in another order from 33 letters on. What is on
/// its way is kept in memory, so letters should be taken as they come.
#[derive(Debug)]
pub struct DeadLetters {
    // Its end has to come before the consumer's, or newer ones come back first.
    connection: Connection,
    consumer: Consumer,
    left: u32,
    is_any_settled: bool,
}

/// A dead letter. Dropped, it stays one.
#[derive(Debug)]
pub struct DeadLetter {
    /// The lane from whose queue it came. All texts of its headers are printable.
    pub lane: Option<String>,
    /// Why, in one word: `failed` or `rejected`.
    pub reason: Option<String>,
    /// The first code with which an account failed.
    pub code: Option<String>,
    /// Why, for people.
    pub detail: Option<String>,
    /// Who wrote it.
    pub worker: Option<String>,
    /// Bytes of the whole body, if only its beginning is left.
    pub truncated: Option<String>,
    /// What is left of the job; why it is none, if it is none.
    pub job: Result<Job, Rejection>,
    /// As its lane would get it once more.
    message: Message,
    acker: Acker,
}

impl DeadLetters {
    /// Opens the queue of dead letters.
    ///
    /// # Errors
    /// If the broker is out of reach, or there is no such queue.
    pub async fn open(url: &Url, name: &str, time_outs: TimeOuts) -> Result<Self, Error> {
        let connection = Connection::open(url, name, time_outs).await?;
        let channel = connection.channel().await?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let look = channel.queue_declare(topology::DEAD.into(), options, FieldTable::default());
        let left = bounded(time_outs.call, "queue.declare", look).await?.message_count();
        let qos = channel.basic_qos(HELD_MAX, BasicQosOptions::default());
        bounded(time_outs.call, "basic.qos", qos).await?;
        let consume = channel.basic_consume(
            topology::DEAD.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = bounded(time_outs.call, "basic.consume", consume).await?;
        Ok(Self { connection, consumer, left, is_any_settled: false })
    }

    /// The next one; `None` when all that were there at the beginning were seen, or no more can be held.
    ///
    /// # Errors
    /// If the connection does not carry it out. Then all that were not settled are back.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let call = "basic.deliver";
        match timeout(QUIET, poll_fn(|cx| Pin::new(&mut self.consumer).poll_next(cx))).await {
            Ok(Some(Ok(delivery))) => Ok(Some(DeadLetter::new(delivery))),
            Ok(Some(Err(error))) => Err(Error::of_call(call, &error)),
            Ok(None) => Err(Error::Lost { call, detail: "the consumer was ended".to_owned() }),
            Err(_) => Ok(None),
        }
    }

    /// Removes one.
    ///
    /// # Errors
    /// If the connection is gone: then it is not removed.
    pub async fn settle(&mut self, letter: DeadLetter) -> Result<(), Error> {
        let call = "basic.ack";
        let ack = letter.acker.ack(BasicAckOptions::default());
        if !bounded(self.connection.time_outs().call, call, ack).await? {
            return Err(Error::Lost { call, detail: "the ack was not sent".to_owned() });
        }
        self.is_any_settled = true;
        Ok(())
    }

    /// Puts back all that were not settled.
    ///
    /// # Errors
    /// If the broker does not say that it has ended the connection: some that were settled may be back too.
    pub async fn close(self) -> Result<(), Error> {
        if self.is_any_settled {
            sleep(ACKS).await;
        }
        // With consumer and channel alive: ended before, they would put them back in another order.
        self.connection.close().await
    }
}

impl DeadLetter {
    /// Reads one as it was delivered.
    #[must_use]
    pub fn new(delivery: Delivery) -> Self {
        let Delivery { properties, data: body, acker, .. } = delivery;
        let header = |name| header_text(&properties, name).map(|text| printable(text, HEADER_CHARS_MAX));
        let job = job::parse(&body, &Defaults { job_id: default_id(&body, &properties), region: None });
        let (lane, reason, code) = (header(headers::LANE), header(headers::REASON), header(headers::CODE));
        let (detail, worker) = (header(headers::DETAIL), header(headers::WORKER));
        let truncated = header(headers::TRUNCATED);
        let routing_key = lane.as_deref().and_then(|lane| ShortString::try_new(lane).ok()).unwrap_or_default();
        let properties = untouched(&properties).with_delivery_mode(PERSISTENT);
        let message = Message { exchange: topology::EXCHANGE.into(), routing_key, properties, body: body.into() };
        Self { lane, reason, code, detail, worker, truncated, job, message, acker }
    }

    /// It as a message for the lane that it came from.
    #[must_use]
    pub fn message(&self) -> Message {
        self.message.clone()
    }
}
