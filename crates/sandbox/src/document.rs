//! Reads TOML and JSON documents that people write, and locates every problem in them.

use imageshare_core::{
    disclosure::{disclosed_name, without_value},
    text::printable,
};
use serde::de::DeserializeOwned;
use serde_path_to_error::{Path, Segment};
use toml::de::{DeTable, DeValue};

/// The maximum number of reported problems.
const PROBLEMS_MAX: usize = 100;

/// The maximum length of a problem in characters.
const PROBLEM_CHARS_MAX: usize = 500;

/// The maximum length in characters of a key that is named because its value cannot be parsed.
const KEY_CHARS_MAX: usize = 40;

/// The problems of a document. They hold no value that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.lines(""))]
pub struct DocumentError {
    problems: Vec<DocumentProblem>,
    /// The number of problems beyond the maximum.
    more: usize,
}

/// A problem of a document.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DocumentProblem {
    /// The line, from 1, unless the problem is something that the document lacks.
    line: Option<usize>,
    /// The key, such as `images[1].region`; empty for the whole document.
    key: String,
    /// `PROBLEM (expected WHAT)`.
    problem: String,
    hint: Option<String>,
}

impl DocumentError {
    fn of_one(line: Option<usize>, key: String, problem: &str, hint: Option<String>) -> Self {
        let problem = printable(problem, PROBLEM_CHARS_MAX);
        Self { problems: vec![DocumentProblem { line, key, problem, hint }], more: 0 }
    }

    /// Returns one line for each problem, `NAME:LINE: KEY: PROBLEM (expected WHAT)`, and one for each hint.
    #[must_use]
    pub fn in_file(&self, name: &str) -> String {
        self.lines(name)
    }

    fn lines(&self, name: &str) -> String {
        let mut lines: Vec<String> = Vec::new();
        for DocumentProblem { line, key, problem, hint } in &self.problems {
            let place = match (name, line) {
                ("", None) => String::new(),
                ("", Some(line)) => format!("line {line}: "),
                (name, None) => format!("{name}: "),
                (name, Some(line)) => format!("{name}:{line}: "),
            };
            let key = if key.is_empty() { String::new() } else { format!("{key}: ") };
            lines.push(format!("{place}{key}{problem}"));
            lines.extend(hint.iter().map(|hint| format!("hint: {hint}")));
        }
        if self.more > 0 {
            lines.push(format!("{} more problems (expected none)", self.more));
        }
        lines.join("\n")
    }
}

/// Reads a TOML document.
pub(crate) fn read_toml<T: DeserializeOwned>(text: &str) -> Result<T, DocumentError> {
    let located = |path: Option<&Path>, error: &toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let mut problem = refused(Some(line_at(text, start)), path, error.message(), "a table");
        for DocumentProblem { key, problem, .. } in &mut problem.problems {
            if key.is_empty() {
                *key = key_of_value(text, start).unwrap_or_default().to_owned();
            }
            if path.is_none() && !problem.contains("(expected ") {
                problem.push_str(" (expected TOML)");
            }
        }
        problem
    };
    let document = toml::Deserializer::parse(text).map_err(|error| located(None, &error))?;
    serde_path_to_error::deserialize(document).map_err(|error| located(Some(error.path()), error.inner()))
}

/// Reads a JSON document.
pub(crate) fn read_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, DocumentError> {
    let located = |path: Option<&Path>, error: &serde_json::Error| {
        let message = error.to_string();
        let place = format!(" at line {} column {}", error.line(), error.column());
        let message = message.strip_suffix(&place).unwrap_or(&message);
        if error.is_data() {
            return refused(Some(error.line()), path, message, "an object");
        }
        let (problem, expected) = match message.strip_prefix("expected ") {
            Some(expected) => (String::new(), expected.replace('`', "")),
            None => (format!(": {message}"), "one JSON object".to_owned()),
        };
        let problem = format!("malformed JSON at column {}{problem} (expected {expected})", error.column());
        DocumentError::of_one(Some(error.line()), String::new(), &problem, None)
    };
    // A derived reader would take a list for an object.
    if json.trim_ascii_start().first().is_some_and(|&byte| byte != b'{') {
        return Err(refused(Some(1), None, "invalid type, expected a map", "an object"));
    }
    let mut document = serde_json::Deserializer::from_slice(json);
    let value =
        serde_path_to_error::deserialize(&mut document).map_err(|error| located(Some(error.path()), error.inner()))?;
    document.end().map_err(|error| located(None, &error))?;
    Ok(value)
}

/// Returns a JSON Schema as text.
pub(crate) fn schema_text(schema: &schemars::Schema) -> String {
    format!("{:#}\n", schema.as_value())
}

/// Collects the problems of a document that has the right form.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    problems: Vec<DocumentProblem>,
    more: usize,
}

