//! Decides whether a configured value may be shown.
//!
//! Any setting, variable or argument may hold a secret by mistake: an address with a password in it, a key in place of
//! the path of its file, two variables swapped. So errors, logs and tables show a value only if its form proves that it
//! is a number, a path, or an address without a user. Everything else is described, never quoted.

use alloc::{borrow::ToOwned as _, string::String};

use crate::text::{excerpt, is_printable, printable};

/// The text in place of a value that may not be shown.
pub const NOT_SHOWN: &str = "a value that is not shown";

/// The text in place of a path that may be something else.
pub const PATH_NOT_SHOWN: &str = "[path not shown]";

/// The text in place of a name that may be something else.
pub const NAME_NOT_SHOWN: &str = "[name not shown]";

/// Characters of a number with its unit.
const NUMBER_LEN_MAX: usize = 24;

/// Letters of a number's unit.
const UNIT_LEN_MAX: usize = 2;

/// Bytes of a path (`PATH_MAX` of Linux).
const PATH_LEN_MAX: usize = 4096;

/// Characters of a path that are shown.
const PATH_CHARS_MAX: usize = 200;

/// Characters of a parser's message that are shown.
const MESSAGE_CHARS_MAX: usize = 500;

/// Characters of a name: of a setting, a lane, a section.
const NAME_LEN_MAX: usize = 63;

/// Characters of a host's name.
const HOST_LEN_MAX: usize = 253;

/// Characters without a separator from which a disorder of capitals, small letters and digits counts as a key. Keys of
/// the vendor have 32.
const KEY_LEN_MIN: usize = 16;

/// The first characters of DER and of JSON in base64, which have less disorder.
const KEY_BEGINNINGS: [&str; 2] = ["MII", "eyJ"];

/// Pairs of neighboring characters. At least one of them changes its class in a key, not counting a capital before a
/// small letter. In random text two pairs of five do, in names about one of five.
const PAIRS_PER_CHANGE_MAX: usize = 4;

/// Extensions that make a relative name a path.
const EXTENSIONS: [&str; 18] = [
    "cer",
    "cfg",
    "conf",
    "config",
    "credential",
    "crt",
    "csv",
    "env",
    "ini",
    "json",
    "key",
    "ndjson",
    "pem",
    "toml",
    "token",
    "txt",
    "url",
    "yaml",
];

/// Returns the value in quotes if it may be shown, else [`NOT_SHOWN`].
#[must_use]
pub fn disclosed(value: &str) -> String {
    if is_number(value) || is_path(value) || is_address(value) { excerpt(value) } else { NOT_SHOWN.to_owned() }
}

/// Returns a path as one printable line if it may be shown, else [`PATH_NOT_SHOWN`].
#[must_use]
pub fn disclosed_path(path: &str) -> String {
    if is_path(path) { printable(path, PATH_CHARS_MAX) } else { PATH_NOT_SHOWN.to_owned() }
}

/// Returns a name that the settings file gives to a key, a lane or a credential, or [`NAME_NOT_SHOWN`] if it has
/// another form.
#[must_use]
pub fn disclosed_name(name: &str) -> String {
    if is_name(name) { name.to_owned() } else { NAME_NOT_SHOWN.to_owned() }
}

/// Returns an argument of the command line as one printable line, or [`NOT_SHOWN`] if it may hold a secret. The reader of
/// the error typed the argument, and the process list shows it, so plain words are shown too.
#[must_use]
pub fn disclosed_argument(argument: &str) -> String {
    let is_content = argument.starts_with(['{', '"']) || argument.contains(char::is_control);
    let is_foreign = argument.contains("://") && !is_address(argument);
    if is_content || is_foreign || has_user(argument) || has_key(argument) {
        NOT_SHOWN.to_owned()
    } else {
        printable(argument, PATH_CHARS_MAX)
    }
}

/// Returns whether a text is plainly the path of a file: it is absolute, begins with `./`, `../` or `~/`, or ends in a
/// usual extension, and no part of it looks like a key or like the user of an address.
#[must_use]
pub fn is_path(text: &str) -> bool {
    let is_rooted = ["/", "./", "../", "~/"].iter().any(|root| text.starts_with(root)) && !text.starts_with("//");
    let is_on_drive = matches!(text.as_bytes(), [drive, b':', b'\\', ..] if drive.is_ascii_alphabetic());
    let has_extension = !text.contains([':', '='])
        && text.rsplit_once('.').is_some_and(|(_, extension)| EXTENSIONS.contains(&extension));
    (is_rooted || is_on_drive || has_extension) && !cannot_be_path(text)
}

