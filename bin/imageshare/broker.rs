//! The broker connection of a command: address, timeouts, and the exit codes of its errors.

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

/// Returns the address of the broker.
pub(crate) fn url(settings: &Settings) -> Result<Url, Problem> {
    settings.broker.url().or_exit(Exit::Usage)
}

/// Returns the timeouts of a connection.
pub(crate) fn time_outs(settings: &Settings) -> TimeOuts {
    TimeOuts { heartbeat: settings.broker.heartbeat, ..TimeOuts::default() }
}

/// Connects to the broker, without a retry.
pub(crate) async fn connect(settings: &Settings, name: &str) -> Result<Connection, Problem> {
    let url = url(settings)?;
    Connection::open(&url, name, time_outs(settings)).await.map_err(|error| problem(&url, &error))
}

/// Returns an error of the broker as the problem that ends a command.
pub(crate) fn problem(url: &Url, error: &Error) -> Problem {
    let hint = match error {
        Error::Closed { code: NOT_FOUND, .. } => "\nhint: run imageshare topology --declare",
        Error::TooManyHeld { .. } => "\nhint: use --limit, or drop or replay them with --all --yes",
        _ => "",
    };
    Problem::new(exit(error), format!("{url}: {error}{hint}"))
}

/// Detects that a publisher makes no progress, so that the command can give up.
pub(crate) struct StallDetector {
    url: Url,
    state: watch::Receiver<State>,
    give_up_after: Duration,
    /// Since when the broker is disconnected or accepts no messages. `None` while it accepts messages, also if a queue
    /// refuses them: [`State::Refused`] has its own time.
    stopped_since: Option<Instant>,
    /// The notice that the user saw last.
    announced: Option<String>,
}

impl StallDetector {
    /// Returns a detector for a time without progress.
    pub(crate) fn new(url: Url, state: watch::Receiver<State>, give_up_after: Duration) -> Self {
        Self { url, state, give_up_after, stopped_since: Some(Instant::now()), announced: None }
    }

    /// Completes when the command must give up, with the reason. Cancel safe.
    pub(crate) async fn give_up(&mut self, terminal: Terminal) -> Problem {
        loop {
            let state = self.state.borrow_and_update().clone();
            let (since, problem) = match &state {
                State::Connected | State::Unroutable(_) => (None, None),
                State::Connecting => (self.stopped_since, None),
                State::Blocked => {
                    let message = "the broker accepts no messages: it is short of memory or disk";
                    self.announce(terminal, message);
                    let since = *self.stopped_since.get_or_insert_with(Instant::now);
                    (Some(since), Some(self.problem(Exit::Unreachable, message)))
                }
                State::Refused { to, since } => {
                    let message = format!("{to}: the queue refuses messages: it is full or not available");
                    self.announce(terminal, &message);
                    (Some(*since), Some(self.problem(Exit::Refused, &message)))
                }
                State::TooLong(to) => {
                    return self.problem(Exit::Refused, &format!("{to}: message longer than the broker accepts"));
                }
                State::Down(error) => {
                    let since = *self.stopped_since.get_or_insert_with(Instant::now);
                    let problem = problem(&self.url, error);
                    if exit(error) != Exit::Unreachable {
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
            let deadline = since + self.give_up_after;
            if let Some(problem) = problem
                && deadline <= Instant::now()
            {
                return problem;
            }
            // A connection attempt has its own time limit, and no error to report before that.
            let is_connecting = state == State::Connecting;
            tokio::select! {
                changed = self.state.changed() => if changed.is_err() { pending::<()>().await },
                () = sleep_until(deadline), if !is_connecting => {}
            }
        }
    }

    fn announce(&mut self, terminal: Terminal, message: &str) {
        if self.announced.as_deref() != Some(message) {
            terminal.note(&format!("{message}; waiting"));
            self.announced = Some(message.to_owned());
        }
    }

    fn problem(&self, exit: Exit, message: &str) -> Problem {
        let after = self.give_up_after.as_secs_f64();
        Problem::new(exit, format!("{}: {message} (gave up after {after} s)", self.url))
    }
}

/// Returns the exit code for an error of the broker.
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
        | Error::Untrusted { .. } => Exit::Unreachable,
        Error::TooManyHeld { .. } => Exit::Failed,
    }
}
