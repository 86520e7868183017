//! The envelope, in one pass over the body: what every answer has is taken out of `Response` on the way, and the action
//! reads the rest.

use alloc::{borrow::Cow, string::ToString};
use core::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{
        DeserializeSeed, Error as _, MapAccess, Visitor,
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

const ERROR: &str = "Error";
const REQUEST_ID: &str = "RequestId";

/// What every `Response` has. A member that is there has its shape: an `Error` that is null is neither a success nor a
/// refusal.
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
    /// If the code cannot be one.
    pub(super) fn read(self, request_id: Option<RequestId>) -> Result<ApiError, NotAnAnswer> {
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<T> {
    #[serde(rename = "Response")]
    response: T,
}

/// Reads what every answer has, and what the action makes of the rest.
pub(super) fn whole<A: Action>(body: &[u8]) -> Result<(Head<'_>, Result<A::Answer, NotAnAnswer>), serde_json::Error> {
    serde_json::from_slice::<Envelope<Whole<'_, A>>>(body).map(|Envelope { response }| (response.head, response.answer))
}

/// Reads what every answer has, and passes over all else, as the one action does whose answer says nothing more.
pub(super) fn head(body: &[u8]) -> Result<Head<'_>, serde_json::Error> {
    whole::<ModifyImageSharePermission>(body).map(|(head, _)| head)
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

/// The members of `Response` without those of the head, which are put there.
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
