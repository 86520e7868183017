//! The envelope, in one pass over the body: the members that every response has are taken out of `Response` on the way, and
//! the action reads the rest.

use alloc::{borrow::Cow, string::ToString};
use core::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor,
        value::{CowStrDeserializer, MapAccessDeserializer},
    },
};

use super::{ApiError, MESSAGE_CHARS_MAX, NotAnAnswer};
use crate::{
    actions::{Action, ModifyImageSharePermission},
    ids::RequestId,
    scalar::Scalar,
    text::{excerpt, printable},
};

/// Bytes that an error code may have; the longest documented one has 66.
const CODE_LEN_MAX: usize = 128;

const RESPONSE: &str = "Response";
const ERROR: &str = "Error";
const REQUEST_ID: &str = "RequestId";

/// The members that every `Response` has. An `Error` that is null is neither a success nor a refusal.
#[derive(Default)]
pub(super) struct Head<'a> {
    pub(super) error: Option<ErrorMember<'a>>,
    pub(super) request_id: Option<Scalar<'a>>,
}

#[derive(Deserialize)]
pub(super) struct ErrorMember<'a> {
    #[serde(rename = "Code", borrow)]
    code: Cow<'a, str>,
    #[serde(rename = "Message", borrow)]
    message: Option<Scalar<'a>>,
}

impl ErrorMember<'_> {
    /// # Errors
    /// If the code is invalid.
    pub(super) fn read(self, request_id: Option<RequestId>) -> Result<ApiError, NotAnAnswer> {
        let is_code = (1..=CODE_LEN_MAX).contains(&self.code.len()) && self.code.bytes().all(|b| b.is_ascii_graphic());
        if !is_code {
            let code = excerpt(&self.code);
            let reason = alloc::format!(
                "error code: invalid value {code} (expected 1 to {CODE_LEN_MAX} visible ASCII characters)"
            );
            return Err(NotAnAnswer::new(reason));
        }
        let message = self.message.as_ref().and_then(Scalar::as_text).unwrap_or_default();
        Ok(ApiError { code: self.code.to_string(), message: printable(message, MESSAGE_CHARS_MAX), request_id })
    }
}

struct Envelope<'a, A: Action> {
    response: Whole<'a, A>,
}

/// Reads the members that every response has, and the answer of the action from the rest.
pub(super) fn whole<A: Action>(body: &[u8]) -> Result<(Head<'_>, Result<A::Answer, NotAnAnswer>), serde_json::Error> {
    serde_json::from_slice::<Envelope<'_, A>>(body).map(|Envelope { response }| (response.head, response.answer))
}

/// Reads the members that every response has and ignores the others, as the action does whose answer is empty.
pub(super) fn head(body: &[u8]) -> Result<Head<'_>, serde_json::Error> {
    whole::<ModifyImageSharePermission>(body).map(|(head, _)| head)
}

impl<'de: 'a, 'a, A: Action> Deserialize<'de> for Envelope<'a, A> {
    /// Ignores members beside `Response`, as the vendor's SDKs do, if that is an object with a `RequestId`. Without one,
    /// something on the way may have written the body.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnvelopeVisitor<A>(PhantomData<A>);

        impl<'de, A: Action> Visitor<'de> for EnvelopeVisitor<A> {
            type Value = Envelope<'de, A>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Envelope<'de, A>, M::Error> {
                let mut response: Option<Whole<'de, A>> = None;
                let mut unknown = 0_u32;
                while let Some(Name(name)) = members.next_key()? {
                    match &*name {
                        RESPONSE if response.is_some() => return Err(M::Error::duplicate_field(RESPONSE)),
                        RESPONSE => response = Some(members.next_value()?),
                        _ => {
                            members.next_value::<IgnoredAny>()?;
                            unknown = unknown.saturating_add(1);
                        }
                    }
                }
                let response = response.ok_or_else(|| M::Error::missing_field(RESPONSE))?;
                if unknown > 0 && matches!(response.head.request_id, None | Some(Scalar::Null)) {
                    return Err(M::Error::missing_field(REQUEST_ID));
                }
                Ok(Envelope { response })
            }
        }

        deserializer.deserialize_map(EnvelopeVisitor(PhantomData))
    }
}

struct Whole<'a, A: Action> {
    head: Head<'a>,
    answer: Result<A::Answer, NotAnAnswer>,
}

impl<'de: 'a, 'a, A: Action> Deserialize<'de> for Whole<'a, A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ResponseVisitor<A>(PhantomData<A>);

        impl<'de, A: Action> Visitor<'de> for ResponseVisitor<A> {
            type Value = Whole<'de, A>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, members: M) -> Result<Whole<'de, A>, M::Error> {
                let mut head = Head::default();
                let answer = A::answer(MapAccessDeserializer::new(Rest { members, head: &mut head }))?;
                Ok(Whole { head, answer })
            }
        }

        deserializer.deserialize_map(ResponseVisitor(PhantomData))
    }
}

/// The members of `Response` without those of the head.
struct Rest<'h, 'de, M> {
    members: M,
    head: &'h mut Head<'de>,
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de, M: MapAccess<'de>> MapAccess<'de> for Rest<'_, 'de, M> {
    type Error = M::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, M::Error> {
        while let Some(Name(name)) = self.members.next_key()? {
            match &*name {
                ERROR if self.head.error.is_some() => return Err(M::Error::duplicate_field(ERROR)),
                ERROR => self.head.error = Some(self.members.next_value()?),
                REQUEST_ID if self.head.request_id.is_some() => return Err(M::Error::duplicate_field(REQUEST_ID)),
                REQUEST_ID => self.head.request_id = Some(self.members.next_value()?),
                _ => return seed.deserialize(CowStrDeserializer::new(name)).map(Some),
            }
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, M::Error> {
        self.members.next_value_seed(seed)
    }
}
