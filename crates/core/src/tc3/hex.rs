//! Digests as 64 hexadecimal digits.

use core::{fmt, str};

use sha2::{Digest, Sha256};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// A SHA-256 or HMAC-SHA256 output in lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HexDigest([u8; 64]);

impl HexDigest {
    /// The hash of some bytes.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::of(Sha256::digest(bytes).into())
    }

    /// The digits of 32 bytes.
    #[must_use]
    pub fn of(bytes: [u8; 32]) -> Self {
        let mut digits = [0; 64];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        Self(digits)
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("hexadecimal digits are ASCII")
    }
}

impl fmt::Display for HexDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for HexDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_lower_case_with_leading_zeros() {
        let mut bytes = [0; 32];
        bytes[1] = 0xaf;
        bytes[31] = 0x0f;
        let digits = HexDigest::of(bytes).to_string();
        assert!(digits.starts_with("00af00") && digits.ends_with("000f") && digits.len() == 64, "{digits}");
    }

    #[test]
    fn the_hash_of_nothing_is_that_of_an_empty_body() {
        assert_eq!(HexDigest::sha256(b"").as_str(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
