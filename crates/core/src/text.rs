//! Text from outside, made safe to show.

use alloc::string::String;

/// The maximum number of characters of foreign text in an error message.
const EXCERPT_CHARS_MAX: usize = 60;

/// Returns the start of a foreign text in quotes, with control characters and non-ASCII escaped, and its length if it was cut.
#[must_use]
pub fn excerpt(text: &str) -> String {
    let mut shown = String::with_capacity(EXCERPT_CHARS_MAX + 2);
    shown.push('"');
    for c in text.chars().take(EXCERPT_CHARS_MAX) {
        shown.extend(c.escape_default());
    }
    shown.push('"');
    if text.chars().nth(EXCERPT_CHARS_MAX).is_some() {
        shown.push_str(&alloc::format!(" and so on ({} bytes)", text.len()));
    }
    shown
}

/// Returns a foreign message as one printable line of at most `chars_max` characters: control characters (line
/// feeds, terminal escapes, bidirectional overrides) become spaces, the rest stays readable in any language.
#[must_use]
pub fn printable(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).map(|c| if is_printable(c) { c } else { ' ' }).collect()
}

/// Returns whether a terminal shows a character as itself: it is neither a control character nor a format character that
/// reorders or hides others.
#[must_use]
pub fn is_printable(c: char) -> bool {
    let is_invisible = matches!(
        c,
        '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}'
    );
    !c.is_control() && !is_invisible
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpt_is_short_quoted_and_escaped() {
        assert_eq!(excerpt("a\"b\n\u{1b}[0mé"), r#""a\"b\n\u{1b}[0m\u{e9}""#);
        let long = "x".repeat(61);
        assert_eq!(excerpt(&long), alloc::format!("\"{}\" and so on (61 bytes)", "x".repeat(60)));
        assert_eq!(excerpt(&"x".repeat(60)), alloc::format!("\"{}\"", "x".repeat(60)));
    }

    #[test]
    fn message_loses_its_control_characters() {
        assert_eq!(printable("镜像不存在\r\n\u{1b}[31mred\u{202e}\u{61c}", 100), "镜像不存在   [31mred  ");
        assert_eq!(printable("abcdef", 3), "abc");
    }
}
