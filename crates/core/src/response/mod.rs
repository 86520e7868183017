//! Answers: status and body in, a typed answer or the reason why there is none out.
//!
//! The envelope is `{"Response": {...}}` with the members of the action and a `RequestId`, or with an `Error`. Its
//! presence is the only sign of failure: the status is 200 for everything that the API layer processed. So the
//! envelope is read strictly, and whatever does not fit was written by something on the way (a proxy, a gateway) or
//! was cut: it is [`NotAnAnswer`], and what became of the request is not known. Members are read leniently.

use alloc::{
    borrow::Cow,
    string::{String, ToString},
    vec::Vec,
};

use serde::{Deserialize, Deserializer};

use crate::{
    Class,
    actions::Action,
    ids::RequestId,
    scalar::Scalar,
    text::{excerpt, printable},
};

/// Bytes of a body that are read at most. A listing of 500 shares has 33 kB.
pub const BODY_LEN_MAX: usize = 1 << 20;

/// Characters of the vendor's message that are kept.
pub const MESSAGE_CHARS_MAX: usize = 512;

/// Bytes that an error code may have; the longest documented one has 66.
const CODE_LEN_MAX: usize = 128;

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
    /// Says what was found and what is allowed.
    pub(crate) fn new(reason: impl Into<String>) -> Self {
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
    let head: Head<'_> = members(body).map_err(|cause| match status {
        200 => cause,
        other => NotAnAnswer::new(alloc::format!("found status {other}, allowed is 200; {}", cause.reason)),
    })?;
    let request_id = head.request_id.as_ref().and_then(Scalar::as_text).and_then(RequestId::new);
    if let Some(error) = head.error {
        return Err(error.read(request_id)?.into());
    }
    if status != 200 {
        return Err(NotAnAnswer::new(alloc::format!("found a success with status {status}, allowed is 200")).into());
    }
    if head.request_id.is_none() {
        return Err(NotAnAnswer::new("found a success without RequestId, which every answer has").into());
    }
    Ok(Answered { answer: A::answer(body)?, request_id })
}

/// The members of `Response` that the action knows; others are passed over.
pub(crate) fn members<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, NotAnAnswer> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Envelope<T> {
        #[serde(rename = "Response")]
        response: T,
    }

    serde_json::from_slice::<Envelope<T>>(body).map(|envelope| envelope.response).map_err(|e| unreadable(body, &e))
}

/// What every `Response` has.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(rename = "Error", borrow, default, deserialize_with = "present")]
    error: Option<ErrorMember<'a>>,
    #[serde(rename = "RequestId", borrow)]
    request_id: Option<Scalar<'a>>,
}

#[derive(Deserialize)]
struct ErrorMember<'a> {
    #[serde(rename = "Code", borrow)]
    code: Cow<'a, str>,
    #[serde(rename = "Message", borrow)]
    message: Option<Scalar<'a>>,
}

impl ErrorMember<'_> {
    fn read(self, request_id: Option<RequestId>) -> Result<ApiError, NotAnAnswer> {
        let is_code = (1..=CODE_LEN_MAX).contains(&self.code.len()) && self.code.bytes().all(|b| b.is_ascii_graphic());
        if !is_code {
            let found = excerpt(&self.code);
            let reason = alloc::format!("found error code {found}, allowed are 1 to {CODE_LEN_MAX} visible characters");
            return Err(NotAnAnswer::new(reason));
        }
        let message = self.message.as_ref().and_then(Scalar::as_text).unwrap_or_default();
        Ok(ApiError { code: self.code.to_string(), message: printable(message, MESSAGE_CHARS_MAX), request_id })
    }
}

/// A list that an answer of its action always has; null is an empty one. A list that is not there proves nothing:
/// taken for an empty one, it would say of every entry that it does not exist.
pub(crate) fn list<T>(name: &str, member: Option<Option<Vec<T>>>) -> Result<Vec<T>, NotAnAnswer> {
    let list =
        member.ok_or_else(|| NotAnAnswer::new(alloc::format!("{name}: found nothing, allowed is a list or null")));
    list.map(Option::unwrap_or_default)
}

/// A member that is there must have its shape: an `Error` that is null is neither a success nor a refusal, and a list
/// that is null is there.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
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
