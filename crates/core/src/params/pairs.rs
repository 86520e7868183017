//! Parameters as flat pairs of name and value.

use alloc::{
    string::{String, ToString},
    vec::{self, Vec},
};
use core::fmt::{self, Display};

use serde_json::Value;

use super::{ParameterWriter, Parameters, percent::encode_into};
use crate::ids::AccountId;

/// Flat names with raw (not encoded) values, in the order in which they were added.
///
/// `Debug` shows the names only, since the pairs of signature version 1 hold the token and the signature.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Pairs(Vec<(String, String)>);

impl Pairs {
    /// The parameters of an action; the entries of a list get its name, a dot and an index from 0.
    #[must_use]
    pub fn of(parameters: &impl Parameters) -> Self {
        let mut pairs = Self::default();
        parameters.write_parameters(&mut pairs);
        pairs
    }

    /// A JSON value made flat, to any depth. An object at the top gives its members' names; null, empty lists and
    /// empty objects give nothing, as there is no flat form for them; a value that stands alone has the name "".
    #[must_use]
    pub fn flatten(value: &Value) -> Self {
        let mut pairs = Self::default();
        pairs.flatten_under("", value);
        pairs
    }

    /// Adds a pair at the end.
    pub fn push(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push((name.into(), value.into()));
    }

    /// Takes out the first pair of that name and gives its value.
    pub fn take(&mut self, name: &str) -> Option<String> {
        let at = self.0.iter().position(|(each, _)| each == name)?;
        Some(self.0.remove(at).1)
    }

    /// Sorts by name in byte order, so that `AccountIds.12` stands before `AccountIds.2`.
    pub fn sort(&mut self) {
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
    }

    /// The value of the first pair of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(each, _)| *each == name).map(|(_, value)| value)
    }

    /// The pairs in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The text for a URL or a form: pairs percent-encoded as [`encode`](super::encode) does, sorted by encoded name.
    ///
    /// It must be signed and sent as it is, so no HTTP library may encode it again.
    #[must_use]
    pub fn to_query(&self) -> String {
        let mut encoded: Vec<_> = self.iter().map(|(name, value)| (super::encode(name), value)).collect();
        encoded.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut query = String::new();
        for (name, value) in encoded {
            if !query.is_empty() {
                query.push('&');
            }
            query.push_str(&name);
            query.push('=');
            encode_into(value, &mut query);
        }
        query
    }

    fn flatten_under(&mut self, path: &str, value: &Value) {
        let under = |key: &dyn Display| if path.is_empty() { key.to_string() } else { alloc::format!("{path}.{key}") };
        match value {
            Value::Null => {}
            Value::Bool(flag) => self.push(path, flag.to_string()),
            Value::Number(number) => self.push(path, number.to_string()),
            Value::String(text) => self.push(path, text.as_str()),
            Value::Array(entries) => {
                entries.iter().enumerate().for_each(|(index, entry)| self.flatten_under(&under(&index), entry));
            }
            Value::Object(members) => {
                members.iter().for_each(|(name, member)| self.flatten_under(&under(name), member));
            }
        }
    }
}

impl ParameterWriter for Pairs {
    fn text(&mut self, name: &'static str, text: &str) {
        self.push(name, text);
    }

    fn number(&mut self, name: &'static str, number: u64) {
        self.push(name, number.to_string());
    }

    fn texts<T: AsRef<str>>(&mut self, name: &'static str, texts: &[T]) {
        for (index, text) in texts.iter().enumerate() {
            self.push(alloc::format!("{name}.{index}"), text.as_ref());
        }
    }

    fn accounts(&mut self, name: &'static str, ids: &[AccountId]) {
        for (index, id) in ids.iter().enumerate() {
            self.push(alloc::format!("{name}.{index}"), id.to_string());
        }
    }

    fn objects<T: Parameters>(&mut self, name: &'static str, objects: &[T]) {
        for (index, object) in objects.iter().enumerate() {
            for (member, value) in Self::of(object) {
                self.push(alloc::format!("{name}.{index}.{member}"), value);
            }
        }
    }
}

impl fmt::Debug for Pairs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Pairs {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

impl IntoIterator for Pairs {
    type Item = (String, String);
    type IntoIter = vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_values_get_dotted_names() {
        let value = json!({
            "Filters": [{"Name": "image-name", "Values": ["未", "a b"]}], "Limit": 20, "DryRun": false, "Unset": null,
        });
        assert_eq!(
            Pairs::flatten(&value).to_query(),
            "DryRun=false&Filters.0.Name=image-name&Filters.0.Values.0=%E6%9C%AA&Filters.0.Values.1=a%20b&Limit=20"
        );
    }

    #[test]
    fn text_is_sorted_by_encoded_name() {
        let pairs: Pairs = [("B.2", "x"), ("B.12", "y"), ("A", "")].into_iter().collect();
        assert_eq!(pairs.to_query(), "A=&B.12=y&B.2=x");
        assert_eq!(Pairs::default().to_query(), "");
    }

    #[test]
    fn debug_shows_names_and_no_values() {
        let pairs: Pairs = [("Token", "topsecret"), ("Action", "DescribeImages")].into_iter().collect();
        assert_eq!(alloc::format!("{pairs:?}"), r#"["Token", "Action"]"#);
    }

    #[test]
    fn taken_pair_is_gone() {
        let mut pairs: Pairs = [("A", "1"), ("B", "2")].into_iter().collect();
        assert_eq!(pairs.take("A").as_deref(), Some("1"));
        assert_eq!(pairs.take("A"), None);
        assert_eq!(pairs.get("B"), Some("2"));
    }
}
