//! Where credentials come from, and whether there is another one by now.

mod environment;
mod error;
mod ini;
mod profile;

use std::{
    fmt,
    path::{Path, PathBuf},
};

use imageshare_core::{Credential, text::printable};

use self::profile::Places;
use crate::settings::Environment;

pub use error::CredentialsError;

/// The profile that is meant when none is named.
pub const DEFAULT_SECTION: &str = "default";

/// Characters that messages show of a path or of a section's name.
const SHOWN_CHARS_MAX: usize = 200;

/// Where to look for a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The environment, then the profile file. What is half there or not readable stops the search: a credential that
    /// somebody meant to give is never passed over for another one.
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
}

/// Gives one credential, again and again. Reads files, so it blocks.
#[derive(Debug)]
pub struct Provider {
    kind: Kind,
    current: Option<Loaded>,
}

#[derive(Debug)]
enum Kind {
    Fixed(Loaded),
    From { source: Source, environment: Environment },
}

/// A credential and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The credential.
    pub credential: Credential,
    /// Where it was found, for people.
    pub origin: String,
}

impl Provider {
    /// One that looks there.
    #[must_use]
    pub const fn new(source: Source, environment: Environment) -> Self {
        Self { kind: Kind::From { source, environment }, current: None }
    }

    /// One that always gives this credential: the sandbox's own.
    #[must_use]
    pub fn fixed(credential: Credential) -> Self {
        let loaded = Loaded { credential, origin: "built in".to_owned() };
        Self { kind: Kind::Fixed(loaded.clone()), current: Some(loaded) }
    }

    /// The credential that was given last; looks for one if there was none yet.
    ///
    /// # Errors
    /// If there is none, or what is there is not usable.
    pub fn credential(&mut self) -> Result<&Loaded, CredentialsError> {
        let loaded = match self.current.take() {
            Some(loaded) => loaded,
            None => self.load()?,
        };
        Ok(self.current.insert(loaded))
    }

    /// Looks again: the credential if it differs from the one that was given last, else `None`.
    ///
    /// # Errors
    /// If there is none any more, or what is there is not usable. The one given last is kept.
    pub fn refresh(&mut self) -> Result<Option<&Credential>, CredentialsError> {
        let found = self.load()?;
        let differs = self.current.as_ref().is_none_or(|current| current.credential != found.credential);
        let current = self.current.insert(found);
        Ok(differs.then_some(&current.credential))
    }

    fn load(&self) -> Result<Loaded, CredentialsError> {
        match &self.kind {
            Kind::Fixed(loaded) => Ok(loaded.clone()),
            Kind::From { source, environment } => match source.load(environment)? {
                Some(loaded) => Ok(loaded),
                None => Err(CredentialsError::Nowhere { looked: source.looked(environment)?, remedy: source.remedy() }),
            },
        }
    }
}

impl Source {
    fn load(&self, environment: &Environment) -> Result<Option<Loaded>, CredentialsError> {
        match self {
            Self::Chain => match Self::Environment.load(environment)? {
                Some(loaded) => Ok(Some(loaded)),
                None => Self::Profile { path: None, section: DEFAULT_SECTION.to_owned() }.load(environment),
            },
            Self::Environment => {
                let origin = || format!("{} and {}", environment::SECRET_ID, environment::SECRET_KEY);
                Ok(environment::load(environment)?.map(|credential| Loaded { credential, origin: origin() }))
            }
            Self::Profile { path, section } => {
                let places = Places::new(path.as_deref(), environment)?;
                let loaded = places.load(section)?;
                Ok(loaded.map(|(credential, path)| Loaded { credential, origin: section_of(section, path) }))
            }
        }
    }

    /// The places where it looks, for people.
    fn looked(&self, environment: &Environment) -> Result<String, CredentialsError> {
        let variables = format!("{} and {}", environment::SECRET_ID, environment::SECRET_KEY);
        let files = |path: &Option<PathBuf>, section: &str| {
            let paths = Places::new(path.as_deref(), environment)?.paths;
            let paths: Vec<String> = paths.iter().map(|path| shown(path)).collect();
            Ok(format!("section [{}] of {}", printable(section, SHOWN_CHARS_MAX), paths.join(" or ")))
        };
        match self {
            Self::Chain => Ok(format!("{variables}, then {}", files(&None, DEFAULT_SECTION)?)),
            Self::Environment => Ok(variables),
            Self::Profile { path, section } => files(path, section),
        }
    }

