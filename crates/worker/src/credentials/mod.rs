//! Where credentials come from, and how they are kept good.
//!
//! A [`Source`] says where; a [`Provider`] asks there once; a [`Keeper`] asks again, ahead of the end and whenever a file
//! has changed, for all lanes that use the credential.

mod environment;
mod error;
mod file;
mod ini;
mod keeper;
mod metadata;
mod profile;
mod provider;
mod reading;
mod source;
mod sts;
mod tccli;

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use imageshare_core::{
    Credential, UnixSeconds,
    disclosure::{NAME_NOT_SHOWN, has_key},
    text::printable,
};

use crate::paths::shown_path;

pub use error::CredentialsError;
pub use keeper::{Identity, IfMissing, Keeper, Newest, Owner};
pub use provider::Provider;
pub use source::{DEFAULT_SECTION, Role, Source};
pub(crate) use {metadata::is_role_name, source::ROLE_SECONDS_MAX};

/// Characters that messages show of a path or of a section's name.
const SHOWN_CHARS_MAX: usize = 200;

/// A credential, where it was found, and until when it is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The credential.
    pub credential: Credential,
    /// Where it was found, for people.
    pub origin: String,
    /// When it ends, by this machine's clock; `None` if nobody says.
    pub expires_at: Option<SystemTime>,
}

impl Loaded {
    /// One that nobody knows an end of.
    fn lasting(credential: Credential, origin: String) -> Self {
        Self { credential, origin, expires_at: None }
    }

    /// One that ends at a second of the clock that showed `date` when it was given: what is left of it does not depend on
    /// whether ours is right.
    fn until(credential: Credential, origin: String, end: UnixSeconds, date: Option<SystemTime>) -> Self {
        let (now, end) = (SystemTime::now(), UNIX_EPOCH + Duration::from_secs(end.get()));
        let left = end.duration_since(date.unwrap_or(now)).unwrap_or_default();
        Self { credential, origin, expires_at: now.checked_add(left) }
    }
}

/// A section of a file, for people.
fn section_of(section: &str, path: &Path) -> String {
    format!("section [{}] of {}", shown_name(section), shown(path))
}

/// A path as it may be shown.
fn shown(path: &Path) -> String {
    shown_path(path)
}

/// The name of a section, a profile or a role as it may be shown: a key passes for one.
fn shown_name(name: &str) -> String {
    if has_key(name) { NAME_NOT_SHOWN.to_owned() } else { printable(name, SHOWN_CHARS_MAX) }
}
