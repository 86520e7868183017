//! A job's permission as it is written: the API's two words, and our own third.

use std::{fmt, str::FromStr};

use imageshare_core::text::excerpt;
use imageshare_engine::job::Mode;
use serde::{Deserialize, Serialize};

/// What a job asks for, in capitals as the API spells it. Lower case is refused: the API refuses it, and a job file
/// has one spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Permission {
    /// Take the image back from these accounts.
    Cancel,
    /// Share the image with these accounts.
    Share,
    /// Make the image's list exactly these accounts. A word of our own.
    Sync,
}

/// Why a text is no permission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {found} (expected SHARE, CANCEL or SYNC in capitals)")]
pub struct PermissionError {
    /// The start of what was found, safe to print.
    found: String,
}

impl Permission {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "CANCEL",
            Self::Share => "SHARE",
            Self::Sync => "SYNC",
        }
    }
}

impl FromStr for Permission {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Cancel, Self::Share, Self::Sync]
            .into_iter()
            .find(|permission| permission.as_str() == text)
            .ok_or_else(|| PermissionError { found: excerpt(text) })
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<Mode> for Permission {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Cancel => Self::Cancel,
            Mode::Share => Self::Share,
            Mode::Sync => Self::Sync,
        }
    }
}

impl From<Permission> for Mode {
    fn from(permission: Permission) -> Self {
        match permission {
            Permission::Cancel => Self::Cancel,
            Permission::Share => Self::Share,
            Permission::Sync => Self::Sync,
        }
    }
}
