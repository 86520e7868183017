//! The queue of a lane as a broker keeps it: order, windows, acknowledgements, redelivery and takeover. It has no clock
//! and no I/O. `docs/broker.md` lists the promises that rest on each property.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::random::Random;

/// The heartbeat of a worker's connection, in milliseconds: the default of `broker.heartbeat`.
pub const HEARTBEAT: u64 = 10_000;

/// The priority that a message without one has.
pub const DEFAULT_PRIORITY: u8 = 4;

/// The least priority that counts as high where there are two levels.
const HIGH_PRIORITY: u8 = 5;

/// High messages that are delivered for each normal one where there are two levels.
const HIGH_IN_A_ROW: u8 = 2;

/// Properties of the broker, and of its use by workers, that promises rest on. The default is RabbitMQ 3.10 to 4.x with
/// the queues that imageshare declares.
#[expect(clippy::struct_excessive_bools, reason = "each dial turns by itself")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerDials {
    /// Where the deliveries of a consumer go when its connection ends.
    pub redelivery: Redelivery,
    /// Whether one consumer gets all deliveries. Without it, consumers take turns.
    pub single_active_consumer: bool,
    /// Whether all subscriptions have the same prefetch.
    pub constant_prefetch: bool,
    /// Whether the acknowledgements that are lost with a connection are the last ones that were sent on it.
    pub acks_in_order: bool,
    /// Whether workers reject jobs with a priority that the broker acts on.
    pub rejects_priority: bool,
    /// How often a message can be requeued. The next time, the broker drops it.
    pub delivery_limit: u32,
    /// Whether a dropped message becomes a dead letter.
    pub dead_letters: bool,
    /// How long the broker keeps the consumer of a silent connection, in milliseconds, least and most: 2.35 to 3
    /// heartbeats, and 60 s and more on clusters from RabbitMQ 4.3 on.
    pub disconnect_timeout: (u64, u64),
    /// The maximum delay in milliseconds until a worker sees that the broker ended its connection.
    pub end_seen_within: u64,
    /// Whether a call needs an ownership proof that is younger than a heartbeat.
    pub proof: bool,
}

/// Where the deliveries of a consumer go when its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redelivery {
    /// Before all that was never delivered, in the order of delivery.
    InOrder,
    /// The same in reverse order, as after `basic.cancel` and `channel.close`.
    NewestFirst,
    /// The same in any order, as after many single nacks.
    Shuffled,
    /// Behind all that waits, as after a nack on a queue of RabbitMQ 3.x without a delivery limit.
    BehindBacklog,
    /// Nowhere, as with automatic acknowledgement.
    Never,
}

/// How a broker acts on the priority of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// Not at all, as RabbitMQ 3.x.
    Ignored,
    /// By two levels, as RabbitMQ 4.0: two high messages for each normal one.
    TwoLevels,
    /// By strict levels, as RabbitMQ 4.3.
    Levels,
}

/// One delivery of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerDelivery {
    /// The worker that the consumer belongs to.
    pub worker: u64,
    /// The consumer.
    pub consumer: u64,
    /// The consumer's number for this delivery.
    pub tag: u64,
    /// The job.
    pub job: usize,
    /// Whether the message was delivered before.
    pub redelivered: bool,
}

/// The outcome of a delivery that was not acknowledged when its connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// The message is delivered again.
    Requeued,
    /// The delivery limit made it a dead letter.
    DeadLettered,
    /// It is gone.
    Lost,
}

/// A queue and its consumers.
#[derive(Debug)]
pub struct Queue {
    dials: BrokerDials,
    priority: Priority,
    /// Messages that were never delivered, in the order of publication.
    waiting: VecDeque<Message>,
    /// Messages that were delivered before. They precede the others.
    returned: VecDeque<Message>,
    /// In the order of subscription. The first one is the active one.
    consumers: Vec<Consumer>,
    consumers_begun: u64,
    /// The place of the consumer that is next, where consumers take turns.
    turn: usize,
    /// High messages since the last normal one.
    high_taken: u8,
}

#[derive(Clone, Copy, Debug)]
struct Message {
    job: usize,
    priority: Option<u8>,
    /// How often it was requeued.
    returns: u32,
}

#[derive(Debug)]
struct Consumer {
    id: u64,
    worker: u64,
    prefetch: usize,
    /// Deliveries that are not acknowledged.
    held: BTreeMap<u64, Message>,
    next_tag: u64,
    /// Acknowledgements on their way, with the time at which each one is applied.
    acks: BTreeSet<(u64, u64)>,
    /// Since when nothing came from its connection.
    silent_since: Option<u64>,
}

