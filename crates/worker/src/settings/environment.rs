//! The environment's variables, behind a function so that tests pass a map.

use std::{collections::BTreeMap, ffi::OsString, fmt, path::PathBuf, sync::Arc};

type Lookup = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// Where variables are looked up.
#[derive(Clone)]
pub struct Environment(Arc<Lookup>);

/// A variable whose value is not UTF-8. It may hold a secret, so its value is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found a value that is not UTF-8, allowed is UTF-8")]
pub struct NotUtf8;

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self(Arc::new(|name| std::env::var_os(name)))
    }

    /// These variables and no others.
    #[must_use]
    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let variables: BTreeMap<String, OsString> =
            variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        Self(Arc::new(move |name| variables.get(name).cloned()))
    }

    /// The value of a variable; `None` if it is not set. Set to nothing is a value.
    ///
    /// # Errors
    /// If it is not UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<String>, NotUtf8> {
        (self.0)(name).map(|value| value.into_string().map_err(|_| NotUtf8)).transpose()
    }

    /// The value of a variable that names a file, in whatever encoding the system has.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        (self.0)(name).map(PathBuf::from)
    }

    /// The home directory of whoever runs this.
    #[must_use]
    pub fn home(&self) -> Option<PathBuf> {
        let name = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
        self.path(name).filter(|path| !path.as_os_str().is_empty())
    }
}

impl fmt::Debug for Environment {
    /// Shows no variable: some hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}
