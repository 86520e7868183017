//! Parses responses: from the status and the body to a typed response, or to the reason for its absence.
//!
//! The envelope is `{"Response": {...}}` with the members of the action and a `RequestId`, or with an `Error`. An `Error` is
//! the only sign of failure: the status is 200 for everything that the API layer processed. The envelope is read strictly: a
//! body that does not fit was written by a proxy or gateway, or was cut. It is [`NotAnAnswer`], and the outcome of the request
//! is unknown. Members are read leniently.

mod envelope;
mod list;

use alloc::string::String;

pub(crate) use list::{List, Listed, present};

use crate::{Class, actions::Action, ids::RequestId, scalar::Scalar, text::excerpt};

/// The maximum length of a body in bytes. A listing of 500 shares has 33 kB.
pub const BODY_LEN_MAX: usize = 1 << 20;

/// The number of characters of the API's message that are kept.
pub const MESSAGE_CHARS_MAX: usize = 512;

/// A successful response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered<T> {
    /// The answer of the action.
    pub answer: T,
    /// The RequestId; `None` if it cannot be shown.
    pub request_id: Option<RequestId>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The API returned an error.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The response is not a complete API response.
    #[error(transparent)]
    NotAnAnswer(#[from] NotAnAnswer),
}

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The code, visible ASCII.
    pub code: String,
    /// The API's message, as one printable line of at most [`MESSAGE_CHARS_MAX`] characters. It changes and may be Chinese, so
    /// no decision may depend on it.
    pub message: String,
    /// The RequestId of the response.
    pub request_id: Option<RequestId>,
}

/// The response is not a complete API response, so the outcome of the request is unknown.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an API response: {reason}")]
pub struct NotAnAnswer {
    /// The problem and what is expected, safe to print.
    pub reason: String,
}

impl ApiError {
    /// Returns the class of the code.
    #[must_use]
    pub fn class(&self) -> Class {
        Class::of(&self.code)
    }
}

impl NotAnAnswer {
    /// Returns the reason for an [action](crate::actions::Action) that cannot read a member. The reason must be safe to print:
    /// quote foreign text by [`excerpt`], and never a member that may hold a secret.
    #[must_use]
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Parses the response to an action from the HTTP status and the decompressed body.
///
/// # Errors
/// [`Failure::Api`] if the API returned an error. [`Failure::NotAnAnswer`] for anything that is not a complete API response: a
/// body that is too long or not such an envelope, a success without a `RequestId` (it never reached the API layer) or with a
/// status other than 200, an invalid member that the action needs.
pub fn parse<A: Action>(status: u16, body: &[u8]) -> Result<Answered<A::Answer>, Failure> {
    if body.len() > BODY_LEN_MAX {
        let reason = alloc::format!("status {status}: body of {} bytes (expected at most {BODY_LEN_MAX})", body.len());
        return Err(NotAnAnswer::new(reason).into());
    }
    let (head, answer) = match envelope::whole::<A>(body) {
        Ok((head, answer)) => (head, Ok(answer)),
        // A response that is invalid for the action may still have an error.
        Err(cause) => {
            (envelope::head(body).map_err(|cause| with_status(status, unreadable(body, &cause)))?, Err(cause))
        }
    };
    let request_id = head.request_id.as_ref().and_then(Scalar::as_text).and_then(RequestId::new);
    if let Some(error) = head.error {
        return Err(error.read(request_id)?.into());
    }
    if status != 200 {
        return Err(NotAnAnswer::new(alloc::format!("success with status {status} (expected 200)")).into());
    }
    if matches!(head.request_id, None | Some(Scalar::Null)) {
        return Err(NotAnAnswer::new("success without RequestId").into());
    }
    let answer = answer.map_err(|cause| unreadable(body, &cause))??;
    Ok(Answered { answer, request_id })
}

/// Adds a status that alone shows the problem.
fn with_status(status: u16, cause: NotAnAnswer) -> NotAnAnswer {
    match status {
        200 => cause,
        other => NotAnAnswer::new(alloc::format!("status {other} (expected 200): {}", cause.reason)),
    }
}

/// Why a body is not an envelope. The parser's message is left out, and so is every body that begins like a response: both may
/// contain a key of AssumeRole.
fn unreadable(body: &[u8], error: &serde_json::Error) -> NotAnAnswer {
    let start = body.trim_ascii_start();
    if start.is_empty() {
        return NotAnAnswer::new("empty body (expected a JSON object)");
    }
    if !start.starts_with(b"{") {
        let shown = excerpt(&String::from_utf8_lossy(body));
        return NotAnAnswer::new(alloc::format!("invalid body {shown} (expected a JSON object)"));
    }
    let kind = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "a member is missing, repeated or of the wrong type",
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "it is not JSON",
    };
    let (line, column) = (error.line(), error.column());
    NotAnAnswer::new(alloc::format!(
        "body of {} bytes, line {line} column {column}: {kind} (expected an object with the member Response)",
        body.len()
    ))
}

#[cfg(test)]
mod tests;
