//! The process's one publishing connection: whatever it is given is published until the broker has confirmed it.

use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use lapin::{
    BasicProperties, Event,
    message::Delivery,
    options::ConfirmSelectOptions,
    types::{FieldTable, ShortString},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until},
};

use super::{
    Connection, Error, TimeOuts, Url, bounded,
    flight::{Flight, Outcome},
    topology,
};
use crate::{events, metrics::OfProcess, pauses::Reconnects};

/// Messages that are on their way at most, those without a confirm and those that wait to be sent again together.
pub const IN_FLIGHT_MAX: usize = 1_000;

/// Messages that wait to be sent at most, beside those in flight.
const WAITING_MAX: usize = 64;

/// The longest frame, in bytes. Longer bodies go in several; headers have to find room in one, and
/// [`letters`](super::letters) sees to it that they do. The usual 128 KiB would take 8 MiB of memory.
const FRAME_MAX: u32 = 48 * 1024;

/// How long the broker may confirm nothing while something is in flight, unless it has said that it is blocked.
const CONFIRM_MAX: Duration = Duration::from_secs(30);

/// How long a message that no queue takes waits until it is tried again.
const UNROUTABLE_PAUSE: Duration = Duration::from_secs(5);

/// How long no courtesy is sent after the broker has refused something while one was in flight. Whoever may publish jobs
/// names any queue as the one for the answer; if each that we may not write to cost a connection, no report would come
/// through.
const COURTESIES_PAUSE: Duration = Duration::from_mins(1);

/// Reply codes of AMQP 0-9-1 that a single message may cost a channel: ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED.
const OF_A_MESSAGE: [u16; 3] = [403, 404, 406];

/// AMQP's mode 2: kept on disk.
pub(super) const PERSISTENT: u8 = 2;

/// A message on its way out.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// Where to; empty for the queue that the routing key names.
    pub exchange: ShortString,
    /// By which key.
    pub routing_key: ShortString,
    /// What goes with it.
    pub properties: BasicProperties,
    /// What it says.
    pub body: Vec<u8>,
}

/// What is done with a message that no queue takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insistence {
    /// It is lost, and its confirmation says so.
    UntilAnswered,
    /// It is published again and again until a queue takes it.
    UntilConfirmed,
}

/// Why a message was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// The publisher ended before the broker had confirmed it. It may have arrived nevertheless.
    #[error("the publisher ended before the broker had confirmed it")]
    Ended,
    /// No queue takes it.
    #[error("no queue takes what is published to {to}")]
    Unroutable {
        /// Exchange and routing key, printable.
        to: String,
    },
}

/// How it is with the connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// There, and the broker takes nothing for lack of memory or disk.
    Blocked,
    /// There.
    Connected,
    /// Not there yet.
    Connecting,
    /// Broken; it is tried again.
    Down(Error),
    /// There, but something waits that no queue takes: exchange and routing key, printable.
    Unroutable(String),
}

/// The handle. Cheap to clone. The publisher ends when the last one is dropped and all is confirmed.
#[derive(Clone, Debug)]
pub struct Publisher {
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<State>,
    courtesies_lost: Arc<AtomicU64>,
}

/// The task that owns the connection.
#[derive(Debug)]
pub struct Publishing {
    url: Url,
    name: String,
    time_outs: TimeOuts,
    requests: mpsc::Receiver<Request>,
    state: watch::Sender<State>,
    courtesies_lost: Arc<AtomicU64>,
    /// No courtesy is sent before.
    courtesies_from: Instant,
    metrics: Option<Arc<OfProcess>>,
    /// To be sent again, oldest first.
    again: VecDeque<Request>,
}

/// A message whose fate is still open. Wait for it to learn it.
#[derive(Debug)]
#[must_use = "only this says whether the message was confirmed"]
pub struct Confirmation(oneshot::Receiver<Result<(), Lost>>);

/// A message and who wants to know of it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) message: Arc<Message>,
    wish: Wish,
    /// When it was handed over.
    published_at: Instant,
}

#[derive(Debug)]
enum Wish {
    Courtesy,
    Insisted(Insistence, oneshot::Sender<Result<(), Lost>>),
}

impl Message {
    /// JSON that the broker keeps on disk.
    #[must_use]
    pub fn json(exchange: &str, routing_key: ShortString, message_id: ShortString, body: Vec<u8>) -> Self {
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(message_id);
        Self { exchange: exchange.into(), routing_key, properties, body }
    }

    /// With these headers.
    #[must_use]
    pub fn with_headers(self, headers: FieldTable) -> Self {
        Self { properties: self.properties.with_headers(headers), ..self }
    }

