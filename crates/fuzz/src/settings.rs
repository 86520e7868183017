//! A settings file.

use std::{collections::BTreeMap, fmt::Write as _};

use imageshare_core::text::printable;
use imageshare_worker::{
    environment::Environment,
    settings::{EffectiveSetting, Flags, Settings, SettingsError},
};
use toml::{Table, Value};

use crate::{assert_shown, source::documents};

/// What messages call the file.
const FILE: &str = "settings.toml";

/// What stands for a secret in an input.
const SECRET: &str = "SECRET";

/// The end of what stands for a path, a name or a user that may be a secret.
const NOT_SHOWN: &str = "not shown]";

/// Two secrets, alike in everything but what they are: their first letter may show what is wrong with a text without quotes.
const SECRETS: [&str; 2] = ["xfirstsecretvalue", "xothersecretvalue"];

/// Characters of a setting that are shown whole.
const SHOWN_CHARS_MAX: usize = 200;

/// Keys whose values a message shows when they are not allowed. Of all others nothing is shown, since a key may have been
/// put there by mistake.
const SHOWN: [&str; 18] = [
    "attempts",
    "batch",
    "call_timeout",
    "cap",
    "concurrency",
    "connect_timeout",
    "duration",
    "endpoint",
    "heartbeat",
    "image_wait",
    "write_lag",
    "lease",
    "listen",
    "prefetch",
    "rate",
    "read_lag",
    "region",
    "regions",
];

/// Settings files: what is accepted and printed is accepted again and is the same; what is refused is refused with the
/// place of each problem, in words that can be shown; and what is said does not depend on a secret.
///
/// # Panics
/// If that does not hold.
pub fn settings(data: &[u8]) {
    documents(data).for_each(check_document);
}

fn check_document(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let read = read(text);
    match &read {
        Ok(settings) => check_printed(settings, text),
        Err(error) => check_problems(error),
    }
    if text.contains(SECRET) && is_hidden(text, read.is_ok()) {
        let [first, other] = SECRETS.map(|secret| said(&text.replace(SECRET, secret)));
        assert_eq!(first, other, "what is said depends on a secret");
    }
}

fn read(text: &str) -> Result<Settings, SettingsError> {
    Settings::parse(FILE, text, &Flags::default(), &Environment::of([]))
}

/// All that can be said of the settings, or of what is wrong with them.
fn said(text: &str) -> String {
    let read = read(text);
    let described = read.as_ref().map(Settings::describe).unwrap_or_default();
    let error = read.as_ref().err().map(ToString::to_string);
    format!("{read:?} {described:?} {error:?}")
}

fn check_problems(error: &SettingsError) {
    assert!(!error.problems.is_empty());
    for problem in &error.problems {
        let hint = problem.hint.clone().unwrap_or_default();
        let problem = problem.to_string();
        assert_shown(&problem, usize::MAX);
        assert_shown(&hint, usize::MAX);
        let rest = problem.strip_prefix(FILE).unwrap_or_else(|| panic!("no place: {problem}"));
        assert!(rest.starts_with(':'), "no place: {problem}");
    }
}

fn check_printed(settings: &Settings, text: &str) {
    let described = settings.describe();
    for EffectiveSetting { key, value, .. } in &described {
        assert_shown(key, usize::MAX);
        assert_shown(value.as_deref().unwrap_or_default(), usize::MAX);
    }
    // A value that may be a secret is replaced, and what stands in its place need not be accepted.
    if described.iter().any(|setting| setting.value.as_deref().is_some_and(|value| value.contains(NOT_SHOWN))) {
        return;
    }
    let printed = printed(&described);
    let again = read(&printed).unwrap_or_else(|error| panic!("{error}\n{printed}"));
    assert_eq!(values(&again), values(settings), "{printed}");
    assert_eq!(
        (&again.limits, again.http, again.admin),
        (&settings.limits, settings.http, settings.admin),
        "{printed}"
    );
    let of_broker = |settings: &Settings| (settings.broker.prefetch, settings.broker.heartbeat, settings.broker.lease);
    assert_eq!(of_broker(&again), of_broker(settings), "{printed}");
    // A path may hold what is not shown.
    let is_whole = |value: &str| value.chars().count() < SHOWN_CHARS_MAX;
    let text = text.replace(['\n', '\r', '\t'], " ");
    let is_plain = !text.contains('\\') && printable(&text, usize::MAX) == text;
    if is_plain && described.iter().all(|setting| is_whole(setting.value.as_deref().unwrap_or_default())) {
        assert_eq!(again.lanes, settings.lanes, "{printed}");
        assert_eq!(again.broker.trust, settings.broker.trust, "{printed}");
        assert_eq!(again.outside.trust, settings.outside.trust, "{printed}");
    }
}

