//! Where credentials come from, and how they are renewed.
//!
//! A [`Source`] names the place. A [`Provider`] loads from it once. A [`CredentialCache`] loads again before the credential
//! expires, and whenever a file has changed, for all lanes that use it.

mod cache;
mod environment;
mod error;
mod file;
mod ini;
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

pub use cache::{CredentialCache, IfMissing, Newest, OwnedCredential, Owner};
pub use error::CredentialsError;
pub use provider::Provider;
pub use source::{DEFAULT_SECTION, Role, Source};
pub(crate) use {metadata::is_role_name, source::ROLE_SECONDS_MAX};

/// Characters of a name that messages show.
const SHOWN_CHARS_MAX: usize = 200;

/// A credential with its origin and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The credential.
    pub credential: Credential,
    /// Where it was loaded from, for people.
    pub origin: String,
    /// When it expires, by this machine's clock; `None` if it does not, or that is unknown.
    pub expires_at: Option<SystemTime>,
}

impl Loaded {
    /// Returns a credential without a known end.
    fn lasting(credential: Credential, origin: String) -> Self {
        Self { credential, origin, expires_at: None }
    }

    /// Returns a credential that expires at a second of the server's clock, which showed `date` in the response. So its
    /// remaining lifetime does not depend on this machine's clock.
    fn until(credential: Credential, origin: String, end: UnixSeconds, date: Option<SystemTime>) -> Self {
        let (now, end) = (SystemTime::now(), UNIX_EPOCH + Duration::from_secs(end.get()));
        let left = end.duration_since(date.unwrap_or(now)).unwrap_or_default();
        Self { credential, origin, expires_at: now.checked_add(left) }
    }
}

/// Returns a section of a file, for people.
fn section_of(section: &str, path: &Path) -> String {
    format!("section [{}] of {}", shown_name(section), shown(path))
}

/// Returns a path as it may be shown.
fn shown(path: &Path) -> String {
    shown_path(path)
}

/// Returns the name of a section, a profile or a role as it may be shown: it may be a key in the wrong place.
fn shown_name(name: &str) -> String {
    if has_key(name) { NAME_NOT_SHOWN.to_owned() } else { printable(name, SHOWN_CHARS_MAX) }
}
