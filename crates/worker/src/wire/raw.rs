//! The members of one JSON object as raw text, each at most once: the step before their values mean anything.

use std::{borrow::Cow, fmt, str::FromStr};

use imageshare_core::text::{excerpt, printable};
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// How deep arrays and objects may stand in each other.
pub(super) const DEPTH_MAX: usize = 16;

/// Characters of a number that an error shows at most.
const NUMBER_CHARS_MAX: usize = 40;

/// What went wrong while the members of an object were collected.
#[derive(Debug)]
pub(super) struct Malformed {
    /// The member's name, where it is about one.
    pub(super) member: Option<String>,
    /// What was found and what is allowed.
    pub(super) problem: String,
}

/// Collects the members of the object that `text` is into `slots`, one for each of `names`: a member's name and its
/// aliases. What stood before an error stays in the slots.
pub(super) fn read_members<'a>(
    text: &'a str,
    names: &[&[&str]],
    slots: &mut [Option<&'a RawValue>],
) -> Result<(), Malformed> {
    let whole = |problem: String| Malformed { member: None, problem };
    if let Some(at) = too_deep(text) {
        let problem = format!("found brackets more than {DEPTH_MAX} deep at byte {at}, allowed are {DEPTH_MAX}");
        return Err(whole(problem));
    }
    if !text.trim_start().starts_with('{') {
        return Err(whole(format!("found {}, allowed is one JSON object", excerpt(text))));
    }
    let mut refused = None;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let read = deserializer
        .deserialize_map(Members { names, slots, refused: &mut refused })
        .and_then(|()| deserializer.end())
        .map_err(|error| whole(malformed(&error)));
    // A text that is no JSON says so first; what its members are is then a guess.
    read?;
    refused.map_or(Ok(()), Err)
}

/// A value that has to be a text.
pub(super) fn text_of(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if !inner.contains('\\') {
        return Some(Cow::Borrowed(inner));
    }
    // Fails for half a surrogate pair, which no text holds.
    serde_json::from_str(raw.get()).ok().map(Cow::Owned)
}

/// A text that is read as `T`, whose error says what was found and what is allowed.
pub(super) fn parsed<T: FromStr<Err: fmt::Display>>(raw: &RawValue, allowed: &str) -> Result<T, String> {
    let text = text_of(raw).ok_or_else(|| format!("found {}, allowed is {allowed}", shown(raw)))?;
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// The elements of an array, or `None` if it is none.
pub(super) fn elements(raw: &RawValue) -> Option<Vec<&RawValue>> {
    struct Elements;

    impl<'de> Visitor<'de> for Elements {
        type Value = Vec<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
            let mut elements = Vec::new();
            while let Some(element) = array.next_element()? {
                elements.push(element);
            }
            Ok(elements)
        }
    }

    serde_json::Deserializer::from_str(raw.get()).deserialize_seq(Elements).ok()
}

/// The pairs of an object of texts in their order, or what else it is.
pub(super) fn pairs(raw: &RawValue) -> Option<Vec<(String, &RawValue)>> {
    struct Pairs;

    impl<'de> Visitor<'de> for Pairs {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::new();
            while let Some(pair) = object.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }
    }

    serde_json::Deserializer::from_str(raw.get()).deserialize_map(Pairs).ok()
}

/// A value as an error shows it: texts quoted and cut, numbers as they stand, the rest by its kind.
pub(super) fn shown(raw: &RawValue) -> String {
    match raw.get().as_bytes().first() {
        Some(b'"') => text_of(raw).map_or_else(|| excerpt(raw.get()), |text| excerpt(&text)),
        Some(b'[') => "an array".to_owned(),
        Some(b'{') => "an object".to_owned(),
        _ => printable(raw.get(), NUMBER_CHARS_MAX),
    }
}

/// Puts the members of an object into the slots of their names.
struct Members<'a, 's, 'n> {
    names: &'n [&'n [&'n str]],
    slots: &'s mut [Option<&'a RawValue>],
    /// The first member that is not known or came twice.
    refused: &'s mut Option<Malformed>,
}

impl<'de> Visitor<'de> for Members<'de, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<(), A::Error> {
        while let Some(Key(name)) = object.next_key()? {
            let index = self.names.iter().position(|names| names.contains(&name.as_ref()));
            let problem = match index.and_then(|index| self.slots.get_mut(index)) {
                Some(slot @ None) => {
                    *slot = Some(object.next_value()?);
                    continue;
                }
                Some(Some(_)) => "found a second time, allowed is once (under any of its names)".to_owned(),
                None => format!("found a member that is not known, allowed are {}", self.known_names()),
            };
            object.next_value::<IgnoredAny>()?;
            let member = if index.is_some() { name.into_owned() } else { excerpt(&name) };
            self.refused.get_or_insert(Malformed { member: Some(member), problem });
        }
        Ok(())
    }
}

impl Members<'_, '_, '_> {
    fn known_names(&self) -> String {
        let names: Vec<&str> = self.names.iter().filter_map(|names| names.first().copied()).collect();
        names.join(", ")
    }
}

/// A member's name, borrowed where it holds no escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Key<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a member's name")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(text)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

/// What the parser says, with the column counted from the beginning of the text.
fn malformed(error: &serde_json::Error) -> String {
    let said = error.to_string();
    // The parser ends its sentence with a place whose line is always 1 or, in a message over several lines, misleading.
    let said = said.rfind(" at line ").and_then(|at| said.get(..at)).unwrap_or(&said);
    let place = if error.line() > 1 {
        format!("row {} column {}", error.line(), error.column())
    } else {
        format!("column {}", error.column())
    };
    format!("found malformed JSON ({said}) at {place}, allowed is one JSON object")
}

/// The byte at which brackets stand more than [`DEPTH_MAX`] deep in each other. Does not care whether they match:
/// that is the parser's, which is slower and whose own bound is higher.
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
