//! A credential from a profile file of the vendor's SDKs.

use std::{
    io,
    path::{Path, PathBuf},
};

use imageshare_core::{
    credential::{Credential, CredentialError, SecretId, SecretKey, Token},
    disclosure::disclosed_name,
    text::excerpt,
};

use super::{
    CredentialsError, ini,
    reading::{half, read, unreadable},
    section_of, shown, shown_name,
};
use crate::{environment::Environment, paths::path_problem};

/// The variable that names the file.
const FILE: &str = "TENCENTCLOUD_CREDENTIALS_FILE";

/// The place of the file in the home directory.
const FILE_AT_HOME: &str = ".tencentcloud/credentials";

/// The place of the file for all users.
const FILE_OF_SYSTEM: &str = "/etc/tencentcloud/credentials";

/// Sections that a message lists.
const SECTIONS_SHOWN_MAX: usize = 20;

/// The profile files to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Places {
    /// In this order. The first one that exists counts.
    pub(super) paths: Vec<PathBuf>,
    /// Whether the file was named, so that it must exist.
    pub(super) named: bool,
}

impl Places {
    /// Returns the file of the settings, else that of the environment, else the usual ones. Fails if the variable holds no
    /// path.
    pub(super) fn new(path: Option<&Path>, environment: &Environment) -> Result<Self, CredentialsError> {
        if let Some(path) = path {
            return Ok(Self { paths: vec![path.to_owned()], named: true });
        }
        match environment.path(FILE) {
            Some(path) => match path_problem(&path) {
                Some(problem) => Err(CredentialsError::NoPath { name: FILE, problem }),
                None => Ok(Self { paths: vec![path], named: true }),
            },
            None => {
                let at_home = environment.home().map(|home| home.join(FILE_AT_HOME));
                Ok(Self { paths: at_home.into_iter().chain([FILE_OF_SYSTEM.into()]).collect(), named: false })
            }
        }
    }

    /// Returns the credential of a section of the first file that exists, and that file.
    pub(super) fn load(&self, section: &str) -> Result<Option<(Credential, &Path)>, CredentialsError> {
        for path in &self.paths {
            match read(path) {
                Ok(text) => return parse(path, &text, section).map(|credential| Some((credential, path.as_path()))),
                Err(error) if error.kind() == io::ErrorKind::NotFound && !self.named => {}
                Err(error) => return Err(unreadable(path, &error)),
            }
        }
        Ok(None)
    }
}

fn parse(path: &Path, text: &str, name: &str) -> Result<Credential, CredentialsError> {
    let section = ini::section(text, name)
        .map_err(|ini::IniError { line, problem }| CredentialsError::Line {
            path: path.to_owned(),
            line,
            problem: problem.to_owned(),
        })?
        .map_err(|names| {
            let more = names.len().saturating_sub(SECTIONS_SHOWN_MAX);
            let mut sections = names
                .into_iter()
                .take(SECTIONS_SHOWN_MAX)
                .map(|name| excerpt(&disclosed_name(name)))
                .collect::<Vec<_>>()
                .join(", ");
            if more > 0 {
                sections.push_str(&format!(" and {more} more"));
            }
            let expected = match sections.is_empty() {
                true => "a profile file with that section".to_owned(),
                false => format!("one of the file's sections: {sections}"),
            };
            CredentialsError::Section { path: path.to_owned(), section: shown_name(name), expected }
        })?;
    match (section.get("secret_id"), section.get("secret_key")) {
        (Some(id), Some(key)) => Ok(Credential {
            secret_id: part(path, "secret_id", id, |text| SecretId::new(text))?,
            secret_key: part(path, "secret_key", key, |text| SecretKey::new(text))?,
            token: section.get("token").map(|token| part(path, "token", token, |text| Token::new(text))).transpose()?,
        }),
        (id, key) => Err(half(section_of(name, path), [("secret_id", id.is_some()), ("secret_key", key.is_some())])),
    }
}