/// The values as they are shown. Addresses without their user, which is shown only beside a password.
fn values(settings: &Settings) -> BTreeMap<String, Option<String>> {
    let without_user =
        |value: String| value.rsplit_once('@').map_or_else(|| value.clone(), |(_, rest)| rest.to_owned());
    let is_address = |key: &str| ["broker.url", "http.proxy"].contains(&key);
    let shown = |key: &str, value| if is_address(key) { without_user(value) } else { value };
    let described = settings.describe().into_iter();
    described.map(|EffectiveSetting { key, value, .. }| (key.clone(), value.map(|value| shown(&key, value)))).collect()
}

/// A settings file of these settings.
fn printed(settings: &[EffectiveSetting]) -> String {
    let mut text = String::new();
    for EffectiveSetting { key, value, origin } in settings {
        // A file has no settings without a section.
        let (Some(value), Some((path, key))) = (value, key.rsplit_once('.')) else { continue };
        let path = match path.split_once('.') {
            Some((section, name)) => format!("{section}.{}.", quoted(name)),
            None => format!("{path}."),
        };
        // Defaults that a file cannot express.
        if origin == "default" && (key == "regions" || key == "source") {
            continue;
        }
        let value = match key {
            "regions" => format!("[{}]", value.split(", ").map(quoted).collect::<Vec<_>>().join(", ")),
            "paused" => value.clone(),
            _ => quoted(value),
        };
        writeln!(text, "{path}{key} = {value}").expect("a text takes everything");
    }
    text
}

/// A text as TOML has it, which takes the escapes of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether all that stands for a secret stands where nothing is shown. Of a file that is no TOML nothing is shown at all.
fn is_hidden(text: &str, is_accepted: bool) -> bool {
    let Ok(table) = text.parse::<Table>() else { return true };
    let mut leaves = Vec::new();
    leaves_of(&table, &mut Vec::new(), &mut leaves);
    leaves.iter().all(|(path, value)| {
        let key = path.last().copied().unwrap_or_default();
        let in_path = path.iter().any(|key| key.contains(SECRET));
        let in_value = value.contains(SECRET);
        let is_url = path.as_slice() == ["broker", "url"];
        let may_be = match is_accepted {
            true => is_url && is_only_password(value),
            false if is_url => is_only_password(value) || !is_address(value),
            false => !SHOWN.contains(&key),
        };
        !in_path && (!in_value || may_be)
    })
}

/// The values that are texts, and where they stand; of others their kind is no secret.
fn leaves_of<'a>(table: &'a Table, path: &mut Vec<&'a str>, leaves: &mut Vec<(Vec<&'a str>, String)>) {
    for (key, value) in table {
        path.push(key);
        match value {
            Value::Table(inner) => {
                leaves.push((path.clone(), String::new()));
                leaves_of(inner, path, leaves);
            }
            Value::String(text) => leaves.push((path.clone(), text.clone())),
            other => leaves.push((path.clone(), format!("{other:?}"))),
        }
        path.pop();
    }
}

/// Whether a secret stands in an address's password and nowhere else.
fn is_only_password(address: &str) -> bool {
    let password = address.split_once("://").and_then(|(_, rest)| {
        let authority = rest.split('/').next()?;
        authority.rsplit_once('@')?.0.split_once(':')
    });
    password.is_some_and(|(_, password)| password.matches(SECRET).count() == address.matches(SECRET).count())
}

fn is_address(text: &str) -> bool {
    text.parse::<imageshare_worker::broker::Url>().is_ok()
}
