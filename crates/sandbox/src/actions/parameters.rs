//! The parameters of a call. An action takes them one by one; the remaining ones are unknown.

use imageshare_core::{ids::ImageId, text::excerpt};
use serde_json::{Map, Value};

use crate::ledger::Refusal;

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

pub(super) fn image(text: &str) -> Result<ImageId, Refusal> {
    text.parse()
        .map_err(|_| Refusal::new("InvalidImageId.Malformed", format!("The image id {} is malformed.", excerpt(text))))
}

pub(super) fn invalid(code: &'static str, name: &str, value: &str, problem: &str) -> Refusal {
    Refusal::new(code, format!("The value {} of the parameter `{name}` is invalid: {problem}.", excerpt(value)))
}

fn wrong_type(name: &str, expected: &str) -> Refusal {
    Refusal::new("InvalidParameter", format!("The parameter `{name}` must be {expected}."))
}