    /// Whether it is what was delivered or returned. The broker changes none of this on the way back.
    pub(super) fn equals(&self, delivery: &Delivery) -> bool {
        self.routing_key == delivery.routing_key
            && self.exchange == delivery.exchange
            && self.properties.message_id() == delivery.properties.message_id()
            && self.body == delivery.data
    }

    /// Exchange and routing key, printable.
    fn to(&self) -> String {
        let shown = |text: &ShortString| imageshare_core::text::excerpt(text.as_str());
        format!("exchange {} with routing key {}", shown(&self.exchange), shown(&self.routing_key))
    }
}

impl Request {
    fn new(message: Message, wish: Wish) -> Self {
        Self { message: Arc::new(message), wish, published_at: Instant::now() }
    }

    /// Whether nobody insists on it.
    pub(super) const fn is_courtesy(&self) -> bool {
        matches!(self.wish, Wish::Courtesy)
    }
}

impl Publisher {
    /// A publisher whose connection the broker lists under `name`. It works while [`Publishing::run`] is awaited.
    #[must_use]
    pub fn new(url: Url, name: &str, time_outs: TimeOuts) -> (Self, Publishing) {
        let (sender, requests) = mpsc::channel(WAITING_MAX);
        let (state_sender, state) = watch::channel(State::Connecting);
        let courtesies_lost = Arc::default();
        let handle = Self { requests: sender, state, courtesies_lost: Arc::clone(&courtesies_lost) };
        let publishing = Publishing {
            url,
            name: name.to_owned(),
            time_outs,
            requests,
            state: state_sender,
            courtesies_lost,
            courtesies_from: Instant::now(),
            metrics: None,
            again: VecDeque::new(),
        };
        (handle, publishing)
    }

    /// Hands over a message when there is room. Messages are published in the order in which this returns.
    ///
    /// # Errors
    /// If the publisher has ended.
    pub async fn publish(&self, message: Message, insistence: Insistence) -> Result<Confirmation, Lost> {
        let (done, confirmation) = oneshot::channel();
        let request = Request::new(message, Wish::Insisted(insistence, done));
        self.requests.send(request).await.map_err(|_| Lost::Ended)?;
        Ok(Confirmation(confirmation))
    }

    /// Publishes a message once if there is room now, and never to a queue of ours. Whether it arrives holds nothing
    /// up; what is lost is counted.
    pub fn courtesy(&self, message: Message) {
        let is_ours = message.exchange.as_str().is_empty() && topology::is_ours(message.routing_key.as_str());
        let request = Request::new(message, Wish::Courtesy);
        if is_ours || self.requests.try_send(request).is_err() {
            self.courtesies_lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Courtesies that did not arrive, as far as is known.
    #[must_use]
    pub fn courtesies_lost(&self) -> u64 {
        self.courtesies_lost.load(Ordering::Relaxed)
    }

    /// How it is with the connection, to be looked at and to be waited on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }
}

impl Future for Confirmation {
    type Output = Result<(), Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|ended| ended.unwrap_or(Err(Lost::Ended)))
    }
}

impl Publishing {
    /// It is counted what becomes of it.
    pub(crate) fn watched(self, metrics: Arc<OfProcess>) -> Self {
        Self { metrics: Some(metrics), ..self }
    }

    /// Publishes until the last handle is gone and all is confirmed. Whoever wants it to end before drops it; what is
    /// not confirmed then is [`Lost::Ended`].
    pub async fn run(mut self) {
        let mut reconnects = Reconnects::default();
        while let Err(error) = self.publish(&mut reconnects).await {
            let pause = reconnects.after(&error);
            self.show(State::Down(error));
            sleep(pause).await;
            if self.requests.is_closed() && self.requests.is_empty() && self.again.is_empty() {
                return;
            }
        }
    }

    /// One connection, from its beginning to its end.
    async fn publish(&mut self, reconnects: &mut Reconnects) -> Result<(), Error> {
        let connection = Connection::open_with(&self.url, &self.name, self.time_outs, Some(FRAME_MAX)).await?;
        let channel = connection.channel().await?;
        let select = channel.confirm_select(ConfirmSelectOptions::default());
        bounded(self.time_outs.call, "confirm.select", select).await?;
        self.show(State::Connected);
        let mut flight = Flight::new(channel);
        for request in self.again.drain(..) {
            flight.send(request);
        }
        let ended = self.pump(&connection, &mut flight, reconnects).await;
        // Courtesies are not sent twice.
        let (courtesies, unproven): (Vec<_>, Vec<_>) = flight.into_unproven().partition(Request::is_courtesy);
        self.lose(courtesies.len());
        if !courtesies.is_empty() && matches!(&ended, Err(Error::Closed { code, .. }) if OF_A_MESSAGE.contains(code)) {
            self.courtesies_from = Instant::now() + COURTESIES_PAUSE;
        }
        self.again = unproven.into_iter().chain(self.again.drain(..)).collect();
        ended?;
        // All is confirmed: that the broker does not say goodbye changes nothing.
        drop(connection.close().await);
        Ok(())
    }