impl Default for BrokerDials {
    fn default() -> Self {
        Self {
            redelivery: Redelivery::InOrder,
            single_active_consumer: true,
            constant_prefetch: true,
            acks_in_order: true,
            rejects_priority: true,
            delivery_limit: 1_000_000,
            dead_letters: true,
            disconnect_timeout: (HEARTBEAT * 235 / 100, 70_000),
            end_seen_within: 0,
            proof: true,
        }
    }
}

impl BrokerDials {
    /// The names of the dials on the command line, with the values of each one.
    pub const NAMES: [(&'static str, &'static str); 10] = [
        ("--acks-lost", "last|any"),
        ("--dead-letters", "on|off"),
        ("--delivery-limit", "COUNT"),
        ("--disconnect-timeout", "MS"),
        ("--end-seen-within", "MS"),
        ("--prefetch", "constant|varying"),
        ("--priority", "rejected|accepted"),
        ("--proof", "on|off"),
        ("--redelivery", "in-order|newest-first|shuffled|behind-backlog|never"),
        ("--single-active-consumer", "on|off"),
    ];

    /// Turns the dial with this name. Returns `None` if there is no such dial, or no such value of it.
    pub fn turn(&mut self, name: &str, value: &str) -> Option<()> {
        let one_of = |yes: &str, no: &str| (value == yes || value == no).then_some(value == yes);
        match name {
            "--acks-lost" => self.acks_in_order = one_of("last", "any")?,
            "--dead-letters" => self.dead_letters = one_of("on", "off")?,
            "--delivery-limit" => self.delivery_limit = value.parse().ok()?,
            "--disconnect-timeout" => self.disconnect_timeout = value.parse().map(|at| (at, at)).ok()?,
            "--end-seen-within" => self.end_seen_within = value.parse().ok()?,
            "--prefetch" => self.constant_prefetch = one_of("constant", "varying")?,
            "--priority" => self.rejects_priority = one_of("rejected", "accepted")?,
            "--proof" => self.proof = one_of("on", "off")?,
            "--redelivery" => {
                self.redelivery = match value {
                    "in-order" => Redelivery::InOrder,
                    "newest-first" => Redelivery::NewestFirst,
                    "shuffled" => Redelivery::Shuffled,
                    "behind-backlog" => Redelivery::BehindBacklog,
                    "never" => Redelivery::Never,
                    _ => return None,
                }
            }
            "--single-active-consumer" => self.single_active_consumer = one_of("on", "off")?,
            _ => return None,
        }
        Some(())
    }
}

impl Queue {
    /// An empty queue without consumers.
    #[must_use]
    pub const fn new(dials: BrokerDials, priority: Priority) -> Self {
        Self {
            dials,
            priority,
            waiting: VecDeque::new(),
            returned: VecDeque::new(),
            consumers: Vec::new(),
            consumers_begun: 0,
            turn: 0,
            high_taken: 0,
        }
    }

    /// Takes in a message.
    pub fn publish(&mut self, job: usize, priority: Option<u8>) {
        self.waiting.push_back(Message { job, priority, returns: 0 });
    }

    /// Adds a consumer. Returns its number.
    pub fn subscribe(&mut self, worker: u64, prefetch: usize) -> u64 {
        let id = self.consumers_begun;
        self.consumers_begun += 1;
        self.consumers.push(Consumer {
            id,
            worker,
            prefetch,
            held: BTreeMap::new(),
            next_tag: 1,
            acks: BTreeSet::new(),
            silent_since: None,
        });
        id
    }

    /// The worker whose consumer is the active one.
    #[must_use]
    pub fn active_worker(&self) -> Option<u64> {
        self.consumers.first().map(|consumer| consumer.worker)
    }

    /// The consumers of a worker.
    #[must_use]
    pub fn consumers_of(&self, worker: u64) -> Vec<u64> {
        self.consumers.iter().filter(|consumer| consumer.worker == worker).map(|consumer| consumer.id).collect()
    }

    /// Whether the broker still has this consumer.
    #[must_use]
    pub fn has_consumer(&self, id: u64) -> bool {
        self.consumers.iter().any(|consumer| consumer.id == id)
    }

