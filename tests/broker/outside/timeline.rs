//! The states of every account over time, replayed from the effects in the sandbox's log.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Micros, Record, Shares};

/// The states of all images over a round.
pub(super) struct Timeline {
    images: BTreeMap<String, Vec<Change>>,
    initial: Shares,
}

/// A change of one account, by one request.
#[derive(Clone, Copy)]
struct Change {
    at: Micros,
    account: u64,
    shared: bool,
    /// The index of the request in the log.
    request: usize,
}

impl Timeline {
    pub(super) fn new(record: &Record) -> Self {
        let mut effects: Vec<(Micros, usize)> =
            (0..).zip(&record.requests).filter_map(|(place, request)| Some((request.effect()?, place))).collect();
        // Requests that took effect in the same microsecond did so in the order of arrival.
        effects.sort_unstable();
        let mut state = record.initial.clone();
        let mut images: BTreeMap<String, Vec<Change>> = BTreeMap::new();
        for (at, place) in effects {
            let request = &record.requests[place];
            let (Some(image), Some(shared)) = (&request.image, request.share()) else { continue };
            let accounts = state.entry(image.clone()).or_default();
            for &account in &request.accounts {
                if if shared { accounts.insert(account) } else { accounts.remove(&account) } {
                    images.entry(image.clone()).or_default().push(Change { at, account, shared, request: place });
                }
            }
        }
        Self { images, initial: record.initial.clone() }
    }

    /// Returns the first moment from `from` on at which an account is shared, or is not. If it was not so at `from`, the
    /// index of the request that changed it comes with it.
    pub(super) fn first(
        &self,
        image: &str,
        account: u64,
        shared: bool,
        from: Micros,
    ) -> Option<(Micros, Option<usize>)> {
        let mut now = self.initial.get(image).is_some_and(|accounts| accounts.contains(&account));
        for change in self.changes(image).iter().filter(|change| change.account == account) {
            if change.at > from {
                if now == shared {
                    return Some((from, None));
                }
                if change.shared == shared {
                    return Some((change.at, Some(change.request)));
                }
            }
            now = change.shared;
        }
        (now == shared).then_some((from, None))
    }

    /// Returns the accounts of an image at the beginning of a span and after each change within it.
    pub(super) fn states(&self, image: &str, from: Micros, to: Micros) -> Vec<BTreeSet<u64>> {
        let mut state = self.initial.get(image).cloned().unwrap_or_default();
        let mut states = Vec::new();
        for change in self.changes(image).iter().take_while(|change| change.at <= to) {
            if change.at > from {
                states.push(state.clone());
            }
            if change.shared {
                state.insert(change.account)
            } else {
                state.remove(&change.account)
            };
        }
        states.push(state);
        states
    }

    /// Returns the accounts of an image at the end.
    pub(super) fn last(&self, image: &str) -> BTreeSet<u64> {
        self.states(image, Micros::MAX, Micros::MAX).pop().unwrap_or_default()
    }

    fn changes(&self, image: &str) -> &[Change] {
        self.images.get(image).map_or(&[], Vec::as_slice)
    }
}