/// Returns whether a text cannot be the path of a file, because it is an address, the contents of a file, or a key.
#[must_use]
pub fn cannot_be_path(text: &str) -> bool {
    text.len() > PATH_LEN_MAX
        || !text.chars().all(is_printable)
        || text.starts_with(['{', '[', '"'])
        || text.contains("://")
        || has_user(text)
        || has_key(text)
}

/// Returns whether a text is a name: letters, digits, dots, spaces, underscores and hyphens.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let is_inner = |c: char| c.is_alphanumeric() || matches!(c, '.' | ' ' | '_' | '-');
    !text.is_empty() && text.chars().count() <= NAME_LEN_MAX && text.chars().all(is_inner) && !has_key(text)
}

/// Returns whether a part of a text looks like a key: a PEM block, or a long disorder of letters and digits.
#[must_use]
pub fn has_key(text: &str) -> bool {
    let class = |byte: &u8| (byte.is_ascii_uppercase(), byte.is_ascii_lowercase());
    let is_key = |word: &str| {
        let bytes = word.as_bytes();
        let has = |is_of_class: fn(&u8) -> bool| bytes.iter().any(is_of_class);
        let is_change =
            |(a, b): &(&u8, &u8)| class(a) != class(b) && !(a.is_ascii_uppercase() && b.is_ascii_lowercase());
        let changes = bytes.iter().zip(bytes.iter().skip(1)).filter(is_change).count();
        bytes.len() >= KEY_LEN_MIN
            && has(u8::is_ascii_uppercase)
            && has(u8::is_ascii_lowercase)
            && has(u8::is_ascii_digit)
            && (changes * PAIRS_PER_CHANGE_MAX >= bytes.len() - 1
                || KEY_BEGINNINGS.iter().any(|beginning| word.starts_with(beginning)))
    };
    text.contains("-----") || text.split(|c: char| !c.is_ascii_alphanumeric()).any(is_key)
}

/// Returns whether a text has an `@`, before which a password may stand. Paths have it only in the instance of a systemd
/// unit: `/run/credentials/imageshare@eu.service/key`.
fn has_user(text: &str) -> bool {
    text.split('/').any(|part| part.contains('@') && !part.ends_with(".service"))
}

/// Returns whether a text is a number with its sign, its unit and its separators.
fn is_number(text: &str) -> bool {
    let is_inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-' | ' ');
    let letters = text.chars().filter(char::is_ascii_alphabetic).count();
    text.len() <= NUMBER_LEN_MAX
        && text.trim_start_matches(['+', '-', '.']).starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(is_inner)
        && letters <= UNIT_LEN_MAX
}

/// Returns whether a text is a host with a dot, or `localhost`, with a scheme or a port, and nothing else: no user, path,
/// query or fragment.
fn is_address(text: &str) -> bool {
    let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let is_inside = |c: char| c.is_ascii_hexdigit() || c == ':' || c == '.';
    let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) if host.chars().all(is_inside) => ("localhost", port.strip_prefix(':')),
        Some(_) => return false,
        None => rest.split_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
    };
    let is_label = |label: &str| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_host = host.eq_ignore_ascii_case("localhost") || host.contains('.') && host.split('.').all(is_label);
    let is_scheme = |scheme: &str| scheme.len() <= NUMBER_LEN_MAX && scheme.bytes().all(|b| b.is_ascii_alphabetic());
    let is_port = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|b| b.is_ascii_digit());
    (scheme.is_some() || port.is_some())
        && host.len() <= HOST_LEN_MAX
        && is_host
        && scheme.is_none_or(is_scheme)
        && port.is_none_or(is_port)
        && !has_key(host)
}

