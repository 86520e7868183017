//! What all commands share that speak to the broker: its address, and how its errors end a command.

use std::{future::pending, time::Duration};

use imageshare_worker::{
    broker::{Connection, Error, State, TimeOuts, Url},
    settings::Settings,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    exit::{Exit, OrExit as _, Problem},
    terminal::Terminal,
};

/// AMQP codes of problems that the operator must fix: ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED.
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
const PRECONDITION_FAILED: u16 = 406;

/// Where the broker is.
pub(crate) fn url(settings: &Settings) -> Result<Url, Problem> {
    settings.broker.url().or_exit(Exit::Usage)
}

/// How long the broker may take.
pub(crate) fn time_outs(settings: &Settings) -> TimeOuts {
    TimeOuts { heartbeat: settings.broker.heartbeat, ..TimeOuts::default() }
}

/// A connection, tried once.
pub(crate) async fn connect(settings: &Settings, name: &str) -> Result<Connection, Problem> {
    let url = url(settings)?;
    Connection::open(&url, name, time_outs(settings)).await.map_err(|error| problem(&url, &error))
}

/// An error as the end of a command.
pub(crate) fn problem(url: &Url, error: &Error) -> Problem {
    let hint = match error {
        Error::Closed { code: NOT_FOUND, .. } => "\nhint: run imageshare topology --declare",
        _ => "",
    };
    Problem::new(exit(error), format!("{url}: {error}{hint}"))
}

/// Watches a publisher for a command that gives up on a broker that takes nothing.
pub(crate) struct Watch {
    url: Url,
    state: watch::Receiver<State>,
    give_up_after: Duration,
    /// Since when nothing can be published: no connection, or the broker accepts no messages. Queues that refuse messages
    /// have a time of their own.
    stopped_since: Option<Instant>,
    /// What the user was last told to wait for.
    announced: Option<String>,
}

impl Watch {
    /// Gives up after this long without progress.
    pub(crate) fn new(url: Url, state: watch::Receiver<State>, give_up_after: Duration) -> Self {
        Self { url, state, give_up_after, stopped_since: Some(Instant::now()), announced: None }
    }

    /// Returns why it gives up, if it ever does. May be dropped and called again.
    pub(crate) async fn gives_up(&mut self, terminal: Terminal) -> Problem {
        loop {
            let state = self.state.borrow_and_update().clone();
            let (since, problem) = match &state {
                State::Connected | State::Unroutable(_) => (None, None),
                State::Connecting => (self.stopped_since, None),
                State::Blocked => {
                    let words = "the broker accepts no messages: it is short of memory or disk";
                    self.announce(terminal, words);
                    let since = *self.stopped_since.get_or_insert_with(Instant::now);
                    (Some(since), Some(self.problem(Exit::OutOfReach, words)))
                }
                State::Refused { to, since } => {
                    let words = format!("{to}: the queue refuses messages: it is full or not available");
                    self.announce(terminal, &words);
                    (Some(*since), Some(self.problem(Exit::Refused, &words)))
                }
                State::TooLong(to) => {
                    return self.problem(Exit::Refused, &format!("{to}: message longer than the broker accepts"));
                }
                State::Down(error) => {
                    let since = *self.stopped_since.get_or_insert_with(Instant::now);
                    let problem = problem(&self.url, error);
                    if exit(error) != Exit::OutOfReach {
                        return problem;
                    }
                    (Some(since), Some(problem))
                }
            };
            if matches!(state, State::Connected | State::Unroutable(_) | State::Refused { .. }) {
                self.stopped_since = None;
            }
            if matches!(state, State::Connected | State::Unroutable(_)) {
                self.announced = None;
            }
            let Some(since) = since else {
                if self.state.changed().await.is_err() {
                    pending::<()>().await;
                }
                continue;
            };
            let gives_up_at = since + self.give_up_after;
            if let Some(problem) = problem
                && gives_up_at <= Instant::now()
            {
                return problem;
            }
            // While it connects there is no error to give up with: the first try ends by itself.
            let is_connecting = state == State::Connecting;
            tokio::select! {
                changed = self.state.changed() => if changed.is_err() { pending::<()>().await },
                () = sleep_until(gives_up_at), if !is_connecting => {}
            }
        }
    }

    fn announce(&mut self, terminal: Terminal, words: &str) {
        if self.announced.as_deref() != Some(words) {
            terminal.note(&format!("{words}; waiting"));
            self.announced = Some(words.to_owned());
        }
    }

    fn problem(&self, exit: Exit, words: &str) -> Problem {
        let after = self.give_up_after.as_secs_f64();
        Problem::new(exit, format!("{}: {words} (gave up after {after} s)", self.url))
    }
}

/// The end of a command that this error leads to.
pub(crate) const fn exit(error: &Error) -> Exit {
    match error {
        Error::Refused { .. } | Error::Closed { code: ACCESS_REFUSED | NOT_FOUND | PRECONDITION_FAILED, .. } => {
            Exit::Refused
        }
        Error::Closed { .. }
        | Error::ChannelMax { .. }
        | Error::FrameMax(_)
        | Error::Login(_)
        | Error::Lost { .. }
        | Error::TimeOut { .. }
        | Error::Unreachable { .. }
        | Error::Untrusted { .. } => Exit::OutOfReach,
    }
}
