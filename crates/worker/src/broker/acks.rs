//! Acknowledgements that are due, in an order that costs the broker little.
//!
//! For each one the broker goes through what its channel holds, from the oldest delivery on, to the one that is meant.
//! In the order of delivery that is nothing; out of it, all that stands before. With 60,000 held and settled image by
//! image the acknowledgements took it minutes, in which it answered nothing on that channel: the lane was taken for
//! lost, and nearly all came again (measured with RabbitMQ 3.10).
//!
//! So what has no gap before it goes at once, all in one acknowledgement. What lies ahead of a gap waits a little, since
//! most gaps close soon, and then goes in small parts, the next one when the broker has answered.
//!
//! Of what is due an earlier delivery is acknowledged no later than a later one. So with the deliveries of an account
//! becoming due in their order, a crash never takes back an earlier one without the later ones.

use std::{collections::BTreeSet, future::ready, iter, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// How long what lies ahead of a gap waits for the gap to close.
const PATIENCE: Duration = Duration::from_millis(100);

/// How many of those go until the broker has answered. With a window of 60,000 each may take it some milliseconds.
const AHEAD_MAX: usize = 100;

/// Acknowledges the deliveries with these tags, until no more are to come and all are acknowledged. `answered` waits
/// until the broker has worked on what was sent to it.
///
/// # Errors
/// The first one of `send` or `answered`.
pub(super) async fn acknowledge<E, A: Future<Output = Result<(), E>>>(
    mut tags: mpsc::UnboundedReceiver<u64>,
    mut send: impl FnMut(Ack) -> Result<(), E>,
    answered: impl Fn() -> A,
) -> Result<(), E> {
    let mut acks = Acks::default();
    // Those ahead of a gap that go now, and when the others do.
    let (mut going, mut until) = (0, Instant::now());
    let mut is_open = true;
    while is_open || !acks.is_empty() {
        tokio::select! {
            biased;
            tag = tags.recv(), if is_open => match tag {
                Some(tag) => {
                    if acks.is_empty() {
                        until = Instant::now() + PATIENCE;
                    }
                    acks.add(tag);
                }
                None => (is_open, until) = (false, Instant::now()),
            },
            // Nothing more is due at this moment.
            () = ready(()), if acks.is_next() => acks.without_gap().map_or(Ok(()), &mut send)?,
            () = sleep_until(until), if !acks.is_empty() => {
                going = if going == 0 { acks.len() } else { going.min(acks.len()) };
                let part = going.min(AHEAD_MAX);
                iter::from_fn(|| acks.first()).take(part).try_for_each(&mut send)?;
                answered().await?;
                going -= part;
                if going == 0 && is_open {
                    until = Instant::now() + PATIENCE;
                }
            }
        }
    }
    Ok(())
}

/// What is due on one channel, by the broker's delivery tags, which count from 1.
#[derive(Debug, Default)]
struct Acks {
    /// All up to this one are acknowledged.
    through: u64,
    due: BTreeSet<u64>,
    /// Acknowledged ahead of a gap.
    ahead: BTreeSet<u64>,
}

/// An acknowledgement to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) tag: u64,
    /// Whether it is one of all deliveries up to that one.
    pub(super) multiple: bool,
    /// Deliveries that it acknowledges.
    pub(super) count: u32,
}

impl Acks {
    /// This one is due.
    fn add(&mut self, tag: u64) {
        self.due.insert(tag);
    }

    /// Whether any is.
    fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// How many are.
    fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether one of them has no gap before it.
    fn is_next(&self) -> bool {
        self.due.contains(&(self.through + 1)) || self.ahead.contains(&(self.through + 1))
    }

    /// Takes all that have no gap before them.
    fn without_gap(&mut self) -> Option<Ack> {
        let (mut tag, mut count) = (0, 0);
        while self.is_next() {
            self.through += 1;
            if self.due.remove(&self.through) {
                tag = self.through;
                count += 1;
            } else {
                self.ahead.remove(&self.through);
            }
        }
        (count > 0).then_some(Ack { tag, multiple: true, count })
    }

    /// Takes the first one, whatever stands before it.
    fn first(&mut self) -> Option<Ack> {
        let tag = self.due.pop_first()?;
        self.ahead.insert(tag);
        Some(Ack { tag, multiple: false, count: 1 })
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, convert::Infallible};

    use proptest::prelude::*;

    use super::*;

    fn ack(tag: u64, multiple: bool, count: u32) -> Option<Ack> {
        Some(Ack { tag, multiple, count })
    }

