//! Courtesies: copies of reports for the publishers that asked for one by `reply_to`.
//!
//! Any publisher of jobs chooses where its copy goes, and some destinations make the broker close the channel or the
//! connection. So courtesies have a connection of their own, which is open only while there are any. A courtesy is sent
//! once. Those that do not arrive are counted, and hold nothing up.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use imageshare_amqp::{InFlight, Message, Outgoing, PublishOutcome};
use lapin::Event;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, sleep, sleep_until},
};

use super::events;
use super::{
    Connection, Error, Reply, TimeOuts, Url, bounded,
    letters::courtesy,
    publishing::{CONFIRM_MAX, FRAME_MAX, PUBLISH},
};

/// Courtesies that wait to be sent, and those in flight.
const COURTESIES_MAX: usize = 1_000;

/// Bytes of their bodies.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long the connection stays open without a courtesy.
const IDLE_MAX: Duration = Duration::from_mins(1);

/// How long no courtesy is sent after the connection ended early: this long at first, then twice as long each time, up to
/// the maximum.
const PAUSE_FIRST: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// The side that hands courtesies over.
#[derive(Debug)]
pub(super) struct Courtesies {
    waiting: mpsc::Sender<Courtesy>,
    bytes: Arc<Semaphore>,
    lost: Arc<AtomicU64>,
}

/// The task that sends them.
#[derive(Debug)]
pub(super) struct CourtesySender {
    url: Url,
    name: String,
    time_outs: TimeOuts,
    waiting: mpsc::Receiver<Courtesy>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Courtesy {
    message: Message,
    _bytes: OwnedSemaphorePermit,
}

impl Outgoing for Courtesy {
    fn message(&self) -> &Message {
        &self.message
    }
}

impl Courtesies {
    /// Both sides. Losses are added to `lost`.
    pub(super) fn new(url: Url, name: &str, time_outs: TimeOuts, lost: Arc<AtomicU64>) -> (Self, CourtesySender) {
        let (sender, waiting) = mpsc::channel(COURTESIES_MAX);
        let name = format!("{name} replies");
        let courtesies = Self { waiting: sender, bytes: Arc::new(Semaphore::new(BYTES_MAX)), lost: Arc::clone(&lost) };
        (courtesies, CourtesySender { url, name, time_outs, waiting, lost })
    }

    /// Hands over a copy of a report if there is room for it now.
    pub(super) fn send(&self, report: &Message, reply: &Reply) {
        let bytes = u32::try_from(report.body.len()).ok();
        let bytes = bytes.and_then(|bytes| Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok());
        let courtesy = bytes.map(|bytes| Courtesy { message: courtesy(report, reply), _bytes: bytes });
        if courtesy.is_none_or(|courtesy| self.waiting.try_send(courtesy).is_err()) {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

impl CourtesySender {
    /// Sends courtesies until the other side is dropped and all have an answer.
    pub(super) async fn run(mut self) {
        let mut pause = PAUSE_FIRST;
        while let Some(first) = self.waiting.recv().await {
            let began = Instant::now();
            let Err(error) = self.serve(first).await else { continue };
            if began.elapsed() > PAUSE_MAX {
                pause = PAUSE_FIRST;
            }
            events::CourtesiesLost { detail: &error, lost: self.lost.load(Relaxed), pause }.record();
            if self.discard_for(pause).await.is_none() {
                return;
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One connection, until there was no courtesy for a while.
    async fn serve(&mut self, first: Courtesy) -> Result<(), Error> {
        let connecting = async {
            let connection = Connection::open_with(&self.url, &self.name, self.time_outs, FRAME_MAX).await?;
            let opening = InFlight::open(connection.channel().await?);
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

    async fn pump(&mut self, connection: &Connection, in_flight: &mut InFlight<Courtesy>) -> Result<(), Error> {
        let mut events = pin!(connection.events());
        let mut progress = Instant::now();
        let mut is_open = true;
        while is_open || !in_flight.is_empty() {
            let is_idle = in_flight.is_empty();
            let (has_room, is_late) = (in_flight.len() < COURTESIES_MAX, !is_idle && !connection.is_blocked());
            tokio::select! {
                biased;
                event = events.next() => match event {
                    Some(Event::Error(error)) => return Err(Error::of_call(PUBLISH, &error)),
                    Some(_) => progress = Instant::now(),
                    None => return Err(Error::Lost { call: PUBLISH, detail: "it has ended".to_owned() }),
                },
                proven = in_flight.proven() => {
                    progress = Instant::now();
                    let proven = proven.map_err(|error| Error::of_call(PUBLISH, &error))?;
                    let lost = proven.into_iter().filter(|(_, outcome)| *outcome != PublishOutcome::Confirmed);
                    self.lose(lost.count());
                }
                () = sleep_until(progress + CONFIRM_MAX), if is_late => {
                    return Err(Error::TimeOut { call: "confirm", after: CONFIRM_MAX });
                }
                () = sleep_until(progress + IDLE_MAX), if is_idle => return Ok(()),
                courtesy = self.waiting.recv(), if is_open && has_room => match courtesy {
                    Some(courtesy) => {
                        if is_idle {
                            progress = Instant::now();
                        }
                        in_flight.send(courtesy);
                    }
                    None => is_open = false,
                },
            }
        }
        Ok(())
    }

    /// Discards what comes within this time. Returns `None` if no more will come.
    async fn discard_for(&mut self, pause: Duration) -> Option<()> {
        let mut pause = pin!(sleep(pause));
        loop {
            tokio::select! {
                () = &mut pause => return Some(()),
                courtesy = self.waiting.recv() => drop(courtesy?),
            }
            self.lose(1);
        }
    }

    fn lose(&self, courtesies: usize) {
        self.lost.fetch_add(courtesies as u64, Relaxed);
    }
}
