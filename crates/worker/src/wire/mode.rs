//! The permission of a job: the two words of the API, and SYNC.

use std::{fmt, str::FromStr};

use imageshare_core::text::excerpt;
use imageshare_engine::job::Mode;
use serde::{Deserialize, Serialize};

/// The requested change, in capitals as the API has it. Lower case is refused, as the API does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Permission {
    /// Cancel the share of the image with these accounts.
    Cancel,
    /// Share the image with these accounts.
    Share,
    /// Share the image with exactly these accounts. The API has no such word.
    Sync,
}

/// A text that is not a permission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid value {found} (expected SHARE, CANCEL or SYNC in capitals)")]
pub struct PermissionError {
    /// The beginning of the text, safe to print.
    found: String,
}

impl Permission {
    /// Returns the word.
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

impl From<Permission> for Mode {
    fn from(permission: Permission) -> Self {
        match permission {
            Permission::Cancel => Self::Cancel,
            Permission::Share => Self::Share,
            Permission::Sync => Self::Sync,
        }
    }
}
