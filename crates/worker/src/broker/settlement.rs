//! Deliveries from their settlement to their acknowledgement.
//!
//! # Order of acknowledgements
//!
//! 1. A delivery is **due** once the broker has confirmed its messages, and those of all deliveries that were settled
//!    before it.
//! 2. Of the deliveries that are due, an earlier one is acknowledged no later than a later one.
//!
//! The engine settles the deliveries of an account in order. So whenever the process ends, the broker never redelivers
//! an earlier delivery of an account without the later ones.
//!
//! # Cost of acknowledgements
//!
//! For each acknowledgement RabbitMQ searches the unacknowledged deliveries of the channel from the oldest one on. In the
//! order of delivery that costs nothing. In the order of settlement, with 60,000 unacknowledged deliveries, it took
//! minutes. Meanwhile the broker answered nothing on the channel, so the worker treated the lane as lost, and nearly
//! all deliveries were redelivered (measured with RabbitMQ 3.10).
//!
//! So deliveries without a gap before them are acknowledged at once, all by one acknowledgement. Those ahead of a gap wait
//! for [`PATIENCE`], since most gaps close soon. Then they are acknowledged in parts, each after the broker's answer to the
//! part before.

use std::{
    collections::{BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::events::Finished;

/// How long deliveries ahead of a gap wait for the gap to close.
const PATIENCE: Duration = Duration::from_millis(100);

/// The most deliveries ahead of a gap that are acknowledged before the broker has to answer. With a window of 60,000,
/// each of them may take the broker several milliseconds.
const AHEAD_MAX: usize = 100;

/// The deliveries of one subscription that are settled and not yet acknowledged.
#[derive(Debug)]
pub(super) struct Settlement {
    /// Not due yet, in the order of settlement.
    unconfirmed: VecDeque<Unconfirmed>,
    /// The number of the first one.
    first: u64,
    due: DueTags,
    /// When deliveries ahead of a gap are acknowledged.
    ahead_at: Instant,
    /// How many deliveries ahead of a gap are left of those that are being acknowledged in parts.
    in_parts: usize,
    /// Whether the broker has to answer before the next acknowledgement.
    awaits_answer: bool,
    /// Whether no more deliveries will be settled.
    is_closed: bool,
}

#[derive(Debug)]
struct Unconfirmed {
    tag: u64,
    /// Messages that are not confirmed.
    messages: usize,
    finished: Finished,
}

/// An acknowledgement to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) tag: u64,
    /// Whether it is for all deliveries up to that one.
    pub(super) multiple: bool,
    /// Deliveries that it acknowledges.
    pub(super) count: u32,
}

/// The tags of the deliveries that are due. The broker counts tags from 1.
#[derive(Debug, Default)]
struct DueTags {
    /// All up to this one are acknowledged.
    through: u64,
    tags: BTreeSet<u64>,
    /// Acknowledged ahead of a gap.
    ahead: BTreeSet<u64>,
}

impl Settlement {
    /// Nothing settled yet.
    pub(super) fn new() -> Self {
        Self {
            unconfirmed: VecDeque::new(),
            first: 0,
            due: DueTags::default(),
            ahead_at: Instant::now(),
            in_parts: 0,
            awaits_answer: false,
            is_closed: false,
        }
    }

    /// Adds a delivery with this number of messages. Returns its number for [`confirmed`](Self::confirmed).
    pub(super) fn add(&mut self, tag: u64, messages: usize, finished: Finished) -> u64 {
        self.unconfirmed.push_back(Unconfirmed { tag, messages, finished });
        self.first + self.unconfirmed.len() as u64 - 1
    }

    /// The broker confirmed a message of a delivery. `finish` gets each delivery that is due by that.
    pub(super) fn confirmed(&mut self, now: Instant, number: u64, mut finish: impl FnMut(Finished)) {
        let place = usize::try_from(number - self.first).ok();
        let unconfirmed = place.and_then(|place| self.unconfirmed.get_mut(place));
        unconfirmed.expect("a delivery waits for all its messages").messages -= 1;
        while let Some(Unconfirmed { tag, finished, .. }) = self.unconfirmed.pop_front_if(|first| first.messages == 0) {
            self.first += 1;
            if self.due.tags.is_empty() && !self.is_closed {
                self.ahead_at = now + PATIENCE;
            }
            self.due.tags.insert(tag);
            finish(finished);
        }
    }

    /// Acknowledges what can be acknowledged now.
    pub(super) fn acknowledge(&mut self, now: Instant, mut send: impl FnMut(Ack)) {
        if self.awaits_answer {
            return;
        }
        if let Some(ack) = self.due.take_without_gap() {
            send(ack);
        }
        let due = self.due.tags.len();
        if due == 0 || now < self.ahead_at {
            return;
        }
        // All parts together cover as many deliveries as were due at the first part. Those that become due later wait
        // for another PATIENCE, since their gap may close.
        self.in_parts = if self.in_parts == 0 { due } else { self.in_parts.min(due) };
        let part = self.in_parts.min(AHEAD_MAX);
        std::iter::from_fn(|| self.due.take_first()).take(part).for_each(send);
        self.in_parts -= part;
        self.awaits_answer = true;
    }

    /// When [`acknowledge`](Self::acknowledge) has to be called next.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        (!self.awaits_answer && !self.due.tags.is_empty()).then_some(self.ahead_at)
    }

    /// Whether the broker has to [answer](Self::answered) before the next acknowledgement.
    pub(super) const fn awaits_answer(&self) -> bool {
        self.awaits_answer
    }

    /// Records that the broker answered a question that was asked after the last acknowledgement.
    pub(super) fn answered(&mut self, now: Instant) {
        self.awaits_answer = false;
        if self.in_parts == 0 && !self.is_closed {
            self.ahead_at = now + PATIENCE;
        }
    }

    /// No more deliveries will be settled: no gap will close.
    pub(super) const fn close(&mut self, now: Instant) {
        self.is_closed = true;
        self.ahead_at = now;
    }

    /// Whether all is acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.unconfirmed.is_empty() && self.due.tags.is_empty() && !self.awaits_answer
    }
}

