//! A credential from a profile of the vendor's command line.

use std::{
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use imageshare_core::{
    credential::{Credential, SecretId, SecretKey, Token},
    disclosure::disclosed_name,
    text::excerpt,
};
use serde::Deserialize;

use super::{
    CredentialsError, DEFAULT_SECTION, Loaded,
    environment::variable,
    reading::{half, part, read_json},
    shown,
};
use crate::environment::Environment;

/// The variable that names the profile.
const PROFILE: &str = "TCCLI_PROFILE";

/// What the file must hold.
const WHAT: &str = "a JSON object with secretId and secretKey, as tccli configure writes it";

/// The members of the file that are read. It has more.
#[derive(Deserialize)]
struct TccliFile {
    #[serde(rename = "secretId")]
    secret_id: Option<String>,
    #[serde(rename = "secretKey")]
    secret_key: Option<String>,
    token: Option<String>,
    #[serde(rename = "expiresAt")]
    expires_at: Option<u64>,
    #[serde(rename = "role-arn")]
    role_arn: Option<String>,
}

/// Loads the credential of a profile.
pub(super) fn load(
    path: Option<&Path>,
    profile: Option<&str>,
    environment: &Environment,
) -> Result<Loaded, CredentialsError> {
    let path = self::path(path, profile, environment)?;
    let TccliFile { secret_id, secret_key, token, expires_at, role_arn } = read_json(&path, WHAT)?;
    // The vendor's tool would assume the role. The key in its place may belong to another account, or permit too much.
    if role_arn.is_some_and(|arn| !arn.is_empty()) {
        let problem = "role-arn: cannot assume the role of a profile".to_owned();
        let expected = "a profile with only a key; name the role in a credential with source assume_role";
        return Err(CredentialsError::Content { path, problem, expected });
    }
    let part = |name, problem| part(&path, name, problem);
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let (id, key) = match (filled(secret_id), filled(secret_key)) {
        (Some(id), Some(key)) => (id, key),
        (id, key) => return Err(half(shown(&path), [("secretId", id.is_some()), ("secretKey", key.is_some())])),
    };
    let credential = Credential {
        secret_id: SecretId::new(id).map_err(|problem| part("secretId", problem))?,
        secret_key: SecretKey::new(key).map_err(|problem| part("secretKey", problem))?,
        token: filled(token).map(Token::new).transpose().map_err(|problem| part("token", problem))?,
    };
    // Without a token it is a lasting key, even if the file has a time of expiry.
    let expires_at = expires_at
        .filter(|at| *at > 0 && credential.token.is_some())
        .and_then(|at| UNIX_EPOCH.checked_add(Duration::from_secs(at)));
    Ok(Loaded { credential, origin: shown(&path), expires_at })
}

/// Returns this path, or the file of a profile.
pub(super) fn path(
    path: Option<&Path>,
    profile: Option<&str>,
    environment: &Environment,
) -> Result<PathBuf, CredentialsError> {
    path.map_or_else(|| profile_path(profile, environment), |path| Ok(path.to_owned()))
}

/// Returns the file of a profile.
fn profile_path(profile: Option<&str>, environment: &Environment) -> Result<PathBuf, CredentialsError> {
    let of_variable = variable(environment, PROFILE)?;
    let profile = profile.map(str::to_owned).or(of_variable).unwrap_or_else(|| DEFAULT_SECTION.to_owned());
    let is_name = !profile.is_empty()
        && profile.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.@".contains(&b))
        && !profile.starts_with('.');
    let home = environment.home().filter(|_| is_name).ok_or_else(|| CredentialsError::Nowhere {
        places: format!("tccli profile {}", excerpt(&disclosed_name(&profile))),
        remedy: "name a profile of letters, digits and _-.@ and set HOME, or give its path".to_owned(),
    })?;
    Ok(home.join(".tccli").join(format!("{profile}.credential")))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[track_caller]
    fn check(text: &str, message: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("default.credential");
        fs::write(&path, text).unwrap();
        let error = load(Some(&path), None, &Environment::of([])).unwrap_err();
        assert_eq!(error.to_string().replace(&path.display().to_string(), "FILE"), message);
        assert!(!format!("{error:?}").contains("topsecret"), "{error:?}");
    }

    #[test]
    fn profile_comes_from_setting_variable_or_default() {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join(".tccli")).unwrap();
        for profile in ["default", "golden", "spare"] {
            let text =
                format!(r#"{{"secretId": "AKID{profile}", "secretKey": "k", "token": null, "type": "default"}}"#);
            fs::write(home.path().join(format!(".tccli/{profile}.credential")), text).unwrap();
        }
        let at_home = ("HOME", home.path().to_str().unwrap());
        let id = |profile, environment: &Environment| {
            load(None, profile, environment).unwrap().credential.secret_id.to_string()
        };
        let plain = Environment::of([at_home]);
        assert_eq!((id(None, &plain), id(Some("golden"), &plain)), ("AKIDdefault".into(), "AKIDgolden".into()));
        let variable = Environment::of([at_home, ("TCCLI_PROFILE", "spare")]);
        assert_eq!((id(None, &variable), id(Some("golden"), &variable)), ("AKIDspare".into(), "AKIDgolden".into()));
        let error = load(None, Some("../x"), &plain).unwrap_err().to_string();
        assert!(
            error.starts_with("no credential (expected tccli profile \"[name not shown]\"; name a profile"),
            "{error}"
        );
    }

    #[test]
    fn temporary_key_has_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, r#"{"secretId":"AKIDx","secretKey":"k","token":"t","expiresAt":1795510800}"#).unwrap();
        let loaded = load(Some(&path), None, &Environment::of([])).unwrap();
        assert_eq!(loaded.expires_at, Some(UNIX_EPOCH + Duration::from_secs(1_795_510_800)));
    }

    #[test]
    fn invalid_key_is_refused_unseen() {
        check("{", &format!("FILE: incomplete JSON; the file is empty or still being written (expected {WHAT})"));
        check(
            r#"{"secretId": "AKIDx", "secretKey": "topsecret", "role-arn": "qcs::cam::uin/1:roleName/x"}"#,
            "FILE: role-arn: cannot assume the role of a profile (expected a profile with only a key; \
             name the role in a credential with source assume_role)",
        );
        check(
            r#"{"secretKey": "topsecret", "type": "cvm-role"}"#,
            "FILE: no secretId (expected all parts of a credential; set secretId there)",
        );
        check(
            r#"{"secretKey": "", "type": "cvm-role"}"#,
            "FILE: no secretId and secretKey (expected all parts of a credential; set secretId and secretKey there)",
        );
    }
}
