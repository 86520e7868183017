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

use std::{borrow::Cow, collections::BTreeMap, num::NonZeroU64, str::FromStr, time::Duration};

use imageshare_core::{
    ids::{AccountId, ImageId},
    text::excerpt,
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use crate::{
    actions::Action,
    document::{DocumentError, read_json, schema_text},
};

/// The maximum length of a faults file in bytes, equal to that of a request body.
pub const FILE_LEN_MAX: u64 = 10 * 1024 * 1024;

/// The maximum of a time in the script: one day, in seconds.
const SECONDS_MAX: f64 = 86_400.0;

/// The failure of one request.
///
/// The first group replaces the processing: no check, no effect. With the second group the request is processed, except
/// as the variant states.
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
    /// `apply_late:SECONDS`: after that time the request takes effect and the connection is reset. It takes effect even if
    /// the client has disconnected.
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
    "unknown fault {0} (expected throttle, internal_error, http_500, html, truncate, hang, endless, reset_before, \
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

/// A time in a faults file: 0 to 86400 seconds.
#[derive(Deserialize)]
#[serde(try_from = "f64")]
struct Seconds(Duration);

impl TryFrom<f64> for Seconds {
    type Error = &'static str;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        duration(seconds).map(Self).ok_or("invalid time (expected 0 to 86400 seconds)")
    }
}

impl JsonSchema for Seconds {
    fn schema_name() -> Cow<'static, str> {
        "Seconds".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "number", "minimum": 0, "maximum": SECONDS_MAX})
    }
}

impl JsonSchema for Fault {
    fn schema_name() -> Cow<'static, str> {
        "Fault".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "anyOf": [
                {"enum": ["throttle", "internal_error", "http_500", "html", "hang", "reset_before", "endless",
                          "expired_credential", "skew", "truncate", "reset_after"]},
                {"pattern": "^code:[A-Za-z0-9.]{1,128}$"},
                {"pattern": "^apply_late:[0-9.]+$"},
            ],
        })
    }
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

/// Requests of an action that fail.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The action.
    action: Action,
    /// The first request of the action that fails, counted from 1 since the faults were set. Default: 1.
    #[serde(default = "first")]
    #[schemars(range(min = 1))]
    nth: NonZeroU64,
    /// The number of requests that fail. Default: 1.
    #[serde(default = "once")]
    times: u64,
    /// What fails.
    #[serde(rename = "do")]
    fault: Fault,
}

/// The faults of a sandbox: which requests fail, and how.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "Faults")]
struct FaultsFile {
    /// Account ids that do not exist.
    #[serde(default)]
    #[schemars(with = "Vec<String>", inner(regex(pattern = "^[1-9][0-9]{4,18}$")))]
    unknown_accounts: Vec<AccountId>,
    /// Images that another operation occupies, with the seconds until it ends.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Seconds>")]
    busy_images: BTreeMap<ImageId, Seconds>,
    /// The requests that fail. If several entries match, the first one applies.
    #[serde(default)]
    script: Vec<Entry>,
}

const fn first() -> NonZeroU64 {
    NonZeroU64::MIN
}

const fn once() -> u64 {
    1
}

/// Returns the JSON Schema of a faults file (draft 2020-12).
#[must_use]
pub fn schema() -> String {
    schema_text(&schemars::schema_for!(FaultsFile))
}

impl Faults {
    /// Reads and checks a faults file.
    ///
    /// # Errors
    /// If the file is not JSON of that form. The error has the location and the expectation.
    pub fn parse(json: &[u8]) -> Result<Self, DocumentError> {
        let FaultsFile { unknown_accounts, busy_images, script } = read_json(json)?;
        let busy_images = busy_images.into_iter().map(|(image, Seconds(busy))| (image, busy)).collect();
        Ok(Self { unknown_accounts, busy_images, script, seen: BTreeMap::new() })
    }

