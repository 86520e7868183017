//! Values of settings: what each may be, in words and in code.

use std::{fmt, ops::RangeInclusive, path::PathBuf, str::FromStr, time::Duration};

use imageshare_core::ids::Region;
use jiff::{Span, SpanRelativeTo};
use toml::Value;

use crate::paths::path_problem;

const DURATION_HINT: &str = "write a length of time as 500ms, 30s or 2h, or as a number of seconds";

/// Reads a value. It states what it expects, so that errors and the manual have the same words.
pub(super) struct Parser<T> {
    pub(super) expected: String,
    /// The words that it accepts, if they are few: an error suggests one of them.
    pub(super) words: Vec<String>,
    /// The hint of an error beside that.
    pub(super) hint: Option<&'static str>,
    read: Box<ReadValue<T>>,
}

type ReadValue<T> = dyn Fn(&Value) -> Result<T, Invalid>;

/// Why a value is not accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Invalid {
    /// It is not what was expected, and is shown if it cannot be a secret.
    Value,
    /// The same, and it is not shown.
    Hidden,
    /// A value of this kind cannot be read at all.
    Type(&'static str),
    /// A problem in words that hold nothing of the value.
    Because(String),
    /// An element of a list, counted from 0.
    Element(usize, Box<Self>),
}

impl<T: 'static> Parser<T> {
    /// Returns a parser of a text or a number.
    pub(super) fn of_text(expected: impl Into<String>, read: impl Fn(&str) -> Result<T, Invalid> + 'static) -> Self {
        let read = move |value: &Value| match scalar(value) {
            Some(text) => read(&text),
            None => Err(Invalid::Type(value.type_str())),
        };
        Self { expected: expected.into(), words: Vec::new(), hint: None, read: Box::new(read) }
    }

    pub(super) fn parse(&self, value: &Value) -> Result<T, Invalid> {
        (self.read)(value)
    }

    /// Returns the parser with the words that an error may suggest.
    pub(super) fn known(self, words: Vec<String>) -> Self {
        Self { words, ..self }
    }

    /// Returns the parser of a setting that has no default.
    pub(super) fn optional(self) -> Parser<Option<T>> {
        self.map(Some)
    }

    pub(super) fn map<U: 'static>(self, map: impl Fn(T) -> U + 'static) -> Parser<U> {
        let Self { expected, words, hint, read } = self;
        Parser { expected, words, hint, read: Box::new(move |value| read(value).map(&map)) }
    }

    /// Returns the parser of a list of at least one such value.
    pub(super) fn list(self) -> Parser<Vec<T>> {
        let Self { expected, words, hint, read } = self;
        let read = move |value: &Value| {
            let elements = value.as_array().ok_or_else(|| Invalid::Type(value.type_str()))?;
            if elements.is_empty() {
                return Err(Invalid::Because("empty list".to_owned()));
            }
            let element = |(index, value)| read(value).map_err(|invalid| Invalid::Element(index, Box::new(invalid)));
            elements.iter().enumerate().map(element).collect()
        };
        Parser { expected, words, hint, read: Box::new(read) }
    }
}

/// Returns a text or a number as text.
pub(super) fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A decimal number within a range.
pub(super) fn decimal_within(range: RangeInclusive<f64>, unit: &str) -> Parser<f64> {
    let expected = format!("{} to {} {unit}", range.start(), range.end());
    Parser::of_text(expected, move |text| decimal(text).filter(|n| range.contains(n)).ok_or(Invalid::Value))
}

/// A whole number within a range.
pub(super) fn whole<N>(range: RangeInclusive<N>, unit: &str) -> Parser<N>
where
    N: FromStr + PartialOrd + fmt::Display + 'static,
{
    let expected = format!("{} to {} {unit}", range.start(), range.end());
    Parser::of_text(expected, move |text| {
        let is_plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        text.parse().ok().filter(|number| is_plain && range.contains(number)).ok_or(Invalid::Value)
    })
}

/// A length of time within a range.
pub(super) fn duration(range: RangeInclusive<Duration>) -> Parser<Duration> {
    let expected = format!("{} to {}", shown(*range.start()), shown(*range.end()));
    let parser = Parser::of_text(expected, move |text| parse_duration(text, &range).ok_or(Invalid::Value));
    Parser { hint: Some(DURATION_HINT), ..parser }
}

/// A length of time in whole seconds.
pub(super) fn whole_seconds(range: RangeInclusive<Duration>) -> Parser<Duration> {
    let expected = format!("{} to {} in whole seconds", shown(*range.start()), shown(*range.end()));
    let parser = Parser::of_text(expected, move |text| {
        parse_duration(text, &range).filter(|duration| duration.subsec_nanos() == 0).ok_or(Invalid::Value)
    });
    Parser { hint: Some(DURATION_HINT), ..parser }
}

/// Why a text is not a length of time. Does not repeat it, since it may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected {shortest} to {longest}, such as 500ms, 30s or 2h")]
pub struct DurationError {
    shortest: String,
    longest: String,
}

