//! The search for the longest list that the API accepts.

/// The bounds of the longest list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BatchSearch {
    /// The longest list that was accepted.
    accepted: u32,
    /// The shortest list that was refused for its length; 0 for none.
    refused: u32,
}

impl BatchSearch {
    /// The length to send: the configured one until it is refused, then halfway between accepted and refused lengths.
    pub(super) fn next(self, configured: u32) -> u32 {
        // Bisection: from 50 accounts on, the limit is known after a few refusals.
        let searched =
            if self.refused == 0 { configured } else { self.accepted.midpoint(self.refused).max(self.accepted) };
        searched.min(configured).max(1)
    }

    pub(super) fn accepted(&mut self, len: u32) {
        self.accepted = self.accepted.max(len);
        if self.refused <= self.accepted {
            // The API's limit has changed.
            self.refused = 0;
        }
    }

    pub(super) fn refused(&mut self, len: u32) {
        self.refused = if self.refused == 0 { len } else { self.refused.min(len) };
        // The API's limit has fallen.
        if self.accepted >= self.refused {
            self.accepted = self.refused - 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_ends_at_the_longest_list() {
        for longest in 1..=50 {
            let mut search = BatchSearch::default();
            let mut tries = 0;
            loop {
                let len = search.next(50);
                if len <= longest {
                    search.accepted(len);
                } else {
                    search.refused(len);
                }
                tries += 1;
                assert!(tries < 20, "{longest}");
                if search.next(50) == len && len <= longest {
                    break;
                }
            }
            assert_eq!(search.next(50), longest);
        }
    }

    #[test]
    fn limit_that_rises_or_falls_is_followed() {
        let mut search = BatchSearch::default();
        search.refused(50);
        search.accepted(25);
        search.refused(20);
        assert!(search.next(50) < 20);
        search.accepted(49);
        assert_eq!(search.next(50), 50);
    }
}