impl Problems {
    /// Adds a problem of a key, such as `images[1].region`.
    pub(crate) fn note(&mut self, key: &str, problem: impl Into<String>, hint: Option<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            let (key, problem) = (key.to_owned(), printable(&problem.into(), PROBLEM_CHARS_MAX));
            self.problems.push(DocumentProblem { line: None, key, problem, hint });
        } else {
            self.more += 1;
        }
    }

    /// Returns the problems, if any, with the lines of their keys in a TOML document.
    pub(crate) fn end(self, toml: &str) -> Result<(), DocumentError> {
        let Self { mut problems, more } = self;
        if problems.is_empty() {
            return Ok(());
        }
        if let Ok(document) = DeTable::parse(toml) {
            for problem in &mut problems {
                problem.line = position_of(document.get_ref(), &problem.key).map(|start| line_at(toml, start));
            }
            problems.sort_by_key(|problem| problem.line);
        }
        Err(DocumentError { problems, more })
    }
}

/// Returns the hint for a word that is nearly one of the known words: at most a third of the letters differ.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let is_near = |name: &str, distance: usize| distance * 3 <= word.len().max(name.len());
    // The distance takes memory for each pair of letters, and a key of a file may be of any length.
    let comparable = known.into_iter().filter(|name| is_near(name, name.len().abs_diff(word.len())));
    let (distance, name) = comparable.map(|name| (strsim::damerau_levenshtein(word, name), name)).min()?;
    (distance > 0 && is_near(name, distance)).then(|| format!("did you mean {name}?"))
}

/// Returns the error for a message of a parser. `object` is what the language calls a value with keys.
fn refused(line: Option<usize>, path: Option<&Path>, message: &str, object: &str) -> DocumentError {
    let mut segments: Vec<&Segment> = path.into_iter().flat_map(Path::iter).collect();
    let missing = message.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`'));
    let unknown = message.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`'));
    if unknown.is_some() && segments.last().is_some_and(|segment| matches!(segment, Segment::Unknown)) {
        segments.pop();
    }
    let words = expectation(message, object);
    let (problem, hint) = match (missing, unknown) {
        (Some(name), _) => (format!("missing key (expected {name})"), None),
        (_, Some((name, _))) => {
            let words = words.unwrap_or_default();
            (format!("unknown key (expected {words})"), did_you_mean(name, each(&words)))
        }
        _ => {
            // A value can be a secret, so it is not shown.
            let shown = without_value(message);
            let problem = shown.split([',', '(']).next().unwrap_or_default().trim();
            match words {
                Some(words) if message.starts_with("unknown ") => {
                    let word = message.split(['`', '"']).nth(1).unwrap_or_default();
                    let hint = did_you_mean(word, each(&words));
                    (format!("{problem} (expected {words})"), hint)
                }
                Some(words) => (format!("{problem} (expected {words})"), None),
                None => (shown, None),
            }
        }
    };
    let mut key = String::new();
    for segment in segments {
        match segment {
            Segment::Seq { index } => key.push_str(&format!("[{index}]")),
            Segment::Map { key: name } => {
                let dot = if key.is_empty() { "" } else { "." };
                key.push_str(&format!("{dot}{}", disclosed_name(name)));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    DocumentError::of_one(line, key, &problem, hint)
}

/// Returns what a parser's message expects, in the words of this program.
fn expectation(message: &str, object: &str) -> Option<String> {
    let (_, words) = message.rsplit_once(", expected ").or_else(|| message.rsplit_once("(expected "))?;
    let words = words.strip_prefix("one of ").unwrap_or(words);
    let words = words.strip_suffix(')').filter(|_| !words.contains('(')).unwrap_or(words);
    Some(match words {
        "a sequence" => "a list".to_owned(),
        "a map" => object.to_owned(),
        "u32" | "u64" | "usize" => "a whole number".to_owned(),
        "a nonzero u64" => "a whole number above 0".to_owned(),
        "f64" => "a number".to_owned(),
        words if words.starts_with("struct ") => object.to_owned(),
        words => words.replace('`', ""),
    })
}

/// Returns the words of a list such as `a, b or c`.
fn each(words: &str) -> impl Iterator<Item = &str> {
    words.split(", ").flat_map(|words| words.split(" or "))
}

/// Returns the plain key of the value at a position of a TOML document that has an error there.
fn key_of_value(text: &str, position: usize) -> Option<&str> {
    let (key, _) = text.get(..position)?.lines().next_back()?.split_once('=')?;
    let key = key.trim();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (key.len() <= KEY_CHARS_MAX && key.bytes().all(is_plain)).then_some(key)
}

/// Returns the line of a position, from 1.
fn line_at(text: &str, position: usize) -> usize {
    text.get(..position).unwrap_or_default().matches('\n').count() + 1
}

/// Returns the position of a key such as `images[1].region`, or of the part of it that the document has.
fn position_of(document: &DeTable<'_>, key: &str) -> Option<usize> {
    let mut parts = key.split(['.', '[']);
    let mut current = document.get(parts.next()?)?;
    for part in parts {
        let next = match (current.get_ref(), part.strip_suffix(']')) {
            (DeValue::Array(values), Some(index)) => index.parse().ok().and_then(|index: usize| values.get(index)),
            (DeValue::Table(table), None) => table.get(part),
            _ => None,
        };
        let Some(next) = next else { break };
        current = next;
    }
    Some(current.span().start)
}
