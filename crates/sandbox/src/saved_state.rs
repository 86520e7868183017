//! The state of a sandbox as a document: its images with their attributes and shares.

use std::collections::BTreeMap;

use imageshare_core::ids::{AccountId, ImageId};
use serde::{Deserialize, Serialize};

use crate::{
    document::{DocumentError, Problems, read_json},
    ledger::{Image, Ledger, OPEN_IMAGES_MAX},
};

/// The version of the document.
const VERSION: u64 = 1;

/// The maximum length of a state file in bytes.
pub const FILE_LEN_MAX: u64 = 256 * 1024 * 1024;

/// The state of a sandbox, as `--state` saves it and `/_sandbox/state` returns it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedState {
    version: Version,
    /// Every image with its attributes.
    images: BTreeMap<ImageId, Image>,
    /// The accounts that have each image, with the times of the shares. Images without shares may be left out.
    #[serde(default)]
    shares: BTreeMap<ImageId, BTreeMap<AccountId, Moment>>,
}

/// Milliseconds since 1970, written as RFC 3339.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Moment(#[serde(with = "millis")] u64);

/// A document of which only the version is read.
#[derive(Deserialize)]
struct Versioned {
    version: Version,
}

/// The version of the document, which is the one that this program reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64")]
struct Version(u64);

impl TryFrom<u64> for Version {
    type Error = String;

    fn try_from(version: u64) -> Result<Self, Self::Error> {
        match version {
            VERSION => Ok(Self(version)),
            0 => Err(format!("0 is not a version (expected {VERSION})")),
            _ => Err(format!("{version} is of a newer imageshare (expected {VERSION})")),
        }
    }
}

impl SavedState {
    /// Reads and checks a document.
    ///
    /// # Errors
    /// If it is not JSON of that form, is of another version, or has shares of an image that it does not have.
    pub fn parse(json: &[u8]) -> Result<Self, DocumentError> {
        // First, since a newer version has keys that are unknown here.
        let Versioned { version } = read_json(json)?;
        let state = Self { version, ..read_json(json)? };
        let mut problems = Problems::default();
        if state.images.len() > OPEN_IMAGES_MAX {
            problems.note("images", format!("too many images (expected at most {OPEN_IMAGES_MAX})"), None);
        }
        for image in state.shares.keys().filter(|image| !state.images.contains_key(image)) {
            problems.note(&format!("shares.{image}"), "unknown image (expected an image of the key images)", None);
        }
        problems.end("")?;
        Ok(state)
    }

    /// Returns the document as indented JSON.
    ///
    /// # Panics
    /// Never: keys are texts, and writing to memory does not fail.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string_pretty(self).expect("keys are texts");
        text.push('\n');
        text
    }

    /// Returns the state of a ledger.
    pub(crate) fn of(ledger: &Ledger) -> Self {
        let mut images = BTreeMap::new();
        let mut shares = BTreeMap::new();
        for (id, image, accounts) in ledger.records() {
            images.insert(id, image.clone());
            if !accounts.is_empty() {
                shares.insert(id, accounts.iter().map(|(&account, &at)| (account, Moment(at))).collect());
            }
        }
        Self { version: Version(VERSION), images, shares }
    }

    /// Replaces the images of a ledger.
    pub(crate) fn restore(self, ledger: &mut Ledger) {
        let Self { images, mut shares, .. } = self;
        ledger.replace_images(images.into_iter().map(|(id, image)| {
            let accounts = shares.remove(&id).unwrap_or_default();
            (id, image, accounts.into_iter().map(|(account, Moment(at))| (account, at)).collect())
        }));
    }
}

/// Times in a document, written as RFC 3339.
macro_rules! times {
    ($name:ident, $new:ident, $get:ident) => {
        pub(crate) mod $name {
            use jiff::Timestamp;
            use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer, de::Error as _};

            pub(crate) fn serialize<S: Serializer>(time: &u64, serializer: S) -> Result<S::Ok, S::Error> {
                let time = i64::try_from(*time).ok().and_then(|time| Timestamp::$new(time).ok());
                time.unwrap_or(Timestamp::MAX).to_string().serialize(serializer)
            }

            pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
                let text = String::deserialize(deserializer)?;
                let time = text.parse().ok().and_then(|time: Timestamp| u64::try_from(time.$get()).ok());
                time.ok_or_else(|| D::Error::custom("invalid time (expected RFC 3339 such as 2026-11-02T08:15:30Z)"))
            }
        }
    };
}

