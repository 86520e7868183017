//! Messages that a queue refused, by destination. Each destination is tried again after growing pauses, on the same
//! channel, and delays no other one.
//!
//! After a refusal one message is sent at a time, the oldest. Each accepted one doubles how many may be in flight. So the
//! messages of a destination arrive in order, and a full queue is tried seldom.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use imageshare_amqp::{Message, Outgoing};
use lapin::types::ShortString;
use tokio::time::Instant;

use crate::pauses::Pauses;

/// Why a queue did not accept a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusalReason {
    /// The broker answered with a nack: the queue is full, or it is not available.
    Refused,
    /// No queue is bound.
    Unroutable,
}

/// A message with its number in the order in which messages were handed over.
pub(super) trait Numbered: Outgoing {
    fn number(&self) -> u64;
}

/// The refused messages and those that wait behind them. Empty while every queue accepts all.
#[derive(Debug)]
pub(super) struct RefusedMessages<R> {
    by_destination: BTreeMap<Destination, RefusedDestination<R>>,
}

/// Exchange and routing key.
type Destination = (ShortString, ShortString);

#[derive(Debug)]
struct RefusedDestination<R> {
    reason: RefusalReason,
    /// When the destination last accepted a message, or first refused one.
    since: Instant,
    waiting: BTreeMap<u64, R>,
    /// Sent to find out whether the destination accepts messages again.
    probes: BTreeSet<u64>,
    probes_max: usize,
    next_at: Instant,
    pauses: Pauses,
}

impl<R> Default for RefusedMessages<R> {
    fn default() -> Self {
        Self { by_destination: BTreeMap::new() }
    }
}

impl<R: Numbered> RefusedMessages<R> {
    /// Returns one destination that refuses, why, and since when it accepted nothing.
    pub(super) fn first(&self) -> Option<(&ShortString, &ShortString, RefusalReason, Instant)> {
        let ((exchange, key), RefusedDestination { reason, since, .. }) = self.by_destination.first_key_value()?;
        Some((exchange, key, *reason, *since))
    }

    /// Lets a message wait behind others of its destination, or returns it if there are none.
    pub(super) fn wait(&mut self, request: R) -> Option<R> {
        // Usually no destination refuses.
        if self.by_destination.is_empty() {
            return Some(request);
        }
        let Some(refusal) = self.by_destination.get_mut(&destination(request.message())) else { return Some(request) };
        refusal.probes.remove(&request.number());
        refusal.waiting.insert(request.number(), request);
        None
    }

    /// A message was refused.
    pub(super) fn refuse(&mut self, now: Instant, request: R, reason: RefusalReason) {
        let refusal = self.by_destination.entry(destination(request.message())).or_insert_with(|| {
            let mut pauses = Pauses::between_publishes();
            let next_at = now + pauses.next();
            let (waiting, probes) = (BTreeMap::new(), BTreeSet::new());
            RefusedDestination { reason, since: now, waiting, probes, probes_max: 1, next_at, pauses }
        });
        refusal.reason = reason;
        if refusal.probes.remove(&request.number()) {
            refusal.probes_max = 1;
            refusal.next_at = now + refusal.pauses.next();
        }
        refusal.waiting.insert(request.number(), request);
    }

    /// Whether an earlier message still waits at the destination of this one.
    pub(super) fn is_overtaken(&self, request: &R) -> bool {
        let refusal = self.of(request);
        let first = refusal.and_then(|refusal| refusal.waiting.first_key_value());
        first.is_some_and(|(first, _)| *first < request.number())
    }

    /// Returns how long the destination of a message has accepted nothing; zero if it refuses for the first time.
    pub(super) fn refused_for(&self, now: Instant, request: &R) -> Duration {
        self.of(request).map_or(Duration::ZERO, |refusal| now.saturating_duration_since(refusal.since))
    }

    /// A message was accepted.
    pub(super) fn accepted(&mut self, now: Instant, request: &R) {
        if self.by_destination.is_empty() {
            return;
        }
        let Some(refusal) = self.by_destination.get_mut(&destination(request.message())) else { return };
        refusal.since = now;
        if refusal.probes.remove(&request.number()) {
            refusal.probes_max = refusal.probes_max.saturating_mul(2);
            refusal.next_at = now;
            refusal.pauses.reset();
        }
        self.forget_settled();
    }

    /// A message is not tried again.
    pub(super) fn give_up(&mut self, request: &R) {
        if let Some(refusal) = self.by_destination.get_mut(&destination(request.message())) {
            refusal.probes.remove(&request.number());
        }
        self.forget_settled();
    }

    fn of(&self, request: &R) -> Option<&RefusedDestination<R>> {
        if self.by_destination.is_empty() {
            return None;
        }
        self.by_destination.get(&destination(request.message()))
    }

    /// When the next message may be sent, if any waits.
    pub(super) fn next_at(&self) -> Option<Instant> {
        self.by_destination.values().filter(|refusal| refusal.may_probe()).map(|refusal| refusal.next_at).min()
    }

