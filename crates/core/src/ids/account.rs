//! Root account ids (UIN).

use alloc::string::String;
use core::{fmt, num::NonZeroU64, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::super::text::excerpt;

/// A root account id: 5 to 19 decimal digits, the first not zero.
///
/// The vendor documents no length; ids of 7 to 12 digits were seen. Without a leading zero the number formats
/// as the original text, so it is stored as a number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(NonZeroU64);

/// A text or number is not a valid account id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {found} (expected a root account id of 5 to 19 digits without a leading zero)")]
pub struct AccountIdError {
    /// The start of the value, safe to print.
    found: String,
}

impl AccountId {
    /// The smallest id, 5 digits.
    const LEAST: u64 = 10_000;
    /// The largest id, 19 digits.
    const GREATEST: u64 = 9_999_999_999_999_999_999;

    /// The id as a number.
    ///
    /// # Errors
    /// If it has fewer than 5 or more than 19 digits.
    pub fn new(number: u64) -> Result<Self, AccountIdError> {
        NonZeroU64::new(number)
            .filter(|n| (Self::LEAST..=Self::GREATEST).contains(&n.get()))
            .map(Self)
            .ok_or_else(|| AccountIdError { found: alloc::format!("{number}") })
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0.get()
    }
}

impl FromStr for AccountId {
    type Err = AccountIdError;

    /// Parses after trimming white space at both ends.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.trim();
        let refused = || AccountIdError { found: excerpt(text) };
        if digits.starts_with('0') || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(refused());
        }
        digits.parse().ok().and_then(|n| Self::new(n).ok()).ok_or_else(refused)
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for AccountId {
    /// As text: the API wants strings, and JSON numbers above 2^53 do not survive every reader.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AccountId {
    /// From text or from a number.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl de::Visitor<'_> for Visitor {
            type Value = AccountId;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a root account id of 5 to 19 digits without a leading zero")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<AccountId, E> {
                text.parse().map_err(E::custom)
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<AccountId, E> {
                AccountId::new(number).map_err(E::custom)
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn documented_ids_are_accepted_unchanged() {
        for text in ["2700036", "12345678", "909619400", "1038493875", "100022975249", "9999999999999999999", "10000"] {
            assert_eq!(text.parse::<AccountId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn white_space_around_id_is_trimmed() {
        assert_eq!(" 1038493875\r\n".parse::<AccountId>().unwrap().get(), 1_038_493_875);
    }

    #[test]
    fn anything_else_is_refused_with_what_was_found() {
        for text in [
            "",
            "0",
            "1234",
            "01038493875",
            "10384a93875",
            "+1038493875",
            "-1038493875",
            "10000000000000000000",
            "1 0384",
            "１２３４５",
        ] {
            let error = text.parse::<AccountId>().unwrap_err().to_string();
            assert!(error.contains("5 to 19 digits"), "{error}");
        }
        assert_eq!(
            "10384\u{1b}[31m".parse::<AccountId>().unwrap_err().to_string(),
            r#"invalid value "10384\u{1b}[31m" (expected a root account id of 5 to 19 digits without a leading zero)"#
        );
    }

    #[test]
    fn json_text_and_number_are_the_same_id() {
        let text: AccountId = serde_json::from_str(r#""1038493875""#).unwrap();
        let number: AccountId = serde_json::from_str("1038493875").unwrap();
        assert_eq!(text, number);
        assert_eq!(serde_json::to_string(&number).unwrap(), r#""1038493875""#);
        for bad in ["1", "1e9", "1038493875.0", "-5", "null", "[]"] {
            assert!(serde_json::from_str::<AccountId>(bad).is_err(), "{bad}");
        }
    }
}
