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
    voice::Voice,
};

/// Codes of AMQP that somebody has to mend: ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED.
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
    Problem::new(exit(error), format!("{url}: {error}"))
}

/// Looks after a publisher's connection for a command that does not wait for ever.
pub(crate) struct Watch {
    url: Url,
    state: watch::Receiver<State>,
    give_up_after: Duration,
    /// Since when there is none.
    down_since: Option<Instant>,
    /// Whether it was said that the broker is blocked.
    is_blocked: bool,
}

impl Watch {
    /// Gives up on a broker that is out of reach for so long.
    pub(crate) fn new(url: Url, state: watch::Receiver<State>, give_up_after: Duration) -> Self {
        Self { url, state, give_up_after, down_since: Some(Instant::now()), is_blocked: false }
    }

    /// Comes when the connection is nothing to wait for any longer. May be dropped and called again.
    pub(crate) async fn gives_up(&mut self, voice: &Voice) -> Problem {
        loop {
            match &*self.state.borrow_and_update() {
                State::Connected | State::Unroutable(_) => (self.down_since, self.is_blocked) = (None, false),
                State::Blocked => {
                    if !self.is_blocked {
                        voice.say("the broker takes nothing for now, for lack of memory or disk; it is waited for");
                    }
                    (self.down_since, self.is_blocked) = (None, true);
                }
                State::Connecting => {}
                State::Down(error) => {
                    let since = *self.down_since.get_or_insert_with(Instant::now);
                    if exit(error) != Exit::OutOfReach || since.elapsed() >= self.give_up_after {
                        return problem(&self.url, error);
                    }
                }
            }
            let Some(since) = self.down_since else {
                if self.state.changed().await.is_err() {
                    pending::<()>().await;
                }
                continue;
            };
            // Its state changes with every try, so that this ends with the last error.
            tokio::select! {
                changed = self.state.changed() => if changed.is_err() { pending::<()>().await },
                () = sleep_until(since + self.give_up_after) => {}
            }
        }
    }
}

/// The end of a command that this error leads to.
pub(crate) const fn exit(error: &Error) -> Exit {
    match error {
        Error::Refused { .. } | Error::Closed { code: ACCESS_REFUSED | NOT_FOUND | PRECONDITION_FAILED, .. } => {
            Exit::Refused
        }
        Error::Closed { .. }
        | Error::Lost { .. }
        | Error::TimeOut { .. }
        | Error::Unreachable { .. }
        | Error::Untrusted { .. } => Exit::OutOfReach,
    }
}
