//! What can go wrong between us and the broker: one closed set, each with the call that it happened in.

use std::{io, time::Duration};

use imageshare_core::text::printable;
use lapin::ErrorKind;

use super::{mechanism::NotOffered, transport::FrameMax};
use crate::{
    causes,
    pauses::{Pauses, REFUSED},
    tls::{self, TlsError},
};

/// Characters of a foreign message that are shown.
const DETAIL_CHARS_MAX: usize = 200;

/// Reply codes of AMQP 0-9-1 that refuse the login while a connection is opened: ACCESS_REFUSED and NOT_ALLOWED.
const REFUSALS: [u16; 2] = [403, 530];

/// Why a call to the broker failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The broker closed the channel or the connection.
    #[error("{call}: the broker returned {code} {text}")]
    Closed {
        /// The call.
        call: &'static str,
        /// The reply code of AMQP.
        code: u16,
        /// The text of the broker, printable.
        text: String,
    },
    /// The broker allows only frames that are too short for the client library. Another try fails too until its
    /// configuration changes.
    #[error("{0}")]
    FrameMax(FrameMax),
    /// The broker allows fewer channels on a connection than are needed. Another try fails too until the broker's
    /// configuration changes.
    #[error("channel_max: the broker allows {allowed} channels (expected at least {needed})")]
    ChannelMax {
        /// The number that the broker allows.
        allowed: u16,
        /// The number that is needed.
        needed: usize,
    },
    /// The broker offers no login mechanism that the program has. Another try fails too until its configuration changes.
    #[error("{0}")]
    Login(NotOffered),
    /// The connection was lost during the call, or before.
    #[error("{call}: the connection is lost: {detail}")]
    Lost {
        /// The call.
        call: &'static str,
        /// The cause, printable.
        detail: String,
    },
    /// The broker refused the user, the password or the virtual host. Another try fails too until one of them changes.
    #[error("the broker refuses the user, its password or the virtual host: {code} {text}")]
    Refused {
        /// The reply code of AMQP.
        code: u16,
        /// The text of the broker, printable.
        text: String,
    },
    /// There was no answer within our time-out.
    #[error("{call}: no answer within {} s", after.as_secs_f64())]
    TimeOut {
        /// The call.
        call: &'static str,
        /// The time-out.
        after: Duration,
    },
    /// As many dead letters are held as AMQP allows, and there are more. Not an error of the broker.
    #[error(
        "more than {held} dead letters stay in the queue (expected at most that, since all are held until the end)"
    )]
    TooManyHeld {
        /// How many are held.
        held: u16,
    },
    /// A certificate is not valid: the broker's, ours, or an authority. Another try fails too until it changes.
    #[error("no trusted connection to the broker: {detail}")]
    Untrusted {
        /// The problem, printable.
        detail: String,
    },
    /// No connection could be made: name, network.
    #[error("the broker is out of reach: {detail}")]
    Unreachable {
        /// The cause, printable.
        detail: String,
    },
}

impl Error {
    /// Returns its label in metrics, one of a closed set.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Closed { .. } => "closed",
            Self::Lost { .. } => "lost",
            Self::Refused { .. } => "refused",
            Self::TimeOut { .. } => "time_out",
            Self::ChannelMax { .. }
            | Self::FrameMax(_)
            | Self::Login(_)
            | Self::TooManyHeld { .. }
            | Self::Unreachable { .. }
            | Self::Untrusted { .. } => "unreachable",
        }
    }

    /// Returns whether a setting has to change, here or at the broker, before another try can succeed. (A broker may answer
    /// so while it starts, so there are more tries nevertheless, with long pauses.)
    #[must_use]
    pub const fn is_configuration(&self) -> bool {
        matches!(
            self,
            Self::ChannelMax { .. }
                | Self::FrameMax(_)
                | Self::Login(_)
                | Self::Refused { .. }
                | Self::Untrusted { .. }
        )
    }

    /// The error of a library call on an open connection.
    pub(super) fn from_call(call: &'static str, error: &lapin::Error) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(error) => Self::from_close(call, error.get_id(), error.get_message().as_str()),
            _ => Self::Lost { call, detail: shown(&error.to_string()) },
        }
    }

    /// The error of a library call that opens a connection.
    pub(super) fn from_opening(error: &lapin::Error, is_tls: bool) -> Self {
        match error.kind() {
            ErrorKind::ProtocolError(error) => Self::from_refusal(error.get_id(), error.get_message().as_str()),
            ErrorKind::IOError(error) => Self::unreachable(error, is_tls),
            _ => Self::Unreachable { detail: shown(&error.to_string()) },
        }
    }

    /// The broker closed an open connection or its channel, with a reply code and a text.
    pub(super) fn from_close(call: &'static str, code: u16, text: &str) -> Self {
        Self::Closed { call, code, text: shown(text) }
    }

    /// The broker closed a connection that was being opened.
    pub(super) fn from_refusal(code: u16, text: &str) -> Self {
        if REFUSALS.contains(&code) {
            Self::Refused { code, text: shown(text) }
        } else {
            Self::from_close("connect", code, text)
        }
    }

    /// No connection could be made.
    pub(super) fn unreachable(error: &io::Error, is_tls: bool) -> Self {
        if let Some(error) = causes::find(error) {
            return Self::Untrusted { detail: tls::explain(error) };
        }
        if let Some(frame_max) = error.get_ref().and_then(|error| error.downcast_ref()) {
            return Self::FrameMax(*frame_max);
        }
        if let Some(not_offered) = error.get_ref().and_then(|error| error.downcast_ref::<NotOffered>()) {
            return Self::Login(not_offered.clone());
        }
        match error.get_ref().and_then(|error| error.downcast_ref::<TlsError>()) {
            Some(error) => Self::Untrusted { detail: shown(&error.to_string()) },
            // A broker that refuses our certificate may close the connection without an alert.
            None if is_tls && is_hung_up(error) => Self::Unreachable {
                detail: shown(&format!(
                    "{error}; it may be that the other side refuses our certificate, or the lack of one"
                )),
            },
            None => Self::Unreachable { detail: shown(&error.to_string()) },
        }
    }
}

fn is_hung_up(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};

    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn shown(text: &str) -> String {
    printable(text, DETAIL_CHARS_MAX)
}

impl Pauses {
    /// Returns the pause after this error.
    pub(super) fn after(&mut self, error: &Error) -> Duration {
        if error.is_configuration() { REFUSED } else { self.next() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_connection_has_pause_of_its_own() {
        let mut pauses = Pauses::between_connections();
        assert_eq!(pauses.after(&Error::Refused { code: 403, text: String::new() }), REFUSED);
        assert!(pauses.after(&Error::Lost { call: "test", detail: String::new() }) < REFUSED);
    }
}
