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
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("found more than {FILE_LEN_MAX} bytes")));
    }
    Ok(text)
}

/// Returns the error of a part of a credential in a file.
pub(super) fn part(path: &Path, name: &str, problem: CredentialError) -> CredentialsError {
    CredentialsError::Part { place: format!("{}: {name}", shown(path)), problem }
}

/// Reads the JSON object in a file. Errors show nothing of its text.
pub(super) fn read_json<T: DeserializeOwned>(path: &Path, what: &'static str) -> Result<T, CredentialsError> {
    let refused = |found: String| CredentialsError::Content { path: path.to_owned(), found, allowed: what };
    let text = read(path)
        .map_err(|error| CredentialsError::Unreadable { path: path.to_owned(), problem: error.to_string() })?;
    serde_json::from_str(&text).map_err(|error| match error.classify() {
        Category::Eof => {
            refused("only the beginning, or nothing: it is being written, or was never finished".to_owned())
        }
        Category::Io | Category::Syntax => refused(format!("no JSON at line {}", error.line())),
        Category::Data => refused(format!("JSON of another form at line {}", error.line())),
    })
}