    #[test]
    fn what_has_no_gap_before_it_is_acknowledged_at_once() {
        let mut acks = Acks::default();
        [2, 1, 4].into_iter().for_each(|tag| acks.add(tag));
        assert_eq!(acks.without_gap(), ack(2, true, 2));
        assert_eq!(acks.without_gap(), None);
        assert_eq!(acks.first(), ack(4, false, 1));
        assert_eq!(acks.first(), None);
        assert!(acks.is_empty());
        acks.add(5);
        assert_eq!(acks.without_gap(), None);
        // The gap closes, and what was acknowledged ahead of it is not counted again.
        acks.add(3);
        assert_eq!(acks.without_gap(), ack(5, true, 2));
        acks.add(7);
        acks.add(6);
        assert_eq!(acks.without_gap(), ack(7, true, 2));
    }

    /// What a channel of the broker was told, with a mark for each answer that was waited for.
    fn told(tags: &[u64], is_open: bool) -> (Vec<Option<Ack>>, Duration) {
        let told = RefCell::new(Vec::new());
        let (sender, due) = mpsc::unbounded_channel();
        tags.iter().for_each(|tag| sender.send(*tag).unwrap());
        let sender = is_open.then_some(sender);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let took = runtime.block_on(async {
            let begun = Instant::now();
            let send = |ack| {
                told.borrow_mut().push(Some(ack));
                Ok::<_, Infallible>(())
            };
            let answered = || {
                told.borrow_mut().push(None);
                ready(Ok(()))
            };
            let ended = tokio::time::timeout(PATIENCE * 10, acknowledge(due, send, answered)).await;
            assert_eq!(ended.is_ok(), !is_open);
            begun.elapsed()
        });
        drop(sender);
        (told.into_inner(), took)
    }

    #[test]
    fn what_lies_ahead_of_a_gap_goes_in_parts_with_an_answer_between() {
        let parts = 2 * AHEAD_MAX as u64 + 7;
        let tags: Vec<u64> = [1, 2].into_iter().chain((5..5 + parts).rev()).collect();
        for is_open in [true, false] {
            let (told, took) = told(&tags, is_open);
            assert_eq!(told[0], ack(2, true, 2));
            let lens: Vec<usize> = told[1..].split(Option::is_none).map(<[_]>::len).collect();
            assert_eq!(lens, [AHEAD_MAX, AHEAD_MAX, 7, 0]);
            let sent: Vec<u64> = told[1..].iter().flatten().map(|ack| ack.tag).collect();
            assert_eq!(sent, (5..5 + parts).collect::<Vec<_>>());
            assert_eq!(took.is_zero(), !is_open);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_gap_that_closes_soon_costs_nothing() {
        let (sender, due) = mpsc::unbounded_channel();
        let sent = RefCell::new(Vec::new());
        let send = |ack| {
            sent.borrow_mut().push(ack);
            Ok::<_, Infallible>(())
        };
        let closing = async {
            (2..50).for_each(|tag| sender.send(tag).unwrap());
            tokio::time::sleep(PATIENCE / 2).await;
            sender.send(1).unwrap();
            drop(sender);
        };
        let (ended, ()) = tokio::join!(acknowledge(due, send, || async { panic!("nothing to wait for") }), closing);
        assert_eq!(ended, Ok(()));
        assert_eq!(*sent.borrow(), [Ack { tag: 49, multiple: true, count: 49 }]);
    }

    proptest! {
        /// A broker that holds 1 to 40 sees each of them acknowledged once, and nothing that it does not hold.
        #[test]
        fn each_is_acknowledged_once(
            order in Just((1..=40_u64).collect::<Vec<_>>()).prop_shuffle(),
            takes in prop::collection::vec(0..3_u8, 40),
        ) {
            let mut acks = Acks::default();
            let mut held: BTreeSet<u64> = order.iter().copied().collect();
            let mut take = |ack: Ack| {
                let before = held.len();
                assert!(held.contains(&ack.tag), "{ack:?} is not held");
                held.retain(|tag| if ack.multiple { *tag > ack.tag } else { *tag != ack.tag });
                assert_eq!(before - held.len(), ack.count as usize);
            };
            for (tag, how) in order.into_iter().zip(takes) {
                acks.add(tag);
                let taken = match how {
                    0 => None,
                    1 => acks.without_gap(),
                    _ => acks.without_gap().or_else(|| acks.first()),
                };
                taken.into_iter().for_each(&mut take);
            }
            acks.without_gap().into_iter().for_each(&mut take);
            prop_assert!(acks.is_empty() && acks.ahead.is_empty() && held.is_empty());
        }
    }
}
