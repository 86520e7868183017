//! Digests as 64 hexadecimal digits.

use core::{fmt, str};

use sha2::{Digest, Sha256};

/// A SHA-256 or HMAC-SHA256 output in lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HexDigest([u8; 64]);

impl HexDigest {
    /// Hashes some bytes.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(bytes);
        Self::new(hasher.finalize_reset().into())
    }

    /// Writes 32 bytes as digits.
    #[must_use]
    pub fn new(bytes: [u8; 32]) -> Self {
        let mut digits = [0; 64];
        for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
            *pair = [digit(byte >> 4), digit(byte & 0xf)];
        }
        Self(digits)
    }

    /// Returns the digits as ASCII bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    /// Returns the digits as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("hexadecimal digits are ASCII")
    }
}

/// Computed, not looked up: the compiler then writes many digits with one instruction.
const fn digit(nibble: u8) -> u8 {
    if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
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
    fn every_byte_is_two_lowercase_digits() {
        for first in 0..=u8::MAX {
            let bytes = core::array::from_fn(|place| first.wrapping_add(u8::try_from(place).unwrap()));
            let expected: String = bytes.iter().map(|byte| alloc::format!("{byte:02x}")).collect();
            assert_eq!(HexDigest::new(bytes).as_str(), expected);
        }
    }

    #[test]
    fn hash_of_nothing_is_the_documented_one() {
        assert_eq!(HexDigest::sha256(b"").as_str(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
