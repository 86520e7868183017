//! Dead letters, looked at one by one in their order. What is not settled stays where it is.
//!
//! Two kinds of them come here: what a worker published, with headers of ours, and what the broker dropped from a lane's
//! queue, with its header `x-death`. A worker passes no `x-death` on and the broker writes its own entry first, so that
//! entry says truly from which queue a message was dropped; headers of ours beside it are a publisher's.

use std::{mem, pin::pin, time::Duration};

use imageshare_amqp::{Message, PERSISTENT};
use imageshare_core::text::printable;
use lapin::{
    Acker, BasicProperties, Channel, Consumer, Queue,
    message::Delivery,
    options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use tokio::time::{sleep, timeout};

use super::{
    Connection, Error, Route, TimeOuts, Url, bounded,
    delivery::{default_id, header_text},
    headers,
    letters::untouched,
    topology,
};
use crate::wire::{
    Job, Rejection,
    job::{self, Defaults},
};

/// Characters of a header that are kept.
const HEADER_CHARS_MAX: usize = 500;

/// Dead letters that are held at most, as many as AMQP can say: of those that stay, no more can be looked at.
const HELD_MAX: u16 = u16::MAX;

/// How long no letter may come while there is another consumer: then that one has what the broker has counted.
const QUIET: Duration = Duration::from_secs(2);

/// The same while there is none: a broker that is busy takes its time over a long queue, and only then something is wrong.
const QUIET_ALONE: Duration = Duration::from_secs(60);

/// How often it is looked whether the broker has put back what was held.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The header in which the broker says what it did with a message: a list of tables, the last deed first.
const DEATHS: &str = "x-death";

/// The dead letters that were there when it was opened, the first 65,535 of those that stay. They are held until
/// it ends, and then all that were not settled are back in their place.
///
/// They are consumed, since what was taken by `basic.get` comes back in another order from 33 letters on, and all at once:
/// of letters that came back before, the broker puts those that come back again behind the others (measured). The
/// transport reads only as far ahead as [`BODIES_LEN_MAX`](imageshare_amqp::BODIES_LEN_MAX) allows, whatever the queue holds.
#[derive(Debug)]
pub struct DeadLetters {
    // Its end has to come before the consumer's, or newer ones come back first.
    connection: Connection,
    channel: Channel,
    consumer: Consumer,
    /// Consumers that were there before.
    others: u32,
    left: u32,
    is_any_settled: bool,
    url: Url,
    name: String,
}

/// A dead letter. Dropped, it stays one.
#[derive(Debug)]
pub struct DeadLetter {
    /// The lane from whose queue it came. All texts of its headers are printable.
    pub lane: Option<String>,
    /// Why, in one word: `failed` or `rejected` by a worker; what the broker calls it if the broker dropped it, such as
    /// `expired`, `delivery_limit`, `maxlen`.
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
    properties: BasicProperties,
    body: Vec<u8>,
    acker: Acker,
}

/// That the broker dropped a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The lane from whose queue; `None` if it is not a lane's.
    pub lane: Option<String>,
    /// The broker's word for the reason, printable.
    pub reason: String,
    /// The queue, printable.
    queue: String,
}

impl DeadLetters {
    /// Opens the queue of dead letters.
    ///
    /// # Errors
    /// If the broker is out of reach, or there is no such queue.
    pub async fn open(url: &Url, name: &str, time_outs: TimeOuts) -> Result<Self, Error> {
        let connection = Connection::open(url, name, time_outs).await?;
        connection.limit_reading();
        let channel = connection.channel().await?;
        let queue = look(&channel, time_outs).await?;
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
        Ok(Self { connection, channel, consumer, others, left, is_any_settled: false, url: url.clone(), name })
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
        let is_alone = self.others == 0;
        let quiet = if is_alone { QUIET_ALONE } else { QUIET };
        match timeout(quiet, self.connection.next_delivery(&mut self.consumer)).await {
            Ok(Some(Ok(delivery))) => Ok(Some(DeadLetter::new(delivery))),
            Ok(Some(Err(error))) => Err(Error::of_call(call, &error)),
            Ok(None) => Err(Error::Lost { call, detail: "the consumer was ended".to_owned() }),
            // Fewer than were counted must not pass for all of them.
            Err(_) if is_alone => Err(Error::TimeOut { call, after: quiet }),
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
    /// If some were settled and the broker does not confirm that it has removed them: these may be back too.
    pub async fn close(self) -> Result<(), Error> {
        let Self { connection, channel, mut consumer, others, is_any_settled, url, name, .. } = self;
        let time_outs = connection.time_outs();
        let removed = if is_any_settled { removed(&connection, &channel, &mut consumer).await } else { Ok(()) };
        // With consumer and channel alive: ended before, they would put the letters back in another order.
        connection.cut();
        drop(connection);
        drop(consumer);
        // The broker needs a moment to put back what the connection held, and whoever looks next would miss these. If it
        // takes longer, nothing is wrong.
        drop(timeout(QUIET, until_back(&url, &name, time_outs, others)).await);
        removed
    }
}

/// Waits until the broker has removed everything that was acknowledged.
///
/// The broker does not answer an acknowledgement, and a connection that ends loses those not yet applied. A channel has
/// up to 32 commands under way to a quorum queue and keeps further acknowledgements back (seen with 3.10.8: after a
/// connection ended while the broker's disk was slow, 33 of 380 letters were removed). A consumer is added and removed by
/// commands that the queue applies in order and the broker answers: the first answer proves that what was under way is
/// applied, the second one the same of what was kept back. Both answers stand behind letters that the broker has sent, so
/// these are read and dropped.
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
            done = &mut barrier => return done.map_err(|error| Error::of_call(call, &error)),
            letter = timeout(QUIET_ALONE, connection.next_delivery(consumer)) => match letter {
                Ok(Some(Ok(_))) => {}
                Ok(Some(Err(error))) => return Err(Error::of_call(call, &error)),
                Ok(None) => return Err(Error::Lost { call, detail: "the consumer was ended".to_owned() }),
                Err(_) => return Err(Error::TimeOut { call, after: QUIET_ALONE }),
            },
        }
    }
}

