//! Messages that a queue refused, by destination. Each destination is tried again after growing pauses, on the same
//! channel, and holds up no other one.
//!
//! After a refusal one message is sent at a time, the oldest; each one that is taken doubles how many may be under way. So
//! the messages of a destination arrive in their order, and what a full queue refuses is sent seldom.

use std::collections::{BTreeMap, BTreeSet};

use imageshare_amqp::Message;
use lapin::types::ShortString;
use tokio::time::Instant;

use crate::pauses::Refused;

/// Why a queue did not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The broker answered with a nack: the queue is full, or it is not available.
    Refused,
    /// No queue is bound.
    Unroutable,
}

/// Messages with their numbers, in the order in which they were handed over. Empty while every queue takes all.
#[derive(Debug)]
pub(super) struct Refusals<R> {
    by_destination: BTreeMap<Destination, Refusal<R>>,
}

/// Exchange and routing key.
type Destination = (ShortString, ShortString);

#[derive(Debug)]
struct Refusal<R> {
    why: Why,
    /// When the destination last took a message, or first refused one.
    since: Instant,
    waiting: BTreeMap<u64, R>,
    /// Sent to find out whether the destination takes messages again.
    probes: BTreeSet<u64>,
    probes_max: usize,
    next_at: Instant,
    pauses: Refused,
}

impl<R> Default for Refusals<R> {
    fn default() -> Self {
        Self { by_destination: BTreeMap::new() }
    }
}

impl<R> Refusals<R> {
    pub(super) fn is_empty(&self) -> bool {
        self.by_destination.is_empty()
    }

    /// One destination that refuses, why, and since when nothing got there.
    pub(super) fn first(&self) -> Option<(&ShortString, &ShortString, Why, Instant)> {
        let ((exchange, key), Refusal { why, since, .. }) = self.by_destination.first_key_value()?;
        Some((exchange, key, *why, *since))
    }

    /// Whether messages to the destination of this one have to wait.
    pub(super) fn holds(&self, message: &Message) -> bool {
        self.by_destination.contains_key(&destination(message))
    }

    /// Lets a message wait at its destination, which [holds](Self::holds) messages.
    pub(super) fn wait(&mut self, message: &Message, number: u64, request: R) {
        if let Some(refusal) = self.by_destination.get_mut(&destination(message)) {
            refusal.probes.remove(&number);
            refusal.waiting.insert(number, request);
        }
    }

    /// A message was refused.
    pub(super) fn refuse(&mut self, now: Instant, message: &Message, number: u64, request: R, why: Why) {
        let refusal = self.by_destination.entry(destination(message)).or_insert_with(|| {
            let mut pauses = Refused::default();
            let next_at = now + pauses.next();
            let (waiting, probes) = (BTreeMap::new(), BTreeSet::new());
            Refusal { why, since: now, waiting, probes, probes_max: 1, next_at, pauses }
        });
        refusal.why = why;
        if refusal.probes.remove(&number) {
            refusal.probes_max = 1;
            refusal.next_at = now + refusal.pauses.next();
        }
        refusal.waiting.insert(number, request);
    }

    /// Whether a message that came before this one still waits at its destination.
    pub(super) fn is_overtaken(&self, message: &Message, number: u64) -> bool {
        let refusal = self.by_destination.get(&destination(message));
        refusal.and_then(|refusal| refusal.waiting.first_key_value()).is_some_and(|(first, _)| *first < number)
    }

    /// A message was taken.
    pub(super) fn taken(&mut self, now: Instant, message: &Message, number: u64) {
        let Some(refusal) = self.by_destination.get_mut(&destination(message)) else { return };
        refusal.since = now;
        if refusal.probes.remove(&number) {
            refusal.probes_max = refusal.probes_max.saturating_mul(2);
            refusal.next_at = now;
            refusal.pauses.reset();
        }
        self.forget_settled();
    }

    /// A message needs no further try, whatever became of it.
    pub(super) fn give_up(&mut self, message: &Message, number: u64) {
        if let Some(refusal) = self.by_destination.get_mut(&destination(message)) {
            refusal.probes.remove(&number);
        }
        self.forget_settled();
    }