impl DueTags {
    /// Takes all that have no gap before them.
    fn take_without_gap(&mut self) -> Option<Ack> {
        let (mut tag, mut count) = (0, 0);
        loop {
            let next = self.through + 1;
            if self.tags.remove(&next) {
                (tag, count) = (next, count + 1);
            } else if !self.ahead.remove(&next) {
                break;
            }
            self.through = next;
        }
        (count > 0).then_some(Ack { tag, multiple: true, count })
    }

    /// Takes the first one, gap or not.
    fn take_first(&mut self) -> Option<Ack> {
        let tag = self.tags.pop_first()?;
        self.ahead.insert(tag);
        Some(Ack { tag, multiple: false, count: 1 })
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::report::Status;

    fn finished() -> Finished {
        Finished { status: Status::Succeeded, published_at: None, received_at: SystemTime::UNIX_EPOCH, is_dead: false }
    }

    /// Settles and confirms deliveries with these tags, in this order.
    fn due(settlement: &mut Settlement, now: Instant, tags: impl IntoIterator<Item = u64>) {
        for tag in tags {
            let number = settlement.add(tag, 1, finished());
            settlement.confirmed(now, number, drop);
        }
    }

    fn acks(settlement: &mut Settlement, now: Instant) -> Vec<Ack> {
        let mut acks = Vec::new();
        settlement.acknowledge(now, |ack| acks.push(ack));
        acks
    }

    fn through(tag: u64, count: u32) -> Ack {
        Ack { tag, multiple: true, count }
    }

    fn single(tag: u64) -> Ack {
        Ack { tag, multiple: false, count: 1 }
    }

    #[test]
    fn deliveries_without_gap_are_acknowledged_at_once() {
        let (mut settlement, now) = (Settlement::new(), Instant::now());
        due(&mut settlement, now, [2, 1, 4]);
        assert_eq!(acks(&mut settlement, now), [through(2, 2)]);
        assert_eq!(acks(&mut settlement, now), []);
        let later = settlement.wakes_at().unwrap();
        assert_eq!(later, now + PATIENCE);
        assert_eq!(acks(&mut settlement, later), [single(4)]);
        settlement.answered(later);
        assert!(settlement.is_empty());
        due(&mut settlement, later, [5]);
        assert_eq!(acks(&mut settlement, later), []);
        // The gap closes. What was acknowledged ahead of it is not counted again.
        due(&mut settlement, later, [3]);
        assert_eq!(acks(&mut settlement, later), [through(5, 2)]);
        due(&mut settlement, later, [7, 6]);
        assert_eq!(acks(&mut settlement, later), [through(7, 2)]);
    }

    #[test]
    fn deliveries_ahead_of_gap_go_in_parts() {
        let ahead = 5..5 + 2 * AHEAD_MAX as u64 + 7;
        for (is_closed, patience) in [(false, PATIENCE), (true, Duration::ZERO)] {
            let (mut settlement, now) = (Settlement::new(), Instant::now());
            due(&mut settlement, now, [1, 2].into_iter().chain(ahead.clone().rev()));
            assert_eq!(acks(&mut settlement, now), [through(2, 2)]);
            if is_closed {
                settlement.close(now);
            }
            let mut sent = Vec::new();
            for part in [AHEAD_MAX, AHEAD_MAX, 7] {
                assert_eq!(settlement.wakes_at(), Some(now + patience));
                let acks_of_part = acks(&mut settlement, now + patience);
                assert_eq!(acks_of_part.len(), part);
                sent.extend(acks_of_part);
                assert_eq!(
                    (acks(&mut settlement, now + patience), settlement.wakes_at()),
                    (vec![], None),
                    "no answer yet"
                );
                settlement.answered(now + patience);
            }
            assert_eq!(sent, ahead.clone().map(single).collect::<Vec<_>>());
            assert!(settlement.is_empty());
        }
    }

    #[test]
    fn gap_that_closes_soon_costs_nothing() {
        let (mut settlement, now) = (Settlement::new(), Instant::now());
        due(&mut settlement, now, 2..50);
        assert_eq!(acks(&mut settlement, now + PATIENCE / 2), []);
        due(&mut settlement, now + PATIENCE / 2, [1]);
        assert_eq!(acks(&mut settlement, now + PATIENCE / 2), [through(49, 49)]);
    }

    #[test]
    fn nothing_is_due_behind_what_is_not_confirmed() {
        let (mut settlement, now) = (Settlement::new(), Instant::now());
        let [first, second] = [1, 2].map(|tag| settlement.add(tag, 2, finished()));
        settlement.close(now);
        for number in [second, second, first] {
            settlement.confirmed(now, number, |_| panic!("it is not due"));
            assert_eq!((acks(&mut settlement, now), settlement.wakes_at()), (vec![], None));
        }
        let mut due = 0;
        settlement.confirmed(now, first, |_| due += 1);
        assert_eq!((due, acks(&mut settlement, now)), (2, vec![through(2, 2)]));
        assert!(settlement.is_empty());
    }

    proptest! {
        /// Both rules of the order hold, and each delivery is acknowledged once, whatever the order of settlements,
        /// confirms and calls.
        #[test]
        fn acknowledgements_keep_their_order(
            tags in Just((1..=40_u64).collect::<Vec<_>>()).prop_shuffle(),
            messages in prop::collection::vec(1..=2_usize, 40),
            steps in prop::collection::vec((any::<prop::sample::Index>(), 0..4_u8), 80),
        ) {
            let (mut settlement, mut now) = (Settlement::new(), Instant::now());
            let mut open: Vec<u64> = Vec::new();
            for (tag, messages) in tags.iter().zip(&messages) {
                let number = settlement.add(*tag, *messages, finished());
                open.extend(std::iter::repeat_n(number, *messages));
            }
            let mut held: BTreeSet<u64> = tags.iter().copied().collect();
            for (index, step) in steps {
                if !open.is_empty() {
                    let number = open.swap_remove(index.index(open.len()));
                    settlement.confirmed(now, number, drop);
                }
                let confirmed = open.iter().min().map_or(tags.len(), |number| usize::try_from(*number).unwrap());
                let due: BTreeSet<u64> = tags[..confirmed].iter().copied().collect();
                match step {
                    0 => now += PATIENCE,
                    1 if settlement.awaits_answer() => settlement.answered(now),
                    2 if open.is_empty() => settlement.close(now),
                    _ => {}
                }
                settlement.acknowledge(now, |ack| {
                    let before = held.len();
                    assert!(held.contains(&ack.tag), "{ack:?} is not held");
                    held.retain(|tag| if ack.multiple { *tag > ack.tag } else { *tag != ack.tag });
                    assert_eq!(before - held.len(), ack.count as usize);
                    assert!(held.is_superset(&tags[confirmed..].iter().copied().collect()), "{ack:?} is not due");
                    assert!(due.range(..ack.tag).all(|earlier| !held.contains(earlier)), "{ack:?} overtakes another");
                });
            }
            while !settlement.is_empty() {
                open.drain(..).for_each(|number| settlement.confirmed(now, number, drop));
                settlement.close(now);
                settlement.answered(now);
                settlement.acknowledge(now, |ack| held.retain(|tag| if ack.multiple { *tag > ack.tag } else { *tag != ack.tag }));
            }
            prop_assert!(held.is_empty() && settlement.due.ahead.is_empty());
        }
    }
}
