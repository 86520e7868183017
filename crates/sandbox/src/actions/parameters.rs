//! The parameters of a call. An action takes them one by one; the remaining ones are unknown.

use std::collections::BTreeMap;

use imageshare_core::{ids::ImageId, text::excerpt};
use serde_json::{Map, Value, json};

use super::Members;
use crate::ledger::{Execution, Refusal};

/// Parameters that the action has not taken yet.
#[derive(Debug)]
pub(crate) struct Parameters {
    members: Map<String, Value>,
    /// Whether they are from flat pairs, where numbers are strings.
    is_flat: bool,
}

impl Parameters {
    pub(crate) const fn new(members: Map<String, Value>, is_flat: bool) -> Self {
        Self { members, is_flat }
    }

    /// Takes a required string.
    pub(super) fn required_text(&mut self, name: &str) -> Result<String, Refusal> {
        self.text(name)?.ok_or_else(|| Refusal::missing_parameter(name))
    }

    /// Takes a string.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(wrong_type(name, "a string")),
        }
    }

    /// Takes a list of strings.
    pub(super) fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let text = |value| match value {
            Value::String(text) => Ok(text),
            _ => Err(wrong_type(name, "an array of strings")),
        };
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(values)) => values.into_iter().map(text).collect::<Result<_, _>>().map(Some),
            Some(_) => Err(wrong_type(name, "an array of strings")),
        }
    }

    /// Takes a required list of strings.
    pub(super) fn required_texts(&mut self, name: &str) -> Result<Vec<String>, Refusal> {
        self.texts(name)?.ok_or_else(|| Refusal::missing_parameter(name))
    }

    /// Takes a required image id.
    pub(super) fn required_image(&mut self, name: &str) -> Result<ImageId, Refusal> {
        image(&self.required_text(name)?)
    }

    /// Takes a required list of 1 to `maximum` strings.
    pub(super) fn required_list(&mut self, name: &str, maximum: usize) -> Result<Vec<String>, Refusal> {
        let texts = self.required_texts(name)?;
        match texts.len() {
            0 => Err(Refusal::missing_parameter(name)),
            count if count > maximum => {
                let message = format!("The number of `{name}` is {count}, which exceeds the limit {maximum}.");
                Err(Refusal::new("InvalidParameterValue.LimitExceeded", message))
            }
            _ => Ok(texts),
        }
    }

    /// Takes a string of at most `maximum` characters; one that is longer is refused with the code.
    pub(super) fn short_text(
        &mut self,
        name: &str,
        maximum: usize,
        code: &'static str,
    ) -> Result<Option<String>, Refusal> {
        let text = self.text(name)?;
        let is_long = text.as_ref().is_some_and(|text| text.chars().nth(maximum).is_some());
        if is_long {
            let message = format!("The parameter `{name}` is too long (expected at most {maximum} characters).");
            return Err(Refusal::new(code, message));
        }
        Ok(text)
    }

    /// Takes a truth value; absent is false.
    pub(super) fn flag(&mut self, name: &str) -> Result<bool, Refusal> {
        self.optional_flag(name).map(Option::unwrap_or_default)
    }

    /// Takes a truth value.
    pub(super) fn optional_flag(&mut self, name: &str) -> Result<Option<bool>, Refusal> {
        let flag = match self.take(name) {
            None => return Ok(None),
            Some(Value::Bool(flag)) => Some(flag),
            // The Python SDK writes `True` in a query.
            Some(Value::String(text)) if self.is_flat => text.to_ascii_lowercase().parse().ok(),
            Some(_) => None,
        };
        flag.map(Some).ok_or_else(|| wrong_type(name, "a Boolean"))
    }

    /// Takes `DryRun`.
    pub(super) fn execution(&mut self) -> Result<Execution, Refusal> {
        Ok(if self.flag("DryRun")? { Execution::DryRun } else { Execution::Real })
    }

    /// Takes an object; absent is empty.
    pub(super) fn object(&mut self, name: &str) -> Result<Self, Refusal> {
        match self.take(name) {
            None => Ok(Self::new(Map::new(), self.is_flat)),
            Some(Value::Object(members)) => Ok(Self::new(members, self.is_flat)),
            Some(_) => Err(wrong_type(name, "an object")),
        }
    }

    /// Takes a nonnegative whole number.
    pub(super) fn number(&mut self, name: &str) -> Result<Option<u64>, Refusal> {
        let number = match self.take(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) if self.is_flat => text.parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| wrong_type(name, "a whole number"))
    }

    /// Takes a list of objects.
    pub(super) fn objects(&mut self, name: &str) -> Result<Vec<Self>, Refusal> {
        let object = |value| match value {
            Value::Object(members) => Ok(Self::new(members, self.is_flat)),
            _ => Err(wrong_type(name, "an array of objects")),
        };
        match self.members.remove(name).filter(|value| !value.is_null()) {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => values.into_iter().map(object).collect(),
            Some(_) => Err(wrong_type(name, "an array of objects")),
        }
    }

    /// Drops a parameter of any type, which the sandbox does not use.
    pub(super) fn ignore(&mut self, name: &str) {
        self.members.remove(name);
    }

    /// Drops parameters of any type.
    pub(super) fn ignore_all(&mut self, names: &[&str]) {
        for name in names {
            self.ignore(name);
        }
    }

    /// Checks that no parameter remains.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        match self.members.keys().next() {
            None => Ok(()),
            Some(name) => {
                Err(Refusal::new("UnknownParameter", format!("The parameter {} is not recognized.", excerpt(name))))
            }
        }
    }

    /// Takes a parameter; null counts as absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }
}

