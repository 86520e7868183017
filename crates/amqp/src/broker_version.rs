//! The version that a broker reports when a connection is opened.

use std::fmt;

use lapin::{
    protocol::{AMQPClass, connection, parse_class},
    types::AMQPValue,
};

/// Characters of the version that are kept.
const VERSION_CHARS_MAX: usize = 40;

/// The version that a broker reported when the connection was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerVersion(Option<Box<str>>);

impl BrokerVersion {
    /// Returns the version and the list of mechanisms in the payload of `connection.start`.
    pub(crate) fn from_payload(payload: &[u8]) -> (Self, Vec<u8>) {
        match parse_class(payload) {
            Ok((_, AMQPClass::Connection(connection::AMQPMethod::Start(start)))) => {
                (Self::from_start(&start), start.mechanisms.as_bytes().to_vec())
            }
            _ => Default::default(),
        }
    }

    /// Returns the version in `connection.start`.
    #[must_use]
    pub fn from_start(start: &connection::Start) -> Self {
        match start.server_properties.inner().get("version") {
            Some(AMQPValue::LongString(version)) => Self::from_text(&String::from_utf8_lossy(version.as_bytes())),
            _ => Self::default(),
        }
    }

    /// A version as a broker writes it.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(Some(imageshare_core::text::printable(text, VERSION_CHARS_MAX).into()))
    }

    /// Returns whether the broker delivers the messages of a quorum queue by priority, as RabbitMQ does from 4.0 on. True
    /// for an unreadable version.
    #[must_use]
    pub fn acts_on_priority(&self) -> bool {
        let major = self.0.as_deref().and_then(|text| text.split('.').next()?.parse::<u32>().ok());
        major.is_none_or(|major| major >= 4)
    }
}

impl fmt::Display for BrokerVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_deref().unwrap_or("unknown"))
    }
}
