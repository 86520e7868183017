//! Percent-encoding as RFC 3986 has it, over UTF-8, with upper-case digits.

use alloc::{string::String, vec::Vec};

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

/// The text that was encoded, digits of either case, `+` as a space; `None` if a `%` is not followed by two digits or
/// the bytes are not UTF-8.
///
/// The official SDKs write a space as `+` in queries as well as in forms, so it is taken in both.
pub(super) fn decode(encoded: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(encoded.len());
    let mut rest = encoded.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'%' => digit(*rest.next()?)? << 4 | digit(*rest.next()?)?,
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_unreserved_characters_stay_as_they_are() {
        assert_eq!(encode("AZaz09-_.~"), "AZaz09-_.~");
        assert_eq!(encode("a b+c/d=e&f%g!*'()"), "a%20b%2Bc%2Fd%3De%26f%25g%21%2A%27%28%29");
        assert_eq!(encode("未"), "%E6%9C%AA");
    }

    #[test]
    fn broken_escapes_and_bytes_that_are_no_text_are_refused() {
        for bad in ["%", "%1", "a%", "%zz", "%+1", "%ff", "%E6%9C"] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(decode(b"a+b%2f%2F").as_deref(), Some("a b//"));
    }

    proptest! {
        #[test]
        fn any_text_comes_back(chars in proptest::collection::vec(any::<char>(), 0..40)) {
            let text = String::from_iter(chars);
            prop_assert_eq!(decode(encode(&text).as_bytes()), Some(text));
        }
    }
}
