//! Text that is printed.

use imageshare_core::text::printable;

/// Asserts that a text is printable and has at most `chars_max` characters.
#[track_caller]
pub(crate) fn assert_shown(text: &str, chars_max: usize) {
    assert_eq!(printable(text, chars_max), text, "not printable, or more than {chars_max} characters");
}
