//! Where a value came from, and values that remember it.

use std::fmt;

/// Where a setting's value came from. Each of them goes before those above it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// The settings file.
    File {
        /// The file as it was named, safe to print.
        file: String,
        /// The key, such as `lanes.eu.rate`.
        key: String,
    },
    /// A variable of the environment.
    Variable(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
}

/// One setting in effect, for `imageshare check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its key, as a settings file would have it.
    pub key: String,
    /// Its value. Never a secret.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// A value as it was given.
#[derive(Clone)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) origin: Origin,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, key } => write!(f, "{file}: {key}"),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}
