//! How a connection logs in (SASL, in `connection.start-ok`).

use lapin::uri::SASLMechanism;

/// Characters of the broker's list that are shown.
const OFFERED_CHARS_MAX: usize = 100;

/// A mechanism that this program supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mechanism {
    /// The client certificate, from which the broker derives the user.
    External,
    /// The user and the password of the address.
    Plain,
}

/// The broker offers no such mechanism.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("login: the broker offers {offered} (expected {}{})", expected.as_str(), expected.hint())]
pub struct NotOffered {
    expected: Mechanism,
    /// Printable.
    offered: String,
}

impl Mechanism {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::External => "EXTERNAL",
            Self::Plain => "PLAIN",
        }
    }

    /// Returns the name in the client library.
    pub(super) const fn to_library(self) -> SASLMechanism {
        match self {
            Self::External => SASLMechanism::External,
            Self::Plain => SASLMechanism::Plain,
        }
    }

    const fn hint(self) -> &'static str {
        match self {
            Self::External => "; it is used with broker.client_certificate when the address names no user",
            Self::Plain => "; for EXTERNAL set broker.client_certificate and name no user in the address",
        }
    }

    /// Checks that the broker offers it, by the list in `connection.start`.
    ///
    /// # Errors
    /// If it does not.
    pub(super) fn check(self, offered: &[u8]) -> Result<(), NotOffered> {
        let offered = String::from_utf8_lossy(offered);
        if offered.split_whitespace().any(|name| name == self.as_str()) {
            return Ok(());
        }
        let shown = imageshare_core::text::printable(offered.trim(), OFFERED_CHARS_MAX);
        let offered = if shown.is_empty() { "no mechanism".to_owned() } else { shown };
        Err(NotOffered { expected: self, offered })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mechanism_has_to_be_offered() {
        assert_eq!(Mechanism::Plain.check(b"AMQPLAIN PLAIN"), Ok(()));
        assert_eq!(Mechanism::External.check(b"EXTERNAL"), Ok(()));
        let message = |mechanism: Mechanism, offered: &[u8]| mechanism.check(offered).unwrap_err().to_string();
        assert_eq!(
            message(Mechanism::Plain, b"AMQPLAIN EXTERNAL"),
            "login: the broker offers AMQPLAIN EXTERNAL (expected PLAIN; for EXTERNAL set broker.client_certificate and \
             name no user in the address)"
        );
        assert_eq!(
            message(Mechanism::External, b"\x1b[31m"),
            "login: the broker offers  [31m (expected EXTERNAL; it is used with broker.client_certificate when the address \
             names no user)"
        );
        assert!(message(Mechanism::Plain, b"").starts_with("login: the broker offers no mechanism (expected PLAIN"));
    }
}
