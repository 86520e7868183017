//! Dead letters, read one by one in order. Those that are not settled stay in their queue.
//!
//! There are two kinds: published by a worker, with headers of ours, and dropped by the broker from a lane's queue, with its
//! header `x-death`. A worker passes on no `x-death`, and the broker adds its own entry first, so the first entry names the
//! true queue. Headers of ours beside it were written by a publisher.

use std::{mem, pin::pin, time::Duration};

use imageshare_amqp::{Message, PERSISTENT};
use imageshare_core::text::printable;
use jiff::Timestamp;
use lapin::{
    Acker, BasicProperties, Channel, Consumer, Queue,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Connection, Error, Route, TimeOuts, Url, bounded,
    delivery::{default_id, header_text},
    headers,
    passed_properties::without_broker_properties,
    routes::published_now,
    topology,
};
use crate::wire::{
    Job, Rejection,
    job::{self, Defaults},
};

/// Characters of a header that are kept.
const HEADER_CHARS_MAX: usize = 500;

/// The greatest prefetch of AMQP. No more letters can be listed than that, besides those that are settled.
const HELD_MAX: u16 = u16::MAX;

/// How long to wait for a letter while there is another consumer, which may have the ones that the broker counted.
const QUIET: Duration = Duration::from_secs(2);

/// How long to wait for a letter without another consumer. A busy broker is slow to read a long queue.
const QUIET_ALONE: Duration = Duration::from_secs(60);

/// How long to wait until the broker has requeued the letters. With 65,535 of them it takes seconds.
const REQUEUE_MAX: Duration = Duration::from_secs(30);

/// How often to check whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The header with the history of a dropped message: a list of tables, newest first.
const DEATHS: &str = "x-death";

/// The dead letters that were in the queue when it was opened, the first 65,535 of those that stay. They are unacknowledged
/// until it is closed. Then the broker requeues all that were not settled, in their places.
///
/// They are consumed, since letters from `basic.get` are requeued in another order if there are more than 32. They are
/// requeued all at once, since the broker puts letters that are requeued again behind the others (measured). The transport
/// holds at most [`BODIES_LEN_MAX`](imageshare_amqp::BODIES_LEN_MAX), however long the queue is.
#[derive(Debug)]
pub struct DeadLetters {
    // It has to be dropped before the consumer, or newer letters are requeued first.
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    /// Consumers that existed before.
    others: u32,
    left: u32,
    /// Delivered and not settled.
    held: u16,
    is_any_settled: bool,
    url: Url,
    name: String,
}

/// A dead letter. Dropping it leaves it in its queue.
#[derive(Debug)]
pub struct DeadLetter {
    /// The lane of its queue. All texts from headers are printable.
    pub lane: Option<String>,
    /// When it became a dead letter, by the clock of the worker or of the broker.
    pub time: Option<Timestamp>,
    /// The reason as one word: `failed` or `rejected` by a worker, or the broker's word, such as `expired`, `delivery_limit`
    /// or `maxlen`.
    pub reason: Option<String>,
    /// The first code with which an account failed.
    pub code: Option<String>,
    /// The reason as text.
    pub detail: Option<String>,
    /// The worker that wrote it.
    pub worker: Option<String>,
    /// Length of the whole body in bytes, if only its beginning was kept.
    pub truncated: Option<String>,
    /// The job, or why it is invalid.
    pub job: Result<Job, Rejection>,
    properties: BasicProperties,
    body: Vec<u8>,
    acker: Acker,
}

/// A message that the broker dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The lane of the queue, or `None` if it is not a lane's.
    pub lane: Option<String>,
    /// The broker's word for the reason, printable.
    pub reason: String,
    /// When, by the broker's clock.
    pub time: Option<Timestamp>,
    /// The queue, printable.
    queue: String,
}

