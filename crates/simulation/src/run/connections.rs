//! The connections of processes to the broker: deliveries, acknowledgements, and connections that end or are silent.

use imageshare_engine::{
    LaneStatus,
    io::{DeliveryId, Input, Outcome},
    job::Report,
};

use super::{Event, LANE, Run};
use crate::{
    broker::{BrokerDelivery, HEARTBEAT},
    process::Away,
};

/// How long a delivery takes after another consumer became the active one, in milliseconds.
const TAKEOVER: u64 = 7;
/// A worker that was suspended for longer gives up its lane when it wakes up, in milliseconds.
const STANDSTILL_MAX: u64 = 2000;
/// The longest that a connection is silent, in milliseconds.
const SILENCE_MAX: u64 = 100_000;

impl Run {
    /// A process becomes a consumer of the lane, unless it is one already, or still is the one that it was.
    pub(super) fn subscribe(&mut self, id: u64) {
        let now = self.now;
        let is_consumer = !self.queue.consumers_of(id).is_empty();
        let Some(process) = self.process(id).filter(|process| process.consumer.is_none()) else { return };
        if let Some(until) = process.cut_off_until.or_else(|| is_consumer.then_some(now + 500)) {
            return self.at(until, Event::Subscribe(id));
        }
        let varying = [1, 3, 10_000];
        let constant = self.world.broker.constant_prefetch;
        let prefetch = if constant { self.world.prefetch } else { self.random.of(&varying) };
        let consumer = self.queue.subscribe(id, prefetch);
        let Self { processes, random, .. } = self;
        if let Some(process) = processes.iter_mut().find(|process| process.id == id) {
            process.subscribed(consumer, random);
        }
        self.at(now + TAKEOVER, Event::Deliver);
    }

    /// The broker delivers what it can.
    pub(super) fn deliver(&mut self) {
        for delivery in self.queue.deliver() {
            match self.process(delivery.worker).and_then(|process| process.unreachable_until()) {
                Some(until) => self.at(until, Event::Delivered(delivery)),
                None => self.receive(delivery),
            }
        }
    }

    /// A delivery reaches its worker. The lane comes up with the first one of a subscription.
    pub(super) fn receive(&mut self, delivery: BrokerDelivery) {
        let BrokerDelivery { worker: id, consumer, tag, job: nth, redelivered } = delivery;
        let Some(process) = self.process(id).filter(|process| process.consumer == Some(consumer)) else { return };
        if process.away.take().is_some() {
            process.deliveries.clear();
            self.checker.up(self.now);
            self.input_to(id, Input::LaneUp(LANE, self.world.lane_limits()));
        }
        self.log(|| format!("   job {nth} is delivered to {id} by consumer {consumer}"));
        if self.world.is_rejected(nth) {
            let confirmed_at = self.now + self.random.of(&[1, 5, 20, 2000]);
            if self.acknowledge(id, consumer, tag, confirmed_at) {
                self.checker.reject(nth);
                self.ended.coverage.broker("priority rejected");
            }
            return;
        }
        let mut job = self.world.jobs[nth].1.clone();
        job.redelivered = redelivered;
        self.checker.delivered(self.now, nth, redelivered);
        let Some(input) = self.process(id).map(|process| process.deliver(delivery, job)) else { return };
        self.input_to(id, input);
    }

    pub(super) fn settle(&mut self, id: u64, delivery: DeliveryId, report: Report) {
        let now = self.now;
        let confirmed_at = now + self.random.of(&[1, 5, 20, 2000]);
        let Some(process) = self.process(id) else { return };
        let Some(BrokerDelivery { consumer, tag, job, .. }) = process.deliveries.remove(&delivery) else {
            return self.checker.wrong(format!("{delivery:?} is settled and was not in hand"));
        };
        if !self.acknowledge(id, consumer, tag, confirmed_at) {
            // It may publish that report; its acknowledgement counts for nothing.
            self.checker.check_causes(&self.world, job, &report);
            return;
        }
        self.ended.settled_at = now;
        self.ended.coverage.report(&report);
        self.checker.settle(now, &self.world, job, report, self.published);
    }

    /// A process acknowledges a delivery once its report is confirmed. Returns whether the broker still has that
    /// delivery for it.
    fn acknowledge(&mut self, id: u64, consumer: u64, tag: u64, confirmed_at: u64) -> bool {
        let Some(process) = self.process(id).filter(|process| process.consumer == Some(consumer)) else { return false };
        let applied_at = process.ack_applied_at(confirmed_at);
        let is_held = self.queue.is_held(consumer, tag);
        if is_held {
            self.queue.send_ack(consumer, tag, applied_at);
            self.at(applied_at, Event::AcksApplied(consumer));
        }
        is_held
    }

    /// A process gives its jobs back: when its acknowledgements are applied, it closes its connection.
    pub(super) fn give_back(&mut self, id: u64) {
        let now = self.now;
        let Some(process) = self.process(id) else { return };
        process.deliveries.clear();
        process.away = Some(Away::GaveBack);
        if let Some(consumer) = process.consumer.take() {
            let closes_at = process.acks_applied_at(now);
            self.at(closes_at, Event::Close(id, consumer));
        }
    }

    /// A process has closed its connection. It ends after SIGTERM. Otherwise it consumes again, unless its lane is closed.
    pub(super) fn close(&mut self, id: u64, consumer: u64) {
        self.end_connection(consumer);
        let Some(process) = self.process(id) else { return };
        if process.is_draining {
            self.replace(id);
        } else if !matches!(process.engine.lane_status(LANE), LaneStatus::Closed(..)) {
            self.subscribe(id);
        }
    }

