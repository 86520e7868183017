//! Reports as they come, for somebody who waits for some of them: from a queue that is there for as long as he is.

use std::{future::poll_fn, pin::Pin};

use futures_core::Stream as _;
use lapin::{
    Consumer,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueBindOptions, QueueDeclareOptions},
    types::FieldTable,
};

use super::{Connection, Error, TimeOuts, Url, bounded, topology};
use crate::wire::Report;

/// Reports that are delivered and not looked at.
const PREFETCH: u16 = 500;

/// All reports from when it was opened.
#[derive(Debug)]
pub struct Follower {
    // Its end has to come before the consumer's.
    connection: Connection,
    consumer: Consumer,
}

impl Follower {
    /// Begins to follow. What is reported from now on comes, whoever the job is from.
    ///
    /// # Errors
    /// If the broker is out of reach, or there is no exchange for reports.
    pub async fn open(url: &Url, name: &str, time_outs: TimeOuts) -> Result<Self, Error> {
        let connection = Connection::open(url, name, time_outs).await?;
        let limit = time_outs.call;
        let channel = connection.channel().await?;
        let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
        let declare = channel.queue_declare("".into(), options, FieldTable::default());
        let queue = bounded(limit, "queue.declare", declare).await?.name().clone();
        let (exchange, key) = (topology::REPORTS.into(), "#".into());
        let bind = channel.queue_bind(queue.clone(), exchange, key, QueueBindOptions::default(), FieldTable::default());
        bounded(limit, "queue.bind", bind).await?;
        bounded(limit, "basic.qos", channel.basic_qos(PREFETCH, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions { exclusive: true, ..BasicConsumeOptions::default() };
        let consume = channel.basic_consume(queue, "".into(), options, FieldTable::default());
        let consumer = bounded(limit, "basic.consume", consume).await?;
        Ok(Self { connection, consumer })
    }

    /// The next report. What is none is left out. Nothing is lost when it is dropped before it is ready.
    ///
    /// # Errors
    /// If the connection is lost, and with it the queue and what comes until another one is opened.
    pub async fn next(&mut self) -> Result<Report, Error> {
        loop {
            let next = poll_fn(|cx| Pin::new(&mut self.consumer).poll_next(cx)).await;
            let delivery = match next {
                Some(Ok(delivery)) => delivery,
                Some(Err(error)) => return Err(Error::of_call("basic.deliver", &error)),
                None => return Err(Error::Lost { call: "basic.deliver", detail: "the consumer was ended".to_owned() }),
            };
            // Only what is acked makes room for more; what is not comes to nobody else.
            drop(delivery.acker.ack(BasicAckOptions::default()).await);
            if let Ok(report) = serde_json::from_slice(&delivery.data) {
                return Ok(report);
            }
        }
    }

    /// Ends it.
    pub async fn close(self) {
        // The queue goes with the connection, however that ends.
        drop(self.connection.close().await);
    }
}
