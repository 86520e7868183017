//! A value together with the place that it was set in.

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use imageshare_core::{
    credential::REDACTED,
    disclosure::{NAME_NOT_SHOWN, has_key},
    ids::{AccountId, Region},
};
use serde::{Serialize, Serializer, ser::SerializeStruct as _};

use super::values;
use crate::{
    admin::Readiness,
    endpoint::Endpoint,
    http::{NoProxy, Proxy},
    paths::shown_path,
};

/// Where a value was set. A later variant takes precedence over an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingOrigin {
    /// Nowhere: the default applies.
    Default,
    /// The settings file.
    File {
        /// The file as it was named, safe to print.
        file: Arc<str>,
        /// Counted from 1; `None` for the file as a whole.
        line: Option<usize>,
    },
    /// A variable of the environment.
    Variable(&'static str),
    /// A flag of the command line.
    Flag(&'static str),
}

/// The value of a setting and its origin. Serializes as it may be shown.
#[derive(Clone, PartialEq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it was set.
    pub origin: SettingOrigin,
}

/// The form in which `imageshare check` shows a value; `None` if it is not set. Never a secret.
pub(super) trait Shown {
    fn shown(&self) -> Option<String>;
}

impl<T: Shown> Serialize for Setting<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut setting = serializer.serialize_struct("Setting", 2)?;
        setting.serialize_field("value", &self.value.shown())?;
        setting.serialize_field("origin", &self.origin.to_string())?;
        setting.end()
    }
}

impl<T: Shown> fmt::Debug for Setting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} by {}", self.value.shown(), self.origin)
    }
}

impl fmt::Display for SettingOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line: None } => f.write_str(file),
            Self::File { file, line: Some(line) } => write!(f, "{file}:{line}"),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> Option<String> {
        self.as_ref().and_then(Shown::shown)
    }
}

impl Shown for PathBuf {
    fn shown(&self) -> Option<String> {
        Some(shown_path(Path::new(self)))
    }
}

impl Shown for Duration {
    fn shown(&self) -> Option<String> {
        Some(values::shown(*self))
    }
}

impl Shown for String {
    /// A key may have been set in place of a name.
    fn shown(&self) -> Option<String> {
        Some(if has_key(self) { NAME_NOT_SHOWN.to_owned() } else { self.clone() })
    }
}

impl Shown for Readiness {
    fn shown(&self) -> Option<String> {
        Some(self.as_str().to_owned())
    }
}

impl Shown for tracing::Level {
    fn shown(&self) -> Option<String> {
        Some(self.as_str().to_ascii_lowercase())
    }
}

impl Shown for NoProxy {
    fn shown(&self) -> Option<String> {
        // A word without a dot may be a secret in the wrong place.
        let is_shown = |entry: &&str| entry.contains(['.', ':']) || ["*", "localhost"].contains(entry);
        let all = self.to_string();
        let entries = all.split(',').map(|entry| if is_shown(&entry) { entry } else { NAME_NOT_SHOWN });
        Some(entries.collect::<Vec<_>>().join(","))
    }
}

/// A text that is a secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct SecretText(pub(super) String);

impl Shown for SecretText {
    fn shown(&self) -> Option<String> {
        Some(REDACTED.to_owned())
    }
}

macro_rules! shown_as_displayed {
    ($($type:ty)*) => {$(
        impl Shown for $type {
            fn shown(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

shown_as_displayed! {
    bool f64 u16 u32 AccountId Endpoint Proxy Region SocketAddr
    crate::broker::Url crate::broker::management::ManagementUrl
    super::credentials::SourceKind crate::lane::Regions
}
