//! A JSON value that keeps only texts and whole numbers, to read members leniently.

use alloc::{borrow::Cow, string::String};
use core::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::{
    ids::AccountId,
    text::{excerpt, printable},
};

/// Characters kept of a text that is only shown.
const SHOWN_CHARS_MAX: usize = 256;

/// Any JSON value; reading one never fails for its type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Scalar<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// A whole number from 0.
    Number(u64),
    /// Nothing.
    Null,
    /// A truth value, list, object or another number.
    Other,
}

impl Scalar<'_> {
    /// The text, if it is one.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Number(_) | Self::Null | Self::Other => None,
        }
    }

    /// The text to be shown: one printable line of bounded length.
    pub(crate) fn to_shown(&self) -> Option<String> {
        self.as_text().map(|text| printable(text, SHOWN_CHARS_MAX))
    }

    /// The number, written as a number or as a text.
    pub(crate) fn to_number(&self) -> Option<u64> {
        match self {
            Self::Text(text) => text.parse().ok(),
            Self::Number(number) => Some(*number),
            Self::Null | Self::Other => None,
        }
    }

    /// The account id, written as a text or as a number.
    pub(crate) fn to_account_id(&self) -> Option<AccountId> {
        match self {
            Self::Text(text) => text.parse().ok(),
            Self::Number(number) => AccountId::new(*number).ok(),
            Self::Null | Self::Other => None,
        }
    }

    /// The value, for an error message.
    pub(crate) fn to_excerpt(&self) -> String {
        match self {
            Self::Text(text) => excerpt(text),
            Self::Number(number) => alloc::format!("{number}"),
            Self::Null => "null".into(),
            Self::Other => "a value of another type".into(),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ScalarVisitor;

        impl<'de> Visitor<'de> for ScalarVisitor {
            type Value = Scalar<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Text(Cow::Owned(text.into())))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Number(number))
            }

            fn visit_unit<E: de::Error>(self) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Null)
            }

            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }

            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }

            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Scalar<'de>, E> {
                Ok(Scalar::Other)
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut entries: S) -> Result<Scalar<'de>, S::Error> {
                while entries.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }

            fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<Scalar<'de>, M::Error> {
                while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Scalar::Other)
            }
        }

        deserializer.deserialize_any(ScalarVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(json: &str, expected: &Scalar<'_>) {
        assert_eq!(serde_json::from_str::<Scalar<'_>>(json).unwrap(), *expected);
    }

    #[test]
    fn only_texts_and_whole_numbers_are_kept() {
        check(r#""plain""#, &Scalar::Text("plain".into()));
        check(r#""esc\"aped""#, &Scalar::Text("esc\"aped".into()));
        check("7", &Scalar::Number(7));
        check("null", &Scalar::Null);
        for json in ["true", "-7", "7.5", "1e300", "[1, {}]", r#"{"a": [1]}"#] {
            check(json, &Scalar::Other);
        }
    }

    #[test]
    fn number_may_be_text() {
        assert_eq!(Scalar::Text("7".into()).to_number(), Some(7));
        assert_eq!(Scalar::Number(7).to_number(), Some(7));
        assert_eq!(Scalar::Text("seven".into()).to_number(), None);
        let account_id = Some(AccountId::new(1_038_493_875).unwrap());
        assert_eq!(Scalar::Number(1_038_493_875).to_account_id(), account_id);
        assert_eq!(Scalar::Text("1038493875".into()).to_account_id(), account_id);
        assert_eq!(Scalar::Other.to_account_id(), None);
    }
}
