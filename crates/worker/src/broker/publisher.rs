//! A publisher for commands: it takes messages from any task and publishes each until the broker has confirmed it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use imageshare_amqp::Message;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Lost, PublishMode, State, TimeOuts, Url,
    publish_queue::{FinishedMessage, PublishQueue},
    publisher_connection::{ConnectionKeeper, PublisherConnection},
    room::{Room, RoomClass, Rooms},
};

/// Messages that wait to be sent, besides those in flight.
const WAITING_MAX: usize = 64;

/// The handle. Cheap to clone. The publisher ends when the last one is dropped and all is confirmed.
#[derive(Clone, Debug)]
pub struct Publisher {
    requests: mpsc::Sender<PublishRequest>,
    state: watch::Receiver<State>,
    rooms: Rooms,
}

/// Resolves once the fate of a message is known.
#[derive(Debug)]
#[must_use = "whether the message was confirmed is known only by this"]
pub struct Confirmation(oneshot::Receiver<Result<(), Lost>>);

/// The task that owns the connection.
#[derive(Debug)]
pub struct PublisherTask {
    keeper: ConnectionKeeper,
    queue: PublishQueue<Waiter>,
    requests: mpsc::Receiver<PublishRequest>,
}

#[derive(Debug)]
struct PublishRequest {
    message: Message,
    mode: PublishMode,
    waiter: Waiter,
}

/// The channel for the result of a message, and the room that the message takes.
#[derive(Debug)]
struct Waiter {
    done: oneshot::Sender<Result<(), Lost>>,
    _room: Room,
}

impl Publisher {
    /// A publisher whose connection the broker lists under `name`. It works while [`PublisherTask::run`] is awaited.
    #[must_use]
    pub fn new(url: Url, name: &str, time_outs: TimeOuts) -> (Self, PublisherTask) {
        let (sender, requests) = mpsc::channel(WAITING_MAX);
        let (connection, keeper) = PublisherConnection::new(url, name, time_outs, None);
        let publisher = Self { requests: sender, state: connection.state(), rooms: Rooms::default() };
        (publisher, PublisherTask { keeper, queue: PublishQueue::new(connection), requests })
    }

    /// Hands over a message when there is room. Messages are published in the order in which this returns.
    ///
    /// # Errors
    /// If the publisher has ended.
    pub async fn publish(&self, message: Message, mode: PublishMode) -> Result<Confirmation, Lost> {
        let room = self.rooms.reserve(RoomClass::Other, message.body.len()).await;
        let (done, confirmation) = oneshot::channel();
        let request = PublishRequest { message, mode, waiter: Waiter { done, _room: room } };
        self.requests.send(request).await.map_err(|_| Lost::Ended)?;
        Ok(Confirmation(confirmation))
    }

    /// Returns the state of the connection, to be read and waited on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.clone()
    }
}

impl PublisherTask {
    /// Publishes until the last handle is dropped and all is confirmed. If the future is dropped before, what is not
    /// confirmed is [`Lost::Ended`].
    pub async fn run(self) {
        let Self { keeper, mut queue, mut requests } = self;
        let publish = async move {
            let mut is_open = true;
            while is_open || !queue.is_empty() {
                tokio::select! {
                    biased;
                    published = queue.finished() => {
                        for FinishedMessage { of: Waiter { done, _room }, result, .. } in published {
                            // The caller may have dropped the confirmation.
                            drop(done.send(result));
                        }
                    }
                    request = requests.recv(), if is_open => match request {
                        Some(PublishRequest { message, mode, waiter }) => queue.publish(message, mode, waiter),
                        None => is_open = false,
                    },
                }
            }
        };
        tokio::join!(keeper.run(), publish);
    }
}

impl Future for Confirmation {
    type Output = Result<(), Lost>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|ended| ended.unwrap_or(Err(Lost::Ended)))
    }
}
