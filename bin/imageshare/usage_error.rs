//! Removes possible secrets from the errors of the command line.

use clap::{
    Error,
    error::{ContextKind, ContextValue},
};
use imageshare_core::disclosure;

use crate::help;

/// The parts of an error that quote the command line.
const QUOTED: [ContextKind; 3] = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue];

/// Returns the error; without its quotes if one looks like an address or a key.
pub(crate) fn redact(error: Error) -> Error {
    let quoted = QUOTED.iter().find_map(|kind| match error.get(*kind) {
        Some(ContextValue::String(quoted)) if !disclosure::disclosed_argument(quoted).contains(quoted.as_str()) => {
            Some(*kind)
        }
        _ => None,
    });
    // The error's cause and suggestions may repeat the value, and clap cannot remove them: build a new error.
    let what = match (quoted, error.get(ContextKind::InvalidArg)) {
        (None, _) => return error,
        (Some(ContextKind::InvalidSubcommand), _) => "unrecognized subcommand".to_owned(),
        (Some(ContextKind::InvalidValue), Some(ContextValue::String(argument))) => {
            let expected = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(values)) if !values.is_empty() => {
                    format!(" (expected {})", values.join(", "))
                }
                _ => String::new(),
            };
            format!("invalid value for '{argument}'{expected}")
        }
        (Some(_), _) => "unexpected argument".to_owned(),
    };
    Error::raw(error.kind(), format!("{what}; not shown, since it may be a password or a key"))
        .format(&mut help::command())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn message(arguments: &[&str]) -> String {
        let error = help::command().try_get_matches_from(["imageshare"].iter().chain(arguments)).unwrap_err();
        redact(error).to_string()
    }

    #[test]
    fn address_or_key_is_not_repeated() {
        for secret in ["amqp://usr:12/topsecret@127.0.0.1", "usr:topsecret@host", "Gu5t9xGARNpq86cd98joQYCN3topsecret"]
        {
            let flag = format!("--{secret}");
            for arguments in [
                [secret, ""].as_slice(),
                &["check", secret],
                &["check", &flag],
                &["schema", secret],
                &["worker", "--log", secret],
                &["list", "--image", secret],
                &["share", "--image", "img-6pb6lrmy", "--account", secret],
                &["sandbox", "--listen", secret],
                &["sandbox", "--rps", secret],
            ] {
                let message = message(arguments);
                assert!(
                    message.starts_with("error: ") && !message.contains("secret@") && !message.contains("topsecret"),
                    "{message}"
                );
            }
        }
    }

    #[test]
    fn word_that_was_typed_is_repeated() {
        assert!(message(&["lst"]).contains("unrecognized subcommand 'lst'"));
        assert!(message(&["list", "--image", "lhbp-1"]).contains("lhbp-1"));
        assert!(message(&["check", "--conect"]).contains("unexpected argument '--conect' found"));
    }
}
