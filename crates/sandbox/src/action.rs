//! The actions that the sandbox implements.

use std::{fmt, str::FromStr};

use imageshare_core::{actions, text::excerpt};
use serde::{Deserialize, Serialize};

/// An action of CVM or STS, or a request of an instance to the metadata service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub enum Action {
    /// STS: temporary keys.
    AssumeRole,
    /// STS: temporary keys in exchange for the token of an identity provider.
    AssumeRoleWithWebIdentity,
    /// CVM: the accounts that an image is shared with.
    DescribeImageSharePermission,
    /// CVM: the attributes of images.
    DescribeImages,
    /// STS: the account of the key.
    GetCallerIdentity,
    /// The temporary key of an instance's role. It is served by the metadata service, not by the API.
    InstanceRole,
    /// CVM: share an image, or cancel its shares.
    ModifyImageSharePermission,
}

/// A name that is not an action of the sandbox.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown action {0} (expected AssumeRole, AssumeRoleWithWebIdentity, DescribeImageSharePermission, DescribeImages, \
     GetCallerIdentity, InstanceRole or ModifyImageSharePermission)"
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
        self.api()[0]
    }

    /// The product of the action, as in a credential scope.
    #[must_use]
    pub const fn service(self) -> &'static str {
        self.api()[1]
    }

    /// The API version of that product.
    #[must_use]
    pub const fn version(self) -> &'static str {
        self.api()[2]
    }

    /// Name, service and version.
    const fn api(self) -> [&'static str; 3] {
        const fn of<A: actions::Action>() -> [&'static str; 3] {
            [A::NAME, A::SERVICE, A::VERSION]
        }
        match self {
            Self::AssumeRole => of::<actions::AssumeRole>(),
            Self::AssumeRoleWithWebIdentity => of::<actions::AssumeRoleWithWebIdentity>(),
            Self::DescribeImageSharePermission => of::<actions::DescribeImageSharePermission>(),
            Self::DescribeImages => of::<actions::DescribeImages>(),
            Self::GetCallerIdentity => of::<actions::GetCallerIdentity>(),
            Self::InstanceRole => ["InstanceRole", "metadata", "latest"],
            Self::ModifyImageSharePermission => of::<actions::ModifyImageSharePermission>(),
        }
    }

    /// The documented limit in requests per second and key; the sharing actions have `rps` (documented: 10). 0 is
    /// unlimited.
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
    fn actions_parse_by_exact_name() {
        for action in Action::ALL {
            assert_eq!(action.as_str().parse(), Ok(action));
        }
        let error = "describeImages\u{1b}".parse::<Action>().unwrap_err().to_string();
        assert!(error.starts_with(r#"unknown action "describeImages\u{1b}" (expected AssumeRole, "#), "{error}");
    }

    #[test]
    fn zero_rps_disables_all_limits() {
        assert_eq!(Action::ALL.map(|action| action.limit(0)), [0; 7]);
        assert_eq!(Action::ALL.map(|action| action.limit(10)), [600, 20, 10, 40, 20, 0, 10]);
    }
}
