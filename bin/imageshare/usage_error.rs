//! The errors of the command line: without possible secrets, and values in the words of all other errors.

use std::{
    error::Error as _,
    net::AddrParseError,
    num::{IntErrorKind, ParseIntError},
};

use clap::{
    Error,
    error::{ContextKind, ContextValue, ErrorKind},
};
use imageshare_core::{disclosure, text::excerpt};

use crate::help;

/// The parts of an error that quote the command line.
const QUOTED: [ContextKind; 3] = [ContextKind::InvalidArg, ContextKind::InvalidSubcommand, ContextKind::InvalidValue];

/// Returns the error in our words; without its quotes if one looks like an address or a key.
pub(crate) fn reword(error: Error) -> Error {
    let quoted = QUOTED.iter().find_map(|kind| match error.get(*kind) {
        Some(ContextValue::String(quoted)) if !disclosure::disclosed_argument(quoted).contains(quoted.as_str()) => {
            Some(*kind)
        }
        _ => None,
    });
    // The error's cause and suggestions may repeat the value, and clap cannot remove them: build a new error.
    let what = match (quoted, error.get(ContextKind::InvalidArg)) {
        (None, _) => return reword_value(error),
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

/// Words a refused value as `FLAG: invalid value VALUE (expected WHAT)`. clap would quote the value once more.
fn reword_value(error: Error) -> Error {
    let (Some(ContextValue::String(argument)), Some(ContextValue::String(value)), Some(cause)) =
        (error.get(ContextKind::InvalidArg), error.get(ContextKind::InvalidValue), error.source())
    else {
        return error;
    };
    let flag = argument.split(' ').next().unwrap_or_default();
    let cause = if let Some(number) = cause.downcast_ref::<ParseIntError>() {
        match number.kind() {
            IntErrorKind::Zero => "expected at least 1".to_owned(),
            IntErrorKind::PosOverflow => "expected a smaller number".to_owned(),
            _ => "expected a whole number".to_owned(),
        }
    } else if cause.is::<AddrParseError>() {
        "expected an address and a port, such as 127.0.0.1:9701".to_owned()
    } else {
        cause.to_string()
    };
    let problem = if cause.starts_with("invalid value") {
        cause
    } else if cause.starts_with("expected ") {
        format!("invalid value {} ({cause})", excerpt(value))
    } else {
        format!("invalid value {}: {cause}", excerpt(value))
    };
    // With the help of clap it would print the usage of the whole program too.
    Error::raw(ErrorKind::ValueValidation, format!("{flag}: {problem}\n\nFor more information, try '--help'.\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn message(arguments: &[&str]) -> String {
        let error = help::command().try_get_matches_from(["imageshare"].iter().chain(arguments)).unwrap_err();
        reword(error).to_string()
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
        let image = message(&["list", "--image", "lhbp-1"]);
        assert!(image.starts_with("error: --image: invalid value \"lhbp-1\" (expected img- "), "{image}");
        let since = message(&["reports", "--since", "yesterday"]);
        assert!(since.starts_with("error: --since: invalid value \"yesterday\" (expected a time "), "{since}");
        for (arguments, expected) in [
            (["dead", "list", "--limit", "x"], "--limit: invalid value \"x\" (expected a whole number)"),
            (["dead", "list", "--limit", "0"], "--limit: invalid value \"0\" (expected at least 1)"),
            (
                ["sandbox", "--tls", "--rps", "5000000000"],
                "--rps: invalid value \"5000000000\" (expected a smaller number)",
            ),
            (
                ["sandbox", "--tls", "--latency", "fast"],
                "--latency: invalid value \"fast\" (expected 0s to 10m, such as 500ms, 30s or 2h)",
            ),
            (
                ["sandbox", "--tls", "--listen", "9700"],
                "--listen: invalid value \"9700\" (expected an address and a port, such as 127.0.0.1:9701)",
            ),
        ] {
            let message = message(&arguments);
            assert!(message.starts_with(&format!("error: {expected}\n")), "{message}");
        }
        assert!(message(&["check", "--conect"]).contains("unexpected argument '--conect' found"));
    }
}
