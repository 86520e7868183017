//! How the bytes of an input are taken apart: into documents, or into fields of which missing ones are zeros.

use std::str::FromStr;

/// Separates the documents of an input: the record separator of RFC 7464, which is invalid in JSON, TOML and CSV.
const SEPARATOR: u8 = 0x1e;

/// Returns the documents of an input, so that one input of the corpus can cover what excludes each other in one document.
/// An input without a separator is one document.
pub(crate) fn documents(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    data.split(|&byte| byte == SEPARATOR)
}

/// What is left of an input.
pub(crate) struct Source<'a>(&'a [u8]);

impl<'a> Source<'a> {
    pub(crate) const fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// The next bytes, if that many are left.
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

    /// A text of at most 255 bytes, which a byte with its length stands before. Odd bytes are replaced.
    pub(crate) fn text(&mut self) -> String {
        let len = self.byte();
        String::from_utf8_lossy(self.bytes(len.into())).into_owned()
    }

    /// What a text says, or else what the default says.
    pub(crate) fn parsed<T: FromStr>(&mut self, default: &str) -> T {
        let text = self.text();
        let found = [text.as_str(), default].into_iter().find_map(|text| text.parse().ok());
        found.expect("the default says something")
    }

    /// The next bytes, or what is left if that is less.
    pub(crate) fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, left) = self.0.split_at(len.min(self.0.len()));
        self.0 = left;
        taken
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
