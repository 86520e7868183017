//! Credentials: validated once, never shown, wiped on drop.

use alloc::string::String;
use core::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

/// The text in place of a secret where something is shown or serialized.
pub const REDACTED: &str = "[secret]";

/// Bytes that a part of a credential may have. Documented are 1,024 for a temporary id and key and 4,096 for a token;
/// most HTTP servers refuse header lines beyond this.
pub const PART_LEN_MAX: usize = 8_192;

/// The public name of a key, such as `AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE`. Every request contains it; it is not a secret.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SecretId(String);

/// The key that requests are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretKey(Zeroizing<String>);

/// The token that belongs to a temporary key.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(Zeroizing<String>);

/// A key with its name, and its token if it is temporary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Credential {
    /// The name of the key.
    pub secret_id: SecretId,
    /// The key.
    pub secret_key: SecretKey,
    /// The token, for a temporary key.
    pub token: Option<Token>,
}

/// A part of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The public name of the key.
    SecretId,
    /// The key.
    SecretKey,
    /// The token of a temporary key.
    Token,
}

/// A text is not a valid part of a credential. Never contains the text: an id may be a key in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The text is empty.
    #[error("{0} is empty (expected 1 to {PART_LEN_MAX} bytes)")]
    Empty(Part),
    /// The text is longer than a header line may be.
    #[error("{part} has {len} bytes (expected 1 to {PART_LEN_MAX})")]
    TooLong {
        /// Which part.
        part: Part,
        /// Its bytes.
        len: usize,
    },
    /// White space around the text, most often a line feed at the end.
    #[error("{0} begins or ends with white space (expected the bare text, without spaces or line ends around it)")]
    WhiteSpaceAround(Part),
    /// Quotation marks around the text, which a shell or a parser did not remove.
    #[error("{0} is in quotation marks (expected the bare text, without quotation marks around it)")]
    Quoted(Part),
    /// A character that no key of the vendor has and no header can contain.
    #[error("{part}: invalid character at byte {at} (expected {expected})")]
    Character {
        /// Which part.
        part: Part,
        /// The byte's place, from 0.
        at: usize,
        /// The valid characters.
        expected: &'static str,
    },
}

impl SecretId {
    /// Checks an id.
    ///
    /// # Errors
    /// If it is empty, too long, or contains anything except visible ASCII, or a comma or a slash.
    pub fn new(text: impl Into<String>) -> Result<Self, CredentialError> {
        let text = text.into();
        check(Part::SecretId, &text)?;
        Ok(Self(text))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SecretKey {
    /// Checks a key.
    ///
    /// # Errors
    /// If it is empty, too long, has white space around it or a control character in it.
    pub fn new(text: impl Into<String>) -> Result<Self, CredentialError> {
        let text = Zeroizing::new(text.into());
        check(Part::SecretKey, &text)?;
        Ok(Self(text))
    }

    /// The key in clear, for signing only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Token {
    /// Checks a token.
    ///
    /// # Errors
    /// If it is empty, too long, or contains anything except visible ASCII.
    pub fn new(text: impl Into<String>) -> Result<Self, CredentialError> {
        let text = Zeroizing::new(text.into());
        check(Part::Token, &text)?;
        Ok(Self(text))
    }

    /// The token in clear, for the request only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SecretId => "the secret id",
            Self::SecretKey => "the secret key",
            Self::Token => "the token",
        })
    }
}

impl fmt::Display for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for SecretId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for SecretId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// What each of the types above reads, and what the two secret ones show.
macro_rules! read_from_text {
    ($($type:ty)*) => {$(
        impl FromStr for $type {
            type Err = CredentialError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer).and_then(|text| Self::new(text).map_err(de::Error::custom))
            }
        }
    )*};
}

macro_rules! never_shown {
    ($($type:ty)*) => {$(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(REDACTED)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(REDACTED)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(REDACTED)
            }
        }
    )*};
}

read_from_text!(SecretId SecretKey Token);
never_shown!(SecretKey Token);

