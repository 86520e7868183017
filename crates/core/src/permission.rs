//! The change that is requested for an account.

use core::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The parameter `Permission` of ModifyImageSharePermission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Permission {
    /// Stop sharing the image with the account.
    #[serde(rename = "CANCEL")]
    Cancel,
    /// Share the image with the account.
    #[serde(rename = "SHARE")]
    Share,
}

/// A text is not a permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid permission (expected SHARE or CANCEL)")]
pub struct PermissionParseError;

impl Permission {
    /// The API's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "CANCEL",
            Self::Share => "SHARE",
        }
    }

    /// Returns the other permission.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Cancel => Self::Share,
            Self::Share => Self::Cancel,
        }
    }

    /// Returns the permission that an account needs no write for, since the image is or is not shared with it.
    #[must_use]
    pub const fn of_presence(present: bool) -> Self {
        if present { Self::Share } else { Self::Cancel }
    }
}

impl FromStr for Permission {
    type Err = PermissionParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Cancel, Self::Share]
            .into_iter()
            .find(|permission| permission.as_str() == text)
            .ok_or(PermissionParseError)
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
