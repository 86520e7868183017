//! Splits an input into documents, or reads fields from it. Missing fields are zero.

use std::str::FromStr;

/// Separates the documents of an input: the record separator of RFC 7464, which is invalid in JSON, TOML and CSV.
const SEPARATOR: u8 = 0x1e;

/// Returns the documents of an input. With several, one input can cover errors that exclude each other within a document.
pub(crate) fn documents(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|&byte| byte == SEPARATOR)
}

/// The unread rest of an input.
pub(crate) struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub(crate) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Reads `N` bytes, if that many are left.
    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, left) = self.0.split_first_chunk()?;
        self.0 = left;
        Some(*taken)
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.take::<1>().map_or(0, |[byte]| byte)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.take().map_or(0, u64::from_be_bytes)
    }

    /// Reads a text of at most 255 bytes after its length. Invalid UTF-8 is replaced.
    pub(crate) fn text(&mut self) -> String {
        let len = self.byte();
        String::from_utf8_lossy(self.bytes(len.into())).into_owned()
    }

    /// Reads and parses a text, or parses the default if the text is invalid.
    pub(crate) fn parsed<T: FromStr>(&mut self, default: &str) -> T {
        let text = self.text();
        let value = [text.as_str(), default].into_iter().find_map(|text| text.parse().ok());
        value.expect("the default is valid")
    }

    /// Reads at most `len` bytes.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, left) = self.0.split_at(len.min(self.0.len()));
        self.0 = left;
        taken
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
