//! Reports, and jobs that the broker drops, for a command that waits for some of them. They arrive by a queue that exists as
//! long as the command's connection.

use lapin::{
    Channel, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::{FieldTable, ShortString},
};

use super::{Connection, Dropped, Error, TimeOuts, Url, bounded, delivery::default_id, topology};
use crate::wire::{
    Identity, Report,
    job::{self, Defaults},
};

/// Reports that are delivered and not processed.
const PREFETCH: u16 = 500;

/// All reports since it was opened, and all jobs that the broker dropped since.
#[derive(Debug)]
pub struct Follower {
    // It has to be dropped before the consumer.
    connection: Connection,
    consumer: Consumer,
    /// A delivery that was received and not returned yet.
    received: Option<Delivery>,
}

/// The end of a job.
#[derive(Debug)]
pub enum Followed {
    /// The broker dropped the job. No report follows.
    Dropped {
        /// The job.
        identity: Box<Identity>,
        /// Why and where.
        dropped: Dropped,
    },
    /// A worker reported the job.
    Reported(Box<Report>),
}

impl Follower {
    /// Begins to follow all jobs, of any publisher. If the exchange of dead letters is missing, or this user may not read it,
    /// dropped jobs are not followed.
    ///
    /// # Errors
    /// If the broker cannot be reached, or there is no exchange for reports.
    pub async fn open(url: &Url, name: &str, time_outs: TimeOuts) -> Result<Self, Error> {
        let connection = Connection::open(url, name, time_outs).await?;
        connection.limit_reading();
        let limit = time_outs.call;
        let channel = connection.channel().await?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let declare = channel.queue_declare("".into(), options, FieldTable::default());
        let queue = bounded(limit, "queue.declare", declare).await?.name().clone();
        let bind = async |channel: Channel, exchange: &str, key: &str| {
            let (queue, exchange, key): (ShortString, _, _) = (queue.clone(), exchange.into(), key.into());
            let bind = channel.queue_bind(queue, exchange, key, QueueBindOptions::default(), FieldTable::default());
            bounded(limit, "queue.bind", bind).await
        };
        bind(channel.clone(), topology::REPORTS, "#").await?;
        // On a channel of its own, which a refusal closes.
        match bind(connection.channel().await?, topology::DEAD, topology::DEAD).await {
            Ok(()) | Err(Error::Closed { .. }) => {}
            Err(error) => return Err(error),
        }
        bounded(limit, "basic.qos", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consume = channel.basic_consume(queue, "".into(), options, FieldTable::default());
        let consumer = bounded(limit, "basic.consume", consume).await?;
        Ok(Self { connection, consumer, received: None })
    }

    /// Returns the next report or dropped job. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the connection is lost. What arrives until another one is opened is lost too.
    pub async fn next(&mut self) -> Result<Followed, Error> {
        loop {
            if let Some(delivery) = &self.received {
                // More is delivered only after acknowledgements. If this one is lost, nothing else gets the message. If the
                // future is dropped while it waits, the next one finds the delivery here, and its acknowledgement sent.
                drop(delivery.acker.ack(BasicAckOptions::default()).await);
                if let Some(followed) = self.received.take().as_ref().and_then(read) {
                    return Ok(followed);
                }
            }
            self.received = match self.connection.next_delivery(&mut self.consumer).await {
                Some(Ok(delivery)) => Some(delivery),
                Some(Err(error)) => return Err(Error::from_call("basic.deliver", &error)),
                None => return Err(Error::Lost { call: "basic.deliver", detail: "the consumer was ended".to_owned() }),
            };
        }
    }

    /// Closes the connection.
    pub async fn close(self) {
        // The broker deletes the queue with the connection, however that ends.
        drop(self.connection.close().await);
    }
}

/// Parses a report, or a job that the broker dropped from a lane. A worker's dead letter is neither: its report follows.
fn read(delivery: &Delivery) -> Option<Followed> {
    if delivery.exchange.as_str() != topology::DEAD {
        return serde_json::from_slice(&delivery.data).ok().map(|report| Followed::Reported(Box::new(report)));
    }
    let dropped = Dropped::from_properties(&delivery.properties).filter(|dropped| dropped.lane.is_some())?;
    let job_id = default_id(&delivery.data, &delivery.properties);
    let job = job::parse(&delivery.data, &Defaults { job_id, region: None }).ok()?;
    Some(Followed::Dropped { identity: Box::new(job.identity), dropped })
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::pin,
        task::Poll,
        time::{Duration, SystemTime},
    };

    use imageshare_amqp::{
        encode_method,
        fake_broker::{FakeBroker, content},
    };
    use lapin::protocol::{AMQPClass, basic, queue};
    use tokio::{task::yield_now, time::timeout};

    use super::*;
    use crate::wire::{Rejection, report::Circumstances};

    /// How long a test may take for what it does within milliseconds.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Delivers one report to the consumer on channel 1.
    fn deliver_one(channel: u16, received: &AMQPClass) -> Vec<Vec<u8>> {
        let method = |method| vec![encode_method(channel, &method)];
        let basic = |answer| method(AMQPClass::Basic(answer));
        match received {
            AMQPClass::Queue(queue::AMQPMethod::Declare(_)) => {
                let declared = queue::DeclareOk { queue: "q".into(), message_count: 0, consumer_count: 0 };
                method(AMQPClass::Queue(queue::AMQPMethod::DeclareOk(declared)))
            }
            AMQPClass::Queue(queue::AMQPMethod::Bind(_)) => {
                method(AMQPClass::Queue(queue::AMQPMethod::BindOk(queue::BindOk {})))
            }
            AMQPClass::Basic(basic::AMQPMethod::Qos(_)) => basic(basic::AMQPMethod::QosOk(basic::QosOk {})),
            AMQPClass::Basic(basic::AMQPMethod::Consume(_)) => {
                let now = SystemTime::now().try_into().unwrap();
                let circumstances =
                    Circumstances { redelivered: false, received_at: now, finished_at: now, worker: "w".into() };
                let report = Report::of_rejection(&Rejection::of_text("no"), circumstances).write(usize::MAX);
                let deliver = basic::Deliver {
                    consumer_tag: "c".into(),
                    delivery_tag: 1,
                    redelivered: false,
                    exchange: topology::REPORTS.into(),
                    routing_key: "default.rejected".into(),
                };
                [
                    basic(basic::AMQPMethod::ConsumeOk(basic::ConsumeOk { consumer_tag: "c".into() })),
                    basic(basic::AMQPMethod::Deliver(deliver)),
                    vec![content(&[0, 0], &report)],
                ]
                .concat()
            }
            _ => vec![],
        }
    }

    #[tokio::test]
    async fn dropped_future_loses_no_report() {
        let broker = FakeBroker::start(deliver_one).await;
        let mut follower = Follower::open(&broker.url().parse().unwrap(), "test", TimeOuts::default()).await.unwrap();
        // Each future is dropped after one poll, as by `select!`.
        let polled_once = async {
            loop {
                if let Poll::Ready(followed) = poll_fn(|cx| Poll::Ready(pin!(follower.next()).poll(cx))).await {
                    return followed;
                }
                yield_now().await;
            }
        };
        let followed = timeout(PATIENCE, polled_once).await.expect("the report is returned");
        assert!(matches!(followed, Ok(Followed::Reported(_))), "{followed:?}");
    }
}
