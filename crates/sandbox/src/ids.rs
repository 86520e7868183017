//! Unique request ids and temporary keys, distinct between sandboxes.

use sha2::{Digest, Sha256};

/// Derives ids from a start value and a counter.
#[derive(Debug)]
pub(crate) struct Ids {
    start: u64,
    made: u64,
}

impl Ids {
    pub(crate) const fn new(start: u64) -> Self {
        Self { start, made: 0 }
    }

    /// Returns 64 new hex digits. They are predictable, which is acceptable in a sandbox.
    pub(crate) fn next(&mut self) -> String {
        self.made += 1;
        let mut hash = Sha256::new();
        hash.update(self.start.to_le_bytes());
        hash.update(self.made.to_le_bytes());
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns the id of a new resource: the prefix and eight hex digits.
    pub(crate) fn resource(&mut self, prefix: &str) -> String {
        format!("{prefix}-{}", self.next().get(..8).unwrap_or_default())
    }

    /// Returns a request id in the form of a version 4 UUID.
    pub(crate) fn request_id(&mut self) -> String {
        let hex = self.next();
        let part = |range| hex.get(range).unwrap_or_default();
        format!("{}-{}-4{}-8{}-{}", part(0..8), part(8..12), part(13..16), part(17..20), part(20..32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_distinct_uuids() {
        let mut ids = Ids::new(1);
        let (first, second) = (ids.request_id(), ids.request_id());
        assert_ne!(first, second);
        let lengths: Vec<_> = first.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12]);
    }
}
