//! Why there is no credential. None of it ever holds a key or a token.

use std::{path::PathBuf, time::Duration};

use imageshare_core::{credential::CredentialError, response::ApiError};

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
    /// A variable that should name a file names none. What it holds is not shown: it may be the file itself.
    #[error("{name}: {problem}, allowed is the path of a file")]
    NoPath {
        /// The variable.
        name: &'static str,
        /// What was found.
        problem: &'static str,
    },
    /// A profile file could not be read.
    #[error("{path}: {problem}, allowed is a profile file of at most {max} bytes", path = shown(path), max = super::reading::FILE_LEN_MAX)]
    File {
        /// The file.
        path: PathBuf,
        /// What happened.
        problem: String,
    },
    /// A file could not be read.
    #[error("{path}: found that it cannot be read ({problem}), allowed is a file of at most {max} bytes", path = shown(path), max = super::reading::FILE_LEN_MAX)]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What happened.
        problem: String,
    },
    /// A file holds something else.
    #[error("{path}: found {found}, allowed is {allowed}", path = shown(path))]
    Content {
        /// The file.
        path: PathBuf,
        /// What was found; nothing of its text.
        found: String,
        /// What would be right.
        allowed: &'static str,
    },
    /// The metadata service of this instance has none.
    #[error("the metadata service {base}: found {found}, allowed is a role that is bound to this instance")]
    Metadata {
        /// Where it is.
        base: String,
        /// What was found, safe to print.
        found: String,
    },
    /// Whoever gives it could not be asked.
    #[error("{whom}: {reason}")]
    Unreachable {
        /// Who it is.
        whom: String,
        /// Why.
        reason: String,
    },
    /// The service for temporary keys refused.
    #[error("{action}: {}: {}", error.code, error.message)]
    Refused {
        /// What it was asked.
        action: &'static str,
        /// What it said.
        error: Box<ApiError>,
    },
    /// It took too long.
    #[error("the credential's source gave no answer within {} s", after.as_secs_f64())]
    Slow {
        /// How long it was waited for.
        after: Duration,
    },
    /// A reading of a file that began before has not ended.
    #[error("a file of the credential is still being read; check the file system that it is on")]
    StillReading,
    /// A bug.
    #[error("the credential's source broke down")]
    BrokeDown,
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

impl CredentialsError {
    /// Whether somebody could not be reached, who may be later: nothing is wrong with the settings.
    #[must_use]
    pub const fn is_out_of_reach(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Slow { .. } | Self::StillReading)
    }
}
