//! A credential from a file or a folder that a secret store keeps up to date.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use imageshare_core::{
    UnixSeconds,
    credential::{Credential, SecretId, SecretKey, Token},
};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    CredentialsError, Loaded,
    reading::{half, part, read, read_json, unreadable},
    shown,
};

/// What the file must hold.
const WHAT: &str = "a JSON object with secret_id, secret_key and, for a temporary key, token and expires_at";

/// Reads of a folder until two in a row are the same.
const READS_MAX: usize = 4;

/// The parts of a credential as text.
#[derive(Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Parts {
    secret_id: Option<Secret>,
    secret_key: Option<Secret>,
    token: Option<Secret>,
    expires_at: Option<String>,
}

/// The parts of a credential that have a file each in a folder.
const NAMES: [&str; 3] = ["secret_id", "secret_key", "token"];

/// Returns the file, and those of the parts if it is a folder.
pub(super) fn paths(path: &Path) -> impl Iterator<Item = PathBuf> {
    [path.to_owned()].into_iter().chain(NAMES.map(|name| path.join(name)))
}

/// A text that is wiped when dropped.
#[derive(PartialEq, Eq)]
struct Secret(Zeroizing<String>);

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

/// Loads the credential of a file or a folder.
pub(super) fn load(path: &Path) -> Result<Loaded, CredentialsError> {
    let parts = match path.is_dir() {
        true => load_folder(path)?,
        false => read_json(path, WHAT)?,
    };
    let part = |name, problem| part(path, name, problem);
    let (Some(id), Some(key)) = (&parts.secret_id, &parts.secret_key) else {
        let present = [("secret_id", parts.secret_id.is_some()), ("secret_key", parts.secret_key.is_some())];
        return Err(half(shown(path), present));
    };
    let credential = Credential {
        secret_id: SecretId::new(id.0.as_str()).map_err(|problem| part("secret_id", problem))?,
        secret_key: SecretKey::new(key.0.as_str()).map_err(|problem| part("secret_key", problem))?,
        token: match &parts.token {
            Some(token) => Some(Token::new(token.0.as_str()).map_err(|problem| part("token", problem))?),
            None => None,
        },
    };
    let expires_at = match parts.expires_at.as_deref().map(UnixSeconds::from_rfc3339) {
        Some(Some((at, _))) => UNIX_EPOCH.checked_add(Duration::from_secs(at.get())),
        Some(None) => {
            let (problem, expected) = ("expires_at: invalid time".to_owned(), "a time such as 2026-11-24T09:00:00Z");
            return Err(CredentialsError::Content { path: path.to_owned(), problem, expected });
        }
        None => None,
    };
    Ok(Loaded { credential, origin: shown(path), expires_at })
}

/// Reads a file for each part, as in a mounted secret. The parts belong together, so they are read until two reads in a row
/// are the same: a writer may be replacing them one by one.
fn load_folder(folder: &Path) -> Result<Parts, CredentialsError> {
    let mut last = read_folder(folder)?;
    for _ in 1..READS_MAX {
        let again = read_folder(folder)?;
        if again == last {
            return Ok(again);
        }
        last = again;
    }
    let problem = "its files keep changing while they are read".to_owned();
    let expected = "a stable file for each part of a credential";
    Err(CredentialsError::Content { path: folder.to_owned(), problem, expected })
}

fn read_folder(folder: &Path) -> Result<Parts, CredentialsError> {
    let part = |name: &str| -> Result<Option<Secret>, CredentialsError> {
        let path: PathBuf = folder.join(name);
        match read(&path) {
            // Editors and some secret stores append a line end.
            Ok(text) => Ok(Some(Secret(Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned())))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(unreadable(&path, &error)),
        }
    };
    let [secret_id, secret_key, token] = NAMES.map(part);
    Ok(Parts { secret_id: secret_id?, secret_key: secret_key?, token: token?, expires_at: None })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[track_caller]
    fn check_refused(text: &str, message: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        fs::write(&path, text).unwrap();
        let error = load(&path).unwrap_err();
        assert_eq!(error.to_string().replace(&path.display().to_string(), "FILE"), message);
        assert!(!format!("{error:?}").contains("topsecret"), "{error:?}");
    }

    #[test]
    fn file_holds_credential_and_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let text = r#"{"secret_id": "AKIDx", "secret_key": "k", "token": "t", "expires_at": "2026-11-24T09:00:00Z"}"#;
        fs::write(&path, text).unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!((loaded.credential.secret_id.as_str(), loaded.credential.secret_key.expose()), ("AKIDx", "k"));
        assert_eq!(loaded.credential.token.as_ref().unwrap().expose(), "t");
        assert_eq!(loaded.expires_at, Some(UNIX_EPOCH + Duration::from_secs(1_795_510_800)));
        fs::write(&path, text.replace("09:00:00Z", "17:00:00.123456789+08:00")).unwrap();
        assert_eq!(load(&path).unwrap().expires_at, loaded.expires_at);
        fs::write(&path, r#"{"secret_id": "AKIDx", "secret_key": "k"}"#).unwrap();
        let loaded = load(&path).unwrap();
        assert_eq!((loaded.credential.token, loaded.expires_at), (None, None));
    }

    #[test]
    fn half_written_file_is_refused() {
        let half = format!("FILE: incomplete JSON; the file is empty or still being written (expected {WHAT})");
        check_refused("", &half);
        check_refused(r#"{"secret_id": "AKIDx", "secret_key": "topsec"#, &half);
        check_refused(r#"{"secret_id": "AKIDx", "secret_key": "topsecret""#, &half);
    }

    #[test]
    fn invalid_credential_is_refused_unseen() {
        check_refused("topsecret", &format!("FILE: malformed JSON at line 1 (expected {WHAT})"));
        check_refused(r#""topsecret""#, &format!("FILE: unexpected JSON at line 1 (expected {WHAT})"));
        check_refused(
            r#"{"secret_id": "x", "topsecret": 1}"#,
            &format!("FILE: unexpected JSON at line 1 (expected {WHAT})"),
        );
        check_refused(
            r#"{"secret_id": "AKIDx", "secret_key": "k", "expires_at": "topsecret"}"#,
            "FILE: expires_at: invalid time (expected a time such as 2026-11-24T09:00:00Z)",
        );
        check_refused(
            r#"{"secret_id": "AKIDx"}"#,
            "FILE: no secret_key (expected all parts of a credential; set secret_key there)",
        );
        check_refused(
            r#"{"secret_id": "AKIDx", "secret_key": "topsecret\n"}"#,
            "FILE: secret_key: the secret key begins or ends with white space \
             (expected the bare text, without spaces or line ends around it)",
        );
    }

    #[test]
    fn folder_has_file_for_each_part() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write("secret_id", "AKIDx\n");
        let half = load(folder.path()).unwrap_err().to_string();
        assert!(half.contains(": no secret_key ("), "{half}");
        write("secret_key", "k\r\n");
        let loaded = load(folder.path()).unwrap();
        assert_eq!((loaded.credential.secret_id.as_str(), loaded.credential.secret_key.expose()), ("AKIDx", "k"));
        assert_eq!(loaded.credential.token, None);
        write("token", "t");
        assert_eq!(load(folder.path()).unwrap().credential.token.unwrap().expose(), "t");
    }
}
