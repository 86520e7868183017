//! The sources of credentials, and their texts.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use imageshare_core::{
    ids::Region,
    text::{excerpt, printable},
};

use super::{
    CredentialsError, Loaded, SHOWN_CHARS_MAX, environment, file, profile::Places, section_of, shown, shown_name, sts,
    tccli,
};
use crate::{endpoint::Endpoint, environment::Environment};

/// The default profile.
pub const DEFAULT_SECTION: &str = "default";

/// The longest lifetime of a role's credential in seconds.
pub(crate) const ROLE_SECONDS_MAX: u64 = 43_200;

/// The source of a credential.
#[derive(Clone, PartialEq, Eq)]
pub enum Source {
    /// The environment, then the profile file. An incomplete or unreadable credential ends the search: it is never replaced
    /// by another one silently.
    Chain,
    /// The environment alone.
    Environment,
    /// A profile file alone.
    Profile {
        /// The file; `None` for the usual ones.
        path: Option<PathBuf>,
        /// The section.
        section: String,
    },
    /// A profile of the vendor's command line.
    Tccli {
        /// The file; `None` for the one of the profile.
        path: Option<PathBuf>,
        /// The profile; `None` for the one that `TCCLI_PROFILE` names, or `default`.
        profile: Option<String>,
    },
    /// A file with a JSON object, or a folder with a file for each part, as a secret store keeps it up to date.
    File {
        /// The file or the folder.
        path: PathBuf,
    },
    /// The role of this instance.
    CvmRole {
        /// The role; `None` for the role that the instance has.
        role: Option<String>,
        /// The metadata service; `None` for its usual address.
        endpoint: Option<Endpoint>,
    },
    /// A role, assumed with another credential.
    AssumeRole {
        /// The role.
        role: Role,
        /// The external id that STS expects.
        external_id: Option<String>,
        /// The name of the other credential.
        credential: String,
        /// Its source, which is not an assumed role.
        base: Box<Self>,
    },
    /// A role, assumed with the identity token of a pod.
    TkeOidc {
        /// The role; its name may be in `TKE_ROLE_ARN`.
        role: Role,
        /// The identity provider; `None` for `TKE_PROVIDER_ID`.
        provider_id: Option<String>,
        /// The file with the token; `None` for the one that `TKE_WEB_IDENTITY_TOKEN_FILE` names.
        token_file: Option<PathBuf>,
    },
}

/// A role to assume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Role {
    /// Its resource name; `None` for that of the environment.
    pub arn: Option<String>,
    /// The name of the session in the logs of the cloud.
    pub session: String,
    /// The lifetime of its credential in seconds.
    pub seconds: u64,
    /// The endpoint of STS; `None` for that of the lane's site.
    pub endpoint: Option<Endpoint>,
    /// The region of the calls.
    pub region: Option<Region>,
}

impl Source {
    /// Reads a source on this machine; `None` if it has no credential. Blocks.
    pub(super) fn read(&self, environment: &Environment) -> Result<Option<Loaded>, CredentialsError> {
        match self {
            Self::Chain => match Self::Environment.read(environment)? {
                Some(loaded) => Ok(Some(loaded)),
                None => Self::Profile { path: None, section: DEFAULT_SECTION.to_owned() }.read(environment),
            },
            Self::Environment => {
                let origin = || format!("{} and {}", environment::SECRET_ID, environment::SECRET_KEY);
                Ok(environment::load(environment)?.map(|credential| Loaded::lasting(credential, origin())))
            }
            Self::Profile { path, section } => {
                let places = Places::new(path.as_deref(), environment)?;
                let loaded = places.load(section)?;
                Ok(loaded.map(|(credential, path)| Loaded::lasting(credential, section_of(section, path))))
            }
            Self::Tccli { path, profile } => tccli::load(path.as_deref(), profile.as_deref(), environment).map(Some),
            Self::File { path } => file::load(path).map(Some),
            Self::CvmRole { .. } | Self::AssumeRole { .. } | Self::TkeOidc { .. } => Ok(None),
        }
    }

