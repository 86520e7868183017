//! Request ids, by which the vendor's support finds a call.

use core::fmt;

use serde::{Serialize, Serializer};

use super::InlineAscii;

/// The `RequestId` of a response: 1 to 64 printable ASCII characters. Documented as UUID text, on which nothing relies.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(InlineAscii<64>);

impl RequestId {
    /// The id, or `None` if the text is empty, too long or not printable ASCII.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let printable = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic());
        InlineAscii::new(text).filter(|_| printable).map(Self)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for RequestId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_short_printable_ascii_is_a_request_id() {
        assert!(RequestId::new("71e69b56-32be-4412-ab45-49eded6a87be").is_some());
        for text in ["", "a b", "a\u{1b}[0m", "é"] {
            assert!(RequestId::new(text).is_none(), "{text}");
        }
        assert!(RequestId::new(&"a".repeat(65)).is_none());
    }
}