/// A page of a list of an organization.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    offset: usize,
    limit: usize,
}

impl Page {
    /// The maximum number of entries.
    const LIMIT_MAX: u64 = 50;

    /// Takes the parameters `Offset` and `Limit`, both required.
    pub(super) fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let mut required = |name| from.number(name)?.ok_or_else(|| Refusal::missing_parameter(name));
        let (offset, limit) = (required("Offset")?, required("Limit")?);
        if !(1..=Self::LIMIT_MAX).contains(&limit) {
            return Err(invalid("InvalidParameter", "Limit", &limit.to_string(), "expected 1 to 50"));
        }
        if !offset.is_multiple_of(limit) {
            return Err(invalid("InvalidParameter", "Offset", &offset.to_string(), "expected a multiple of Limit"));
        }
        let number = |number| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self { offset: number(offset), limit: number(limit) })
    }

    /// Returns the members of a response with this page of all entries.
    pub(super) fn members(self, entries: impl Iterator<Item = Value>) -> Members {
        let entries: Vec<Value> = entries.collect();
        let total = entries.len();
        let page: Vec<Value> = entries.into_iter().skip(self.offset).take(self.limit).collect();
        vec![("Total", json!(total)), ("Items", Value::Array(page))]
    }
}

/// The maximum number of tags in a request.
const TAGS_MAX: usize = 10;

/// Takes the parameter `Tags`: keys and values.
pub(super) fn tags(from: &mut Parameters) -> Result<Vec<(String, String)>, Refusal> {
    let tags = from.objects("Tags")?;
    if tags.len() > TAGS_MAX {
        return Err(invalid("InvalidParameter", "Tags", &tags.len().to_string(), "expected at most 10 tags"));
    }
    let tag = |mut tag: Parameters| {
        let pair = (tag.required_text("TagKey")?, tag.required_text("TagValue")?);
        tag.finish().map(|()| pair)
    };
    tags.into_iter().map(tag).collect()
}

/// Returns tags as a response has them.
pub(super) fn described_tags(tags: &BTreeMap<String, String>) -> Vec<Value> {
    tags.iter().map(|(key, value)| json!({"TagKey": key, "TagValue": value})).collect()
}

pub(super) fn image(text: &str) -> Result<ImageId, Refusal> {
    text.parse()
        .map_err(|_| Refusal::new("InvalidImageId.Malformed", format!("The image id {} is malformed.", excerpt(text))))
}

/// The maximum number of ids in a request, unless the request has its own limit.
pub(super) const IDS_MAX: usize = 100;

/// Checks that ids have the form of a kind of resource: the prefix, a dash, and 4 to 32 lowercase letters or digits. Others
/// are refused with the code.
pub(super) fn check_ids(ids: &[String], prefix: &str, code: &'static str) -> Result<(), Refusal> {
    let is_id = |id: &String| {
        let rest = id.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('-')).unwrap_or_default();
        (4..=32).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    match ids.iter().find(|id| !is_id(id)) {
        None => Ok(()),
        Some(id) => Err(Refusal::new(code, format!("The id {} is malformed (expected {prefix}-...).", excerpt(id)))),
    }
}

pub(super) fn invalid(code: &'static str, name: &str, value: &str, problem: &str) -> Refusal {
    Refusal::new(code, format!("The value {} of the parameter `{name}` is invalid: {problem}.", excerpt(value)))
}

fn wrong_type(name: &str, expected: &str) -> Refusal {
    Refusal::new("InvalidParameter", format!("The parameter `{name}` must be {expected}."))
}
