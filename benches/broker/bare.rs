//! The bare loop: the least that a program can do with the same client library and still lose nothing. It reads no job
//! and makes no call, and is otherwise as the worker is: two connections, all that may be in flight is, and nothing
//! waits for a turn of the library's own thread but confirms.

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

/// Deliveries in the order in which they came, and the confirms that they wait for.
#[derive(Default)]
struct InFlight(VecDeque<(u64, Later<Confirmation>)>);

/// What the library has taken on.
type Later<T> = Pin<Box<dyn Future<Output = lapin::Result<T>> + Send>>;

/// Consumes the lane's queue as long as it is there: publishes a report of so many bytes for each message,
/// and acknowledges it when the report is confirmed.
///
/// # Errors
/// At the first one of the library.
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
                tag = in_flight.confirmed() => drop(takeover(acknowledge(jobs.clone(), tag?))),
                delivery = poll_fn(|cx| Pin::new(&mut consumer).poll_next(cx)), if in_flight.0.len() < IN_FLIGHT_MAX => {
                    let Some(delivery) = delivery else { return Ok(()) };
                    let tag = delivery?.delivery_tag;
                    let confirm = takeover(publish(reports.clone(), report.clone(), tag));
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
    let named: BasicProperties = properties().with_message_id(tag.to_string().into());
    channel.basic_publish(REPORTS.into(), "default.succeeded".into(), options, &report, named).await?.await
}

async fn acknowledge(channel: Channel, tag: u64) -> lapin::Result<()> {
    channel.basic_ack(tag, BasicAckOptions::default()).await
}

/// Hands something over to the library, which does it in its turn: nobody waits until it is written.
fn takeover<T: Send + 'static>(action: impl Future<Output = lapin::Result<T>> + Send + 'static) -> Later<T> {
    let mut action: Later<T> = Box::pin(action);
    match action.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Pending => action,
        Poll::Ready(ended) => Box::pin(std::future::ready(ended)),
    }
}

impl InFlight {
    /// The first one, once its report is confirmed.
    async fn confirmed(&mut self) -> lapin::Result<u64> {
        poll_fn(|cx| {
            let Some((tag, confirm)) = self.0.front_mut() else { return Poll::Pending };
            let ended = ready!(confirm.as_mut().poll(cx)).map(|_| *tag);
            self.0.pop_front();
            Poll::Ready(ended)
        })
        .await
    }
}
