//! SHA-256 by whole blocks, from the beginning or from a state that was kept.
//!
//! Much of what is signed stays the same from one request to the next: the pads of an HMAC's key, the beginning of the
//! canonical request. A state after such blocks is kept and spares hashing them again, and no hasher's buffer is filled
//! byte by byte: what is short lies in one piece and is handed over with its padding.
#![expect(
    clippy::indexing_slicing,
    reason = "places in blocks of a fixed length, and in texts that are made here, of which only what varies is replaced"
)]

use alloc::vec::Vec;
use core::slice;

use sha2::block_api::compress256;
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a block.
const BLOCK_LEN: usize = 64;

/// Bytes that fit into two blocks beside their padding: a bit and the length.
const LAST_LEN_MAX: usize = 2 * BLOCK_LEN - 1 - LENGTH_LEN;
const LENGTH_LEN: usize = size_of::<u64>();

/// The state before the first block (FIPS 180-4, 5.3.3).
const INITIAL: [u32; 8] =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

/// A hash after some whole blocks.
#[derive(Clone, Copy)]
pub(crate) struct Midstate {
    state: [u32; 8],
    /// Bytes hashed so far.
    len: usize,
}

/// The hash of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Midstate::START.finish(bytes)
}

/// A text that was padded once, of which some bytes are replaced before each hash.
#[derive(Clone)]
pub(crate) struct Template {
    before: Midstate,
    /// Bytes of the text that went before.
    skipped: usize,
    /// The rest of it and its padding, whole blocks.
    padded: Vec<u8>,
}

/// HMAC-SHA256 (RFC 2104) with a key of 32 bytes, as the states after its two pads.
#[derive(Clone)]
pub(crate) struct HmacKey {
    inner: Midstate,
    outer: Midstate,
}

impl Midstate {
    /// Before the first block.
    pub(crate) const START: Self = Self { state: INITIAL, len: 0 };

    /// The hash of all that went before and these bytes.
    #[inline]
    pub(crate) fn finish(self, bytes: &[u8]) -> [u8; 32] {
        let before_last = bytes.len().saturating_sub(LAST_LEN_MAX).div_ceil(BLOCK_LEN) * BLOCK_LEN;
        let (blocks, rest) = bytes.split_at(before_last);
        let mut last = [0; 2 * BLOCK_LEN];
        last[..rest.len()].copy_from_slice(rest);
        let len = pad(&mut last, rest.len(), self.len + bytes.len());
        self.compress(blocks.as_chunks().0).compress(last[..len].as_chunks().0).hash()
    }

    #[inline]
    fn compress(mut self, blocks: &[[u8; BLOCK_LEN]]) -> Self {
        if !blocks.is_empty() {
            compress256(&mut self.state, blocks);
            self.len += blocks.len() * BLOCK_LEN;
        }
        self
    }

    #[inline]
    fn hash(self) -> [u8; 32] {
        let mut hash = [0; 32];
        for (bytes, word) in hash.as_chunks_mut().0.iter_mut().zip(self.state) {
            *bytes = word.to_be_bytes();
        }
        hash
    }
}

/// Pads what begins a block and ends before `at`, with zeros behind it, where `hashed` bytes are hashed in all. Says
/// where the last block ends.
#[inline]
fn pad(bytes: &mut [u8], at: usize, hashed: usize) -> usize {
    bytes[at] = 0x80;
    let len = (at + 1 + LENGTH_LEN).next_multiple_of(BLOCK_LEN);
    bytes[len - LENGTH_LEN..len].copy_from_slice(&(hashed as u64 * 8).to_be_bytes());
    len
}

impl Template {
    /// A text that is hashed from the beginning. Nothing but its last bytes may be replaced, so many of them.
    pub(crate) fn new(text: &[u8], changing: usize) -> Self {
        let (blocks, _) = text[..text.len() - changing].as_chunks();
        let before = Midstate::START.compress(blocks);
        Self { skipped: before.len, ..Self::after(before, &text[before.len..]) }
    }

    fn after(before: Midstate, text: &[u8]) -> Self {
        let mut padded = Vec::from(text);
        padded.resize((text.len() + 1 + LENGTH_LEN).next_multiple_of(BLOCK_LEN), 0);
        pad(&mut padded, text.len(), before.len + text.len());
        Self { before, skipped: 0, padded }
    }

    /// Replaces what stands at this place of the text.
    #[inline]
    pub(crate) fn replace(&mut self, at: usize, bytes: &[u8]) {
        let at = at - self.skipped;
        self.padded[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The hash of the text as it is now.
    #[inline]
    pub(crate) fn hash(&self) -> [u8; 32] {
        self.before.compress(self.padded.as_chunks().0).hash()
    }
}

impl HmacKey {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        let padded = |pad: u8| {
            let mut block = Zeroizing::new([pad; BLOCK_LEN]);
            block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
            Midstate::START.compress(slice::from_ref(&*block))
        };
        Self { inner: padded(0x36), outer: padded(0x5c) }
    }

    pub(crate) fn mac(&self, message: &[u8]) -> [u8; 32] {
        self.outer.finish(&self.inner.finish(message))
    }

    /// A message whose bytes may be replaced.
    pub(crate) fn template(&self, message: &[u8]) -> Template {
        Template::after(self.inner, message)
    }

    /// The code of a message that is a [template](Self::template) of this key.
    #[inline]
    pub(crate) fn mac_of(&self, message: &Template) -> [u8; 32] {
        self.outer.finish(&message.hash())
    }
}

impl Drop for HmacKey {
    fn drop(&mut self) {
        self.inner.state.zeroize();
        self.outer.state.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use hmac::{Hmac, KeyInit, Mac};
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn every_length_around_the_edges_of_blocks_is_padded_as_the_hash_crate_pads_it() {
        let bytes: Vec<u8> = (0..=255).cycle().take(520).collect();
        for len in 0..bytes.len() {
            assert_eq!(sha256(&bytes[..len])[..], Sha256::digest(&bytes[..len])[..], "{len}");
        }
    }

    proptest! {
        #[test]
        fn any_message_has_the_mac_of_the_hmac_crate(
            key in any::<[u8; 32]>(),
            message in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let expected = Hmac::<Sha256>::new_from_slice(&key).unwrap().chain_update(&message).finalize().into_bytes();
            let key = HmacKey::new(&key);
            prop_assert_eq!(&key.mac(&message)[..], &expected[..]);
            prop_assert_eq!(&key.mac_of(&key.template(&message))[..], &expected[..]);
        }

        #[test]
        fn a_template_has_the_hash_of_the_text_with_the_bytes_replaced(
            mut text in proptest::collection::vec(any::<u8>(), 0..300),
            changing in any::<prop::sample::Index>(),
            to in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let changing = changing.index(text.len() + 1);
            let at = text.len() - changing;
            let mut template = Template::new(&text, changing);
            let to = &to[..to.len().min(changing)];
            text[at..at + to.len()].copy_from_slice(to);
            template.replace(at, to);
            prop_assert_eq!(&template.hash()[..], &Sha256::digest(&text)[..]);
        }
    }
}