    /// Returns the files that it reads, whether they exist or not.
    pub(crate) fn files(&self, environment: &Environment) -> Vec<PathBuf> {
        let places =
            |path: Option<&Path>| Places::new(path, environment).map_or_else(|_| Vec::new(), |places| places.paths);
        match self {
            Self::Chain => places(None),
            Self::Profile { path, .. } => places(path.as_deref()),
            Self::Tccli { path, profile } => {
                tccli::path(path.as_deref(), profile.as_deref(), environment).into_iter().collect()
            }
            Self::File { path } => file::paths(path).collect(),
            Self::AssumeRole { base, .. } => base.files(environment),
            Self::TkeOidc { token_file, .. } => {
                token_file.clone().or_else(|| environment.path(sts::TOKEN_FILE)).into_iter().collect()
            }
            Self::Environment | Self::CvmRole { .. } => Vec::new(),
        }
    }

    /// Returns whether it is made of files, which may change at any time and are cheap to read.
    pub(super) const fn is_on_disk(&self) -> bool {
        match self {
            Self::Chain | Self::Profile { .. } | Self::Tccli { .. } | Self::File { .. } => true,
            Self::Environment | Self::CvmRole { .. } | Self::AssumeRole { .. } | Self::TkeOidc { .. } => false,
        }
    }

    /// Returns whether it needs a call over the network.
    #[must_use]
    pub const fn needs_network(&self) -> bool {
        matches!(self, Self::CvmRole { .. } | Self::AssumeRole { .. } | Self::TkeOidc { .. })
    }

    /// Returns the word for it in settings.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Chain => "environment, then profile",
            Self::Environment => "environment",
            Self::Profile { .. } => "profile",
            Self::Tccli { .. } => "tccli",
            Self::File { .. } => "file",
            Self::CvmRole { .. } => "cvm_role",
            Self::AssumeRole { .. } => "assume_role",
            Self::TkeOidc { .. } => "tke_oidc",
        }
    }

    /// Returns the places that it reads, for people.
    pub(super) fn places(&self, environment: &Environment) -> Result<String, CredentialsError> {
        let variables = || format!("{} and {}", environment::SECRET_ID, environment::SECRET_KEY);
        let files = |path: &Option<PathBuf>, section: &str| {
            let paths = Places::new(path.as_deref(), environment)?.paths;
            let paths: Vec<String> = paths.iter().map(|path| shown(path)).collect();
            Ok(format!("section [{}] of {}", shown_name(section), paths.join(" or ")))
        };
        match self {
            Self::Chain => Ok(format!("{}, then {}", variables(), files(&None, DEFAULT_SECTION)?)),
            Self::Environment => Ok(variables()),
            Self::Profile { path, section } => files(path, section),
            other => Ok(other.to_string()),
        }
    }

    /// Returns what to do so that it has a credential.
    pub(super) fn remedy(&self) -> String {
        let [token, _] = environment::TOKENS;
        let set =
            format!("set {} and {}, and {token} for a temporary key", environment::SECRET_ID, environment::SECRET_KEY);
        let write = "write secret_id and secret_key into a profile file";
        match self {
            Self::Chain => format!("{set}, or {write}"),
            Self::Environment => set,
            Self::Profile { .. } => write.to_owned(),
            other => format!("see to {other}"),
        }
    }
}

impl fmt::Debug for Source {
    /// Hides paths and names that may be a key in the wrong place.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain | Self::Environment => f.write_str(self.as_str()),
            Self::Profile { path: Some(path), section } => {
                write!(f, "profile [{}] of {}", shown_name(section), shown(path))
            }
            Self::Profile { path: None, section } => write!(f, "profile [{}]", shown_name(section)),
            Self::Tccli { path: Some(path), .. } | Self::File { path } => {
                write!(f, "{} {}", self.as_str(), shown(path))
            }
            Self::Tccli { path: None, profile } => {
                write!(f, "tccli profile {}", excerpt(&shown_name(profile.as_deref().unwrap_or(DEFAULT_SECTION))))
            }
            Self::CvmRole { role, .. } => match role {
                Some(role) => write!(f, "role {} of this instance", excerpt(&shown_name(role))),
                None => f.write_str("role of this instance"),
            },
            Self::AssumeRole { role, credential, .. } => {
                write!(f, "role {} by credential {}", role.shown(), printable(credential, SHOWN_CHARS_MAX))
            }
            Self::TkeOidc { role, .. } => write!(f, "role {} by this pod's identity", role.shown()),
        }
    }
}

impl Role {
    /// Returns its name, safe to print.
    pub(super) fn shown(&self) -> String {
        self.arn.as_deref().map_or_else(|| "that TKE_ROLE_ARN names".to_owned(), shown_name)
    }
}