    /// Delivers as many messages as the windows of the consumers allow.
    pub fn deliver(&mut self) -> Vec<BrokerDelivery> {
        let mut deliveries = Vec::new();
        while let Some(place) = self.next_place() {
            let Some(message) = self.take() else { break };
            let consumer = &mut self.consumers[place];
            let tag = consumer.next_tag;
            consumer.next_tag += 1;
            consumer.held.insert(tag, message);
            deliveries.push(BrokerDelivery {
                worker: consumer.worker,
                consumer: consumer.id,
                tag,
                job: message.job,
                redelivered: message.returns > 0,
            });
            self.turn = place + 1;
        }
        deliveries
    }

    /// The place of the consumer that gets the next message.
    fn next_place(&self) -> Option<usize> {
        let has_room = |place: &usize| self.consumers[*place].held.len() < self.consumers[*place].prefetch;
        if self.dials.single_active_consumer {
            return Some(0).filter(|_| !self.consumers.is_empty()).filter(has_room);
        }
        (self.turn..self.consumers.len()).chain(0..self.turn.min(self.consumers.len())).find(has_room)
    }

    /// Takes the next message. Returned messages have no priority any more.
    fn take(&mut self) -> Option<Message> {
        if let Some(message) = self.returned.pop_front() {
            return Some(message);
        }
        let level = |message: &Message| match self.priority {
            Priority::Ignored => 0,
            Priority::TwoLevels => u8::from(message.priority.is_some_and(|priority| priority >= HIGH_PRIORITY)),
            Priority::Levels => message.priority.unwrap_or(DEFAULT_PRIORITY).min(31),
        };
        let mut first_of = BTreeMap::new();
        for (place, message) in self.waiting.iter().enumerate() {
            first_of.entry(level(message)).or_insert(place);
        }
        let is_turn_of_normal = self.priority == Priority::TwoLevels && self.high_taken == HIGH_IN_A_ROW;
        let next = if is_turn_of_normal { first_of.first_key_value() } else { first_of.last_key_value() };
        let (&level, &place) = next?;
        self.high_taken = if level > 0 && !is_turn_of_normal { self.high_taken.saturating_add(1) } else { 0 };
        self.waiting.remove(place)
    }

    /// Whether a consumer holds this delivery.
    #[must_use]
    pub fn is_held(&self, consumer: u64, tag: u64) -> bool {
        self.consumers.iter().any(|other| other.id == consumer && other.held.contains_key(&tag))
    }

    /// A worker sends an acknowledgement, which is applied at that time unless the connection ends before.
    pub fn send_ack(&mut self, consumer: u64, tag: u64, applied_at: u64) {
        if let Some(consumer) = self.consumer(consumer) {
            consumer.acks.insert((applied_at, tag));
        }
    }

    /// Applies the acknowledgements of a consumer that are due, unless its connection is silent.
    pub fn apply_acks(&mut self, consumer: u64, now: u64) {
        let Some(consumer) = self.consumer(consumer).filter(|consumer| consumer.silent_since.is_none()) else { return };
        while let Some(&(at, tag)) = consumer.acks.first().filter(|&&(at, _)| at <= now) {
            consumer.acks.remove(&(at, tag));
            consumer.held.remove(&tag);
        }
    }

    /// Returns one delivery. It is delivered again after all that was delivered before.
    pub fn nack(&mut self, consumer: u64, tag: u64) {
        let Some(message) = self.consumer(consumer).and_then(|consumer| consumer.held.remove(&tag)) else { return };
        self.requeue(message);
    }

    /// Nothing comes from a consumer's connection any more.
    pub fn silence(&mut self, consumer: u64, now: u64) {
        if let Some(consumer) = self.consumer(consumer) {
            consumer.silent_since = Some(now);
        }
    }

    /// Something comes from it again.
    pub fn resume(&mut self, consumer: u64) {
        if let Some(consumer) = self.consumer(consumer) {
            consumer.silent_since = None;
        }
    }

    /// Since when a consumer's connection is silent, if it is.
    #[must_use]
    pub fn silent_since(&self, consumer: u64) -> Option<u64> {
        self.consumers.iter().find(|other| other.id == consumer)?.silent_since
    }

    /// Ends a consumer's connection. Returns the jobs that it held, each with its outcome.
    pub fn end(&mut self, consumer: u64, random: &mut Random) -> Vec<(usize, Returned)> {
        let Some(place) = self.consumers.iter().position(|other| other.id == consumer) else { return Vec::new() };
        let Consumer { mut held, acks, .. } = self.consumers.remove(place);
        if !self.dials.acks_in_order {
            acks.iter().filter(|_| random.chance(50)).for_each(|(_, tag)| _ = held.remove(tag));
        }
        let mut messages: Vec<_> = held.into_values().collect();
        match self.dials.redelivery {
            Redelivery::InOrder | Redelivery::BehindBacklog | Redelivery::Never => {}
            Redelivery::NewestFirst => messages.reverse(),
            Redelivery::Shuffled => messages.sort_by_cached_key(|_| random.below(u64::MAX)),
        }
        messages.into_iter().map(|message| (message.job, self.requeue(message))).collect()
    }

