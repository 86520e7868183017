//! Paths that settings and variables name: what cannot be one, and what may be shown.

use std::path::Path;

use imageshare_core::disclosure::{cannot_be_path, disclosed_path};

use crate::environment::is_quoted;

/// Why a text is not a path, without the text: a setting that has the contents of a file in place of its path holds a key.
pub(crate) fn path_problem(path: &Path) -> Option<&'static str> {
    let text = path.to_string_lossy();
    if text.is_empty() {
        Some("empty path")
    } else if text.contains(char::is_control) {
        Some("path has line ends or other control characters")
    } else if is_quoted(&text) {
        Some("path is in quotation marks")
    } else if cannot_be_path(&text) {
        Some("not a path but an address, a key, or the contents of a file")
    } else {
        None
    }
}

/// Returns a path as it may be shown.
pub(crate) fn shown_path(path: &Path) -> String {
    disclosed_path(&path.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_cannot_be_paths_are_refused() {
        for text in [
            "",
            "amqp://usr:12/topsecret@127.0.0.1",
            "usr:topsecret@127.0.0.1",
            "-----BEGIN PRIVATE KEY-----",
            "{\"secret_key\":\"topsecret\"}",
            "[default]",
            "Gu5t9xGARNpq86cd98joQYCN3topsecret",
            "topsecret\n",
        ] {
            let problem = path_problem(Path::new(text)).unwrap();
            assert!(!problem.contains("topsecret"), "{problem}");
        }
        assert_eq!(path_problem(Path::new("keys")), None);
        assert_eq!(shown_path(Path::new("keys")), "[path not shown]");
        assert_eq!(shown_path(Path::new("./keys")), "./keys");
    }
}
