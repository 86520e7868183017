//! The process's publisher: whatever it is given is published until the broker has confirmed it.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use imageshare_amqp::{Message, Outgoing};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};

use super::{
    Error, Reply, TimeOuts, Url,
    courtesies::Courtesies,
    publishing::Publishing,
    room::{Class, Room, Rooms},
    topology,
};

/// Messages that wait to be sent at most, beside those in flight.
const WAITING_MAX: usize = 64;

/// What is done with a message that no queue takes. One that a queue refuses is published again and again in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Insistence {
    /// It is lost, and its confirmation says so. Those of one destination arrive in their order.
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
    /// The broker accepts no message of this length.
    #[error("message too long: {len} bytes (expected at most {len_max}, the broker's max_message_size)")]
    TooLong {
        /// Bytes of its body.
        len: usize,
        /// Bytes that the broker accepts.
        len_max: usize,
    },
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
    /// There, but a queue refuses messages: it is full, or not available.
    Refused {
        /// The queue, exchange and routing key, printable.
        to: String,
        /// When it last took a message, or first refused one.
        since: Instant,
    },
    /// There, but something waits that is longer than the broker accepts, in its shortest form: exchange and routing key,
    /// printable.
    TooLong(String),
    /// There, but something waits that no queue takes: exchange and routing key, printable.
    Unroutable(String),
}

/// The handle. Cheap to clone. The publisher ends when the last one is dropped and all is confirmed.
#[derive(Clone, Debug)]
pub struct Publisher {
    requests: mpsc::Sender<Request>,
    state: watch::Receiver<State>,
    rooms: Rooms,
    courtesies_lost: Arc<AtomicU64>,
}

/// A message whose fate is still open. Wait for it to learn it.
#[derive(Debug)]
#[must_use = "only this says whether the message was confirmed"]
pub struct Confirmation(oneshot::Receiver<Result<(), Lost>>);

/// A message and who wants to know of it.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) message: Message,
    pub(super) insistence: Insistence,
    /// Where a copy goes once it is confirmed.
    pub(super) reply: Option<Box<Reply>>,
    pub(super) done: oneshot::Sender<Result<(), Lost>>,
    /// When it was handed over.
    pub(super) published_at: Instant,
    pub(super) _room: Room,
}

impl Outgoing for Request {
    fn message(&self) -> &Message {
        &self.message
    }
}

impl Publisher {
    /// A publisher whose connection the broker lists under `name`. It works while [`Publishing::run`] is awaited.
    #[must_use]
    pub fn new(url: Url, name: &str, time_outs: TimeOuts) -> (Self, Publishing) {
        let (sender, requests) = mpsc::channel(WAITING_MAX);
        let (state_sender, state) = watch::channel(State::Connecting);
        let courtesies_lost = Arc::default();
        let courtesies = Courtesies::new(url.clone(), name, time_outs, Arc::clone(&courtesies_lost));
        let publishing = Publishing::new(url, name, time_outs, requests, state_sender, courtesies);
        (Self { requests: sender, state, rooms: Rooms::default(), courtesies_lost }, publishing)
    }

    /// Hands over a message when there is room. Messages are published in the order in which this returns.
    ///
    /// # Errors
    /// If the publisher has ended.
    pub async fn publish(&self, message: Message, insistence: Insistence) -> Result<Confirmation, Lost> {
        let room = self.rooms.reserve(Class::Other, message.body.len()).await;
        self.hand_over(message, insistence, None, room).await
    }

    /// Waits for room for a message that is written afterwards.
    pub(super) async fn reserve(&self, class: Class, len: usize) -> Room {
        self.rooms.reserve(class, len).await
    }

    /// Hands over a message for which there is room, to be published until a queue takes it. Once it is confirmed a copy
    /// goes to `reply`, where it may be lost.
    pub(super) async fn publish_in(
        &self,
        mut room: Room,
        message: Message,
        reply: Option<Box<Reply>>,
    ) -> Result<Confirmation, Lost> {
        room.shrink_to(message.body.len());
        self.hand_over(message, Insistence::UntilConfirmed, reply, room).await
    }

    async fn hand_over(
        &self,
        message: Message,
        insistence: Insistence,
        reply: Option<Box<Reply>>,
        room: Room,
    ) -> Result<Confirmation, Lost> {
        let (done, confirmation) = oneshot::channel();
        let reply = reply.filter(|reply| !topology::is_ours(&reply.to));
        let request = Request { message, insistence, reply, done, published_at: Instant::now(), _room: room };
        self.requests.send(request).await.map_err(|_| Lost::Ended)?;
        Ok(Confirmation(confirmation))
    }

    /// Copies of reports that did not arrive, as far as is known.
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