/// Returns the message of a parser (serde's words) without the value that it quotes. Names of members stay.
#[must_use]
pub fn without_value(message: &str) -> String {
    let shown = |text: &str| printable(text, MESSAGE_CHARS_MAX);
    for kind in ["invalid type", "invalid value", "invalid length", "unknown variant"] {
        if let Some(rest) = message.strip_prefix(kind) {
            // Serde and our own ids spell the expectation differently. The value comes first and may itself contain these
            // words, so the last ones count.
            let start = [", expected ", " (expected "].iter().filter_map(|words| rest.rfind(words)).max();
            let expected = start.and_then(|at| rest.get(at..)).unwrap_or_default();
            return shown(&alloc::format!("{kind}{expected}"));
        }
    }
    if let Some(rest) = message.strip_prefix("unknown field `")
        && let Some((name, expected)) = rest.rsplit_once("`, expected ").or_else(|| rest.rsplit_once("`, there are "))
        && !is_name(name.split('`').next().unwrap_or_default())
    {
        return shown(&alloc::format!("unknown field {NAME_NOT_SHOWN}, expected {expected}"));
    }
    shown(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_paths_and_addresses_are_shown() {
        for value in [
            "0",
            "-1",
            "1e2",
            "500ms",
            "1.5 h",
            "99999999999",
            "9701",
            "/etc/imageshare/keys",
            "./keys",
            "conf/s.toml",
            "/run/credentials/imageshare@eu.service/key",
            "C:\\keys\\a.json",
            "https://host.example:8443/",
            "http://10.0.0.1:9700",
            "localhost:9701",
            "[::1]:9701",
        ] {
            assert_eq!(disclosed(value), excerpt(value));
        }
    }

    #[test]
    fn everything_else_is_described() {
        for value in [
            "",
            "topsecret",
            "12/topsecret",
            "/topsecret@127.0.0.1",
            "//topsecret/x",
            "amqp://usr:topsecret@127.0.0.1",
            "amqp://usr:12/topsecret@127.0.0.1",
            "https://host.example/topsecret",
            "https://host.example?key=topsecret",
            "usr:topsecret@host.example:1",
            "usr:1",
            "12topsecret",
            "/Gu5t9xGARNpq86cd98joQYCN3EXAMPLE",
            "/keys/Gu5t9xGARNpq86cd98joQYCN3EXAMPLE.pem",
            "-----BEGIN PRIVATE KEY-----.pem",
            "{\"secret_key\": \"topsecret\"}",
            "secret_key=topsecret.txt",
            "/etc/\u{1b}[31mkeys",
        ] {
            assert_eq!(
                (disclosed(value).as_str(), disclosed_path(value).as_str()),
                (NOT_SHOWN, PATH_NOT_SHOWN),
                "{value}"
            );
        }
    }

    #[test]
    fn address_or_key_is_not_path() {
        for text in ["amqp://host", "u:p@host", "{}", "-----BEGIN", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE", "a\nb"] {
            assert!(cannot_be_path(text), "{text}");
        }
        for text in ["keys", "conf/keys", "/mnt/c:/a=b", "/var/lib/docker/0123456789abcdef0123456789abcdef/x"] {
            assert!(!cannot_be_path(text), "{text}");
        }
    }

    #[test]
    fn keys_and_names_are_distinguished() {
        for key in
            ["Gu5t9xGARNpq86cd98joQYCN3EXAMPLE", "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC", "x y=q95K84wrzuE48frtQzyTkwNL4dXZ"]
        {
            assert!(has_key(key), "{key}");
        }
        for name in ["ImageShareWorker2024", "imageshare-Broker-Key-2024", "6B29FC40-CA47-1067-B31D-00DD010662DA"] {
            assert!(!has_key(name), "{name}");
        }
    }

    #[test]
    fn arguments_are_shown_unless_secretive() {
        assert_eq!(disclosed_argument("jobs\u{202e}.ndjson"), "jobs .ndjson");
        assert_eq!(disclosed_argument("https://host.example"), "https://host.example");
        for argument in [
            "amqp://usr:topsecret@host",
            "usr:topsecret@host",
            "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE",
            "a://b/c",
            "{\"a\": 1}",
            "a\nb",
        ] {
            assert_eq!(disclosed_argument(argument), NOT_SHOWN);
        }
    }

    #[test]
    fn name_has_no_other_characters() {
        for name in ["mainland", "Mainland 2", "ca_file", "镜像"] {
            assert_eq!(disclosed_name(name), name);
        }
        for name in ["", "a\u{1b}", "amqp://u:topsecret@h", "Gu5t9xGARNpq86cd98joQYCN3EXAMPLE", "a/b"] {
            assert_eq!(disclosed_name(name), NAME_NOT_SHOWN);
        }
    }

    #[test]
    fn message_of_parser_loses_value() {
        for (message, shown) in [
            ("invalid type: string \"topsecret\", expected u64", "invalid type, expected u64"),
            ("invalid value \"topsecret\" (expected img-) at line 1", "invalid value (expected img-) at line 1"),
            ("invalid value \", expected topsecret\" (expected img-)", "invalid value (expected img-)"),
            ("invalid value: string \"a, expected topsecret\", expected x", "invalid value, expected x"),
            ("unknown variant `topsecret`, expected `a` or `b`", "unknown variant, expected `a` or `b`"),
            ("unknown field `rte`, expected one of `a`, `b`", "unknown field `rte`, expected one of `a`, `b`"),
            ("unknown field `top/secret@`, expected `a`", "unknown field [name not shown], expected `a`"),
            ("missing field `id` at line 2", "missing field `id` at line 2"),
        ] {
            assert_eq!(without_value(message), shown);
        }
    }
}
