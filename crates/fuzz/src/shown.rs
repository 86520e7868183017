//! What may be shown to people.

use imageshare_core::text::printable;

/// Text that reaches a terminal or a log: of bounded length, and nothing in it that a terminal acts on.
#[track_caller]
pub(crate) fn assert_shown(text: &str, chars_max: usize) {
    assert_eq!(printable(text, chars_max), text, "it is shown to people, {chars_max} characters at most");
}