    async fn pump(
        &mut self,
        connection: &Connection,
        flight: &mut Flight,
        reconnects: &mut Reconnects,
    ) -> Result<(), Error> {
        let mut events = pin!(connection.events());
        let mut is_open = true;
        let mut progress = Instant::now();
        let mut again_at = Instant::now();
        while is_open || flight.len() > 0 || !self.again.is_empty() {
            let is_waiting = flight.len() > 0 && !connection.is_blocked();
            let has_room = flight.len() + self.again.len() < IN_FLIGHT_MAX;
            tokio::select! {
                biased;
                event = poll_fn(|cx| events.as_mut().poll_next(cx)) => {
                    self.hear(event)?;
                    progress = Instant::now();
                }
                proven = flight.proven() => {
                    let proven = proven?;
                    progress = Instant::now();
                    if !proven.is_empty() {
                        reconnects.reset();
                    }
                    for (request, outcome) in proven {
                        if self.settle(request, outcome) {
                            again_at = progress + UNROUTABLE_PAUSE;
                        }
                    }
                }
                () = sleep_until(progress + CONFIRM_MAX), if is_waiting => {
                    return Err(Error::TimeOut { call: "confirm", after: CONFIRM_MAX });
                }
                () = sleep_until(again_at), if !self.again.is_empty() => {
                    for request in self.again.drain(..) {
                        flight.send(request);
                    }
                    self.show(State::Connected);
                }
                request = self.requests.recv(), if is_open && has_room => match request {
                    Some(request) if request.is_courtesy() && Instant::now() < self.courtesies_from => self.lose(1),
                    Some(request) => {
                        if flight.len() == 0 {
                            progress = Instant::now();
                        }
                        flight.send(request);
                    }
                    None => is_open = false,
                },
            }
        }
        Ok(())
    }

    fn hear(&self, event: Option<Event>) -> Result<(), Error> {
        match event {
            Some(Event::ConnectionBlocked(_)) => {
                self.show(State::Blocked);
            }
            Some(Event::ConnectionUnblocked) => {
                self.show(State::Connected);
            }
            Some(Event::Error(error)) => return Err(Error::of_call("publish", &error)),
            Some(_) => {}
            None => return Err(Error::Lost { call: "publish", detail: "it has ended".to_owned() }),
        }
        Ok(())
    }

    /// Tells whoever wants to know, or keeps the message to be sent again: then it is true.
    fn settle(&mut self, request: Request, outcome: Outcome) -> bool {
        let Request { message, wish, published_at } = request;
        if let (Some(metrics), Outcome::Confirmed) = (&self.metrics, outcome) {
            events::Confirmed { metrics, took: published_at.elapsed() }.record();
        }
        match (wish, outcome) {
            (Wish::Courtesy, Outcome::Confirmed) => {}
            (Wish::Courtesy, Outcome::Nacked | Outcome::Unroutable) => self.lose(1),
            // Nobody may wait for it any more.
            (Wish::Insisted(_, done), Outcome::Confirmed) => drop(done.send(Ok(()))),
            (Wish::Insisted(Insistence::UntilAnswered, done), Outcome::Nacked | Outcome::Unroutable) => {
                drop(done.send(Err(Lost::Unroutable { to: message.to() })));
            }
            (wish @ Wish::Insisted(Insistence::UntilConfirmed, _), Outcome::Nacked | Outcome::Unroutable) => {
                self.show(State::Unroutable(message.to()));
                self.again.push_back(Request { message, wish, published_at });
                return true;
            }
        }
        false
    }

    /// Shows how it is.
    fn show(&self, now: State) {
        if let Some(metrics) = &self.metrics {
            events::PublisherChanged { metrics, before: &self.state.borrow(), now: &now }.record();
        }
        self.state.send_replace(now);
    }

    fn lose(&self, courtesies: usize) {
        self.courtesies_lost.fetch_add(courtesies as u64, Ordering::Relaxed);
    }
}