    fn requeue(&mut self, mut message: Message) -> Returned {
        message.returns += 1;
        match self.dials.redelivery {
            Redelivery::Never => return Returned::Lost,
            _ if message.returns > self.dials.delivery_limit => {
                return if self.dials.dead_letters { Returned::DeadLettered } else { Returned::Lost };
            }
            Redelivery::BehindBacklog => self.waiting.push_back(Message { priority: None, ..message }),
            Redelivery::InOrder | Redelivery::NewestFirst | Redelivery::Shuffled => self.returned.push_back(message),
        }
        Returned::Requeued
    }

    fn consumer(&mut self, id: u64) -> Option<&mut Consumer> {
        self.consumers.iter_mut().find(|consumer| consumer.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A queue with as many jobs.
    fn queue_of(jobs: usize, dials: BrokerDials) -> Queue {
        let mut queue = Queue::new(dials, Priority::Ignored);
        (0..jobs).for_each(|job| queue.publish(job, None));
        queue
    }

    fn jobs(deliveries: &[BrokerDelivery]) -> Vec<usize> {
        deliveries.iter().map(|delivery| delivery.job).collect()
    }

    /// The order of jobs 0 to 5 after a connection ended that held 0, 1 and 2.
    #[track_caller]
    fn check_order(redelivery: Redelivery, expected: &[usize]) {
        let mut queue = queue_of(6, BrokerDials { redelivery, ..BrokerDials::default() });
        let first = queue.subscribe(0, 3);
        assert_eq!(jobs(&queue.deliver()), [0, 1, 2]);
        queue.end(first, &mut Random::new(1));
        queue.subscribe(1, 10);
        let deliveries = queue.deliver();
        assert_eq!(jobs(&deliveries), expected);
        assert!(deliveries.iter().all(|delivery| delivery.redelivered == (delivery.job < 3)));
    }

    #[test]
    fn ended_connection_requeues_in_order() {
        check_order(Redelivery::InOrder, &[0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn dial_changes_order_of_redelivery() {
        check_order(Redelivery::NewestFirst, &[2, 1, 0, 3, 4, 5]);
        check_order(Redelivery::Shuffled, &[2, 0, 1, 3, 4, 5]);
        check_order(Redelivery::BehindBacklog, &[3, 4, 5, 0, 1, 2]);
        check_order(Redelivery::Never, &[3, 4, 5]);
    }

    #[test]
    fn order_survives_many_kills_with_same_prefetch() {
        let mut queue = queue_of(20, BrokerDials::default());
        let mut random = Random::new(1);
        for worker in 0..5 {
            let consumer = queue.subscribe(worker, 8);
            assert_eq!(jobs(&queue.deliver()), [0, 1, 2, 3, 4, 5, 6, 7]);
            queue.end(consumer, &mut random);
        }
    }

    #[test]
    fn smaller_prefetch_puts_later_messages_first() {
        let mut queue = queue_of(6, BrokerDials::default());
        let mut random = Random::new(1);
        for prefetch in [6, 2] {
            let consumer = queue.subscribe(0, prefetch);
            assert_eq!(queue.deliver().len(), prefetch);
            queue.end(consumer, &mut random);
        }
        queue.subscribe(0, 6);
        assert_eq!(jobs(&queue.deliver()), [2, 3, 4, 5, 0, 1]);
    }

    #[test]
    fn nacked_message_follows_those_on_wire() {
        let mut queue = queue_of(5, BrokerDials::default());
        let consumer = queue.subscribe(0, 3);
        assert_eq!(jobs(&queue.deliver()), [0, 1, 2]);
        queue.nack(consumer, 1);
        assert_eq!(jobs(&queue.deliver()), [0], "before what was never delivered");
        let mut queue = queue_of(5, BrokerDials { redelivery: Redelivery::BehindBacklog, ..BrokerDials::default() });
        let consumer = queue.subscribe(0, 3);
        queue.deliver();
        queue.nack(consumer, 1);
        assert_eq!(jobs(&queue.deliver()), [3], "without a delivery limit, behind what waits");
    }

    #[test]
    fn standby_gets_nothing_before_active_consumer_ends() {
        let mut queue = queue_of(4, BrokerDials::default());
        let active = queue.subscribe(0, 2);
        let standby = queue.subscribe(1, 10);
        assert!(queue.deliver().iter().all(|delivery| delivery.consumer == active));
        assert_eq!(queue.active_worker(), Some(0));
        queue.silence(active, 0);
        assert_eq!(queue.deliver(), [], "a silent connection has not ended");
        queue.end(active, &mut Random::new(1));
        let deliveries = queue.deliver();
        assert_eq!(jobs(&deliveries), [0, 1, 2, 3]);
        assert!(deliveries.iter().all(|delivery| delivery.consumer == standby));
        assert_eq!(queue.active_worker(), Some(1));
    }

    #[test]
    fn consumers_take_turns_without_single_active_consumer() {
        let mut queue = queue_of(4, BrokerDials { single_active_consumer: false, ..BrokerDials::default() });
        queue.subscribe(0, 10);
        queue.subscribe(1, 10);
        let workers: Vec<_> = queue.deliver().iter().map(|delivery| delivery.worker).collect();
        assert_eq!(workers, [0, 1, 0, 1]);
    }

    #[test]
    fn unsent_acks_are_lost_with_connection() {
        let mut queue = queue_of(4, BrokerDials::default());
        let consumer = queue.subscribe(0, 3);
        queue.deliver();
        (1..=3).for_each(|tag| queue.send_ack(consumer, tag, tag * 100));
        queue.apply_acks(consumer, 100);
        assert!(!queue.is_held(consumer, 1) && queue.is_held(consumer, 2));
        assert_eq!(jobs(&queue.deliver()), [3], "an applied acknowledgement opens the window");
        queue.silence(consumer, 150);
        queue.apply_acks(consumer, 250);
        let ended = queue.end(consumer, &mut Random::new(1));
        assert_eq!(ended, [1, 2, 3].map(|job| (job, Returned::Requeued)));
    }

    #[test]
    fn acks_are_applied_when_connection_resumes() {
        let mut queue = queue_of(1, BrokerDials::default());
        let consumer = queue.subscribe(0, 3);
        queue.deliver();
        queue.silence(consumer, 0);
        queue.send_ack(consumer, 1, 10);
        queue.apply_acks(consumer, 20);
        assert_eq!((queue.is_held(consumer, 1), queue.silent_since(consumer)), (true, Some(0)));
        queue.resume(consumer);
        queue.apply_acks(consumer, 30);
        assert!(!queue.is_held(consumer, 1));
    }

    #[test]
    fn message_above_delivery_limit_is_dropped() {
        for (dead_letters, dropped) in [(true, Returned::DeadLettered), (false, Returned::Lost)] {
            let mut queue = queue_of(5, BrokerDials { delivery_limit: 2, dead_letters, ..BrokerDials::default() });
            let mut kill = || {
                let consumer = queue.subscribe(0, 5);
                queue.deliver();
                queue.end(consumer, &mut Random::new(1))
            };
            for outcome in [Returned::Requeued, Returned::Requeued, dropped] {
                assert_eq!(kill(), [0, 1, 2, 3, 4].map(|job| (job, outcome)));
            }
            assert_eq!(kill(), []);
        }
    }

    #[test]
    fn priority_reorders_as_measured() {
        let priorities = [None, Some(9), Some(9), Some(0), Some(9), None, Some(4)];
        for (priority, expected) in [
            (Priority::Ignored, [0, 1, 2, 3, 4, 5, 6]),
            (Priority::TwoLevels, [1, 2, 0, 4, 3, 5, 6]),
            (Priority::Levels, [1, 2, 4, 0, 5, 6, 3]),
        ] {
            let mut queue = Queue::new(BrokerDials::default(), priority);
            priorities.iter().enumerate().for_each(|(job, &priority)| queue.publish(job, priority));
            queue.subscribe(0, 10);
            assert_eq!(jobs(&queue.deliver()), expected, "{priority:?}");
        }
    }

    #[test]
    fn every_dial_has_command_line_name() {
        for (name, values) in BrokerDials::NAMES {
            for value in values.split('|') {
                let value = if value.chars().all(char::is_uppercase) { "7" } else { value };
                assert_eq!(BrokerDials::default().turn(name, value), Some(()), "{name} {value}");
            }
            assert_eq!(BrokerDials::default().turn(name, "sideways"), None);
        }
        assert_eq!(BrokerDials::default().turn("--unknown", "on"), None);
    }
}
