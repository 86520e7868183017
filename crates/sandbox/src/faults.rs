//! The script of faults: which requests fail, how, and how often.
//!
//! ```json
//! {"unknown_accounts": ["100000000001"], "busy_images": {"img-6pb6lrmy": 12.5},
//!  "script": [{"action": "ModifyImageSharePermission", "nth": 3, "times": 2, "do": "throttle"}]}
//! ```
//!
//! Requests of an action are counted from 1 since the faults were set, whether they succeed or not. An entry affects
//! `times` (default 1) requests, beginning with the `nth` (default 1). If several entries match, the first one applies.
//! [`Fault`] lists the values of `do`.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use imageshare_core::{
    disclosure::without_value,
    ids::{AccountId, ImageId},
    text::excerpt,
};
use serde::Deserialize;

use crate::actions::Action;

/// The maximum length of a faults file in bytes, equal to that of a request body.
pub const FILE_LEN_MAX: u64 = 10 * 1024 * 1024;

/// The maximum of a time in the script: one day, in seconds.
const SECONDS_MAX: f64 = 86_400.0;

/// The failure of one request.
///
/// The first group replaces the API: no check, no effect. The second group spoils the response of the API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Fault {
    /// `throttle`: `RequestLimitExceeded`.
    Throttle,
    /// `internal_error`: `InternalError`.
    InternalError,
    /// `http_500`: status 500 with an HTML page.
    Http500,
    /// `html`: status 200 with an HTML page.
    Html,
    /// `hang`: no response.
    Hang,
    /// `reset_before`: the connection is reset.
    ResetBefore,
    /// `endless`: a response whose body never ends.
    Endless,
    /// `expired_credential`: `AuthFailure.TokenFailure`.
    ExpiredCredential,
    /// `code:SOME.Code`: that error code.
    Code(String),

    /// `skew`: for this request the server's clock is one hour ahead, both for the check of the timestamp and in the
    /// header `Date`. A client with the right time gets `AuthFailure.SignatureExpire`. A client that follows `Date` is
    /// accepted while the fault lasts.
    Skew,
    /// `truncate`: half of the response body, then the end of the connection.
    Truncate,
    /// `reset_after`: the effect, then a reset instead of the response.
    ResetAfter,
    /// `apply_late:SECONDS`: the connection is held for that time, then the effect takes place and the connection is
    /// reset. The effect takes place even if the client has disconnected.
    ApplyLate(Duration),
}

impl Fault {
    /// The name in the log.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Throttle => "throttle",
            Self::InternalError => "internal_error",
            Self::Http500 => "http_500",
            Self::Html => "html",
            Self::Hang => "hang",
            Self::ResetBefore => "reset_before",
            Self::Endless => "endless",
            Self::ExpiredCredential => "expired_credential",
            Self::Code(_) => "code",
            Self::Skew => "skew",
            Self::Truncate => "truncate",
            Self::ResetAfter => "reset_after",
            Self::ApplyLate(_) => "apply_late",
        }
    }
}

/// An invalid value of `do`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "do: unknown fault {0} (expected throttle, internal_error, http_500, html, truncate, hang, endless, reset_before, \
     reset_after, apply_late:SECONDS with 0 to 86400 seconds, expired_credential, skew or code:SOME.Code)"
)]
pub struct FaultError(String);

impl FromStr for Fault {
    type Err = FaultError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || FaultError(excerpt(text));
        Ok(match text.split_once(':') {
            Some(("code", code)) if is_code(code) => Self::Code(code.to_owned()),
            Some(("apply_late", seconds)) => {
                Self::ApplyLate(seconds.parse().ok().and_then(duration).ok_or_else(refused)?)
            }
            Some(_) => return Err(refused()),
            None => match text {
                "throttle" => Self::Throttle,
                "internal_error" => Self::InternalError,
                "http_500" => Self::Http500,
                "html" => Self::Html,
                "hang" => Self::Hang,
                "reset_before" => Self::ResetBefore,
                "endless" => Self::Endless,
                "expired_credential" => Self::ExpiredCredential,
                "skew" => Self::Skew,
                "truncate" => Self::Truncate,
                "reset_after" => Self::ResetAfter,
                _ => return Err(refused()),
            },
        })
    }
}

