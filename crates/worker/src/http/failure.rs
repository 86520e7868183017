//! Why a call brought no answer, in one line that says where to look.

use std::{error::Error, fmt, io, time::Duration};

use imageshare_core::text::printable;

use super::way::{ConnectTimeOut, NoTunnel};
use crate::{net::NetError, tls};

/// Characters of a cause's own words that are kept.
const DETAIL_CHARS_MAX: usize = 200;

/// Causes of causes that are looked at.
const CAUSES_MAX: usize = 16;

/// A call that brought no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CallError {
    /// Whether any byte of the request may have left, so that it may have been applied.
    pub sent: bool,
    /// Why.
    pub reason: Reason,
}

/// Why a call brought no answer. Every text in it is one printable line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The name server's fault, or the endpoint's name is wrong.
    #[error("the endpoint's name cannot be resolved ({0}); check the endpoint and this machine's name server")]
    Name(String),
    /// The network's fault, or nobody listens there.
    #[error("no connection to the endpoint ({0}); check the endpoint, the network and its firewalls")]
    Connect(String),
    /// The proxy's fault, or its address is wrong.
    #[error("no tunnel through the proxy ({0}); check HTTPS_PROXY, NO_PROXY and the proxy")]
    Proxy(String),
    /// The endpoint's certificate or the trusted roots of this machine.
    #[error("no trusted connection to the endpoint ({0}); check its certificate and this machine's root certificates")]
    Tls(String),
    /// Something took too long.
    #[error("no {stage} within {}; check {}", seconds(*.after), stage.suspects())]
    TimeOut {
        /// What did not come.
        stage: Stage,
        /// How long it was waited for.
        after: Duration,
    },
    /// The other side, or something on the way, ended the connection.
    #[error("the endpoint ended the connection before its answer was complete ({0})")]
    Closed(String),
    /// Whatever answers there does not speak HTTP/1.
    #[error("what the endpoint sent is not HTTP ({0})")]
    NotHttp(String),
    /// The head of the answer is longer than is read.
    #[error("the head of the answer is too long ({0}), allowed are {max} bytes", max = super::HEAD_LEN_MAX)]
    HeadTooLong(String),
    /// The body of the answer is longer than is read.
    #[error("the body of the answer is too long, allowed are {0} bytes")]
    BodyTooLong(usize),
    /// Anything else.
    #[error("the call failed ({0})")]
    Other(String),
}

/// What a call waits for, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The name, the connection, and the handshake.
    Connection,
    /// The head of the answer.
    Answer,
    /// The body of the answer.
    Body,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "connection to the endpoint",
            Self::Answer => "answer",
            Self::Body => "complete answer",
        })
    }
}

impl Stage {
    /// What to look at when it does not come.
    const fn suspects(self) -> &'static str {
        match self {
            Self::Connection => "the endpoint, the network and its firewalls",
            Self::Answer | Self::Body => "the endpoint and the network",
        }
    }
}

impl Reason {
    /// Finds out what an error of the HTTP library is about. Its own types say little, so its causes are asked.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let causes = causes(error);
        let root = causes.last().map_or_else(String::new, |cause| printable(&cause.to_string(), DETAIL_CHARS_MAX));
        if let Some(error) = causes.iter().find_map(|cause| cause.downcast_ref::<rustls::Error>()) {
            return Self::Tls(tls::explain(error));
        }
        if causes.iter().any(|cause| cause.is::<NoTunnel>()) {
            return Self::Proxy(root);
        }
        if let Some(ConnectTimeOut(after)) = causes.iter().find_map(|cause| cause.downcast_ref()) {
            return Self::TimeOut { stage: Stage::Connection, after: *after };
        }
        match causes.iter().find_map(|cause| cause.downcast_ref()) {
            Some(NetError::Lookup(_)) => return Self::Name(root),
            Some(NetError::Connect(_)) => return Self::Connect(root),
            None => {}
        }
        if let Some(error) = causes.iter().find_map(|cause| cause.downcast_ref::<hyper::Error>()) {
            if error.is_parse_too_large() {
                return Self::HeadTooLong(root);
            }
            if error.is_parse() {
                return Self::NotHttp(root);
            }
            if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
                return Self::Closed(root);
            }
        }
        match causes.iter().find_map(|cause| cause.downcast_ref::<io::Error>()).map(io::Error::kind) {
            Some(
                io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::NotConnected
                | io::ErrorKind::UnexpectedEof,
            ) => Self::Closed(root),
            Some(_) | None => Self::Other(root),
        }
    }
}

/// An error and what caused it, outermost first. An `io::Error` made of another error hides that one from `source`.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut causes = vec![error];
    let mut last = error;
    while let Some(next) = cause(last)
        && causes.len() < CAUSES_MAX
    {
        causes.push(next);
        last = next;
    }
    causes
}

fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

/// A length of time as people write it: `3 s`, `0.25 s`.
fn seconds(length: Duration) -> String {
    format!("{} s", length.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: impl Error + 'static, reason: &Reason) {
        assert_eq!(&Reason::of(&error), reason);
    }

    #[test]
    fn an_error_inside_an_io_error_is_found() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let inner = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        check(inner, &Reason::Tls("the certificate is from an authority that is not trusted here".into()));
    }

    #[test]
    fn the_ends_of_a_connection_are_told_from_other_errors() {
        check(io::Error::new(io::ErrorKind::ConnectionReset, "reset"), &Reason::Closed("reset".into()));
        check(io::Error::new(io::ErrorKind::PermissionDenied, "no"), &Reason::Other("no".into()));
    }

    #[test]
    fn what_others_say_is_cut_to_one_printable_line() {
        let long = format!("a\n\u{1b}[31m{}", "b".repeat(1000));
        let Reason::Other(shown) = Reason::of(&io::Error::other(long)) else { panic!("another reason") };
        assert_eq!(shown, format!("a  [31m{}", "b".repeat(DETAIL_CHARS_MAX - 7)));
    }

    #[test]
    fn a_time_out_says_what_did_not_come_and_how_long_that_took() {
        let reason = Reason::TimeOut { stage: Stage::Body, after: Duration::from_millis(2500) };
        assert_eq!(reason.to_string(), "no complete answer within 2.5 s; check the endpoint and the network");
    }
}
