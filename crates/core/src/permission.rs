//! What is wished of an account: to have the image, or not.

use core::fmt;

use serde::{Deserialize, Serialize};

/// The parameter `Permission` of ModifyImageSharePermission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Permission {
    /// Take the image back.
    #[serde(rename = "CANCEL")]
    Cancel,
    /// Share the image.
    #[serde(rename = "SHARE")]
    Share,
}

impl Permission {
    /// The API's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cancel => "CANCEL",
            Self::Share => "SHARE",
        }
    }

    /// The other one.
    #[must_use]
    pub const fn opposite(self) -> Self {
        match self {
            Self::Cancel => Self::Share,
            Self::Share => Self::Cancel,
        }
    }

    /// The permission that an account which has (or has not) the image is as wished for.
    #[must_use]
    pub const fn of_presence(present: bool) -> Self {
        if present { Self::Share } else { Self::Cancel }
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