    /// The broker ends a connection, and another consumer may become the active one.
    pub(super) fn end_connection(&mut self, consumer: u64) {
        for (job, outcome) in self.queue.end(consumer, &mut self.random) {
            self.log(|| format!("   job {job} of consumer {consumer}: {outcome:?}"));
            if self.checker.is_over(job) {
                self.ended.coverage.broker("acknowledgement lost");
            }
            self.checker.returned(job, outcome);
        }
        self.at(self.now + TAKEOVER, Event::Deliver);
    }

    /// The active consumer's connection ends. Its worker sees that now, or a little later.
    pub(super) fn disconnect(&mut self) {
        let id = self.active_process();
        let Some(consumer) = self.process(id).and_then(|process| process.consumer) else { return };
        let within = self.world.broker.end_seen_within;
        let seen_at = if within > 0 { self.now + self.random.below(within + 1) } else { self.now };
        self.end_connection(consumer);
        if seen_at == self.now {
            return self.lose(id);
        }
        self.at(seen_at, Event::EndSeen(id, consumer));
    }

    /// A process has no connection any more. It connects again, unless it ends.
    pub(super) fn lose(&mut self, id: u64) {
        let now = self.now;
        let Some(process) = self.process(id) else { return };
        process.consumer = None;
        let held_back = std::mem::take(&mut process.held_back);
        if process.is_draining {
            return self.replace(id);
        }
        if process.away.is_none() {
            process.deliveries.clear();
            process.away = Some(Away::Lost);
            self.input_to(id, Input::LaneLost(LANE));
        }
        for (call, ..) in held_back {
            let outcome = Outcome::Unanswered { sent: false, reason: "the lane was lost".into() };
            self.at(now, Event::Answer(id, call, outcome));
        }
        self.at(now + 300, Event::Subscribe(id));
    }

    /// A process is cut off from the broker, but not from the cloud. Its last ownership proof began before that.
    fn cut_off(&mut self, id: u64, consumer: u64) {
        let now = self.now;
        let proof_began = now - self.random.below(HEARTBEAT / 4 + 1).min(now);
        let until = now + self.random.of(&[1000, HEARTBEAT - 1000, 3 * HEARTBEAT, SILENCE_MAX]);
        let gives_up_at = now + HEARTBEAT + self.random.below(SILENCE_MAX - HEARTBEAT);
        let Some(process) = self.process(id) else { return };
        process.cut_off_until = Some(until);
        process.proof_ends = Some(proof_began + HEARTBEAT);
        self.at(until, Event::Reachable(id));
        self.at(gives_up_at, Event::GaveUp(id, consumer));
    }

    /// A process that is still cut off closes its connection, which the broker does not see.
    pub(super) fn give_up_connection(&mut self, id: u64, consumer: u64) {
        let Some(process) = self.process(id) else { return };
        if process.consumer == Some(consumer) && process.cut_off_until.is_some() {
            self.lose(id);
        }
    }

    /// A process is no longer cut off: its connection works again, or both sides see that it ended.
    pub(super) fn reach(&mut self, id: u64) {
        let Some(process) = self.process(id) else { return };
        process.cut_off_until = None;
        let consumer = process.consumer;
        for other in self.queue.consumers_of(id) {
            if consumer == Some(other) {
                self.resume(id, other);
            } else {
                self.end_connection(other);
            }
        }
        if consumer.is_some_and(|consumer| !self.queue.has_consumer(consumer)) {
            self.lose(id);
        }
    }

    /// A connection works again, and with it the proofs.
    fn resume(&mut self, id: u64, consumer: u64) {
        self.ended.coverage.broker("silent connection resumed");
        self.queue.resume(consumer);
        self.queue.apply_acks(consumer, self.now);
        self.at(self.now, Event::Deliver);
        let Some(process) = self.process(id) else { return };
        process.proof_ends = None;
        for (call, action, caller) in std::mem::take(&mut process.held_back) {
            self.make_call(id, call, action, caller);
        }
    }

    /// A process runs again. If it was suspended for long, it gives up its lane before anything else.
    pub(super) fn wake(&mut self, id: u64, since: u64) {
        let stood_still = self.now - since;
        let Some(process) = self.process(id) else { return };
        process.suspended_until = None;
        let Some(consumer) = process.consumer else { return };
        if stood_still <= STANDSTILL_MAX && self.queue.has_consumer(consumer) {
            return self.resume(id, consumer);
        }
        self.end_connection(consumer);
        self.lose(id);
    }

    /// Nothing comes from a worker's connection for a time: it is cut off, or suspended. It may be the standby's.
    pub(super) fn silence(&mut self) {
        let now = self.now;
        let standby = self.processes.iter().map(|process| process.id).find(|&id| id != self.active_process());
        let id = standby.filter(|_| self.random.chance(20)).unwrap_or_else(|| self.active_process());
        let Some(process) = self.process(id).filter(|process| process.unreachable_until().is_none()) else { return };
        let Some(consumer) = process.consumer.filter(|_| !process.is_draining) else { return };
        self.queue.silence(consumer, now);
        let (least, most) = self.world.broker.disconnect_timeout;
        // Of one broker as often as of a cluster.
        let times_out_after =
            [self.random.between(least, most), self.random.between(least, most.min(3 * HEARTBEAT).max(least))];
        let times_out_at = now + self.random.of(&times_out_after);
        self.at(times_out_at, Event::TimedOut(consumer, now));
        if self.random.chance(50) {
            self.ended.coverage.broker("worker cut off");
            return self.cut_off(id, consumer);
        }
        self.ended.coverage.broker("worker suspended");
        let until = now + self.random.of(&[500, STANDSTILL_MAX + 1, 3 * HEARTBEAT, SILENCE_MAX]);
        if let Some(process) = self.process(id) {
            process.suspended_until = Some(until);
        }
        self.at(until, Event::Woken(id, now));
    }
}