impl DeadLetters {
    /// Opens the queue of dead letters.
    ///
    /// # Errors
    /// If the broker cannot be reached, or there is no such queue.
    pub async fn open(url: &Url, name: &str, time_outs: TimeOuts) -> Result<Self, Error> {
        let connection = Connection::open(url, name, time_outs).await?;
        connection.limit_reading();
        let asked = Instant::now();
        let channel = connection.channel().await?;
        let queue = look(&channel, time_outs, asked.elapsed()).await?;
        let qos = channel.basic_qos(HELD_MAX, BasicQosOptions::default());
        bounded(time_outs.call, "basic.qos", qos).await?;
        let consume = channel.basic_consume(
            topology::DEAD.into(),
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = bounded(time_outs.call, "basic.consume", consume).await?;
        let (others, left, name) = (queue.consumer_count(), queue.message_count(), name.to_owned());
        Ok(Self { connection, channel, consumer, others, left, held: 0, is_any_settled: false, url: url.clone(), name })
    }

    /// Returns the next letter, or `None` after all that were in the queue at the beginning.
    ///
    /// # Errors
    /// If 65,535 are held and there are more, or the connection fails. The broker then requeues all that were not settled.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, Error> {
        if self.left == 0 {
            return Ok(None);
        }
        if self.held == HELD_MAX {
            return Err(Error::TooManyHeld { held: HELD_MAX });
        }
        self.left -= 1;
        let call = "basic.deliver";
        let is_alone = self.others == 0;
        let quiet = if is_alone { QUIET_ALONE } else { QUIET };
        match timeout(quiet, self.connection.next_delivery(&mut self.consumer)).await {
            Ok(Some(Ok(delivery))) => {
                self.held += 1;
                Ok(Some(DeadLetter::new(delivery)))
            }
            Ok(Some(Err(error))) => Err(Error::from_call(call, &error)),
            Ok(None) => Err(Error::Lost { call, detail: "the consumer was ended".to_owned() }),
            // Fewer than were counted must not pass for all of them.
            Err(_) if is_alone => Err(Error::TimeOut { call, after: quiet }),
            Err(_) => Ok(None),
        }
    }

    /// Removes one.
    ///
    /// # Errors
    /// If the connection failed. The letter is then not removed.
    pub async fn settle(&mut self, letter: DeadLetter) -> Result<(), Error> {
        let call = "basic.ack";
        let ack = letter.acker.ack(BasicAckOptions::default());
        if !bounded(self.connection.time_outs().call, call, ack).await? {
            return Err(Error::Lost { call, detail: "the ack was not sent".to_owned() });
        }
        self.held -= 1;
        self.is_any_settled = true;
        Ok(())
    }

    /// Requeues all that were not settled.
    ///
    /// # Errors
    /// If some were settled and the broker does not confirm that it has removed them. It may requeue those too.
    pub async fn close(self) -> Result<(), Error> {
        let Self { connection, channel, mut consumer, others, is_any_settled, url, name, .. } = self;
        let time_outs = connection.time_outs();
        let removed = if is_any_settled { removed(&connection, &channel, &mut consumer).await } else { Ok(()) };
        // With consumer and channel alive: otherwise the letters are requeued in another order.
        connection.cut();
        drop(connection);
        drop(consumer);
        // The broker needs time to requeue the letters, and the next command would miss them. Taking longer is no error.
        drop(timeout(REQUEUE_MAX, until_back(&url, &name, time_outs, others)).await);
        removed
    }
}

/// Waits until the broker has removed everything that was acknowledged.
///
/// A consumer is added and removed, as [a lane does](super::lane_connection::LaneConnection::until_acks_are_applied) before its
/// connection closes, for the reason given there. (Seen with 3.10.8: a connection that ended while the broker's disk was slow
/// left 33 of 380 letters removed.) Both answers arrive behind letters that the broker has sent, which are read and dropped.
async fn removed(connection: &Connection, channel: &Channel, consumer: &mut Consumer) -> Result<(), Error> {
    let call = "basic.ack";
    let barrier = async {
        let mut last = FieldTable::default();
        // It gets no letter while the first consumer can.
        last.insert("x-priority".into(), AMQPValue::LongInt(-1));
        let added =
            channel.basic_consume(topology::DEAD.into(), "".into(), BasicConsumeOptions::default(), last).await?;
        channel.basic_cancel(added.tag(), BasicCancelOptions::default()).await
    };
    let mut barrier = pin!(barrier);
    loop {
        tokio::select! {
            biased;
            done = &mut barrier => return done.map_err(|error| Error::from_call(call, &error)),
            letter = timeout(QUIET_ALONE, connection.next_delivery(consumer)) => match letter {
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(Error::from_call(call, &error)),
                Ok(None) => return Err(Error::Lost { call, detail: "the consumer was ended".to_owned() }),
                Err(_) => return Err(Error::TimeOut { call, after: QUIET_ALONE }),
            },
        }
    }
}