fn part<T>(
    path: &Path,
    key: &str,
    (text, line): (&str, usize),
    new: impl Fn(&str) -> Result<T, CredentialError>,
) -> Result<T, CredentialsError> {
    new(text).map_err(|problem| CredentialsError::Part { place: format!("{}:{line}: {key}", shown(path)), problem })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Loads section `default` of a file with this text; messages show its path as `FILE`.
    fn load(text: &str) -> Result<Credential, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("credentials");
        fs::write(&path, text).unwrap();
        let places = Places::new(Some(&path), &Environment::of([])).unwrap();
        let loaded = places.load("default").map(|section| section.unwrap().0);
        loaded.map_err(|error| {
            assert!(!format!("{error:?} {error}").contains("topsecret"), "{error:?}");
            error.to_string().replace(&path.display().to_string(), "FILE")
        })
    }

    #[test]
    fn profile_is_read() {
        let credential = load("[default]\nsecret_id = AKIDx\nsecret_key = topsecret\n").unwrap();
        assert_eq!((credential.secret_id.as_str(), credential.secret_key.expose()), ("AKIDx", "topsecret"));
        assert_eq!(credential.token, None);
    }

    #[test]
    fn token_of_temporary_key_is_read() {
        let key = "[default]\nsecret_id = AKIDx\nsecret_key = topsecret\n";
        let credential = load(&format!("{key}token = of=a day\n[other]\ntoken = x").replace(" day", "+day")).unwrap();
        assert_eq!(credential.token.unwrap().expose(), "of=a+day");
        // Without its token a temporary key is worth nothing, so an empty one is not passed over.
        check(&format!("{key}token =\n"), "FILE:4: token: the token is empty (expected 1 to 8192 bytes)");
        check(
            "[default]\ntoken = topsecret\n",
            "section [default] of FILE: no secret_id and secret_key \
             (expected all parts of a credential; set secret_id and secret_key there)",
        );
    }

    #[track_caller]
    fn check(text: &str, message: &str) {
        assert_eq!(load(text).unwrap_err(), message);
    }

    #[test]
    fn errors_have_file_and_line_and_no_secret() {
        check(
            "[default]\nsecret_id = AKIDx\n",
            "section [default] of FILE: no secret_key (expected all parts of a credential; set secret_key there)",
        );
        check(
            "[default]\nsecret_key = topsecret\n",
            "section [default] of FILE: no secret_id (expected all parts of a credential; set secret_id there)",
        );
        check(
            "[prod]\nsecret_key = topsecret\n",
            "FILE: no section [default] (expected one of the file's sections: \"prod\")",
        );
        check("", "FILE: no section [default] (expected a profile file with that section)");
        check(
            &"[a\u{1b}]\n".repeat(25),
            &format!(
                "FILE: no section [default] (expected one of the file's sections: {} and 5 more)",
                ["\"[name not shown]\""; 20].join(", ")
            ),
        );
        check(
            "[default]\nsecret_id =\nsecret_key = topsecret\n",
            "FILE:2: secret_id: the secret id is empty (expected 1 to 8192 bytes)",
        );
        check(
            "[default]\ntopsecret\n",
            "FILE:2: line is neither a section nor a key with a value \
             (expected [section], key = value, a blank line or a comment that begins with # or ;)",
        );
        check(&"x".repeat(64 * 1024 + 1), "FILE: cannot read the file: too long (expected at most 65536 bytes)");
    }

    #[test]
    fn named_file_must_exist() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let named = Places::new(Some(&missing), &Environment::of([])).unwrap();
        assert!(matches!(named.load("default"), Err(CredentialsError::Unreadable { .. })));
        assert_eq!(Places { named: false, ..named }.load("default").unwrap(), None);
    }

    #[test]
    fn files_are_looked_for_where_sdks_look() {
        let usual = Places::new(None, &Environment::of([("HOME", "/home/ada")])).unwrap();
        assert_eq!(
            usual.paths,
            [Path::new("/home/ada/.tencentcloud/credentials"), Path::new("/etc/tencentcloud/credentials")]
        );
        let named = Places::new(None, &Environment::of([("HOME", "/home/ada"), (FILE, "/run/keys")])).unwrap();
        assert_eq!(named, Places { paths: vec!["/run/keys".into()], named: true });
    }

    #[test]
    fn variable_without_path_is_refused_unseen() {
        let check = |value: &str, problem: &str| {
            let error = Places::new(None, &Environment::of([(FILE, value)])).unwrap_err();
            assert_eq!(error.to_string(), format!("{FILE}: {problem} (expected the path of a file)"));
            assert!(!format!("{error:?}").contains("topsecret"), "{error:?}");
        };
        check("\"/run/keys\"", "path is in quotation marks");
        check("[default]\nsecret_key = topsecret\n", "path has line ends or other control characters");
    }
}