/// Id and token are header values, so they are visible ASCII. In `Authorization` a slash and a comma end the id. The key is only
/// hashed, so it may be any text.
fn check(part: Part, text: &str) -> Result<(), CredentialError> {
    if text.is_empty() {
        return Err(CredentialError::Empty(part));
    }
    if text.len() > PART_LEN_MAX {
        return Err(CredentialError::TooLong { part, len: text.len() });
    }
    if text.trim().len() != text.len() {
        return Err(CredentialError::WhiteSpaceAround(part));
    }
    if ['"', '\'', '`'].iter().any(|&mark| text.len() > 1 && text.starts_with(mark) && text.ends_with(mark)) {
        return Err(CredentialError::Quoted(part));
    }
    let (is_refused, expected): (fn(char) -> bool, _) = match part {
        Part::SecretKey => (char::is_control, "no control characters"),
        Part::SecretId => {
            (|c| !c.is_ascii_graphic() || matches!(c, ',' | '/'), "visible ASCII characters except comma and slash")
        }
        Part::Token => (|c| !c.is_ascii_graphic(), "visible ASCII characters"),
    };
    match text.find(is_refused) {
        Some(at) => Err(CredentialError::Character { part, at, expected }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE";
    const KEY: &str = "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE";
    const TOKEN: &str = "fake+Token/with=specials";

    fn sample() -> Credential {
        Credential {
            secret_id: ID.parse().unwrap(),
            secret_key: KEY.parse().unwrap(),
            token: Some(TOKEN.parse().unwrap()),
        }
    }

    #[test]
    fn only_the_secret_id_is_shown() {
        let credential = sample();
        assert_eq!(
            alloc::format!("{credential:?}"),
            "Credential { secret_id: AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE, secret_key: [secret], token: Some([secret]) }"
        );
        let (key, token) = (&credential.secret_key, credential.token.as_ref().unwrap());
        assert_eq!(alloc::format!("{key} {key:?} {token} {token:?}"), "[secret] [secret] [secret] [secret]");
        assert_eq!(
            serde_json::to_string(&credential).unwrap(),
            r#"{"secret_id":"AKIDz8krbsJ5yKBZQpn74WFkmLPx3EXAMPLE","secret_key":"[secret]","token":"[secret]"}"#
        );
    }

    #[test]
    fn what_was_given_is_exposed_unchanged() {
        let credential = sample();
        assert_eq!(credential.secret_id.as_str(), ID);
        assert_eq!(credential.secret_key.expose(), KEY);
        assert_eq!(credential.token.unwrap().expose(), TOKEN);
        let odd = "0+/=fake-Key_with~odd.chars!#$%&";
        assert_eq!(SecretKey::new(odd).unwrap().expose(), odd);
        assert_eq!(serde_json::from_str::<SecretKey>("\"k y\"").unwrap().expose(), "k y");
    }

    #[track_caller]
    fn check_refused<T: fmt::Debug>(read: Result<T, CredentialError>, message: &str) {
        assert_eq!(read.unwrap_err().to_string(), message);
    }

    #[test]
    fn error_names_part_without_text() {
        check_refused(SecretId::new(""), "the secret id is empty (expected 1 to 8192 bytes)");
        check_refused(SecretKey::new(""), "the secret key is empty (expected 1 to 8192 bytes)");
        check_refused(Token::new(""), "the token is empty (expected 1 to 8192 bytes)");
        check_refused(Token::new("x".repeat(8_193)), "the token has 8193 bytes (expected 1 to 8192)");
        for around in ["topsecret\n", " topsecret", "topsecret\u{a0}"] {
            check_refused(
                SecretKey::new(around),
                "the secret key begins or ends with white space \
                 (expected the bare text, without spaces or line ends around it)",
            );
        }
        for quoted in ["\"AKIDx\"", "'AKIDx'", "`AKIDx`"] {
            check_refused(
                SecretId::new(quoted),
                "the secret id is in quotation marks (expected the bare text, without quotation marks around it)",
            );
        }
        check_refused(
            SecretKey::new("top\u{1b}secret"),
            "the secret key: invalid character at byte 3 (expected no control characters)",
        );
        for wrong in ["AKID x", "AKID/x", "AKID,x"] {
            check_refused(
                SecretId::new(wrong),
                "the secret id: invalid character at byte 4 (expected visible ASCII characters except comma and slash)",
            );
        }
        check_refused(Token::new("tök"), "the token: invalid character at byte 1 (expected visible ASCII characters)");
    }

    #[test]
    fn json_error_shows_no_text() {
        let error = serde_json::from_str::<SecretKey>("\"topsecret\\n\"").unwrap_err().to_string();
        assert!(error.starts_with("the secret key begins or ends with white space"), "{error}");
        assert!(!error.contains("topsecret"), "{error}");
    }
}
