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
    #[error("{missing}: not set, although {present} is set (expected all parts of a credential or none)")]
    HalfSet {
        /// The variables that are missing.
        missing: String,
        /// A variable that is set.
        present: &'static str,
    },
    /// A file, a folder or a section lacks a part of the credential.
    #[error("{place}: no {missing} (expected all parts of a credential; set {missing} there)")]
    Half {
        /// The file, folder or section, safe to print.
        place: String,
        /// The names of the missing parts.
        missing: String,
    },
    /// A variable that should name a file names none. What it holds is not shown: it may be the file itself.
    #[error("{name}: {problem} (expected the path of a file)")]
    NoPath {
        /// The variable.
        name: &'static str,
        /// What is wrong with the value.
        problem: &'static str,
    },
    /// A file could not be read.
    #[error("{path}: cannot read the file: {problem}", path = shown(path))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What happened.
        problem: String,
    },
    /// The content of a file is invalid.
    #[error("{path}: {problem} (expected {expected})", path = shown(path))]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with the content, without any of its text.
        problem: String,
        /// The valid content.
        expected: &'static str,
    },
    /// The metadata service of this instance gives no credential.
    #[error("metadata service {base}: {problem} (expected the credential of a role that is bound to this instance)")]
    Metadata {
        /// The address of the service.
        base: String,
        /// What is wrong with the response, safe to print.
        problem: String,
    },
    /// The metadata service does not have the role of the settings.
    #[error("metadata service {base}: no role {role} (expected a role that is bound to this instance)")]
    NoRole {
        /// The address of the service.
        base: String,
        /// The role, quoted and safe to print.
        role: String,
    },
    /// The source of the credential did not answer.
    #[error("{subject}: {reason}")]
    Unreachable {
        /// The service and its address.
        subject: String,
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
    /// A line of a profile file is invalid.
    #[error("{path}:{line}: {problem}", path = shown(path))]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong and what is expected, without any value.
        problem: String,
    },
    /// A profile file does not have the profile.
    #[error("{path}: no section [{section}] (expected {expected})", path = shown(path))]
    Section {
        /// The file.
        path: PathBuf,
        /// The profile that was looked for, safe to print.
        section: String,
        /// The sections of the file, safe to print.
        expected: String,
    },
    /// No place of the source has a credential.
    #[error("no credential (expected {places}; {remedy})")]
    Nowhere {
        /// The places, in the order in which they are read.
        places: String,
        /// What to do so that one of them has a credential.
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
