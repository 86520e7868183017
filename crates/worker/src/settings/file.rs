//! The settings file: TOML tables whose keys are taken one by one, so that what is left is not known.

use std::{fs::File, io::Read, path::Path};

use imageshare_core::{
    disclosure::disclosed_name,
    text::{excerpt, printable},
};
use toml::{Table, Value};

use super::{
    origin::{Given, Origin},
    values::shown_path,
};

/// Bytes that a settings file may have.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// Characters of the file's name that messages show.
const FILE_CHARS_MAX: usize = 200;

/// One table of a settings file.
pub(super) struct Section {
    file: String,
    /// Its key, empty for the whole file.
    path: String,
    table: Table,
}

impl Section {
    /// The whole file.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let open = File::open(path).map_err(|error| {
            format!("{}: found that it cannot be read ({error}), allowed is a settings file", shown_path(path))
        })?;
        // What can be opened is a path, whatever it looks like.
        let file = printable(&path.to_string_lossy(), FILE_CHARS_MAX);
        let mut text = String::new();
        let read = open.take(FILE_LEN_MAX + 1).read_to_string(&mut text);
        read.map_err(|error| format!("{file}: found that it cannot be read ({error}), allowed is a settings file"))?;
        if text.len() as u64 > FILE_LEN_MAX {
            return Err(format!("{file}: found more than {FILE_LEN_MAX} bytes, allowed are {FILE_LEN_MAX}"));
        }
        Self::parse(&file, &text)
    }

    pub(super) fn parse(file: &str, text: &str) -> Result<Self, String> {
        let table = text.parse().map_err(|error: toml::de::Error| {
            // The error's own form quotes the line, which may hold a secret.
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            format!("{file} line {line}: found {}, allowed is TOML", printable(error.message(), FILE_CHARS_MAX))
        })?;
        Ok(Self { file: file.to_owned(), path: String::new(), table })
    }

    /// A table within this one, empty if it is not there.
    pub(super) fn section(&mut self, key: &str, problems: &mut Vec<String>) -> Self {
        let table = match self.table.remove(key) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                problems.push(format!("{}: found {}, allowed is a table", self.origin(key), kind(&other)));
                Table::new()
            }
        };
        Self { file: self.file.clone(), path: self.path_of(key), table }
    }

    /// The names of the tables within this one.
    pub(super) fn names(&self) -> Vec<String> {
        self.table.keys().cloned().collect()
    }

    /// A text or a number.
    pub(super) fn take(&mut self, key: &str, problems: &mut Vec<String>) -> Option<Given> {
        let value = self.table.remove(key)?;
        let origin = self.origin(key);
        let text = scalar(&value);
        if text.is_none() {
            problems.push(format!("{origin}: found {}, allowed is a text or a number", kind(&value)));
        }
        Some(Given { text: text?, origin })
    }

    /// A list of texts.
    pub(super) fn take_list(&mut self, key: &str, problems: &mut Vec<String>) -> Option<Vec<Given>> {
        let value = self.table.remove(key)?;
        let Value::Array(elements) = value else {
            problems.push(format!("{}: found {}, allowed is a list", self.origin(key), kind(&value)));
            return None;
        };
        let mut given = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let origin = self.origin_of_element(key, index);
            match scalar(element) {
                Some(text) => given.push(Given { text, origin }),
                None => problems.push(format!("{origin}: found {}, allowed is a text", kind(element))),
            }
        }
        Some(given)
    }

    /// Reports the keys that nobody took. Their values are not shown: who writes a key in the wrong place may have
    /// written a secret there.
    pub(super) fn finish(self, allowed: &str, problems: &mut Vec<String>) {
        self.report_rest(allowed, problems);
    }

    /// The same for a table whose keys are still to be spoken of.
    pub(super) fn report_rest(&self, allowed: &str, problems: &mut Vec<String>) {
        for key in self.table.keys() {
            let shown = excerpt(&disclosed_name(key));
            let place = if self.path.is_empty() { String::new() } else { format!("{}: ", self.path) };
            problems.push(format!("{}: {place}found the key {shown}, allowed are {allowed}", self.file));
        }
    }

    /// Where a key of this table stands.
    pub(super) fn origin(&self, key: &str) -> Origin {
        Origin::File { file: self.file.clone(), key: self.path_of(key) }
    }

    /// Where an element of a list of this table stands.
    fn origin_of_element(&self, key: &str, index: usize) -> Origin {
        Origin::File { file: self.file.clone(), key: format!("{}[{index}]", self.path_of(key)) }
    }

    fn path_of(&self, key: &str) -> String {
        let key = disclosed_name(key);
        if self.path.is_empty() { key } else { format!("{}.{key}", self.path) }
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        _ => None,
    }
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "a text",
        Value::Integer(_) | Value::Float(_) => "a number",
        Value::Boolean(_) => "true or false",
        Value::Datetime(_) => "a time",
        Value::Array(_) => "a list",
        Value::Table(_) => "a table",
    }
}
