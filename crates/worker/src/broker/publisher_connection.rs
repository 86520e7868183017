//! The connection with which a process publishes. Each lane has a channel of its own on it.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::StreamExt as _;
use imageshare_amqp::{InFlightMessages, Outgoing};
use lapin::Event;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{Connection, Error, TimeOuts, Url, bounded, events};
use crate::{metrics::ProcessMetrics, pauses::Pauses};

/// The longest frame, in bytes. Longer bodies go in several. Headers must fit in one, which
/// [`outgoing_messages`](super::outgoing_messages) ensures. The usual 128 KiB would take 8 MiB of memory.
pub(super) const FRAME_MAX: u32 = 48 * 1024;

/// The call that an error names, whether a confirm or an event of the connection reports it.
pub(super) const PUBLISH: &str = "basic.publish";

/// How long a limit of the broker's for the length of a message is cached. An operator may have raised it since.
const LEN_MAX_CACHED: Duration = Duration::from_mins(10);

/// The state of the publisher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Connected, and the broker accepts nothing for lack of memory or disk.
    Blocked,
    /// Connected.
    Connected,
    /// The first connection is being opened.
    Connecting,
    /// The connection or a channel failed; the next one follows.
    Down(Error),
    /// Connected, but a queue refuses messages: it is full, or not available.
    Refused {
        /// The queue, exchange and routing key, printable.
        to: String,
        /// When it last accepted a message, or first refused one.
        since: Instant,
    },
    /// Connected, but a message is too long for the broker in its shortest form: exchange and routing key, printable.
    TooLong(String),
    /// Connected, but no queue accepts a message: exchange and routing key, printable.
    Unroutable(String),
}

/// A handle. Cheap to clone. The connection ends with the last one.
#[derive(Clone, Debug)]
pub(super) struct PublisherConnection {
    newest: watch::Receiver<Option<Arc<OpenConnection>>>,
    shared: Arc<SharedByUsers>,
}

/// Opens the connection, again whenever it is lost.
#[derive(Debug)]
pub(super) struct ConnectionKeeper {
    url: Url,
    name: String,
    time_outs: TimeOuts,
    newest: watch::Sender<Option<Arc<OpenConnection>>>,
    shared: Arc<SharedByUsers>,
}

/// An open connection.
#[derive(Debug)]
pub(super) struct OpenConnection {
    connection: Connection,
    /// When the broker last blocked or unblocked it.
    changed_at: Mutex<Instant>,
    /// Why a user of the connection cut it.
    failure: OnceLock<Error>,
    /// Whether a message was confirmed on it.
    has_confirmed: AtomicBool,
}

/// What all users of the connection share.
#[derive(Debug)]
struct SharedByUsers {
    metrics: Option<Arc<ProcessMetrics>>,
    users: AtomicU64,
    /// Bytes of the longest message that the broker accepts, if it refused one, and when.
    len_max: Mutex<Option<(usize, Instant)>>,
    problems: Mutex<PublishProblems>,
    state: watch::Sender<State>,
}

/// What keeps messages from being published.
#[derive(Debug)]
struct PublishProblems {
    connection: State,
    /// By the numbers of the users.
    of_users: BTreeMap<u64, State>,
}

impl PublisherConnection {
    /// A connection that the broker lists under `name`. It is kept while [`ConnectionKeeper::run`] is awaited.
    pub(super) fn new(
        url: Url,
        name: &str,
        time_outs: TimeOuts,
        metrics: Option<Arc<ProcessMetrics>>,
    ) -> (Self, ConnectionKeeper) {
        let shared = Arc::new(SharedByUsers {
            metrics,
            users: AtomicU64::new(0),
            len_max: Mutex::default(),
            problems: Mutex::new(PublishProblems { connection: State::Connecting, of_users: BTreeMap::new() }),
            state: watch::Sender::new(State::Connecting),
        });
        let (newest_sender, newest) = watch::channel(None);
        let name = name.to_owned();
        let keeper = ConnectionKeeper { url, name, time_outs, newest: newest_sender, shared: Arc::clone(&shared) };
        (Self { newest, shared }, keeper)
    }

    /// Waits for an open connection, and opens a channel for messages on it.
    pub(super) async fn open_channel<T: Outgoing>(
        mut self,
    ) -> Result<(Arc<OpenConnection>, Box<InFlightMessages<T>>), Error> {
        let is_open = |newest: &Option<Arc<OpenConnection>>| newest.as_ref().is_some_and(|open| open.is_open());
        // The keeper ends after its users, unless it broke down. Then the process ends.
        let newest = self.newest.wait_for(is_open).await.ok().and_then(|newest| newest.clone());
        let Some(open) = newest else { return std::future::pending().await };
        let opening = InFlightMessages::open(open.connection.channel().await?);
        let in_flight = bounded(open.connection.time_outs().call, "confirm.select", opening).await?;
        Ok((open, Box::new(in_flight)))
    }

    /// Returns the number under which a user reports its problems.
    pub(super) fn new_user(&self) -> u64 {
        self.shared.users.fetch_add(1, Relaxed)
    }

