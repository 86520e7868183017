//! A short ASCII text that lives where it stands, so that ids are `Copy` and cost no allocation.

use core::{cmp, fmt, hash};

/// At most `N` bytes of ASCII (`N` at most 255).
#[derive(Clone, Copy)]
pub(super) struct InlineAscii<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> InlineAscii<N> {
    /// The text, or `None` if it is longer than `N` bytes or not ASCII.
    pub(super) fn new(text: &str) -> Option<Self> {
        let len = u8::try_from(text.len()).ok().filter(|&len| usize::from(len) <= N)?;
        if !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self { len, bytes })
    }

    pub(super) fn as_str(&self) -> &str {
        // Only `new` fills it, with ASCII, so the fallback is never taken.
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl<const N: usize> PartialEq for InlineAscii<N> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<const N: usize> Eq for InlineAscii<N> {}

impl<const N: usize> PartialOrd for InlineAscii<N> {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for InlineAscii<N> {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl<const N: usize> hash::Hash for InlineAscii<N> {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl<const N: usize> fmt::Debug for InlineAscii<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
