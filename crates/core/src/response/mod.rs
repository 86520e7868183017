//! Answers: status and body in, a typed answer or the reason why there is none out.
//!
//! The envelope is `{"Response": {...}}` with the members of the action and a `RequestId`, or with an `Error`. Its
//! presence is the only sign of failure: the status is 200 for everything that the API layer processed. So the
//! envelope is read strictly, and whatever does not fit was written by something on the way (a proxy, a gateway) or
//! was cut: it is [`NotAnAnswer`], and what became of the request is not known. Members are read leniently.

mod envelope;
mod list;

use alloc::string::String;

pub(crate) use list::{List, Listed, present};

use crate::{Class, actions::Action, ids::RequestId, scalar::Scalar, text::excerpt};

/// Bytes of a body that are read at most. A listing of 500 shares has 33 kB.
pub const BODY_LEN_MAX: usize = 1 << 20;

/// Characters of the vendor's message that are kept.
pub const MESSAGE_CHARS_MAX: usize = 512;

/// The answer to an action that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answered<T> {
    /// What the action answers.
    pub answer: T,
    /// The handle for the vendor's support; `None` if it came in a form that cannot be shown.
    pub request_id: Option<RequestId>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The API refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// It was not the API that answered, or not wholly.
    #[error(transparent)]
    NotAnAnswer(#[from] NotAnAnswer),
}

/// A refusal by the API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct ApiError {
    /// The code, visible ASCII.
    pub code: String,
    /// The vendor's words for people, as one printable line of at most [`MESSAGE_CHARS_MAX`] characters. Never to be
    /// decided by: it changes, and may be Chinese.
    pub message: String,
    /// The handle for the vendor's support.
    pub request_id: Option<RequestId>,
}

/// What came is no answer of the API, so what became of the request is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no answer of the API: {reason}")]
pub struct NotAnAnswer {
    /// What was found and what is allowed, safe to print.
    pub reason: String,
}

impl ApiError {
    /// Whose fault the refusal is.
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

/// Reads the answer to an action from the HTTP status and the body as it came, decompressed.
///
/// # Errors
/// [`Failure::Api`] if the API refused, [`Failure::NotAnAnswer`] for anything that is not a whole answer of the API:
/// a body that is too long or no such envelope, a success without a `RequestId` (it never reached the API layer) or
/// with another status than 200, a member that the action needs and that cannot be read.
pub fn parse<A: Action>(status: u16, body: &[u8]) -> Result<Answered<A::Answer>, Failure> {
    if body.len() > BODY_LEN_MAX {
        let reason = alloc::format!("status {status}, found {} bytes, allowed are {BODY_LEN_MAX}", body.len());
        return Err(NotAnAnswer::new(reason).into());
    }
    let (head, answer) = match envelope::whole::<A>(body) {
        Ok((head, answer)) => (head, Ok(answer)),
        // What the action cannot read may still be a refusal.
        Err(cause) => {
            (envelope::head(body).map_err(|cause| with_status(status, unreadable(body, &cause)))?, Err(cause))
        }
    };
    let request_id = head.request_id.as_ref().and_then(Scalar::as_text).and_then(RequestId::new);
    if let Some(error) = head.error {
        return Err(error.read(request_id)?.into());
    }
    if status != 200 {
        return Err(NotAnAnswer::new(alloc::format!("found a success with status {status}, allowed is 200")).into());
    }
    if matches!(head.request_id, None | Some(Scalar::Null)) {
        return Err(NotAnAnswer::new("found a success without RequestId, which every answer has").into());
    }
    let answer = answer.map_err(|cause| unreadable(body, &cause))??;
    Ok(Answered { answer, request_id })
}

/// With the status, where that alone says that something is wrong.
fn with_status(status: u16, cause: NotAnAnswer) -> NotAnAnswer {
    match status {
        200 => cause,
        other => NotAnAnswer::new(alloc::format!("found status {other}, allowed is 200; {}", cause.reason)),
    }
}

/// Why a body is no envelope. The parser's own words stay out, and so does every body that begins like an answer: both
/// may hold a key of AssumeRole.
fn unreadable(body: &[u8], error: &serde_json::Error) -> NotAnAnswer {
    let start = body.trim_ascii_start();
    if start.is_empty() {
        return NotAnAnswer::new("found an empty body, allowed is a JSON object");
    }
    if !start.starts_with(b"{") {
        let found = excerpt(&String::from_utf8_lossy(body));
        return NotAnAnswer::new(alloc::format!("found {found}, allowed is a JSON object"));
    }
    let kind = match error.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        serde_json::error::Category::Data => "a member is missing, doubled, unknown or not of its type",
        serde_json::error::Category::Io | serde_json::error::Category::Syntax => "it is not JSON",
    };
    let (line, column) = (error.line(), error.column());
    NotAnAnswer::new(alloc::format!(
        "in a body of {} bytes at line {line} column {column}: {kind}, allowed is an object with the single member Response",
        body.len()
    ))
}

#[cfg(test)]
mod tests;
