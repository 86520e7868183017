//! The bare loop: the least that a program can do with the same client library without losing a message. It parses no job
//! and sends no request. Otherwise it is like the worker: two connections, as many reports in flight, and only confirms wait
//! for the library's thread.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use futures_core::Stream as _;
use imageshare_worker::broker::IN_FLIGHT_MAX;
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions},
    types::FieldTable,
};
use tokio::runtime::Runtime;

use kit::{
    properties,
    setup::{QUEUE, REPORTS},
};

/// Delivery tags in order of arrival, each with the pending confirm of its report.
#[derive(Default)]
struct InFlight(VecDeque<(u64, Started<Confirmation>)>);

/// A started action of the library.
type Started<T> = Pin<Box<dyn Future<Output = lapin::Result<T>> + Send>>;

/// Consumes the lane's queue until it is deleted. Publishes a report of `report_len` bytes for each message, and acknowledges
/// the message once the report is confirmed.
///
/// # Errors
/// The first error of the library.
pub(crate) fn run(url: &str, prefetch: u16, report_len: usize) -> lapin::Result<()> {
    Runtime::new()?.block_on(async {
        let (consuming, publishing) = (connect(url).await?, connect(url).await?);
        let reports = publishing.create_channel().await?;
        reports.confirm_select(ConfirmSelectOptions::default()).await?;
        let jobs = consuming.create_channel().await?;
        jobs.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let (options, arguments) = (BasicConsumeOptions::default(), FieldTable::default());
        let mut consumer = jobs.basic_consume(QUEUE.into(), "".into(), options, arguments).await?;
        let report = vec![b'x'; report_len];
        let mut in_flight = InFlight::default();
        loop {
            tokio::select! {
                biased;
                tag = in_flight.confirmed() => drop(start(acknowledge(jobs.clone(), tag?))),
                delivery = poll_fn(|cx| Pin::new(&mut consumer).poll_next(cx)), if in_flight.0.len() < IN_FLIGHT_MAX => {
                    let Some(delivery) = delivery else { return Ok(()) };
                    let tag = delivery?.delivery_tag;
                    let confirm = start(publish(reports.clone(), report.clone(), tag));
                    in_flight.0.push_back((tag, confirm));
                }
            }
        }
    })
}

async fn connect(url: &str) -> lapin::Result<Connection> {
    let runtime = async_rs::Runtime::tokio_current();
    Connection::connect_with_runtime(url, ConnectionProperties::default(), runtime).await
}

async fn publish(channel: Channel, report: Vec<u8>, tag: u64) -> lapin::Result<Confirmation> {
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let properties: BasicProperties = properties().with_message_id(tag.to_string().into());
    channel.basic_publish(REPORTS.into(), "default.succeeded".into(), options, &report, properties).await?.await
}

async fn acknowledge(channel: Channel, tag: u64) -> lapin::Result<()> {
    channel.basic_ack(tag, BasicAckOptions::default()).await
}

/// Starts an action by polling it once, without waiting until its frame is written.
fn start<T: Send + 'static>(action: impl Future<Output = lapin::Result<T>> + Send + 'static) -> Started<T> {
    let mut action: Started<T> = Box::pin(action);
    match action.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => action,
        Poll::Ready(result) => Box::pin(std::future::ready(result)),
    }
}

impl InFlight {
    /// Waits for the confirm of the oldest report, and returns the tag of its delivery.
    async fn confirmed(&mut self) -> lapin::Result<u64> {
        poll_fn(|cx| {
            let Some((tag, confirm)) = self.0.front_mut() else { return Poll::Pending };
            let result = ready!(confirm.as_mut().poll(cx)).map(|_| *tag);
            self.0.pop_front();
            Poll::Ready(result)
        })
        .await
    }
}
