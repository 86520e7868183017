//! JSON of a job, read member by member.
//!
//! A struct with `#[derive(Deserialize)]`, `alias` and `deny_unknown_fields` accepts and rejects the same texts: 752 of 752
//! of the fuzz corpus of jobs and lines. It is worse for the reader of a report, so the members are collected here:
//!
//! - It stops at the first unknown or repeated member and loses the members behind it. 29 of the 690 rejected texts would
//!   lose the job id, image, permission or labels that the report of a rejected job repeats.
//! - For 185 of them it names a member of a text that is not JSON, or is truncated. Here the syntax error comes first.
//! - Its errors are sentences. The member, and whether it is unknown or repeated, would have to be parsed from them.
//!
//! The values still come from serde: [`Value`] is deserialized, with repeated names kept. The schema of a job is written by
//! hand for the same reason: `schemars` has no aliases, and cannot describe members that are null or depend on others.

use std::{borrow::Cow, fmt, str::FromStr};

use imageshare_core::text::excerpt;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};

use crate::spelling::did_you_mean;

/// How deep arrays and objects may be nested.
pub(super) const DEPTH_MAX: usize = 16;

/// A JSON value. Texts without escapes are borrowed from the source. An object keeps repeated names, so that its parser can
/// refuse them.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    /// A number of plain digits that fits into 64 bits.
    Natural(u64),
    /// Any other number, as an error shows it. No member of a job has such a value.
    Number(String),
    Text(Cow<'a, str>),
    Array(Vec<Self>),
    Object(Vec<(Cow<'a, str>, Self)>),
}

/// Why the members of an object could not be collected.
#[derive(Debug)]
pub(super) struct Malformed {
    /// The member, if the problem concerns one.
    pub(super) member: Option<String>,
    /// The problem, and what is expected.
    pub(super) problem: String,
}

/// Collects the members of a JSON object into `slots`, one for each of `names`, which are the name and the aliases of a
/// member. After an error the slots hold the members before it.
pub(super) fn read_members<'a>(
    text: &'a str,
    names: &[&[&str]],
    slots: &mut [Option<Value<'a>>],
) -> Result<(), Malformed> {
    let whole = |problem: String| Malformed { member: None, problem };
    if let Some(at) = too_deep(text) {
        let problem = format!("brackets are more than {DEPTH_MAX} deep at byte {at} (expected at most {DEPTH_MAX})");
        return Err(whole(problem));
    }
    if text.trim_start().starts_with('[') {
        let problem = "is a list (expected one JSON object per line; convert a list with jq -c '.[]')";
        return Err(whole(problem.to_owned()));
    }
    if !text.trim_start().starts_with('{') {
        return Err(whole(format!("invalid value {} (expected one JSON object)", excerpt(text))));
    }
    let mut refused = None;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer
        .deserialize_map(MemberCollector { names, slots, refused: &mut refused })
        .and_then(|()| deserializer.end())
        .map_err(|error| whole(malformed(text, &error)));
    // A syntax error comes first: the members of such a text are a guess.
    read?;
    refused.map_or(Ok(()), Err)
}

impl Value<'_> {
    /// Returns the text, if the value is one.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Parses the text. The error is that of `T`, or names `allowed` if the value is not a text.
    pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(&self, allowed: &str) -> Result<T, String> {
        let text = self.text().ok_or_else(|| format!("invalid value {self} (expected {allowed})"))?;
        text.parse().map_err(|error: T::Err| error.to_string())
    }
}

impl fmt::Display for Value<'_> {
    /// Writes the value as an error shows it: texts quoted and truncated, arrays and objects by their kind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(truth) => fmt::Display::fmt(truth, f),
            Self::Natural(number) => fmt::Display::fmt(number, f),
            Self::Number(number) => f.write_str(number),
            Self::Text(text) => f.write_str(&excerpt(text)),
            Self::Array(_) => f.write_str("an array"),
            Self::Object(_) => f.write_str("an object"),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Value<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Value::Natural(number))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Value::Number(number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        // With an exponent where it is large, so that it is short in any case.
        Ok(Value::Number(format!("{number:?}")))
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element()? {
            elements.push(element);
        }
        Ok(Value::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((Name(name), value)) = object.next_entry()? {
            members.push((name, value));
        }
        Ok(Value::Object(members))
    }
}

/// The name of a member, borrowed if it has no escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Text(name) => Ok(Self(name)),
            other => Err(de::Error::custom(format_args!("invalid name {other} (expected a string)"))),
        }
    }
}

/// Puts the members of an object into the slots of their names.
struct MemberCollector<'a, 's, 'n> {
    names: &'n [&'n [&'n str]],
    slots: &'s mut [Option<Value<'a>>],
    /// The first member that is unknown or repeated.
    refused: &'s mut Option<Malformed>,
}

impl<'de> Visitor<'de> for MemberCollector<'de, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        while let Some(Name(name)) = object.next_key()? {
            let index = self.names.iter().position(|names| names.contains(&name.as_ref()));
            let problem = match index.and_then(|index| self.slots.get_mut(index)) {
                Some(slot @ None) => {
                    *slot = Some(object.next_value()?);
                    continue;
                }
                Some(Some(_)) => "set twice (expected once, under one of its names)".to_owned(),
                None => unknown_member(&name, self.names),
            };
            object.next_value::<IgnoredAny>()?;
            let member = if index.is_some() { name.into_owned() } else { excerpt(&name) };
            self.refused.get_or_insert(Malformed { member: Some(member), problem });
        }
        Ok(())
    }
}

/// Returns the problem of a member that none of these names and aliases is.
pub(super) fn unknown_member(name: &str, names: &[&[&str]]) -> String {
    let expected: Vec<&str> = names.iter().filter_map(|names| names.first().copied()).collect();
    let hint = did_you_mean(name, expected.iter().copied());
    let hint = hint.map_or_else(String::new, |hint| format!("; {hint}"));
    format!("unknown member (expected {}{hint})", expected.join(", "))
}

/// Returns the error of the parser, with the column counted from the beginning of the text.
fn malformed(text: &str, error: &serde_json::Error) -> String {
    let text_of_error = error.to_string();
    // The parser appends a position whose line is always 1 or, for a message over several lines, misleading.
    let problem = text_of_error.rfind(" at line ").and_then(|at| text_of_error.get(..at)).unwrap_or(&text_of_error);
    let place = if error.line() > 1 {
        format!("row {} column {}", error.line(), error.column())
    } else {
        format!("column {}", error.column())
    };
    // The first line of an object over several lines ends like this; a truncated line rarely does.
    let is_first_line = error.is_eof() && text.trim_end().ends_with(['{', '[', ',']);
    let hint = if is_first_line { " in one line; convert one over several lines with jq -c ." } else { "" };
    format!("malformed JSON at {place}: {problem} (expected one JSON object{hint})")
}

/// Returns the byte at which brackets are nested deeper than [`DEPTH_MAX`]. Whether they match is checked by the parser,
/// which is slower and has a higher bound.
fn too_deep(text: &str) -> Option<usize> {
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Some(at);
                }
            }
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}
