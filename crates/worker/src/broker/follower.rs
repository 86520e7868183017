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
        Ok(Self { connection, consumer })
    }

    /// Returns the next report or dropped job. Dropping the future loses nothing.
    ///
    /// # Errors
    /// If the connection is lost. What arrives until another one is opened is lost too.
    pub async fn next(&mut self) -> Result<Followed, Error> {
        loop {
            let delivery = match self.connection.next_delivery(&mut self.consumer).await {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => return Err(Error::from_call("basic.deliver", &error)),
                None => return Err(Error::Lost { call: "basic.deliver", detail: "the consumer was ended".to_owned() }),
            };
            // More is delivered only after acknowledgements. If this one is lost, nothing else gets the message.
            drop(delivery.acker.ack(BasicAckOptions::default()).await);
            if let Some(followed) = read(&delivery) {
                return Ok(followed);
            }
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