/// Waits until the queue has at most this many consumers.
async fn until_back(url: &Url, name: &str, time_outs: TimeOuts, others: u32) -> Result<(), Error> {
    let connection = Connection::open(url, name, time_outs).await?;
    let asked = Instant::now();
    let channel = connection.channel().await?;
    let round_trip = asked.elapsed();
    while look(&channel, time_outs, round_trip).await?.consumer_count() > others {
        sleep(LOOK_EVERY).await;
    }
    connection.close().await
}

/// Returns the state of the queue.
///
/// If the queue does not answer the broker within 250 ms, the broker counts neither messages nor consumers (`stat` of
/// `rabbit_quorum_queue` in 3.10.8): it requeues many letters, for example. Then the question is repeated. Another answer of
/// the broker took the time `round_trip`.
async fn look(channel: &Channel, time_outs: TimeOuts, round_trip: Duration) -> Result<Queue, Error> {
    const UNANSWERED: Duration = Duration::from_millis(200);
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let give_up_at = Instant::now() + REQUEUE_MAX;
    loop {
        let asked = Instant::now();
        let look = channel.queue_declare(topology::DEAD.into(), options, FieldTable::default());
        let queue = bounded(time_outs.call, "queue.declare", look).await?;
        let is_empty = queue.message_count() == 0 && queue.consumer_count() == 0;
        if !is_empty || asked.elapsed() < round_trip + UNANSWERED || Instant::now() >= give_up_at {
            return Ok(queue);
        }
        sleep(LOOK_EVERY).await;
    }
}

impl Dropped {
    /// Parses the properties of a message. Returns `None` if the broker did not drop it.
    pub(super) fn from_properties(properties: &BasicProperties) -> Option<Self> {
        let AMQPValue::FieldArray(deaths) = properties.headers().as_ref()?.inner().get(DEATHS)? else { return None };
        let AMQPValue::FieldTable(last) = deaths.as_slice().first()? else { return None };
        let text = |name: &str| match last.inner().get(name)? {
            AMQPValue::LongString(text) => str::from_utf8(text.as_bytes()).ok(),
            AMQPValue::ShortString(text) => Some(text.as_str()),
            _ => None,
        };
        let (queue, reason) = (text("queue")?, text("reason")?);
        let time = match last.inner().get("time") {
            Some(AMQPValue::Timestamp(seconds)) => {
                i64::try_from(*seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok())
            }
            _ => None,
        };
        let shown = |text: &str| printable(text, HEADER_CHARS_MAX);
        Some(Self { lane: topology::lane_of_queue(queue).map(shown), reason: shown(reason), time, queue: shown(queue) })
    }

    /// Returns the reason as text.
    #[must_use]
    pub fn detail(&self) -> String {
        let why = match self.reason.as_str() {
            "expired" => "its time to live ended",
            "delivery_limit" => "it was delivered more often than the queue's delivery limit allows",
            "maxlen" => "the queue was longer than its limit",
            "rejected" => "a consumer rejected it",
            other => other,
        };
        format!("dropped by the broker from queue {}: {why}", self.queue)
    }
}

impl DeadLetter {
    /// Parses a delivered letter.
    #[must_use]
    pub fn new(delivery: Delivery) -> Self {
        let Delivery { properties, data: body, acker, .. } = delivery;
        let job = job::parse(&body, &Defaults { job_id: default_id(&body, &properties), region: None });
        let kept = without_broker_properties(&properties).with_delivery_mode(PERSISTENT);
        if let Some(dropped) = Dropped::from_properties(&properties) {
            let detail = Some(dropped.detail());
            let Dropped { lane, reason, time, .. } = dropped;
            let (reason, code, worker, truncated) = (Some(reason), None, None, None);
            return Self { lane, time, reason, code, detail, worker, truncated, job, properties: kept, body, acker };
        }
        let header = |name| header_text(&properties, name).map(|text| printable(text, HEADER_CHARS_MAX));
        let (lane, reason, code) = (header(headers::LANE), header(headers::REASON), header(headers::CODE));
        let (detail, worker) = (header(headers::DETAIL), header(headers::WORKER));
        let truncated = header(headers::TRUNCATED);
        let time = header(headers::TIME).and_then(|time| time.parse().ok());
        Self { lane, time, reason, code, detail, worker, truncated, job, properties: kept, body, acker }
    }

