//! Reads files that hold secrets: whole, bounded, wiped when dropped.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use imageshare_core::credential::CredentialError;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use zeroize::Zeroizing;

use super::{CredentialsError, shown};

/// Bytes of a file with a credential.
pub(super) const FILE_LEN_MAX: u64 = 64 * 1024;

/// Reads a whole file.
pub(super) fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    // With its final capacity, so that it never moves and leaves a copy behind.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(FILE_LEN_MAX).unwrap_or(0) + 1));
    File::open(path)?.take(FILE_LEN_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_LEN_MAX {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("too long (expected at most {FILE_LEN_MAX} bytes)"),
        ));
    }
    Ok(text)
}

/// Returns the error of a part of a credential in a file.
pub(super) fn part(path: &Path, name: &str, problem: CredentialError) -> CredentialsError {
    CredentialsError::Part { place: format!("{}: {name}", shown(path)), problem }
}

/// Returns the error of a place without an id or a key, from their names and whether they are present.
pub(super) fn half(place: String, parts: [(&str, bool); 2]) -> CredentialsError {
    let missing: Vec<&str> = parts.into_iter().filter(|(_, is_present)| !is_present).map(|(name, _)| name).collect();
    CredentialsError::Half { place, missing: missing.join(" and ") }
}

/// Returns the error of a file that could not be read.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> CredentialsError {
    CredentialsError::Unreadable { path: path.to_owned(), problem: error.to_string() }
}

/// Reads the JSON object in a file. Errors show nothing of its text.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, expected: &'static str) -> Result<T, CredentialsError> {
    let invalid = |problem: String| CredentialsError::Content { path: path.to_owned(), problem, expected };
    let text = read(path).map_err(|error| unreadable(path, &error))?;
    serde_json::from_str(&text).map_err(|error| match error.classify() {
        Category::Eof => invalid("incomplete JSON; the file is empty or still being written".to_owned()),
        Category::Io | Category::Syntax => invalid(format!("malformed JSON at line {}", error.line())),
        Category::Data => invalid(format!("unexpected JSON at line {}", error.line())),
    })
}
