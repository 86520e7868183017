//! Image ids.

use alloc::string::String;
use core::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{super::text::excerpt, InlineAscii};

/// The id of a custom image: `img-` and 4 to 32 lower-case letters or digits.
///
/// Every example of the vendor has 8 of them; the length is not documented.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageId(InlineAscii<36>);

/// A text is not a valid image id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {found} (expected img- followed by 4 to 32 lowercase letters or digits)")]
pub struct ImageIdError {
    /// The start of the value, safe to print.
    found: String,
}

impl ImageId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl AsRef<str> for ImageId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl FromStr for ImageId {
    type Err = ImageIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let well_formed = text.strip_prefix("img-").is_some_and(|rest| {
            (4..=32).contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        });
        InlineAscii::new(text).filter(|_| well_formed).map(Self).ok_or_else(|| ImageIdError { found: excerpt(text) })
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ImageId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ImageId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn ids_seen_in_vendors_documents_are_accepted() {
        for text in ["img-gvbnzy6f", "img-6pb6lrmy", "img-9qabwvbn", "img-qlzp4oea", "img-19mu3fy3"] {
            assert_eq!(text.parse::<ImageId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn ids_of_other_products_and_shapes_are_refused() {
        for text in [
            "",
            "img-",
            "img-abc",
            "lhbp-a1b2c3d4",
            "IMG-gvbnzy6f",
            "img-gvbnzy6F",
            "img-gvbn zy6f",
            "ami-0abcdef",
            "img-é1234567",
        ] {
            assert!(text.parse::<ImageId>().is_err(), "{text}");
        }
        assert!(alloc::format!("img-{}", "a".repeat(33)).parse::<ImageId>().is_err());
        assert_eq!(
            "lhbp-a1b2c3d4".parse::<ImageId>().unwrap_err().to_string(),
            r#"invalid value "lhbp-a1b2c3d4" (expected img- followed by 4 to 32 lowercase letters or digits)"#
        );
    }
}
