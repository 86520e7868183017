//! Ids of accounts, images, regions and requests. Validated once, at the edge, and `Copy`.

mod account;
mod image;
mod region;
mod request;

use core::fmt;

pub use account::{AccountId, AccountIdError};
pub use image::{ImageId, ImageIdError};
pub use region::{KNOWN_REGIONS, Region, RegionError};
pub use request::RequestId;

/// A short ASCII text without an allocation, so that ids are `Copy`: at most `N` bytes (`N` at most 255).
///
/// The rest is zero, so that comparing all bytes compares the texts, which is frequent: ids are the keys of every map.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct InlineAscii<const N: usize> {
    bytes: [u8; N],
    len: u8,
}

impl<const N: usize> InlineAscii<N> {
    /// The text, or `None` if it is longer than `N` bytes or not ASCII.
    fn new(text: &str) -> Option<Self> {
        let len = u8::try_from(text.len()).ok().filter(|&len| usize::from(len) <= N)?;
        if !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; N];
        bytes[..text.len()].copy_from_slice(text.as_bytes());
        Some(Self { bytes, len })
    }

    fn as_str(&self) -> &str {
        // Only `new` fills it, with ASCII, so the fallback is never taken.
        core::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }
}

impl<const N: usize> fmt::Debug for InlineAscii<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}