times!(seconds, from_second, as_second);
times!(millis, from_millisecond, as_millisecond);

/// A time in milliseconds that may be absent.
pub(crate) mod optional_millis {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Moment;

    pub(crate) fn serialize<S: Serializer>(time: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        time.map(Moment).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        Ok(Option::<Moment>::deserialize(deserializer)?.map(|Moment(time)| time))
    }
}

/// Tags in a document, written as an object.
pub(crate) mod tags {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serializer};

    type Tags = Vec<(String, String)>;

    pub(crate) fn serialize<S: Serializer>(tags: &Tags, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(tags.iter().map(|(key, value)| (key, value)))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tags, D::Error> {
        Ok(BTreeMap::deserialize(deserializer)?.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::World;

    #[test]
    fn state_survives_writing_and_reading() {
        let ledger = World::example().begin(1_796_000_000_123);
        let state = SavedState::of(&ledger);
        let read = SavedState::parse(state.text().as_bytes()).unwrap();
        assert_eq!(read, state);
        let mut other = World::open().begin(0);
        read.restore(&mut other);
        assert_eq!(SavedState::of(&other), state);
    }

    #[test]
    fn absent_attributes_have_their_defaults() {
        let text = r#"{"version": 1, "images": {"img-6pb6lrmy": {"owner": "100009999999", "region": "ap-tokyo"}}}"#;
        let state = SavedState::parse(text.as_bytes()).unwrap();
        let expected = Image::normal("100009999999".parse().unwrap(), "ap-tokyo".parse().unwrap());
        assert_eq!(state.images.values().collect::<Vec<_>>(), [&expected]);
    }

    #[test]
    fn example_of_the_manual_is_complete() {
        let page = include_str!("../../../docs/sandbox.md");
        let (_, rest) = page.rsplit_once("```json\n").unwrap();
        let (example, _) = rest.split_once("```").unwrap();
        assert_eq!(SavedState::parse(example.as_bytes()).unwrap().text(), example);
    }

    #[track_caller]
    fn check_refused(json: &str, problem: &str) {
        assert_eq!(SavedState::parse(json.as_bytes()).unwrap_err().in_file("s.json"), problem);
    }

    #[test]
    fn invalid_state_is_refused_with_its_place() {
        let image = |attributes: &str| {
            format!(
                "{{\"version\": 1, \"images\": {{\n\"img-6pb6lrmy\": {{\"owner\": \"100009999999\", {attributes}}}}}}}"
            )
        };
        check_refused(
            r#"{"version": 2, "snapshots": []}"#,
            "s.json:1: version: 2 is of a newer imageshare (expected 1)",
        );
        check_refused(r#"{"images": {}}"#, "s.json:1: missing key (expected version)");
        check_refused(r#"{"version": "1"}"#, "s.json:1: version: invalid type (expected a whole number)");
        check_refused(r#"{"version": 1}"#, "s.json:1: missing key (expected images)");
        check_refused(
            &image(r#""region": "Mars""#),
            "s.json:2: images.img-6pb6lrmy.region: invalid value (expected a region id such as ap-singapore, at most 32 characters)",
        );
        check_refused(
            &image(r#""region": "ap-tokyo", "created": "today""#),
            "s.json:2: images.img-6pb6lrmy.created: invalid time (expected RFC 3339 such as 2026-11-02T08:15:30Z)",
        );
        let error = SavedState::parse(image(r#""regio": "ap-tokyo""#).as_bytes()).unwrap_err().in_file("s.json");
        assert!(
            error.starts_with("s.json:2: images.img-6pb6lrmy.regio: unknown key (expected owner, region, "),
            "{error}"
        );
        assert!(error.ends_with("\nhint: did you mean region?"), "{error}");
        check_refused(
            r#"{"version": 1, "images": {}, "shares": {"img-6pb6lrmy": {}}}"#,
            "s.json: shares.img-6pb6lrmy: unknown image (expected an image of the key images)",
        );
    }
}
