//! What is wrong with the settings.

use std::fmt;

use super::setting::SettingOrigin;

/// Everything that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// At least one.
    pub problems: Vec<SettingsProblem>,
}

/// One thing that is wrong: where, what, and what was expected. Holds no value that may be a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsProblem {
    /// Where the value was set.
    pub origin: SettingOrigin,
    /// The key, such as `lanes.eu.rate`; `None` if the problem is not about one key.
    pub key: Option<String>,
    /// What is wrong.
    pub fault: SettingsFault,
    /// What would be right.
    pub expected: Option<String>,
    /// What the operator can do.
    pub hint: Option<String>,
}

/// What is wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingsFault {
    /// The value is not allowed. `None` if it may be a secret in the wrong place.
    InvalidValue(Option<String>),
    /// TOML has a value of this kind there.
    InvalidType(&'static str),
    /// The key does not exist in its section.
    UnknownKey,
    /// A variable of our prefix that no setting has.
    UnknownVariable,
    /// A setting that another one needs.
    Missing,
    /// Anything else, safe to print.
    Other(String),
}

impl SettingsProblem {
    /// Returns a problem that concerns more than one value.
    pub(super) fn of_key(origin: SettingOrigin, key: String, fault: String, expected: impl Into<String>) -> Self {
        Self { origin, key: Some(key), fault: SettingsFault::Other(fault), expected: Some(expected.into()), hint: None }
    }
}

impl SettingsError {
    /// Returns the error of a file that cannot be read, or that is not TOML.
    pub(super) fn of_file(origin: SettingOrigin, fault: impl Into<String>, expected: Option<&str>) -> Self {
        let (fault, expected) = (SettingsFault::Other(fault.into()), expected.map(str::to_owned));
        Self { problems: vec![SettingsProblem { origin, key: None, fault, expected, hint: None }] }
    }

    /// Returns the error of settings that could not be read at all, in these words.
    #[must_use]
    pub fn unreadable(problem: impl Into<String>) -> Self {
        Self::of_file(SettingOrigin::Default, problem, None)
    }
}

impl std::error::Error for SettingsError {}

impl fmt::Display for SettingsError {
    /// One problem a line, and one line for each hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
            if let Some(hint) = &problem.hint {
                write!(f, "\nhint: {hint}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for SettingsProblem {
    /// `SUBJECT: PROBLEM (expected WHAT)`, without the hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.origin, &self.key) {
            (SettingOrigin::Default, None) => {}
            (SettingOrigin::Default, Some(key)) => write!(f, "{key}: ")?,
            (SettingOrigin::File { .. }, Some(key)) => write!(f, "{}: {key}: ", self.origin)?,
            (origin, _) => write!(f, "{origin}: ")?,
        }
        write!(f, "{}", self.fault)?;
        self.expected.iter().try_for_each(|expected| write!(f, " (expected {expected})"))
    }
}

impl fmt::Display for SettingsFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidValue(Some(value)) => write!(f, "invalid value {value}"),
            Self::InvalidValue(None) => f.write_str("invalid value, which is not shown"),
            Self::InvalidType(kind) => write!(f, "invalid type {kind}"),
            Self::UnknownKey => f.write_str("unknown key"),
            Self::UnknownVariable => f.write_str("unknown variable"),
            Self::Missing => f.write_str("missing"),
            Self::Other(problem) => f.write_str(problem),
        }
    }
}