    /// When the next message may be sent, if any waits.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.by_destination.values().filter(|refusal| refusal.may_probe()).map(|refusal| refusal.next_at).min()
    }

    /// Takes a message that may be sent now.
    pub(super) fn next(&mut self, now: Instant) -> Option<(u64, R)> {
        let refusal = self.by_destination.values_mut().find(|refusal| refusal.may_probe() && refusal.next_at <= now)?;
        let (number, request) = refusal.waiting.pop_first()?;
        refusal.probes.insert(number);
        Some((number, request))
    }

    /// Nothing is under way any more: whatever was comes back by [`wait`](Self::wait).
    pub(super) fn disconnected(&mut self) {
        for refusal in self.by_destination.values_mut() {
            refusal.probes.clear();
            refusal.probes_max = 1;
        }
    }

    fn forget_settled(&mut self) {
        self.by_destination.retain(|_, refusal| !refusal.waiting.is_empty() || !refusal.probes.is_empty());
    }
}

impl<R> Refusal<R> {
    fn may_probe(&self) -> bool {
        !self.waiting.is_empty() && self.probes.len() < self.probes_max
    }
}

fn destination(message: &Message) -> Destination {
    (message.exchange.clone(), message.routing_key.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn message(key: &str) -> Message {
        Message::json("", key.into(), "".into(), Vec::new())
    }

    /// Sends what is due at this moment.
    fn due(refusals: &mut Refusals<u64>, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| refusals.next(now)).map(|(number, _)| number).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_destination_is_tried_with_growing_pauses() {
        let (mut refusals, full, mut now) = (Refusals::default(), message("full"), Instant::now());
        refusals.refuse(now, &full, 1, 1, Why::Refused);
        refusals.refuse(now, &full, 2, 2, Why::Refused);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let next_at = refusals.next_at().unwrap();
            pauses.push(next_at - now);
            now = next_at;
            assert_eq!(due(&mut refusals, now), [1], "the oldest alone");
            refusals.refuse(now, &full, 1, 1, Why::Refused);
        }
        assert!(pauses[0] <= Duration::from_millis(300), "{pauses:?}");
        assert!(pauses[9..].iter().all(|pause| (15..=30).contains(&pause.as_secs())), "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_destination_that_takes_messages_gets_more_each_time() {
        let (mut refusals, full) = (Refusals::default(), message("full"));
        let begun = Instant::now();
        (1..=8).for_each(|number| refusals.refuse(begun, &full, number, number, Why::Refused));
        let now = begun + Duration::from_secs(60);
        assert_eq!(due(&mut refusals, now), [1]);
        refusals.taken(now, &full, 1);
        assert_eq!(due(&mut refusals, now), [2, 3]);
        [2, 3].into_iter().for_each(|number| refusals.taken(now, &full, number));
        assert_eq!(due(&mut refusals, now), [4, 5, 6, 7, 8]);
        assert_eq!(refusals.first().unwrap().3, now, "since it took the last one");
        (4..=8).for_each(|number| refusals.taken(now, &full, number));
        assert!(refusals.is_empty() && !refusals.holds(&full));
    }

    #[tokio::test(start_paused = true)]
    async fn one_destination_holds_up_no_other() {
        let (mut refusals, now) = (Refusals::default(), Instant::now());
        refusals.refuse(now, &message("full"), 1, 1, Why::Refused);
        assert!(refusals.holds(&message("full")) && !refusals.holds(&message("other")));
        let later = now + Duration::from_secs(60);
        refusals.refuse(later, &message("other"), 2, 2, Why::Unroutable);
        assert_eq!(due(&mut refusals, later), [1]);
        assert_eq!(due(&mut refusals, later + Duration::from_secs(60)), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_message_that_was_taken_first_is_known() {
        let (mut refusals, full, now) = (Refusals::default(), message("full"), Instant::now());
        refusals.refuse(now, &full, 5, 5, Why::Refused);
        assert!(refusals.is_overtaken(&full, 6) && !refusals.is_overtaken(&full, 4));
        refusals.wait(&full, 6, 6);
        let later = now + Duration::from_secs(60);
        assert_eq!(due(&mut refusals, later), [5]);
        refusals.taken(later, &full, 5);
        assert_eq!(due(&mut refusals, later), [6]);
        assert!(!refusals.is_overtaken(&full, 6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_connection_brings_probes_back_in_order() {
        let (mut refusals, full, now) = (Refusals::default(), message("full"), Instant::now());
        (1..=3).for_each(|number| refusals.refuse(now, &full, number, number, Why::Refused));
        let later = now + Duration::from_secs(60);
        assert_eq!(due(&mut refusals, later), [1]);
        refusals.disconnected();
        refusals.wait(&full, 1, 1);
        assert_eq!(due(&mut refusals, later), [1]);
    }
}