    /// What to do so that it finds one.
    fn remedy(&self) -> String {
        let [token, _] = environment::TOKENS;
        let set =
            format!("set {} and {} (and {token} for a temporary key)", environment::SECRET_ID, environment::SECRET_KEY);
        let write = "write secret_id and secret_key into a profile file";
        match self {
            Self::Chain => format!("{set}, or {write}"),
            Self::Environment => set,
            Self::Profile { .. } => write.to_owned(),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain => f.write_str("environment, then profile"),
            Self::Environment => f.write_str("environment"),
            Self::Profile { path: Some(path), section } => {
                write!(f, "profile [{}] of {}", printable(section, SHOWN_CHARS_MAX), shown(path))
            }
            Self::Profile { path: None, section } => write!(f, "profile [{}]", printable(section, SHOWN_CHARS_MAX)),
        }
    }
}

/// A section of a file, for people.
fn section_of(section: &str, path: &Path) -> String {
    format!("section [{}] of {}", printable(section, SHOWN_CHARS_MAX), shown(path))
}

/// A path, safe to print.
fn shown(path: &Path) -> String {
    printable(&path.display().to_string(), SHOWN_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ID: &str = environment::SECRET_ID;
    const KEY: &str = environment::SECRET_KEY;

    fn profile(folder: &tempfile::TempDir, key: &str) -> String {
        let path = folder.path().join("credentials");
        fs::write(&path, format!("[default]\nsecret_id = AKIDfile\nsecret_key = {key}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_environment_comes_before_the_profile() {
        let folder = tempfile::tempdir().unwrap();
        let file = ("TENCENTCLOUD_CREDENTIALS_FILE", &*profile(&folder, "k"));
        let id = |environment| {
            let mut provider = Provider::new(Source::Chain, environment);
            provider.credential().unwrap().credential.secret_id.to_string()
        };
        assert_eq!(id(Environment::of([file])), "AKIDfile");
        assert_eq!(id(Environment::of([file, (ID, "AKIDenv"), (KEY, "k")])), "AKIDenv");
    }

    #[test]
    fn half_a_credential_stops_the_chain() {
        let folder = tempfile::tempdir().unwrap();
        let file = ("TENCENTCLOUD_CREDENTIALS_FILE", &*profile(&folder, "k"));
        let mut provider = Provider::new(Source::Chain, Environment::of([file, (ID, "AKIDenv")]));
        assert!(matches!(provider.credential(), Err(CredentialsError::Half { .. })));
    }

    #[test]
    fn no_credential_says_where_was_looked_and_what_to_set() {
        let error = Provider::new(Source::Environment, Environment::of([])).credential().unwrap_err().to_string();
        assert_eq!(
            error,
            "found no credential; looked for TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY; \
             set TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY (and TENCENTCLOUD_TOKEN for a temporary key)"
        );
        let empty = Environment::of([("TENCENTCLOUD_CREDENTIALS_FILE", "")]);
        assert_eq!(
            Provider::new(Source::Chain, empty).credential().unwrap_err().to_string(),
            "TENCENTCLOUD_CREDENTIALS_FILE: found that it is set but empty, allowed is the path of a profile file"
        );
        assert!(Source::Chain.remedy().ends_with(", or write secret_id and secret_key into a profile file"));
        let looked = Source::Chain.looked(&Environment::of([("HOME", "/home/ada")])).unwrap();
        assert_eq!(
            looked,
            "TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY, then section [default] of \
             /home/ada/.tencentcloud/credentials or /etc/tencentcloud/credentials"
        );
    }

    #[test]
    fn a_refresh_gives_a_credential_only_if_it_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = profile(&folder, "old");
        let source = Source::Profile { path: Some(path.into()), section: DEFAULT_SECTION.to_owned() };
        let mut provider = Provider::new(source, Environment::of([]));
        assert_eq!(provider.credential().unwrap().credential.secret_key.expose(), "old");
        assert_eq!(provider.refresh().unwrap(), None);
        let path = profile(&folder, "new");
        assert_eq!(provider.refresh().unwrap().unwrap().secret_key.expose(), "new");
        assert_eq!(provider.refresh().unwrap(), None);
        fs::remove_file(path).unwrap();
        assert!(provider.refresh().is_err());
        assert_eq!(provider.credential().unwrap().credential.secret_key.expose(), "new");
    }

    #[test]
    fn a_fixed_credential_stays_what_it_is() {
        let credential = Credential {
            secret_id: "AKIDSANDBOXEXAMPLE".parse().unwrap(),
            secret_key: "topsecret".parse().unwrap(),
            token: None,
        };
        let mut provider = Provider::fixed(credential.clone());
        assert_eq!(provider.credential().unwrap().credential, credential);
        assert_eq!(provider.refresh().unwrap(), None);
        assert!(!format!("{provider:?}").contains("topsecret"));
    }
}
