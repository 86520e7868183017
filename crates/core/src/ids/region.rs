//! Regions.

use alloc::string::String;
use core::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{super::text::excerpt, InlineAscii};

/// A region id such as `ap-singapore`, checked by shape only: the vendor's list grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Region(InlineAscii<32>);

/// Regions of the vendor's SDKs and documentation in 2026, sorted. For suggestions only: the list grows.
pub const KNOWN_REGIONS: [&str; 27] = [
    "ap-bangkok",
    "ap-beijing",
    "ap-beijing-fsi",
    "ap-chengdu",
    "ap-chongqing",
    "ap-guangzhou",
    "ap-guangzhou-open",
    "ap-hongkong",
    "ap-jakarta",
    "ap-mumbai",
    "ap-nanjing",
    "ap-qingyuan",
    "ap-seoul",
    "ap-shanghai",
    "ap-shanghai-fsi",
    "ap-shenzhen",
    "ap-shenzhen-fsi",
    "ap-singapore",
    "ap-taipei",
    "ap-tianjin",
    "ap-tokyo",
    "eu-frankfurt",
    "eu-moscow",
    "na-ashburn",
    "na-siliconvalley",
    "na-toronto",
    "sa-saopaulo",
];

/// A text is not a valid region id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {found} (expected a region id such as ap-singapore, at most 32 characters)")]
pub struct RegionError {
    /// The start of the value, safe to print.
    found: String,
}

impl Region {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// `^[a-z]{2}-[a-z]+(-[a-z0-9]+)*$`
    fn is_well_formed(text: &str) -> bool {
        let mut parts = text.split('-');
        let lower = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase());
        let lower_or_digit =
            |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        parts.next().is_some_and(|part| part.len() == 2 && lower(part))
            && parts.next().is_some_and(lower)
            && parts.all(lower_or_digit)
    }
}

impl FromStr for Region {
    type Err = RegionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        InlineAscii::new(text)
            .filter(|_| Self::is_well_formed(text))
            .map(Self)
            .ok_or_else(|| RegionError { found: excerpt(text) })
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Region {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Region {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_of_vendors_list_are_accepted() {
        for text in
            ["ap-guangzhou", "ap-guangzhou-open", "ap-shanghai-fsi", "na-siliconvalley", "eu-frankfurt", "ap-jinan-ec"]
        {
            assert_eq!(text.parse::<Region>().unwrap().as_str(), text);
        }
    }

    #[test]
    fn other_shapes_are_refused() {
        for text in [
            "",
            "ap",
            "ap-",
            "Ap-guangzhou",
            "ap-guangzhou-",
            "a-guangzhou",
            "ap_guangzhou",
            "ap-guang zhou",
            "ap-1",
            "ap-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert!(text.parse::<Region>().is_err(), "{text}");
        }
    }
}
