//! Bytes of an input, taken one after the other. Of what is not there any more, zeros.

use std::str::FromStr;

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
        let len = usize::from(self.byte()).min(self.0.len());
        let (text, left) = self.0.split_at(len);
        self.0 = left;
        String::from_utf8_lossy(text).into_owned()
    }

    /// What a text says, or else what the default says.
    pub(crate) fn parsed<T: FromStr>(&mut self, default: &str) -> T {
        let text = self.text();
        let found = [text.as_str(), default].into_iter().find_map(|text| text.parse().ok());
        found.expect("the default says something")
    }

    /// All that is left.
    pub(crate) const fn rest(self) -> &'a [u8] {
        self.0
    }
}