/// Reads a length of time that a flag gives.
///
/// # Errors
/// If the text is not one, or is outside the range.
pub fn duration_of_flag(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, DurationError> {
    let error = || DurationError { shortest: shown(*range.start()), longest: shown(*range.end()) };
    parse_duration(text, &range).ok_or_else(error)
}

/// Reads `500ms`, `1.5h`, `1m 30s` and the like, or a number of seconds. Parts of a millisecond are dropped.
fn parse_duration(text: &str, range: &RangeInclusive<Duration>) -> Option<Duration> {
    let duration = match decimal(text) {
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok()?,
        None => {
            let span: Span = text.parse().ok()?;
            Duration::try_from(span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?).ok()?
        }
    };
    // What is in effect is what is shown.
    let duration = Duration::new(duration.as_secs(), duration.subsec_millis() * 1_000_000);
    Some(duration).filter(|duration| range.contains(duration))
}

/// Returns a length of time as [`duration`] reads it.
pub(super) fn shown(duration: Duration) -> String {
    let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let whole = units.into_iter().find(|&(unit, _)| millis >= unit && millis % unit == 0);
    match whole {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

/// A text that is read as `T`, whose error holds nothing of the text.
pub(super) fn parsed<T: FromStr<Err: fmt::Display> + 'static>(expected: &str) -> Parser<T> {
    Parser::of_text(expected, |text| text.parse().map_err(|error: T::Err| Invalid::Because(error.to_string())))
}

/// A region.
pub(super) fn region() -> Parser<Region> {
    Parser::of_text("a region id such as ap-singapore, at most 32 characters", |text| {
        text.parse().map_err(|_| Invalid::Value)
    })
}

/// One of a few words.
pub(super) fn word<T: Clone + 'static, const N: usize>(words: [(String, T); N]) -> Parser<T> {
    let names: Vec<String> = words.iter().map(|(name, _)| name.clone()).collect();
    let read = move |text: &str| {
        words.iter().find(|(name, _)| name == text).map(|(_, value)| value.clone()).ok_or(Invalid::Value)
    };
    Parser::of_text(one_of(&names), read).known(names)
}

/// One of these names. Another text is the fault `refused`, since some may be a key in the wrong place.
pub(super) fn name_of(what: &str, names: &[String], refused: Invalid) -> Parser<String> {
    let known = names.to_vec();
    let read = move |text: &str| known.iter().find(|name| *name == text).cloned().ok_or_else(|| refused.clone());
    Parser::of_text(format!("{what}: {}", names.join(", ")), read).known(names.to_vec())
}

/// A boolean of the file.
pub(super) fn boolean() -> Parser<bool> {
    let read = |value: &Value| value.as_bool().ok_or_else(|| Invalid::Type(value.type_str()));
    Parser { expected: "true or false".to_owned(), words: Vec::new(), hint: None, read: Box::new(read) }
}

/// Yes or no, as variables have it.
pub(super) fn switch() -> Parser<bool> {
    Parser::of_text("true, yes, on or 1, or false, no, off or 0", |text| match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err(Invalid::Value),
    })
}

/// A text of a form. One of another form is not shown: it may be a key in the wrong place.
pub(super) fn form(expected: &str, is_allowed: impl Fn(&str) -> bool + 'static) -> Parser<String> {
    Parser::of_text(expected, move |text| if is_allowed(text) { Ok(text.to_owned()) } else { Err(Invalid::Hidden) })
}

/// The path of a file.
pub(super) fn file_path(what: &str) -> Parser<PathBuf> {
    Parser::of_text(format!("the path of {what}"), |text| {
        let path = PathBuf::from(text);
        path_problem(&path).map_or(Ok(path), |problem| Err(Invalid::Because(problem.to_owned())))
    })
}

/// `a, b or c`.
pub(super) fn one_of<S: AsRef<str>>(words: &[S]) -> String {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}

/// A number of digits and at most one point, neither negative nor with an exponent.
fn decimal(text: &str) -> Option<f64> {
    let is_plain =
        text.starts_with(|c: char| c.is_ascii_digit()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    text.parse().ok().filter(|_| is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_duration(text: &str, millis: Option<u64>) {
        let read = parse_duration(text, &(Duration::ZERO..=Duration::from_secs(86_400)));
        assert_eq!(read, millis.map(Duration::from_millis), "{text}");
    }

    #[test]
    fn durations_are_units_or_seconds() {
        check_duration("30s", Some(30_000));
        check_duration("500ms", Some(500));
        check_duration("2h", Some(7_200_000));
        check_duration("1.5 m", Some(90_000));
        check_duration("1m 30s", Some(90_000));
        check_duration("1d", Some(86_400_000));
        check_duration("30", Some(30_000));
        check_duration("0", Some(0));
        check_duration("0.25", Some(250));
        check_duration("1.0005", Some(1_000));
        check_duration("0.9ms", Some(0));
        for text in ["", "s", "-1s", "1y", "1 s s", "1e3", "inf", "nan", "2d", "1..2s", "999999999999999999999h"] {
            check_duration(text, None);
        }
        assert_eq!(
            duration_of_flag("3d", Duration::from_millis(100)..=Duration::from_secs(60)).unwrap_err().to_string(),
            "expected 100ms to 1m, such as 500ms, 30s or 2h"
        );
    }

    #[test]
    fn shown_durations_read_back() {
        for (millis, text) in [(0, "0s"), (500, "500ms"), (1_500, "1500ms"), (30_000, "30s"), (7_200_000, "2h")] {
            assert_eq!(shown(Duration::from_millis(millis)), text);
            check_duration(text, Some(millis));
        }
    }

    #[test]
    fn numbers_are_plain_and_bounded() {
        let read = |text: &str| decimal_within(0.01..=1000.0, "").parse(&text.into());
        assert_eq!((read("10"), read("0.5"), read("1000")), (Ok(10.0), Ok(0.5), Ok(1000.0)));
        for text in ["0", "-1", "1001", "inf", "NaN", "", "1e2", "ten"] {
            assert_eq!(read(text), Err(Invalid::Value), "{text}");
        }
        let read = |text: &str| whole(1..=500_u32, "").parse(&text.into());
        assert_eq!((read("1"), read("500")), (Ok(1), Ok(500)));
        for text in ["0", "501", "-1", "+5", "1.0", "", "99999999999"] {
            assert_eq!(read(text), Err(Invalid::Value), "{text}");
        }
    }
}
