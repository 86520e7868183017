//! The settings file as it is written: raw values, and the line of each.

use std::{collections::BTreeMap, fs::File, io::Read as _, path::Path, sync::Arc};

use imageshare_core::{
    disclosure::{disclosed_name, without_value},
    text::printable,
};
use serde::{Deserialize, de::IgnoredAny};
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

use super::{
    accounts::RawAccounts, admin::RawAdmin, broker::RawBroker, credentials::RawCredential, engine::RawEngine,
    error::SettingsError, http::RawHttp, lanes::RawLane, setting::SettingOrigin,
};
use crate::paths::{path_problem, shown_path};

/// Bytes that a settings file may have.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// Characters of the file's name, or of a parser's message, that an error shows.
const SHOWN_CHARS_MAX: usize = 200;

/// Keys of a section that no setting has.
pub(super) type UnknownKeys = BTreeMap<String, IgnoredAny>;

/// The sections of a settings file. Each value is of any kind, so that all that is wrong is found at once.
#[derive(Debug, Default, Deserialize)]
#[serde(default, expecting = "a table")]
pub(super) struct RawFile {
    pub(super) lanes: BTreeMap<String, RawLane>,
    pub(super) credentials: BTreeMap<String, RawCredential>,
    pub(super) accounts: RawAccounts,
    pub(super) engine: RawEngine,
    pub(super) http: RawHttp,
    pub(super) broker: RawBroker,
    pub(super) admin: RawAdmin,
    #[serde(flatten)]
    pub(super) unknown: UnknownKeys,
}

/// The lines of a settings file that keys and elements of lists stand on.
#[derive(Clone, Debug, Default)]
pub(super) struct FileLines {
    name: Arc<str>,
    lines: BTreeMap<Vec<String>, usize>,
}

impl RawFile {
    pub(super) const KEYS: [&str; 7] = ["lanes", "credentials", "accounts", "engine", "http", "broker", "admin"];
}

/// Reads the file that a flag or a variable names.
pub(super) fn read(path: &Path, named_by: SettingOrigin) -> Result<(RawFile, FileLines), SettingsError> {
    const EXPECTED: &str = "the path of a settings file";

    if let Some(problem) = path_problem(path) {
        return Err(SettingsError::of_file(named_by, problem, Some(EXPECTED)));
    }
    let cannot_read = |name: String, error: std::io::Error| {
        let origin = SettingOrigin::File { file: name.into(), line: None };
        SettingsError::of_file(origin, format!("cannot read the file: {error}"), Some("a settings file"))
    };
    let open = File::open(path).map_err(|error| cannot_read(shown_path(path), error))?;
    // What can be opened is a path, whatever it looks like.
    let name = printable(&path.to_string_lossy(), SHOWN_CHARS_MAX);
    let mut text = String::new();
    let read = open.take(FILE_LEN_MAX + 1).read_to_string(&mut text);
    read.map_err(|error| cannot_read(name.clone(), error))?;
    if text.len() as u64 > FILE_LEN_MAX {
        let origin = SettingOrigin::File { file: name.into(), line: None };
        let expected = format!("at most {FILE_LEN_MAX} bytes");
        return Err(SettingsError::of_file(origin, "file is too long", Some(&expected)));
    }
    parse(&name, &text)
}

/// Reads the text of a file that messages call `name`.
pub(super) fn parse(name: &str, text: &str) -> Result<(RawFile, FileLines), SettingsError> {
    let name: Arc<str> = name.into();
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let line_of = |at: usize| ends.partition_point(|&end| end < at) + 1;
    let problem = |error: toml::de::Error| {
        let line = error.span().map_or(1, |span| line_of(span.start));
        let origin = SettingOrigin::File { file: Arc::clone(&name), line: Some(line) };
        // The error's own form quotes the line, which may hold a secret.
        let message = printable(&without_value(error.message()), SHOWN_CHARS_MAX);
        match message.split_once(", expected ") {
            Some((fault, "a map")) => SettingsError::of_file(origin, fault, Some("a table")),
            Some((fault, expected)) => SettingsError::of_file(origin, fault, Some(expected)),
            None => SettingsError::of_file(origin, message, Some("TOML")),
        }
    };
    let table = DeTable::parse(text).map_err(problem)?;
    let mut lines = BTreeMap::new();
    add_lines(table.get_ref(), &mut Vec::new(), &line_of, &mut lines);
    let raw = RawFile::deserialize(Deserializer::from(table)).map_err(problem)?;
    Ok((raw, FileLines { name, lines }))
}

impl FileLines {
    /// Returns where the file sets a key, or the section that lacks it.
    pub(super) fn origin(&self, path: &[String]) -> SettingOrigin {
        let line = (0..=path.len()).rev().find_map(|len| self.lines.get(path.get(..len)?));
        SettingOrigin::File { file: Arc::clone(&self.name), line: line.copied() }
    }
}

/// Joins the parts of a key as a file would have them, without names that may be secrets.
pub(super) fn joined(path: &[String]) -> String {
    path.iter().map(|name| disclosed_name(name)).collect::<Vec<_>>().join(".")
}

fn add_lines(
    table: &DeTable<'_>,
    path: &mut Vec<String>,
    line_of: &impl Fn(usize) -> usize,
    lines: &mut BTreeMap<Vec<String>, usize>,
) {
    for (key, value) in table {
        path.push(key.get_ref().to_string());
        lines.insert(path.clone(), line_of(key.span().start));
        match value.get_ref() {
            DeValue::Table(inner) => add_lines(inner, path, line_of, lines),
            DeValue::Array(elements) => {
                for (index, element) in elements.iter().enumerate() {
                    path.push(index.to_string());
                    lines.insert(path.clone(), line_of(Spanned::span(element).start));
                    path.pop();
                }
            }
            _ => {}
        }
        path.pop();
    }
}