    /// Counts a request and returns its fault, if any.
    pub fn next_fault(&mut self, action: Action) -> Option<Fault> {
        let seen = self.seen.entry(action).or_default();
        *seen += 1;
        let affects = |entry: &&Entry| {
            entry.action == action && seen.checked_sub(entry.nth.get()).is_some_and(|later| later < entry.times)
        };
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
        assert_eq!(faults.next_fault(Action::DescribeImages), None);
        let struck: Vec<_> = (0..6).map(|_| faults.next_fault(Action::ModifyImageSharePermission)).collect();
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
    fn check_refused(json: &str, lines: &[&str]) {
        let error = Faults::parse(json.as_bytes()).unwrap_err().in_file("f.json");
        assert_eq!(error.lines().collect::<Vec<_>>(), lines);
    }

    #[test]
    fn mistakes_are_named_with_place_and_expectation() {
        let scripted = |entry: &str| format!("{{\"script\": [{{\"action\": \"DescribeImages\",\n{entry}}}]}}");
        for bad in ["code:", "code:a b", "apply_late", "apply_late:-1", "apply_late:NaN", "hang:3"] {
            let error = Faults::parse(scripted(&format!(r#""do": "{bad}""#)).as_bytes()).unwrap_err().to_string();
            assert!(
                error.starts_with(&format!("line 2: script[0].do: unknown fault {bad:?} (expected throttle, ")),
                "{error}"
            );
        }
        let error = Faults::parse(scripted(r#""do": "Throttle""#).as_bytes()).unwrap_err().to_string();
        assert!(error.ends_with("\nhint: did you mean throttle?"), "{error}");
        check_refused(
            &scripted(r#""do": "hang", "nth": 0"#),
            &["f.json:2: script[0].nth: invalid value (expected a whole number above 0)"],
        );
        check_refused(
            &scripted(r#""do": "hang", "time": 1"#),
            &["f.json:2: script[0].time: unknown key (expected action, nth, times, do)", "hint: did you mean times?"],
        );
        check_refused(&scripted("\"nth\": 2"), &["f.json:2: script[0]: missing key (expected do)"]);
        check_refused(
            r#"{"busy_images": {"img-6pb6lrmy": -1}}"#,
            &["f.json:1: busy_images.img-6pb6lrmy: invalid time (expected 0 to 86400 seconds)"],
        );
        check_refused(
            r#"{"busy_images": {"lhbp-1": 1}}"#,
            &[
                "f.json:1: busy_images.lhbp-1: invalid value (expected img- followed by 4 to 32 lowercase letters or digits)",
            ],
        );
        check_refused(
            "{\"unknown_accounts\":\n[\"1038493875\",\n\"x\"]}",
            &[
                "f.json:3: unknown_accounts[1]: invalid value (expected a root account id of 5 to 19 digits without a leading zero)",
            ],
        );
        check_refused(r#"{"script": {}}"#, &["f.json:1: script: invalid type (expected a list)"]);
        let malformed = |text: &str, problem: &str| check_refused(text, &[&*format!("f.json:{problem}")]);
        malformed("{}x", "1: malformed JSON at column 3: trailing characters (expected one JSON object)");
        malformed("{\n\"script\": []\n\"x\": 1}", "3: malformed JSON at column 1 (expected , or })");
        malformed(
            "{\"script\": [",
            "1: malformed JSON at column 12: EOF while parsing a list (expected one JSON object)",
        );
        malformed("{'script': []}", "1: malformed JSON at column 2: key must be a string (expected one JSON object)");
        malformed("", "1: malformed JSON at column 0: EOF while parsing a value (expected one JSON object)");
        check_refused("[]", &["f.json:1: invalid type (expected an object)"]);
    }

    #[test]
    fn schema_and_parser_agree() {
        let schema: serde_json::Value = serde_json::from_str(&schema()).unwrap();
        let validator = jsonschema::validator_for(&schema).unwrap();
        let scripted = |entry: &str| format!(r#"{{"script": [{{"action": "DescribeImages", {entry}}}]}}"#);
        let check = |json: &str, is_valid: bool| {
            assert_eq!(Faults::parse(json.as_bytes()).is_ok(), is_valid, "parser: {json}");
            assert_eq!(validator.is_valid(&serde_json::from_str(json).unwrap()), is_valid, "schema: {json}");
        };
        for entry in [r#""do": "hang""#, r#""do": "code:A.B", "nth": 3, "times": 0"#, r#""do": "apply_late:1.5""#] {
            check(&scripted(entry), true);
        }
        check(r#"{"unknown_accounts": ["1038493875"], "busy_images": {"img-6pb6lrmy": 12.5}}"#, true);
        for entry in [r#""nth": 1"#, r#""do": "hang", "nth": 0"#, r#""do": "hung""#, r#""do": "hang", "x": 1"#] {
            check(&scripted(entry), false);
        }
        for json in
            [r#"{"script": [{"action": "Share", "do": "hang"}]}"#, r#"{"busy_images": {"img-6pb6lrmy": -1}}"#, "[]"]
        {
            check(json, false);
        }
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
