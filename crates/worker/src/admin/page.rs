//! The page for people: one file, and the content policy that allows a browser nothing else.

use std::sync::LazyLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::HeaderValue;
use sha2::{Digest as _, Sha256};

const TEXT: &str = include_str!("page.html");

/// The page.
pub(super) struct Page {
    pub(super) text: &'static str,
    /// Allows its own style and script, and `/status`.
    pub(super) policy: HeaderValue,
}

/// Returns the page.
pub(super) fn page() -> &'static Page {
    static PAGE: LazyLock<Page> = LazyLock::new(|| {
        let policy = format!(
            "default-src 'none'; connect-src 'self'; style-src '{}'; script-src '{}'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash_of("<style>", "</style>"),
            hash_of("<script>", "</script>")
        );
        Page { text: TEXT, policy: HeaderValue::from_str(&policy).expect("base64 is visible ASCII") }
    });
    &PAGE
}

/// Returns the hash of the text between two tags, in the form of the policy.
fn hash_of(begin: &str, end: &str) -> String {
    let between = TEXT.split_once(begin).and_then(|(_, rest)| rest.split_once(end)).map_or("", |(between, _)| between);
    format!("sha256-{}", STANDARD.encode(Sha256::digest(between)))
}
