//! Digests as 64 hexadecimal digits.

use core::{fmt, str};

use super::sha256::sha256;

/// A SHA-256 or HMAC-SHA256 output in lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HexDigest([u8; Self::LEN]);

impl HexDigest {
    /// Digits.
    pub(crate) const LEN: usize = 64;

    /// Zeros, where another one is to stand.
    pub(crate) const ZERO: Self = Self([b'0'; Self::LEN]);

    /// The hash of some bytes.
    #[must_use]
    pub fn sha256(bytes: &[u8]) -> Self {
        Self::of(sha256(bytes))
    }

    /// The digits of 32 bytes.
    #[must_use]
    pub fn of(bytes: [u8; 32]) -> Self {
        let mut digits = [0; Self::LEN];
        let (groups, _) = digits.as_chunks_mut();
        for (group, bytes) in groups.iter_mut().zip(bytes.as_chunks().0) {
            *group = eight(u32::from_be_bytes(*bytes));
        }
        Self(digits)
    }

    /// The digits, as bytes of ASCII.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("hexadecimal digits are ASCII")
    }
}

/// The eight digits of a number, all at once in one word: a digit in each byte, and to those above nine what lies between
/// `:` and `a` added.
const fn eight(number: u32) -> [u8; 8] {
    let number = number as u64;
    let words = ((number & 0xffff) << 32) | (number >> 16);
    let bytes = ((words & 0x0000_00ff_0000_00ff) << 16) | ((words >> 8) & 0x0000_00ff_0000_00ff);
    let digits = ((bytes & 0x000f_000f_000f_000f) << 8) | ((bytes >> 4) & 0x000f_000f_000f_000f);
    let above_nine = ((digits + 0x0606_0606_0606_0606) >> 4) & 0x0101_0101_0101_0101;
    (digits + 0x3030_3030_3030_3030 + above_nine * 0x27).to_le_bytes()
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
    fn every_pair_of_digits_comes_out_in_every_place() {
        for number in 0..=u16::MAX {
            let number = u32::from(number) * 0x0001_0001;
            assert_eq!(eight(number), *alloc::format!("{number:08x}").as_bytes());
        }
        assert_eq!(eight(0x0123_cdef), *b"0123cdef");
    }

    #[test]
    fn the_hash_of_nothing_is_that_of_an_empty_body() {
        assert_eq!(HexDigest::sha256(b"").as_str(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    }
}
