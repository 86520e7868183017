//! Why there is no credential. None of it ever holds a key or a token.

use std::path::PathBuf;

use imageshare_core::credential::CredentialError;

use super::shown;
use crate::settings::NotUtf8;

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A part of one is not usable.
    #[error("{place}: {problem}")]
    Part {
        /// The variable, or the file, line and key.
        place: String,
        /// What is wrong with it.
        problem: CredentialError,
    },
    /// A variable is no text.
    #[error("{name}: {problem}")]
    NotUtf8 {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        problem: NotUtf8,
    },
    /// Only a part of one was found.
    #[error("found {found} without {missing}, allowed are all parts of a credential or none: set {missing}")]
    Half {
        /// What is there.
        found: String,
        /// What is not.
        missing: String,
    },
    /// The variable of the profile file names none. What it holds is not shown: it may be the file itself.
    #[error("{name}: {problem}, allowed is the path of a profile file")]
    NoPath {
        /// The variable.
        name: &'static str,
        /// What was found.
        problem: &'static str,
    },
    /// A profile file could not be read.
    #[error("{path}: {problem}, allowed is a profile file of at most {max} bytes", path = shown(path), max = super::profile::FILE_LEN_MAX)]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        problem: String,
    },
    /// A line of a profile file is not as it should be.
    #[error("{path} line {line}: {problem}", path = shown(path))]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What was found and what is allowed; nothing that stood behind an equals sign.
        problem: String,
    },
    /// A profile file does not have the profile.
    #[error("{path}: found no section [{section}], the sections are: {sections}", path = shown(path))]
    Section {
        /// The file.
        path: PathBuf,
        /// The profile that was looked for, safe to print.
        section: String,
        /// Those that are there, safe to print.
        sections: String,
    },
    /// Nothing anywhere.
    #[error("found no credential; looked for {looked}; {remedy}")]
    Nowhere {
        /// The places, in the order in which they were looked at.
        looked: String,
        /// What to do so that there is one.
        remedy: String,
    },
}
