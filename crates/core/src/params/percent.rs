//! Percent-encoding as RFC 3986 has it, over UTF-8, with upper-case digits.

use alloc::string::String;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The text with every byte outside `A-Z a-z 0-9 - _ . ~` as `%XX`; a space becomes `%20`.
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    encode_into(text, &mut encoded);
    encoded
}

/// As [`encode`], appended to `out`.
#[expect(clippy::indexing_slicing, reason = "half a byte is less than 16")]
pub(super) fn encode_into(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(char::from(HEX[usize::from(byte >> 4)]));
            out.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unreserved_characters_stay_as_they_are() {
        assert_eq!(encode("AZaz09-_.~"), "AZaz09-_.~");
        assert_eq!(encode("a b+c/d=e&f%g!*'()"), "a%20b%2Bc%2Fd%3De%26f%25g%21%2A%27%28%29");
        assert_eq!(encode("未"), "%E6%9C%AA");
    }
}
