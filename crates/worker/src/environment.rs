//! The environment's variables. Tests pass variables of their own.

use std::{collections::BTreeMap, ffi::OsString, fmt, path::PathBuf, sync::Arc};

/// The environment of this process, or that of a test.
#[derive(Clone)]
pub struct Environment(Option<Arc<BTreeMap<String, OsString>>>);

/// Why the value of a variable cannot be used. It may hold a secret, so it is not shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableError {
    /// It is not UTF-8.
    #[error("value is not UTF-8")]
    NotUtf8,
    /// It begins and ends with the same quotation mark, which no value of ours does. A shell or systemd would have removed
    /// the marks; `docker --env-file` passes them on.
    #[error("value is in quotation marks, which docker --env-file does not remove")]
    Quoted,
}

impl Environment {
    /// The variables of this process.
    #[must_use]
    pub const fn of_process() -> Self {
        Self(None)
    }

    /// These variables and no others.
    #[must_use]
    pub fn of<const N: usize>(variables: [(&str, &str); N]) -> Self {
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        Self(Some(Arc::new(variables.collect())))
    }

    /// Returns the names, in order, that begin with this prefix and have a value that is not empty.
    #[must_use]
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<String> = match &self.0 {
            Some(variables) => variables.keys().cloned().collect(),
            None => std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect(),
        };
        names.retain(|name| name.starts_with(prefix) && self.value(name).is_some());
        names.sort_unstable();
        names
    }

    /// Returns the value of a variable; `None` if it is not set. One that is set but empty counts as not set: composed
    /// files, charts and CI systems pass on what they do not have in that way.
    ///
    /// # Errors
    /// If the value is not UTF-8, or in quotation marks.
    pub fn text(&self, name: &str) -> Result<Option<String>, VariableError> {
        let Some(value) = self.value(name) else { return Ok(None) };
        let text = value.into_string().map_err(|_| VariableError::NotUtf8)?;
        if is_quoted(&text) { Err(VariableError::Quoted) } else { Ok(Some(text)) }
    }

    /// Returns the value of a variable that names a file, in whatever encoding the system has; `None` if it is not set or
    /// empty.
    #[must_use]
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.value(name).map(PathBuf::from)
    }

    fn value(&self, name: &str) -> Option<OsString> {
        let value = match &self.0 {
            Some(variables) => variables.get(name).cloned(),
            None => std::env::var_os(name),
        };
        value.filter(|value| !value.is_empty())
    }

    /// Returns the home directory of the user who runs this process.
    #[must_use]
    pub fn home(&self) -> Option<PathBuf> {
        let name = if cfg!(windows) { "USERPROFILE" } else { "HOME" };
        self.path(name)
    }
}

/// Returns whether a text begins and ends with the same quotation mark.
pub(crate) fn is_quoted(text: &str) -> bool {
    text.len() > 1 && ['"', '\''].iter().any(|mark| text.starts_with(*mark) && text.ends_with(*mark))
}

impl fmt::Debug for Environment {
    /// Shows no variable: some hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Environment")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_variable_counts_as_unset() {
        let environment = Environment::of([("A", ""), ("B", "b"), ("HOME", "")]);
        assert_eq!(environment.text("A"), Ok(None));
        assert_eq!(environment.text("B"), Ok(Some("b".to_owned())));
        assert_eq!((environment.path("A"), environment.home()), (None, None));
    }

    #[test]
    fn value_in_quotation_marks_is_refused() {
        for value in ["\"b\"", "'b'", "''"] {
            assert_eq!(Environment::of([("A", value)]).text("A"), Err(VariableError::Quoted), "{value}");
        }
        for value in ["\"b", "b'", "'", "\"b'"] {
            assert_eq!(Environment::of([("A", value)]).text("A"), Ok(Some(value.to_owned())), "{value}");
        }
    }
}