    /// Shows or removes the problem of a user.
    pub(super) fn show_problem(&self, user: u64, problem: Option<State>) {
        self.shared.change(|problems| match problem {
            Some(problem) => drop(problems.of_users.insert(user, problem)),
            None => drop(problems.of_users.remove(&user)),
        });
    }

    /// Returns the length in bytes of the longest message that the broker accepts, if it is known.
    pub(super) fn len_max(&self) -> Option<usize> {
        let len_max = *self.shared.len_max.lock();
        len_max.filter(|(_, since)| since.elapsed() < LEN_MAX_CACHED).map(|(len_max, _)| len_max)
    }

    /// Caches the length in bytes of the longest message that the broker accepts.
    pub(super) fn limit_len(&self, len_max: usize) {
        *self.shared.len_max.lock() = Some((len_max, Instant::now()));
    }

    /// Records that a message was confirmed this long after it was handed over.
    pub(super) fn confirmed(&self, took: Duration) {
        if let Some(metrics) = &self.shared.metrics {
            events::Confirmed { metrics, took }.record();
        }
    }

    /// Returns the state, to be read and waited on.
    pub(super) fn state(&self) -> watch::Receiver<State> {
        self.shared.state.subscribe()
    }
}

impl ConnectionKeeper {
    /// Keeps the connection until the last handle is dropped.
    pub(super) async fn run(self) {
        let mut pauses = Pauses::between_connections();
        loop {
            let failed = tokio::select! {
                biased;
                () = self.newest.closed() => break,
                failed = self.keep(&mut pauses) => failed,
            };
            self.newest.send_replace(None);
            let pause = pauses.after(&failed);
            self.shared.failed(failed);
            tokio::select! {
                () = self.newest.closed() => break,
                () = sleep(pause) => {}
            }
        }
        let open = self.newest.send_replace(None);
        if let Some(open) = open {
            // All messages are confirmed, so the broker's answer changes nothing.
            drop(open.connection.close().await);
        }
    }

    /// Keeps one connection until it fails.
    async fn keep(&self, pauses: &mut Pauses) -> Error {
        let opened = Connection::open_with(&self.url, &self.name, self.time_outs, FRAME_MAX).await;
        let connection = match opened {
            Ok(connection) => connection,
            Err(error) => return error,
        };
        let mut events = pin!(connection.events());
        let open = Arc::new(OpenConnection {
            connection,
            changed_at: Mutex::new(Instant::now()),
            failure: OnceLock::new(),
            has_confirmed: AtomicBool::new(false),
        });
        self.newest.send_replace(Some(Arc::clone(&open)));
        let failed = loop {
            self.shared.change(|problems| {
                problems.connection = if open.is_blocked() { State::Blocked } else { State::Connected };
            });
            match events.next().await {
                // That of a channel concerns only the user of the channel.
                Some(Event::Error(error)) if !open.is_open() => break Error::from_call(PUBLISH, &error),
                Some(_) => *open.changed_at.lock() = Instant::now(),
                None => break Error::Lost { call: PUBLISH, detail: "it has ended".to_owned() },
            }
        };
        if open.has_confirmed.load(Relaxed) {
            pauses.reset();
        }
        open.failure.get().cloned().unwrap_or(failed)
    }
}

impl OpenConnection {
    /// Whether it can still be used.
    pub(super) fn is_open(&self) -> bool {
        self.failure.get().is_none() && self.connection.is_open()
    }

    /// Whether the broker accepts no messages for lack of memory or disk.
    pub(super) fn is_blocked(&self) -> bool {
        self.connection.is_blocked()
    }

    /// When the broker last blocked or unblocked it.
    pub(super) fn changed_at(&self) -> Instant {
        *self.changed_at.lock()
    }

    /// Cuts the connection for this reason.
    pub(super) fn fail(&self, error: Error) {
        // The first reason counts.
        drop(self.failure.set(error));
        self.connection.cut();
    }

    /// Records that it did its work: the pause after its end is short again.
    pub(super) fn has_confirmed(&self) {
        self.has_confirmed.store(true, Relaxed);
    }
}

impl SharedByUsers {
    /// Changes what keeps messages from being published, and shows the new state if it differs.
    fn change(&self, change: impl FnOnce(&mut PublishProblems)) {
        let mut problems = self.problems.lock();
        change(&mut problems);
        let state = problems.state();
        if *self.state.borrow() != *state {
            self.show(state.clone());
        }
    }

    /// Shows that the connection failed, each time.
    fn failed(&self, error: Error) {
        let mut problems = self.problems.lock();
        problems.connection = State::Down(error);
        self.show(problems.connection.clone());
    }

    fn show(&self, now: State) {
        if let Some(metrics) = &self.metrics {
            events::PublisherChanged { metrics, before: &self.state.borrow(), now: &now }.record();
        }
        self.state.send_replace(now);
    }
}

impl PublishProblems {
    /// The state of the publisher: that of the connection, or the first problem of a user.
    fn state(&self) -> &State {
        match &self.connection {
            State::Connected => self.of_users.values().next().unwrap_or(&State::Connected),
            other => other,
        }
    }
}
