//! Reports as they come, and jobs that the broker drops, for somebody who waits for some of them: from a queue that is
//! there for as long as he is.

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

/// Reports that are delivered and not looked at.
const PREFETCH: u16 = 500;

/// All reports from when it was opened, and all jobs that the broker dropped.
#[derive(Debug)]
pub struct Follower {
    // Its end has to come before the consumer's.
    connection: Connection,
    consumer: Consumer,
}

/// What became of a job.
#[derive(Debug)]
pub enum Followed {
    /// The broker dropped it, and no report follows.
    Dropped {
        /// The job.
        identity: Box<Identity>,
        /// Why and where.
        dropped: Dropped,
    },
    /// A worker reported it.
    Reported(Box<Report>),
}

impl Follower {
    /// Begins to follow. What is reported or dropped from now on comes, whoever the job is from. Where the dead letters
    /// cannot be followed, because their exchange is missing or this user may not read it, no dropped job comes.
    ///
    /// # Errors
    /// If the broker is out of reach, or there is no exchange for reports.
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
        // On a channel of its own, which a refusal ends.
        match bind(connection.channel().await?, topology::DEAD, topology::DEAD).await {
            Ok(()) | Err(Error::Closed { .. }) => {}
            Err(error) => return Err(error),
        }
        bounded(limit, "basic.qos", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consume = channel.basic_consume(queue, "".into(), options, FieldTable::default());
        let consumer = bounded(limit, "basic.consume", consume).await?;
        Ok(Self { connection, consumer })
    }

    /// The next one. What is neither is left out. Nothing is lost when it is dropped before it is ready.
    ///
    /// # Errors
    /// If the connection is lost, and with it the queue and what comes until another one is opened.
    pub async fn next(&mut self) -> Result<Followed, Error> {
        loop {
            let delivery = match self.connection.next_delivery(&mut self.consumer).await {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => return Err(Error::of_call("basic.deliver", &error)),
                None => return Err(Error::Lost { call: "basic.deliver", detail: "the consumer was ended".to_owned() }),
            };
            // Only what is acked makes room for more; what is not comes to nobody else.
            drop(delivery.acker.ack(BasicAckOptions::default()).await);
            if let Some(followed) = read(&delivery) {
                return Ok(followed);
            }
        }
    }

    /// Ends it.
    pub async fn close(self) {
        // The queue goes with the connection, however that ends.
        drop(self.connection.close().await);
    }
}

/// A report, or a job that the broker dropped from a lane. A worker's dead letter is neither: its report follows.
fn read(delivery: &Delivery) -> Option<Followed> {
    if delivery.exchange.as_str() != topology::DEAD {
        return serde_json::from_slice(&delivery.data).ok().map(|report| Followed::Reported(Box::new(report)));
    }
    let dropped = Dropped::of(&delivery.properties).filter(|dropped| dropped.lane.is_some())?;
    let job_id = default_id(&delivery.data, &delivery.properties);
    let job = job::parse(&delivery.data, &Defaults { job_id, region: None }).ok()?;
    Some(Followed::Dropped { identity: Box::new(job.identity), dropped })
}
