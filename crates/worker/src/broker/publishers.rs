//! What the lanes of a process publish with.

use std::{sync::Arc, time::Duration};

use imageshare_amqp::Message;
use tokio::{sync::watch, time::timeout};

use super::{
    ReplyAddress, State, TimeOuts, Url,
    publish_queue::PublishQueue,
    publisher_connection::{ConnectionKeeper, PublisherConnection},
    reply_copies::{CopySender, ReplyCopies},
    room::Rooms,
};
use crate::metrics::ProcessMetrics;

/// How long copies of reports that were handed over may take at the end.
const COPIES_PATIENCE: Duration = Duration::from_secs(2);

/// The connection for reports and dead letters, the room for them, and the connection for copies of reports.
#[derive(Debug)]
pub struct Publishers {
    connection: PublisherConnection,
    rooms: Rooms,
    copies: ReplyCopies,
}

/// The task that keeps the connections.
#[derive(Debug)]
pub struct PublisherConnections {
    keeper: ConnectionKeeper,
    copies: CopySender,
}

impl Publishers {
    /// Publishers whose connections the broker lists under `name`. They work while [`PublisherConnections::run`] is awaited.
    pub(crate) fn new(
        url: Url,
        name: &str,
        time_outs: TimeOuts,
        metrics: Arc<ProcessMetrics>,
    ) -> (Self, PublisherConnections) {
        let (copies, copy_sender) = ReplyCopies::new(url.clone(), name, time_outs);
        let (connection, keeper) = PublisherConnection::new(url, name, time_outs, Some(metrics));
        (Self { connection, rooms: Rooms::default(), copies }, PublisherConnections { keeper, copies: copy_sender })
    }

    /// Opens a channel for one subscription.
    pub(super) fn open_queue<T: Send + 'static>(&self) -> PublishQueue<T> {
        PublishQueue::new(self.connection.clone())
    }

    /// The room for reports and dead letters of all lanes.
    pub(super) const fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// Sends a copy of a confirmed report to its requester. It may be lost.
    pub(super) fn send_copy(&self, report: &Message, reply: &ReplyAddress) {
        self.copies.send(report, reply);
    }

    /// Returns the state of the connection for reports, to be read and waited on.
    pub(crate) fn state(&self) -> watch::Receiver<State> {
        self.connection.state()
    }
}

impl PublisherConnections {
    /// Keeps the connections until the publishers are dropped.
    pub async fn run(self) {
        let Self { keeper, copies } = self;
        let copies = tokio::spawn(copies.run());
        keeper.run().await;
        drop(timeout(COPIES_PATIENCE, copies).await);
    }
}