    /// Takes a message that may be sent now.
    pub(super) fn next(&mut self, now: Instant) -> Option<R> {
        let refusal = self.by_destination.values_mut().find(|refusal| refusal.may_probe() && refusal.next_at <= now)?;
        let (number, request) = refusal.waiting.pop_first()?;
        refusal.probes.insert(number);
        Some(request)
    }

    /// Nothing is in flight any more. What was comes back by [`wait`](Self::wait).
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

impl<R> RefusedDestination<R> {
    fn may_probe(&self) -> bool {
        !self.waiting.is_empty() && self.probes.len() < self.probes_max
    }
}

fn destination(message: &Message) -> Destination {
    (message.exchange.clone(), message.routing_key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct TestRequest(u64, Message);

    impl Outgoing for TestRequest {
        fn message(&self) -> &Message {
            &self.1
        }
    }

    impl Numbered for TestRequest {
        fn number(&self) -> u64 {
            self.0
        }
    }

    fn to(key: &str, number: u64) -> TestRequest {
        TestRequest(number, Message::json("", key.into(), "".into(), Vec::new()))
    }

    fn full(number: u64) -> TestRequest {
        to("full", number)
    }

    /// Sends what is due at this moment.
    fn due(refusals: &mut RefusedMessages<TestRequest>, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| refusals.next(now)).map(|request| request.0).collect()
    }

    #[test]
    fn refusal_time_is_counted_per_destination() {
        let (mut refusals, start) = (RefusedMessages::default(), Instant::now());
        assert_eq!(refusals.refused_for(start, &full(1)), Duration::ZERO);
        refusals.refuse(start, full(1), RefusalReason::Unroutable);
        let later = start + Duration::from_secs(3);
        assert_eq!(refusals.refused_for(later, &full(2)), Duration::from_secs(3));
        assert_eq!(refusals.refused_for(later, &to("other", 3)), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn refused_destination_is_tried_with_growing_pauses() {
        let (mut refusals, mut now) = (RefusedMessages::default(), Instant::now());
        refusals.refuse(now, full(1), RefusalReason::Refused);
        refusals.refuse(now, full(2), RefusalReason::Refused);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            let next_at = refusals.next_at().unwrap();
            pauses.push(next_at - now);
            now = next_at;
            assert_eq!(due(&mut refusals, now), [1], "the oldest alone");
            refusals.refuse(now, full(1), RefusalReason::Refused);
        }
        assert!(pauses[0] <= Duration::from_millis(300), "{pauses:?}");
        assert!(pauses[9..].iter().all(|pause| (15..=30).contains(&pause.as_secs())), "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn destination_that_accepts_gets_more_each_time() {
        let mut refusals = RefusedMessages::default();
        let begun = Instant::now();
        (1..=8).for_each(|number| refusals.refuse(begun, full(number), RefusalReason::Refused));
        let now = begun + Duration::from_secs(60);
        assert_eq!(due(&mut refusals, now), [1]);
        refusals.accepted(now, &full(1));
        assert_eq!(due(&mut refusals, now), [2, 3]);
        [2, 3].into_iter().for_each(|number| refusals.accepted(now, &full(number)));
        assert_eq!(due(&mut refusals, now), [4, 5, 6, 7, 8]);
        assert_eq!(refusals.first().unwrap().3, now, "since it accepted the last one");
        (4..=8).for_each(|number| refusals.accepted(now, &full(number)));
        assert_eq!(refusals.first(), None);
        assert_eq!(refusals.wait(full(9)), Some(full(9)));
    }

    #[tokio::test(start_paused = true)]
    async fn destination_delays_no_other() {
        let (mut refusals, now) = (RefusedMessages::default(), Instant::now());
        refusals.refuse(now, full(1), RefusalReason::Refused);
        assert_eq!(refusals.wait(to("other", 2)), Some(to("other", 2)));
        let later = now + Duration::from_secs(60);
        refusals.refuse(later, to("other", 2), RefusalReason::Unroutable);
        assert_eq!(due(&mut refusals, later), [1]);
        assert_eq!(due(&mut refusals, later + Duration::from_secs(60)), [2]);
    }

    #[tokio::test(start_paused = true)]
    async fn overtaking_message_is_recognized() {
        let (mut refusals, now) = (RefusedMessages::default(), Instant::now());
        refusals.refuse(now, full(5), RefusalReason::Refused);
        assert!(refusals.is_overtaken(&full(6)) && !refusals.is_overtaken(&full(4)));
        assert_eq!(refusals.wait(full(6)), None);
        let later = now + Duration::from_secs(60);
        assert_eq!(due(&mut refusals, later), [5]);
        refusals.accepted(later, &full(5));
        assert_eq!(due(&mut refusals, later), [6]);
        assert!(!refusals.is_overtaken(&full(6)));
    }

    #[tokio::test(start_paused = true)]
    async fn lost_connection_returns_probes_in_order() {
        let (mut refusals, now) = (RefusedMessages::default(), Instant::now());
        (1..=3).for_each(|number| refusals.refuse(now, full(number), RefusalReason::Refused));
        let later = now + Duration::from_secs(60);
        assert_eq!(due(&mut refusals, later), [1]);
        refusals.disconnected();
        assert_eq!(refusals.wait(full(1)), None);
        assert_eq!(due(&mut refusals, later), [1]);
    }
}