impl TryFrom<String> for Fault {
    type Error = FaultError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

/// Whether a text has the form of an error code.
pub(crate) fn is_code(text: &str) -> bool {
    (1..=128).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.')
}

/// Seconds as a duration, unless negative or above [`SECONDS_MAX`].
fn duration(seconds: f64) -> Option<Duration> {
    (0.0..=SECONDS_MAX).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// A faults file, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Account ids that do not exist.
    pub unknown_accounts: Vec<AccountId>,
    /// Images that another operation occupies, with the time from when the faults are set until it ends.
    pub busy_images: BTreeMap<ImageId, Duration>,
    script: Vec<Entry>,
    /// Requests of an action so far.
    seen: BTreeMap<Action, u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    action: Action,
    #[serde(default = "first")]
    nth: u64,
    #[serde(default = "first")]
    times: u64,
    #[serde(rename = "do")]
    fault: Fault,
}

const fn first() -> u64 {
    1
}

/// An invalid faults file.
#[derive(Debug, thiserror::Error)]
pub enum FaultsError {
    /// Not JSON, or an unknown member or invalid value.
    #[error("faults: {0}")]
    Shape(String),
    /// A time out of range.
    #[error("faults: busy_images.{image}: invalid time {seconds} (expected 0 to 86400 seconds)")]
    Seconds {
        /// The image.
        image: ImageId,
        /// The time.
        seconds: f64,
    },
    /// A count that starts at 0.
    #[error("faults: script[{entry}].nth: invalid count 0 (expected 1 or more)")]
    Nth {
        /// The index of the entry, from 0.
        entry: usize,
    },
}

impl Faults {
    /// Reads and checks a faults file.
    ///
    /// # Errors
    /// If the file is not JSON of that form. The error has the location and the expectation.
    pub fn parse(json: &[u8]) -> Result<Self, FaultsError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            #[serde(default)]
            unknown_accounts: Vec<AccountId>,
            #[serde(default)]
            busy_images: BTreeMap<ImageId, f64>,
            #[serde(default)]
            script: Vec<Entry>,
        }
        let File { unknown_accounts, busy_images, script } =
            serde_json::from_slice(json).map_err(|error| FaultsError::Shape(without_value(&error.to_string())))?;
        if let Some(entry) = script.iter().position(|entry| entry.nth == 0) {
            return Err(FaultsError::Nth { entry });
        }
        let busy = |(image, seconds)| {
            duration(seconds).map(|length| (image, length)).ok_or(FaultsError::Seconds { image, seconds })
        };
        let busy_images = busy_images.into_iter().map(busy).collect::<Result<_, _>>()?;
        Ok(Self { unknown_accounts, busy_images, script, seen: BTreeMap::new() })
    }

    /// Counts a request and returns its fault, if any.
    pub fn strike(&mut self, action: Action) -> Option<Fault> {
        let seen = self.seen.entry(action).or_default();
        *seen += 1;
        let affects = |entry: &&Entry| entry.action == action && *seen >= entry.nth && *seen - entry.nth < entry.times;
        self.script.iter().find(affects).map(|entry| entry.fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_affects_its_requests_from_nth_on() {
        let mut faults = Faults::parse(
            br#"{"script": [{"action": "ModifyImageSharePermission", "nth": 3, "times": 2, "do": "throttle"},
                            {"action": "ModifyImageSharePermission", "nth": 4, "times": 2, "do": "hang"}]}"#,
        )
        .unwrap();
        assert_eq!(faults.strike(Action::DescribeImages), None);
        let struck: Vec<_> = (0..6).map(|_| faults.strike(Action::ModifyImageSharePermission)).collect();
        let throttle = || Some(Fault::Throttle);
        assert_eq!(struck, [None, None, throttle(), throttle(), Some(Fault::Hang), None]);
    }

    #[test]
    fn faults_parse_by_name() {
        for name in [
            "throttle",
            "internal_error",
            "http_500",
            "html",
            "truncate",
            "hang",
            "endless",
            "reset_before",
            "reset_after",
            "expired_credential",
            "skew",
        ] {
            assert_eq!(name.parse::<Fault>().unwrap().as_str(), name);
        }
        assert_eq!("apply_late:1.5".parse(), Ok(Fault::ApplyLate(Duration::from_millis(1500))));
        assert_eq!("code:OverQuota".parse(), Ok(Fault::Code("OverQuota".into())));
    }

    #[track_caller]
    fn check_refused(json: &str, part: &str) {
        let message = Faults::parse(json.as_bytes()).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }

    #[test]
    fn mistakes_are_named_with_the_expectation() {
        let scripted = |entry: &str| format!(r#"{{"script": [{{"action": "DescribeImages", {entry}}}]}}"#);
        for bad in ["Throttle", "code:", "code:a b", "apply_late", "apply_late:-1", "apply_late:NaN", "hang:3"] {
            check_refused(&scripted(&format!(r#""do": "{bad}""#)), "(expected throttle");
        }
        check_refused(&scripted(r#""do": "hang", "nth": 0"#), "script[0].nth: invalid count 0");
        check_refused(&scripted(r#""do": "hang", "time": 1"#), "unknown field `time`");
        check_refused(r#"{"script": [{"action": "Share", "do": "hang"}]}"#, "(expected AssumeRole");
        check_refused(r#"{"busy_images": {"img-6pb6lrmy": -1}}"#, "busy_images.img-6pb6lrmy: invalid time -1");
        check_refused(r#"{"busy_images": {"lhbp-1": 1}}"#, "invalid value (expected img-");
        check_refused(r#"{"unknown_accounts": ["x"]}"#, "root account id");
        check_refused("[]x", "faults: ");
    }

    #[test]
    fn errors_show_no_values_or_control_characters() {
        for json in [
            r#"{"script": "topsecret"}"#,
            r#"{"busy_images": {"img-6pb6lrmy": "topsecret"}}"#,
            r#"{"top/secret@\u001b[31m": 1}"#,
            r#"{"unknown_accounts": ["\u001b[31m"]}"#,
        ] {
            let error = Faults::parse(json.as_bytes()).unwrap_err().to_string();
            assert!(!["topsecret", "top/secret", "\u{1b}"].iter().any(|part| error.contains(part)), "{error}");
        }
    }
}
