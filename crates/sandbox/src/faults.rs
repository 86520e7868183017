//! The script of faults: what goes wrong, with which request, how often.
//!
//! ```json
//! {"unknown_accounts": ["100000000001"], "busy_images": {"img-6pb6lrmy": 12.5},
//!  "script": [{"action": "ModifyImageSharePermission", "nth": 3, "times": 2, "do": "throttle"}]}
//! ```
//!
//! Requests of an action are counted from 1 since the faults were set, whatever becomes of them. An entry strikes
//! `times` (default 1) requests from the `nth` (default 1) on; of several entries that fit, the first does.
//! [`Fault`] lists what `do` may say.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use imageshare_core::{
    disclosure::without_value,
    ids::{AccountId, ImageId},
    text::excerpt,
};
use serde::Deserialize;

use crate::action::Action;

/// Bytes of a faults file, as many as the sandbox's own interface takes.
pub const FILE_LEN_MAX: u64 = 10 * 1024 * 1024;

/// Seconds that a time in the script may be at most: a day.
const SECONDS_MAX: f64 = 86_400.0;

/// What goes wrong with one request.
///
/// The first group answers in place of the API, before any check and without an effect. The second lets the API do
/// its work and spoils the answer.
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
    /// `hang`: no answer at all.
    Hang,
    /// `reset_before`: the connection is reset.
    ResetBefore,
    /// `endless`: an answer whose body never ends.
    Endless,
    /// `expired_credential`: `AuthFailure.TokenFailure`.
    ExpiredCredential,
    /// `code:SOME.Code`: that error code.
    Code(String),

    /// `skew`: for this request the server's clock is an hour ahead, in its check of the timestamp as in the header
    /// `Date`. Who signs by the right time gets `AuthFailure.SignatureExpire`; who follows that `Date` is let through
    /// as long as the fault lasts.
    Skew,
    /// `truncate`: half of the answer's body, then the end of the connection.
    Truncate,
    /// `reset_after`: the effect, then a reset in place of the answer.
    ResetAfter,
    /// `apply_late:SECONDS`: the connection is held for so long, then the effect takes place and the connection is
    /// reset. It takes place also when the client has gone before.
    ApplyLate(Duration),
}

impl Fault {
    /// The word for it in the log.
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

/// A `do` that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "do: found {0}, allowed are throttle, internal_error, http_500, html, truncate, hang, endless, reset_before, \
     reset_after, apply_late:SECONDS (0 to 86400), expired_credential, skew and code:SOME.Code"
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

/// Seconds, if there are between none and a day of them.
fn duration(seconds: f64) -> Option<Duration> {
    (0.0..=SECONDS_MAX).contains(&seconds).then(|| Duration::from_secs_f64(seconds))
}

/// A faults file, checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Ids that are no account.
    pub unknown_accounts: Vec<AccountId>,
    /// Images that another operation occupies, and for how long from when the faults are set.
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

/// A faults file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FaultsError {
    /// Not JSON, or a member or value that is not allowed.
    #[error("faults: {0}")]
    Shape(String),
    /// A time out of range.
    #[error("faults: busy_images.{image}: found {found}, allowed are 0 to 86400 seconds")]
    Seconds {
        /// The image.
        image: ImageId,
        /// The time.
        found: f64,
    },
    /// A count that begins below 1.
    #[error("faults: script[{entry}].nth: found 0, allowed is 1 or more")]
    Nth {
        /// Which entry, from 0.
        entry: usize,
    },
}

impl Faults {
    /// Reads and checks a faults file.
    ///
    /// # Errors
    /// With the place, what was found and what is allowed.
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
        let busy =
            |(image, found)| duration(found).map(|length| (image, length)).ok_or(FaultsError::Seconds { image, found });
        let busy_images = busy_images.into_iter().map(busy).collect::<Result<_, _>>()?;
        Ok(Self { unknown_accounts, busy_images, script, seen: BTreeMap::new() })
    }

    /// Counts a request and says what goes wrong with it.
    pub fn strike(&mut self, action: Action) -> Option<Fault> {
        let seen = self.seen.entry(action).or_default();
        *seen += 1;
        let hit = |entry: &&Entry| entry.action == action && *seen >= entry.nth && *seen - entry.nth < entry.times;
        self.script.iter().find(hit).map(|entry| entry.fault.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_strikes_so_many_requests_of_its_action_from_the_nth_on() {
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
    fn every_do_is_read_by_its_name() {
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
    fn a_mistake_is_named_with_what_is_allowed() {
        let scripted = |entry: &str| format!(r#"{{"script": [{{"action": "DescribeImages", {entry}}}]}}"#);
        for bad in ["Throttle", "code:", "code:a b", "apply_late", "apply_late:-1", "apply_late:NaN", "hang:3"] {
            check_refused(&scripted(&format!(r#""do": "{bad}""#)), "allowed are throttle");
        }
        check_refused(&scripted(r#""do": "hang", "nth": 0"#), "script[0].nth: found 0");
        check_refused(&scripted(r#""do": "hang", "time": 1"#), "unknown field `time`");
        check_refused(r#"{"script": [{"action": "Share", "do": "hang"}]}"#, "allowed are AssumeRole");
        check_refused(r#"{"busy_images": {"img-6pb6lrmy": -1}}"#, "busy_images.img-6pb6lrmy: found -1");
        check_refused(r#"{"busy_images": {"lhbp-1": 1}}"#, "allowed is img-");
        check_refused(r#"{"unknown_accounts": ["x"]}"#, "root account id");
        check_refused("[]x", "faults: ");
    }

    #[test]
    fn an_error_shows_no_value_and_nothing_raw() {
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