    /// Takes properties and body as a message for a lane that is published now.
    #[must_use]
    pub fn take_message(&mut self, route: Route) -> Message {
        let Route { exchange, routing_key } = route;
        let (properties, body) = (mem::take(&mut self.properties), mem::take(&mut self.body));
        Message { exchange, routing_key, properties: published_now(properties), body: body.into() }
    }

    /// Returns the length of its body in bytes.
    #[must_use]
    pub fn body_len(&self) -> usize {
        self.body.len()
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldArray;

    use super::*;

    fn long(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    fn table(entries: &[(&str, &str)]) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, text) in entries {
            table.insert((*name).into(), long(text));
        }
        table
    }

    fn letter(headers: FieldTable) -> DeadLetter {
        let mut delivery = Delivery::mock(1, "".into(), "".into(), false, b"{}".to_vec());
        delivery.properties = BasicProperties::default().with_headers(headers).with_expiration("5".into());
        DeadLetter::new(delivery)
    }

    /// A message that the broker dropped from these queues, the last one first, with headers like ours.
    fn dropped(deaths: &[(&str, &str)]) -> FieldTable {
        let deaths = deaths.iter().map(|(queue, reason)| {
            AMQPValue::FieldTable(table(&[("queue", queue), ("reason", reason), ("exchange", "any")]))
        });
        let mut headers = table(&[("imageshare-lane", "forged"), ("imageshare-reason", "failed"), ("own", "kept")]);
        headers.insert(DEATHS.into(), AMQPValue::FieldArray(FieldArray::from(deaths.collect::<Vec<_>>())));
        headers.insert("x-first-death-queue".into(), long("imageshare.jobs.forged"));
        headers
    }

    #[track_caller]
    fn check(letter: &DeadLetter, lane: Option<&str>, reason: Option<&str>) {
        assert_eq!((letter.lane.as_deref(), letter.reason.as_deref()), (lane, reason));
    }

    #[test]
    fn broker_entry_overrides_our_headers() {
        let deaths = [("imageshare.jobs.eu", "expired"), ("imageshare.jobs.forged", "maxlen")];
        let letter = letter(dropped(&deaths));
        check(&letter, Some("eu"), Some("expired"));
        let detail = "dropped by the broker from queue imageshare.jobs.eu: its time to live ended";
        assert_eq!((letter.detail.as_deref(), letter.code, letter.worker), (Some(detail), None, None));
    }

    #[test]
    fn other_queue_is_not_a_lane() {
        check(&letter(dropped(&[("theirs", "rejected")])), None, Some("rejected"));
    }

    #[test]
    fn malformed_death_is_ignored() {
        for value in
            [long("x"), AMQPValue::FieldArray(FieldArray::default()), AMQPValue::FieldArray(vec![long("x")].into())]
        {
            let mut headers = table(&[("imageshare-lane", "eu"), ("imageshare-reason", "failed")]);
            headers.insert(DEATHS.into(), value);
            check(&letter(headers), Some("eu"), Some("failed"));
        }
    }

    #[test]
    fn replayed_job_has_no_broker_headers() {
        let mut letter = letter(dropped(&[("imageshare.jobs.eu", "expired")]));
        assert_eq!(letter.body_len(), 2);
        let message = letter.take_message(Route::own("eu").unwrap());
        assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("imageshare.jobs.eu", "eu"));
        let names: Vec<_> =
            message.properties.headers().as_ref().unwrap().inner().keys().map(|name| name.as_str()).collect();
        assert!(message.properties.timestamp().is_some(), "its wait begins again");
        assert_eq!((names, message.properties.expiration(), &message.body[..]), (vec!["own"], &None, &b"{}"[..]));
    }
}
