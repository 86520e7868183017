//! Reads lines of bounded length from a text of any size, and holds only one of them.

use std::io::{self, BufRead};

use super::job::foreign_format;

/// The lines of a reader. A line ends with a line feed, with or without a carriage return before it, or with the text.
pub(super) struct Lines<R> {
    reader: R,
    /// The first bytes of the last line, without its end: [`keep_max`](Self::keep_max) at most.
    line: Vec<u8>,
    /// Bytes of the whole line.
    len: usize,
    /// Its number, from 1.
    number: u64,
    line_len_max: usize,
}

/// The content of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Its bytes, without its end.
    Bytes(&'a [u8]),
    /// The line was longer than allowed and is skipped.
    TooLong,
    /// The first line shows that the file has this format and is not text, so its lines mean nothing.
    Foreign(&'static str),
}

impl<R: BufRead> Lines<R> {
    pub(super) const fn new(reader: R, line_len_max: usize) -> Self {
        Self { reader, line: Vec::new(), len: 0, number: 0, line_len_max }
    }

    /// Returns the number of the last line, from 1.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Returns the next line and its number, or `None` at the end. A byte order mark before the text is skipped.
    pub(super) fn next_line(&mut self) -> io::Result<Option<(u64, Line<'_>)>> {
        self.line.clear();
        self.len = 0;
        let keep_max = self.keep_max();
        let mut is_begun = false;
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.number += 1;
                    return Err(error);
                }
            };
            if available.is_empty() {
                break;
            }
            is_begun = true;
            let end = available.iter().position(|&b| b == b'\n');
            let content = available.get(..end.unwrap_or(available.len())).unwrap_or(available);
            self.len = self.len.saturating_add(content.len());
            let room = keep_max.saturating_sub(self.line.len());
            self.line.extend_from_slice(content.get(..room).unwrap_or(content));
            let used = content.len() + usize::from(end.is_some());
            self.reader.consume(used);
            if end.is_some() {
                break;
            }
        }
        if !is_begun {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(self.last_line()))
    }

    /// Returns the last line and its number again.
    pub(super) fn last_line(&self) -> (u64, Line<'_>) {
        if let (1, Some(format)) = (self.number, foreign_format(&self.line)) {
            return (1, Line::Foreign(format));
        }
        if self.len > self.keep_max() {
            return (self.number, Line::TooLong);
        }
        let bytes = self.line.as_slice();
        let bytes = if self.number == 1 { bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes) } else { bytes };
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        let line = if bytes.len() > self.line_len_max { Line::TooLong } else { Line::Bytes(bytes) };
        (self.number, line)
    }

    /// Returns how many bytes of a line are kept: besides the allowed ones a carriage return at the end, and a byte order
    /// mark in the first line.
    const fn keep_max(&self) -> usize {
        self.line_len_max + 1 + BYTE_ORDER_MARK.len()
    }
}

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &[u8], expected: &[Option<&str>]) {
        // With a buffer of three bytes a line arrives in several pieces.
        let mut lines = Lines::new(io::BufReader::with_capacity(3, text), 8);
        for (number, expected) in (1..).zip(expected) {
            let line = lines.next_line().unwrap().unwrap();
            assert_eq!(line, (number, expected.map_or(Line::TooLong, |text| Line::Bytes(text.as_bytes()))));
        }
        assert_eq!(lines.next_line().unwrap(), None);
    }

    #[test]
    fn every_kind_of_line_end_is_an_end() {
        check(b"", &[]);
        check(b"a", &[Some("a")]);
        check(b"a\nb\r\n\n\r\nc", &[Some("a"), Some("b"), Some(""), Some(""), Some("c")]);
        check(b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", &[Some("a"), Some("\u{feff}b")]);
    }

    #[test]
    fn overlong_line_is_skipped() {
        check(b"12345678\r\n123456789\n12345678901234567890\r\nc\n", &[Some("12345678"), None, None, Some("c")]);
        check(b"\xef\xbb\xbf12345678\r\n123456789", &[Some("12345678"), None]);
    }

    #[test]
    fn read_error_has_its_line_number() {
        struct Broken;
        impl io::Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("gone"))
            }
        }
        let mut lines = Lines::new(io::BufReader::new(Broken), 8);
        assert!(lines.next_line().is_err());
        assert_eq!(lines.number(), 1);
    }
}
