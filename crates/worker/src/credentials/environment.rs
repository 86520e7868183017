//! A credential from the variables that the vendor's own tools read.

use imageshare_core::credential::{Credential, CredentialError, SecretId, SecretKey, Token};

use super::CredentialsError;
use crate::environment::Environment;

/// The variable of the key's name.
pub(super) const SECRET_ID: &str = "TENCENTCLOUD_SECRET_ID";
/// The variable of the key.
pub(super) const SECRET_KEY: &str = "TENCENTCLOUD_SECRET_KEY";
/// The variables of a temporary key's token, as different tools name it; the first one that is set counts.
pub(super) const TOKENS: [&str; 2] = ["TENCENTCLOUD_TOKEN", "TENCENTCLOUD_SECURITY_TOKEN"];

/// Returns the credential of the variables; `None` if none of them is set.
pub(super) fn load(environment: &Environment) -> Result<Option<Credential>, CredentialsError> {
    let secret_id = part(environment, SECRET_ID, SecretId::new)?;
    let secret_key = part(environment, SECRET_KEY, SecretKey::new)?;
    let mut token = None;
    for name in TOKENS {
        if token.is_none() {
            token = part(environment, name, Token::new)?.map(|token| (name, token));
        }
    }
    let half = |present, missing: &str| Err(CredentialsError::HalfSet { missing: missing.to_owned(), present });
    match (secret_id, secret_key, token) {
        (Some(secret_id), Some(secret_key), token) => {
            Ok(Some(Credential { secret_id, secret_key, token: token.map(|(_, token)| token) }))
        }
        (Some(_), None, _) => half(SECRET_ID, SECRET_KEY),
        (None, Some(_), _) => half(SECRET_KEY, SECRET_ID),
        (None, None, Some((name, _))) => half(name, &format!("{SECRET_ID} and {SECRET_KEY}")),
        (None, None, None) => Ok(None),
    }
}

/// Returns the value of a variable; `None` if it is not set.
pub(super) fn variable(environment: &Environment, name: &'static str) -> Result<Option<String>, CredentialsError> {
    let text = environment.text(name);
    text.map_err(|problem| CredentialsError::Variable { name, problem: problem.to_string() })
}

fn part<T>(
    environment: &Environment,
    name: &'static str,
    new: impl Fn(String) -> Result<T, CredentialError>,
) -> Result<Option<T>, CredentialsError> {
    let text = variable(environment, name)?;
    text.map(new).transpose().map_err(|problem| CredentialsError::Variable { name, problem: problem.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check<const N: usize>(variables: [(&str, &str); N], message: &str) {
        let error = load(&Environment::of(variables)).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(!format!("{error:?}").contains("topsecret"), "{error:?}");
    }

    #[test]
    fn vendor_variables_are_read_in_order() {
        let both = [(SECRET_ID, "AKIDx"), (SECRET_KEY, "topsecret")];
        let credential = load(&Environment::of(both)).unwrap().unwrap();
        assert_eq!((credential.secret_id.as_str(), credential.secret_key.expose()), ("AKIDx", "topsecret"));
        assert_eq!(credential.token, None);

        let token = |more: &[(&str, &str)]| {
            let [id, key] = both;
            let [a, b] = [more.first().copied(), more.get(1).copied()].map(|pair| pair.unwrap_or(id));
            let credential = load(&Environment::of([id, key, a, b])).unwrap().unwrap();
            credential.token.unwrap().expose().to_owned()
        };
        assert_eq!(token(&[("TENCENTCLOUD_SECURITY_TOKEN", "second")]), "second");
        assert_eq!(token(&[("TENCENTCLOUD_SECURITY_TOKEN", "second"), ("TENCENTCLOUD_TOKEN", "first")]), "first");
    }

    #[test]
    fn no_variable_is_no_credential_and_no_error() {
        assert_eq!(load(&Environment::of([])).unwrap(), None);
    }

    #[test]
    fn half_credential_names_missing_half() {
        let rule = "(expected all parts of a credential or none)";
        check([(SECRET_ID, "AKIDx")], &format!("{SECRET_KEY}: not set, although {SECRET_ID} is set {rule}"));
        check([(SECRET_KEY, "topsecret")], &format!("{SECRET_ID}: not set, although {SECRET_KEY} is set {rule}"));
        check(
            [("TENCENTCLOUD_TOKEN", "topsecret")],
            &format!("{SECRET_ID} and {SECRET_KEY}: not set, although TENCENTCLOUD_TOKEN is set {rule}"),
        );
    }

    #[test]
    fn empty_and_untrimmed_values_are_refused_unseen() {
        check(
            [(SECRET_ID, "AKIDx"), (SECRET_KEY, "")],
            "TENCENTCLOUD_SECRET_KEY: not set, although TENCENTCLOUD_SECRET_ID is set \
             (expected all parts of a credential or none)",
        );
        check(
            [(SECRET_ID, "AKIDx"), (SECRET_KEY, "\"topsecret\"")],
            "TENCENTCLOUD_SECRET_KEY: value is in quotation marks, which docker --env-file does not remove",
        );
        for key in ["topsecret\n", " topsecret"] {
            check(
                [(SECRET_ID, "AKIDx"), (SECRET_KEY, key)],
                "TENCENTCLOUD_SECRET_KEY: the secret key begins or ends with white space \
                 (expected the bare text, without spaces or line ends around it)",
            );
        }
    }
}
