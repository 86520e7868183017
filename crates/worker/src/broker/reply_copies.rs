//! Copies of reports for publishers that asked for one by `reply_to`.
//!
//! Any publisher of jobs chooses where its copy goes, and some destinations make the broker close the channel or the
//! connection. So copies have a connection of their own, which is open only while there are any. A copy is sent once. Those
//! that do not arrive are counted, and delay nothing.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use imageshare_amqp::{InFlightMessages, Message, Outgoing, PublishOutcome};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep, sleep_until},
};

use super::{
    Connection, Error, ReplyAddress, TimeOuts, Url, bounded, events,
    outgoing_messages::reply_copy,
    publish_queue::CONFIRM_MAX,
    publisher_connection::{FRAME_MAX, PUBLISH},
    supervisor::LASTED,
};
use crate::pauses::Pauses;

/// Copies that wait to be sent, and the same number in flight.
const COPIES_MAX: usize = 1_000;

/// Bytes of their bodies.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long the connection stays open without a copy.
const IDLE_MAX: Duration = Duration::from_mins(1);

/// The handle of the lanes.
#[derive(Debug)]
pub(super) struct ReplyCopies {
    waiting: mpsc::Sender<ReplyCopy>,
    bytes: Arc<Semaphore>,
    lost: Arc<AtomicU64>,
}

/// The task that sends copies.
#[derive(Debug)]
pub(super) struct CopySender {
    url: Url,
    name: String,
    time_outs: TimeOuts,
    waiting: mpsc::Receiver<ReplyCopy>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
struct ReplyCopy {
    message: Message,
    _bytes: OwnedSemaphorePermit,
}

impl Outgoing for ReplyCopy {
    fn message(&self) -> &Message {
        &self.message
    }
}

impl ReplyCopies {
    /// Both sides.
    pub(super) fn new(url: Url, name: &str, time_outs: TimeOuts) -> (Self, CopySender) {
        let (sender, waiting) = mpsc::channel(COPIES_MAX);
        let (name, lost) = (format!("{name} replies"), Arc::<AtomicU64>::default());
        let copies = Self { waiting: sender, bytes: Arc::new(Semaphore::new(BYTES_MAX)), lost: Arc::clone(&lost) };
        (copies, CopySender { url, name, time_outs, waiting, lost })
    }

    /// Hands over a copy of a report if there is room for it now.
    pub(super) fn send(&self, report: &Message, reply: &ReplyAddress) {
        let bytes = u32::try_from(report.body.len()).ok();
        let bytes = bytes.and_then(|bytes| Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok());
        let copy = bytes.map(|bytes| ReplyCopy { message: reply_copy(report, reply), _bytes: bytes });
        if copy.is_none_or(|copy| self.waiting.try_send(copy).is_err()) {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl CopySender {
    /// Sends copies until the handle is dropped and all have an answer.
    pub(super) async fn run(mut self) {
        let mut pauses = Pauses::between_copies();
        while let Some(first) = self.waiting.recv().await {
            let began = Instant::now();
            let Err(error) = self.serve(first).await else { continue };
            if began.elapsed() > LASTED {
                pauses.reset();
            }
            let pause = pauses.next();
            events::ReplyCopiesLost { detail: &error, lost: self.lost.load(Relaxed), pause }.record();
            if self.discard_for(pause).await.is_none() {
                return;
            }
        }
    }

    /// Serves one connection until there was no copy for [`IDLE_MAX`].
    async fn serve(&mut self, first: ReplyCopy) -> Result<(), Error> {
        let connecting = async {
            let connection = Connection::open_with(&self.url, &self.name, self.time_outs, FRAME_MAX).await?;
            let opening = InFlightMessages::open(connection.channel().await?);
            let in_flight = bounded(self.time_outs.call, "confirm.select", opening).await?;
            Ok((connection, in_flight))
        };
        let (connection, mut in_flight) = connecting.await.inspect_err(|_| self.lose(1))?;
        in_flight.send(first);
        let ended = self.pump(&connection, &mut in_flight).await;
        self.lose(in_flight.into_unproven().count());
        ended?;
        drop(connection.close().await);
        Ok(())
    }

    async fn pump(
        &mut self,
        connection: &Connection,
        in_flight: &mut InFlightMessages<ReplyCopy>,
    ) -> Result<(), Error> {
        let mut progress = Instant::now();
        let mut is_open = true;
        while is_open || !in_flight.is_empty() {
            let is_idle = in_flight.is_empty();
            let (has_room, limit) = (in_flight.len() < COPIES_MAX, if is_idle { IDLE_MAX } else { CONFIRM_MAX });
            tokio::select! {
                biased;
                proven = in_flight.proven() => {
                    progress = Instant::now();
                    let proven = proven.map_err(|error| Error::from_call(PUBLISH, &error))?;
                    let lost = proven.into_iter().filter(|(_, outcome)| *outcome != PublishOutcome::Confirmed);
                    self.lose(lost.count());
                }
                () = sleep_until(progress + limit) => match connection.is_blocked() {
                    _ if is_idle => return Ok(()),
                    true => progress = Instant::now(),
                    false => return Err(Error::TimeOut { call: "confirm", after: limit }),
                },
                copy = self.waiting.recv(), if is_open && has_room => match copy {
                    Some(copy) => {
                        if is_idle {
                            progress = Instant::now();
                        }
                        in_flight.send(copy);
                    }
                    None => is_open = false,
                },
            }
        }
        Ok(())
    }

    /// Discards the copies that arrive within this time. Returns `None` if there will be no more.
    async fn discard_for(&mut self, pause: Duration) -> Option<()> {
        let mut pause = pin!(sleep(pause));
        loop {
            tokio::select! {
                () = &mut pause => return Some(()),
                copy = self.waiting.recv() => drop(copy?),
            }
            self.lose(1);
        }
    }

    fn lose(&self, copies: usize) {
        self.lost.fetch_add(copies as u64, Relaxed);
    }
}