/// Waits until there are only so many consumers.
async fn until_back(url: &Url, name: &str, time_outs: TimeOuts, others: u32) -> Result<(), Error> {
    let connection = Connection::open(url, name, time_outs).await?;
    let channel = connection.channel().await?;
    while look(&channel, time_outs).await?.consumer_count() > others {
        sleep(LOOK_EVERY).await;
    }
    connection.close().await
}

async fn look(channel: &Channel, time_outs: TimeOuts) -> Result<Queue, Error> {
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let look = channel.queue_declare(topology::DEAD.into(), options, FieldTable::default());
    bounded(time_outs.call, "queue.declare", look).await
}

impl Dropped {
    /// Reads what the broker says in the properties of a message; `None` if it did not drop it.
    pub(super) fn of(properties: &BasicProperties) -> Option<Self> {
        let AMQPValue::FieldArray(deaths) = properties.headers().as_ref()?.inner().get(DEATHS)? else { return None };
        let AMQPValue::FieldTable(last) = deaths.as_slice().first()? else { return None };
        let text = |name: &str| match last.inner().get(name)? {
            AMQPValue::LongString(text) => str::from_utf8(text.as_bytes()).ok(),
            AMQPValue::ShortString(text) => Some(text.as_str()),
            _ => None,
        };
        let (queue, reason) = (text("queue")?, text("reason")?);
        let shown = |text: &str| printable(text, HEADER_CHARS_MAX);
        Some(Self { lane: topology::lane_of_queue(queue).map(shown), reason: shown(reason), queue: shown(queue) })
    }

    /// Why, for people.
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
    /// Reads one as it was delivered.
    #[must_use]
    pub fn new(delivery: Delivery) -> Self {
        let Delivery { properties, data: body, acker, .. } = delivery;
        let job = job::parse(&body, &Defaults { job_id: default_id(&body, &properties), region: None });
        let kept = untouched(&properties).with_delivery_mode(PERSISTENT);
        if let Some(dropped) = Dropped::of(&properties) {
            let detail = Some(dropped.detail());
            let Dropped { lane, reason, .. } = dropped;
            let (reason, code, worker, truncated) = (Some(reason), None, None, None);
            return Self { lane, reason, code, detail, worker, truncated, job, properties: kept, body, acker };
        }
        let header = |name| header_text(&properties, name).map(|text| printable(text, HEADER_CHARS_MAX));
        let (lane, reason, code) = (header(headers::LANE), header(headers::REASON), header(headers::CODE));
        let (detail, worker) = (header(headers::DETAIL), header(headers::WORKER));
        let truncated = header(headers::TRUNCATED);
        Self { lane, reason, code, detail, worker, truncated, job, properties: kept, body, acker }
    }

    /// Takes it out as a message for the lane that it came from. What is left of it is what it shows.
    #[must_use]
    pub fn take_message(&mut self, route: Route) -> Message {
        let Route { exchange, routing_key } = route;
        let (properties, body) = (mem::take(&mut self.properties), mem::take(&mut self.body));
        Message { exchange, routing_key, properties, body: body.into() }
    }

    /// Bytes of its body.
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
    fn the_broker_names_lane_and_reason_and_headers_of_ours_do_not_count() {
        let deaths = [("imageshare.jobs.eu", "expired"), ("imageshare.jobs.forged", "maxlen")];
        let letter = letter(dropped(&deaths));
        check(&letter, Some("eu"), Some("expired"));
        let detail = "dropped by the broker from queue imageshare.jobs.eu: its time to live ended";
        assert_eq!((letter.detail.as_deref(), letter.code, letter.worker), (Some(detail), None, None));
    }

    #[test]
    fn a_queue_of_others_is_no_lane() {
        check(&letter(dropped(&[("theirs", "rejected")])), None, Some("rejected"));
    }

    #[test]
    fn a_malformed_death_is_no_death() {
        for value in
            [long("x"), AMQPValue::FieldArray(FieldArray::default()), AMQPValue::FieldArray(vec![long("x")].into())]
        {
            let mut headers = table(&[("imageshare-lane", "eu"), ("imageshare-reason", "failed")]);
            headers.insert(DEATHS.into(), value);
            check(&letter(headers), Some("eu"), Some("failed"));
        }
    }

    #[test]
    fn a_replayed_job_carries_nothing_the_broker_wrote() {
        let mut letter = letter(dropped(&[("imageshare.jobs.eu", "expired")]));
        assert_eq!(letter.body_len(), 2);
        let message = letter.take_message(Route::own("eu").unwrap());
        assert_eq!((message.exchange.as_str(), message.routing_key.as_str()), ("imageshare.jobs.eu", "eu"));
        let names: Vec<_> =
            message.properties.headers().as_ref().unwrap().inner().keys().map(|name| name.as_str()).collect();
        assert_eq!((names, message.properties.expiration(), &message.body[..]), (vec!["own"], &None, &b"{}"[..]));
    }
}
