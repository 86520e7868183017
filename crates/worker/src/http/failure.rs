//! Why a call has no response, in one line that names the place to look at.

use std::{error::Error, fmt, io, time::Duration};

use imageshare_core::text::printable;

use super::connector::{ConnectTimeOut, NoTunnel};
use crate::{
    causes::{causes, find},
    net::NetError,
    tls,
};

/// Characters of a cause's text that are kept.
const DETAIL_CHARS_MAX: usize = 200;

/// A call without a response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct CallError {
    /// Whether any byte of the request may have left, so that it may have been applied.
    pub sent: bool,
    /// Why.
    pub reason: FailureReason,
}

/// Why a call has no response. Every text in it is one printable line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FailureReason {
    /// The lookup of the endpoint's name failed.
    #[error("the endpoint's name cannot be resolved ({0}); check the endpoint and this machine's name server")]
    Name(String),
    /// No address of the endpoint accepts a connection.
    #[error("no connection to the endpoint ({0}); check the endpoint, the network and its firewalls")]
    Connect(String),
    /// The proxy makes no tunnel.
    #[error("no tunnel through the proxy ({0}); check HTTPS_PROXY, NO_PROXY and the proxy")]
    Proxy(String),
    /// The TLS handshake failed.
    #[error("no trusted connection to the endpoint ({0}); check its certificate and this machine's root certificates")]
    Tls(String),
    /// A time-out.
    #[error("no {stage} within {}; check {}", seconds(*.after), stage.suspects())]
    TimeOut {
        /// What is missing.
        stage: CallStage,
        /// The time-out.
        after: Duration,
    },
    /// The other side, or something on the way, ended the connection.
    #[error("the endpoint ended the connection before its answer was complete ({0})")]
    Closed(String),
    /// The endpoint does not speak HTTP/1.
    #[error("what the endpoint sent is not HTTP ({0})")]
    NotHttp(String),
    /// The head of the response is longer than the limit.
    #[error("the response head is too long: {0} (expected at most {max} bytes)", max = super::HEAD_LEN_MAX)]
    HeadTooLong(String),
    /// The body of the response is longer than the limit.
    #[error("the response body is too long (expected at most {0} bytes)")]
    BodyTooLong(usize),
    /// Anything else.
    #[error("the call failed ({0})")]
    Other(String),
}

/// What a call waits for, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallStage {
    /// The name, the connection, and the handshake.
    Connection,
    /// The head of the answer.
    Answer,
    /// The body of the answer.
    Body,
}

impl fmt::Display for CallStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connection => "connection to the endpoint",
            Self::Answer => "answer",
            Self::Body => "complete answer",
        })
    }
}

impl CallStage {
    /// Returns what to check when it is missing.
    const fn suspects(self) -> &'static str {
        match self {
            Self::Connection => "the endpoint, the network and its firewalls",
            Self::Answer | Self::Body => "the endpoint and the network",
        }
    }
}

impl FailureReason {
    /// Returns the reason of an error of the HTTP library, by the types of its causes: its own types tell little.
    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        let root =
            causes(error).last().map_or_else(String::new, |cause| printable(&cause.to_string(), DETAIL_CHARS_MAX));
        if let Some(error) = find::<rustls::Error>(error) {
            return Self::Tls(tls::explain(error));
        }
        if find::<NoTunnel>(error).is_some() {
            return Self::Proxy(root);
        }
        if let Some(ConnectTimeOut(after)) = find(error) {
            return Self::TimeOut { stage: CallStage::Connection, after: *after };
        }
        match find(error) {
            Some(NetError::Lookup(_)) => return Self::Name(root),
            Some(NetError::Connect(_)) => return Self::Connect(root),
            None => {}
        }
        if let Some(error) = find::<hyper::Error>(error) {
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
        match find::<io::Error>(error).map(io::Error::kind) {
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

/// Returns a length of time as people write it: `3 s`, `0.25 s`.
fn seconds(length: Duration) -> String {
    format!("{} s", length.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(error: impl Error + 'static, reason: &FailureReason) {
        assert_eq!(&FailureReason::of(&error), reason);
    }

    #[test]
    fn error_inside_io_error_is_found() {
        let tls = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        let inner = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        check(inner, &FailureReason::Tls("the certificate is from an authority that is not trusted here".into()));
    }

    #[test]
    fn each_connection_end_has_its_reason() {
        check(io::Error::new(io::ErrorKind::ConnectionReset, "reset"), &FailureReason::Closed("reset".into()));
        check(io::Error::new(io::ErrorKind::PermissionDenied, "no"), &FailureReason::Other("no".into()));
    }

    #[test]
    fn cause_is_one_printable_line() {
        let long = format!("a\n\u{1b}[31m{}", "b".repeat(1000));
        let FailureReason::Other(shown) = FailureReason::of(&io::Error::other(long)) else { panic!("another reason") };
        assert_eq!(shown, format!("a  [31m{}", "b".repeat(DETAIL_CHARS_MAX - 7)));
    }

    #[test]
    fn time_out_names_step_and_duration() {
        let reason = FailureReason::TimeOut { stage: CallStage::Body, after: Duration::from_millis(2500) };
        assert_eq!(reason.to_string(), "no complete answer within 2.5 s; check the endpoint and the network");
    }
}
