//! Why a credential cannot be loaded. No error holds a key or a token.

use std::{path::PathBuf, time::Duration};

use imageshare_core::{Class, credential::CredentialError, response::ApiError};

use super::shown;

/// Why a credential cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A part of a credential in a file is invalid.
    #[error("{place}: {problem}")]
    Part {
        /// The file, line and key.
        place: String,
        /// What is wrong with it.
        problem: CredentialError,
    },
    /// A variable is invalid.
    #[error("{name}: {problem}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What is wrong with it, without its value.
        problem: String,
    },
    /// Only a part of a credential is set in the environment.
    #[error("found {found} without {missing}, allowed are all parts of a credential or none: set {missing}")]
    HalfSet {
        /// The variables that are set.
        found: &'static str,
        /// Those that are not.
        missing: String,
    },
    /// Only a part of a credential is in a file.
    #[error("found {found} without {missing}, allowed are all parts of a credential or none: set {missing}")]
    Half {
        /// What is there.
        found: String,
        /// What is not.
        missing: String,
    },
    /// A variable that should name a file names none. What it holds is not shown: it may be the file itself.
    #[error("{name}: {problem} (expected the path of a file)")]
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
    /// The metadata service does not have the role of the settings.
    #[error(
        "the metadata service {base}: found no role {role} of this instance, allowed is a role that is bound to this instance"
    )]
    NoRole {
        /// Where it is.
        base: String,
        /// The role, safe to print.
        role: String,
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
    /// Returns whether the service that gives the credential is unavailable or unwell, or has no role yet. Nothing is wrong
    /// with the settings, and a later call may succeed.
    #[must_use]
    pub fn is_out_of_reach(&self) -> bool {
        match self {
            Self::Metadata { .. } | Self::Slow { .. } | Self::StillReading | Self::Unreachable { .. } => true,
            Self::Refused { error, .. } => {
                matches!(error.class(), Class::Throttle | Class::ThrottleAll | Class::Transient | Class::Unknown)
            }
            _ => false,
        }
    }

    /// Returns whether the source may give a credential later although neither the settings nor the environment change: it
    /// is [out of reach](Self::is_out_of_reach), or a file is missing or is being written. A worker waits for that, at its
    /// start as later, and only with the lanes that need the credential.
    #[must_use]
    pub fn can_pass(&self) -> bool {
        match self {
            Self::Content { .. }
            | Self::File { .. }
            | Self::Half { .. }
            | Self::Line { .. }
            | Self::Part { .. }
            | Self::Section { .. }
            | Self::Unreadable { .. } => true,
            Self::BrokeDown
            | Self::HalfSet { .. }
            | Self::NoPath { .. }
            | Self::NoRole { .. }
            | Self::Nowhere { .. }
            | Self::Variable { .. } => false,
            Self::Metadata { .. }
            | Self::Refused { .. }
            | Self::Slow { .. }
            | Self::StillReading
            | Self::Unreachable { .. } => self.is_out_of_reach(),
        }
    }
}
