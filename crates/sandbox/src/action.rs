//! The actions that the sandbox answers.

use std::{fmt, str::FromStr};

use imageshare_core::text::excerpt;
use serde::{Deserialize, Serialize};

/// An action of CVM or STS, or what an instance asks of the metadata service beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub enum Action {
    /// STS: temporary keys.
    AssumeRole,
    /// STS: temporary keys, for a token of an identity provider.
    AssumeRoleWithWebIdentity,
    /// CVM: who has an image.
    DescribeImageSharePermission,
    /// CVM: what images are.
    DescribeImages,
    /// STS: whose key it is.
    GetCallerIdentity,
    /// The temporary key of an instance's role. No action of the API: it has a path of its own.
    InstanceRole,
    /// CVM: share an image, or take it back.
    ModifyImageSharePermission,
}

/// A name that is no action of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "found {0}, allowed are AssumeRole, AssumeRoleWithWebIdentity, DescribeImageSharePermission, DescribeImages, \
     GetCallerIdentity, InstanceRole and ModifyImageSharePermission"
)]
pub struct ActionError(String);

impl Action {
    const ALL: [Self; 7] = [
        Self::AssumeRole,
        Self::AssumeRoleWithWebIdentity,
        Self::DescribeImageSharePermission,
        Self::DescribeImages,
        Self::GetCallerIdentity,
        Self::InstanceRole,
        Self::ModifyImageSharePermission,
    ];

    /// The API's spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AssumeRole => "AssumeRole",
            Self::AssumeRoleWithWebIdentity => "AssumeRoleWithWebIdentity",
            Self::DescribeImageSharePermission => "DescribeImageSharePermission",
            Self::DescribeImages => "DescribeImages",
            Self::GetCallerIdentity => "GetCallerIdentity",
            Self::InstanceRole => "InstanceRole",
            Self::ModifyImageSharePermission => "ModifyImageSharePermission",
        }
    }

    /// The product it belongs to, as in a credential scope.
    #[must_use]
    pub const fn service(self) -> &'static str {
        match self {
            Self::AssumeRole | Self::AssumeRoleWithWebIdentity | Self::GetCallerIdentity => "sts",
            Self::InstanceRole => "metadata",
            Self::DescribeImageSharePermission | Self::DescribeImages | Self::ModifyImageSharePermission => "cvm",
        }
    }

    /// The version of that product's API.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::AssumeRole | Self::AssumeRoleWithWebIdentity | Self::GetCallerIdentity => "2018-08-13",
            Self::InstanceRole => "latest",
            Self::DescribeImageSharePermission | Self::DescribeImages | Self::ModifyImageSharePermission => {
                "2017-03-12"
            }
        }
    }

    /// Requests a second for one key, as documented, where the sharing actions have `rps` (documented: 10).
    #[must_use]
    pub const fn limit(self, rps: u32) -> u32 {
        match self {
            _ if rps == 0 => 0,
            Self::InstanceRole => 0,
            Self::AssumeRole => 600,
            Self::DescribeImages => rps.saturating_mul(4),
            Self::AssumeRoleWithWebIdentity | Self::GetCallerIdentity => 20,
            Self::DescribeImageSharePermission | Self::ModifyImageSharePermission => rps,
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Action {
    type Err = ActionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|action| action.as_str() == text).ok_or_else(|| ActionError(excerpt(text)))
    }
}

impl TryFrom<String> for Action {
    type Error = ActionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_found_by_its_exact_name() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(action));
        }
        let error = "describeImages\u{1b}".parse::<Action>().unwrap_err().to_string();
        assert!(error.starts_with(r#"found "describeImages\u{1b}", allowed are AssumeRole"#), "{error}");
    }

    #[test]
    fn without_a_limit_no_action_has_one() {
        assert_eq!(Action::ALL.map(|action| action.limit(0)), [0; 7]);
        assert_eq!(Action::ALL.map(|action| action.limit(10)), [600, 20, 10, 40, 20, 0, 10]);
    }
}
