//! The jobs in hand: the engine that decides about them, the deliveries without a report, and what the driver has to tell
//! their source.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    sync::Arc,
    time::SystemTime,
};

use imageshare_engine::{
    Engine,
    io::{Command, DeliveryId, Input, LaneId, Notice},
    job::{Mode, Report},
    limits::Limits,
    policy::Policy,
};
use tokio::time::Instant;

use super::{DriverEvent, observer::Observer, timed_engine::TimedEngine};
use crate::{
    lane_messages::{Delivery, SettledJob},
    status::Status,
};

/// Items (accounts of jobs) that a process holds before it takes in no more jobs, including the outcomes of reports that
/// are not published yet. The lanes of a daemon have equal shares of it.
pub(crate) const ITEMS_MAX: usize = 2_000_000;

/// Deliveries that a run holds before it takes in no more jobs, including those whose report waits in the outbox.
pub(crate) const DELIVERIES_MAX: usize = 10_000;

/// Low bits of a delivery's number that count deliveries; those above are its lane. No process lives to see a million
/// million jobs, and no settings file has room for sixteen million lanes.
const COUNT_BITS: u32 = 40;

/// The engine with the jobs that it decides about.
#[derive(Debug)]
pub(super) struct JobsInHand<I> {
    engine: TimedEngine,
    outstanding: OutstandingJobs<I>,
    /// Events that the source has not taken yet. In a run these are at most [`DELIVERIES_MAX`] reports with [`ITEMS_MAX`]
    /// outcomes, and the engine's notices; the source of a daemon takes all of them in each turn.
    outbox: VecDeque<DriverEvent<I>>,
    /// Outcomes in the reports of the outbox.
    outcomes_waiting: usize,
    observer: Observer,
}

impl<I> JobsInHand<I> {
    pub(super) fn new(policy: Policy, limits: Limits, status: Arc<Status>) -> Self {
        Self {
            engine: TimedEngine::new(policy, limits),
            outstanding: OutstandingJobs::new(),
            outbox: VecDeque::new(),
            outcomes_waiting: 0,
            observer: Observer::new(status),
        }
    }

    /// Returns the engine, to read its state.
    pub(super) const fn engine(&self) -> &Engine {
        self.engine.state()
    }

    pub(super) const fn observer(&mut self) -> &mut Observer {
        &mut self.observer
    }

    pub(super) fn status(&self) -> &Status {
        self.observer.status()
    }

    /// Tells the engine what happened.
    pub(super) fn handle(&mut self, input: Input) {
        self.engine.handle(input);
    }

    /// Returns the next command of the engine; `None` if there is nothing to do until the [alarm](Self::alarm).
    pub(super) fn poll(&mut self) -> Option<Command> {
        self.engine.poll()
    }

    /// Returns when to poll, whatever happens until then.
    pub(super) fn alarm(&self) -> Instant {
        self.engine.alarm()
    }

    /// Returns whether the engine has something to do at this moment.
    pub(super) fn is_due(&self) -> bool {
        self.engine.is_due()
    }

    /// Takes in a delivery. Its job is settled or requeued later, once.
    pub(super) fn receive(&mut self, delivery: Delivery<I>) {
        let Delivery { identity, lane, mut job, expires_at } = delivery;
        let received_at = SystemTime::now();
        // A job that has expired already expires now.
        let left = expires_at.map(|end| end.duration_since(received_at).unwrap_or_default());
        job.deadline = left.map(|left| self.engine.after(left));
        self.observer.job_received(job.account_ids.len());
        let outstanding = OutstandingJob { identity, mode: job.mode, accounts: job.account_ids.len(), received_at };
        let delivery = self.outstanding.insert(lane, outstanding);
        self.handle(Input::Job { delivery, lane, job });
    }

    /// Puts the report of a delivery into the outbox.
    pub(super) fn settle(&mut self, delivery: DeliveryId, report: Report) {
        let Some((lane, job)) = self.outstanding.settle(delivery) else { return };
        let OutstandingJob { identity, mode, received_at, .. } = job;
        self.observer.job_settled(&report);
        self.outcomes_waiting += outcomes(&report);
        let finished_at = SystemTime::now();
        let settled = SettledJob { identity, lane, mode, report, received_at, finished_at };
        self.outbox.push_back(DriverEvent::Settled(Box::new(settled)));
    }

    /// The engine has forgotten the jobs of a lane, so that their source can deliver them again.
    pub(super) fn requeue(&mut self, lane: LaneId) {
        let jobs = self.outstanding.remove_lane(lane).collect();
        self.outbox.push_back(DriverEvent::Requeued { lane, jobs });
    }

    /// The lane is no longer ours, so its jobs are not either.
    pub(super) fn lose(&mut self, lane: LaneId) {
        self.outstanding.remove_lane(lane).for_each(drop);
        self.handle(Input::LaneLost(lane));
        self.status().lane(lane).open();
    }

    pub(super) fn notice(&mut self, lane: LaneId, notice: Notice) {
        self.observer.noticed(lane, &notice);
        self.outbox.push_back(DriverEvent::Notice(lane, notice));
    }

    /// The source of a lane's credential has none, for this reason.
    pub(super) fn credential_failed(&mut self, lane: LaneId, reason: String) {
        self.outbox.push_back(DriverEvent::CredentialFailed(lane, reason));
    }

    /// Takes the next event for the source out of the outbox.
    pub(super) fn next_event(&mut self) -> Option<DriverEvent<I>> {
        let next = self.outbox.pop_front();
        if let Some(DriverEvent::Settled(settled)) = &next {
            self.outcomes_waiting -= outcomes(&settled.report);
        }
        next
    }

    pub(super) fn has_events(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Returns whether so much is in hand that a run takes in no more jobs.
    pub(super) fn is_full(&self) -> bool {
        self.engine().jobs() + self.outbox.len() >= DELIVERIES_MAX
            || self.engine().operations() + self.outcomes_waiting >= ITEMS_MAX
    }

    /// Returns the deliveries without a report.
    pub(super) const fn outstanding(&self) -> &OutstandingJobs<I> {
        &self.outstanding
    }
}

/// Returns the number of outcomes in a report.
pub(super) const fn outcomes(report: &Report) -> usize {
    report.outcomes.len() + report.cancelled.len()
}

/// The deliveries without a report, by number. Those of a lane are together, in the order in which they arrived.
#[derive(Debug)]
pub(super) struct OutstandingJobs<I> {
    jobs: BTreeMap<DeliveryId, OutstandingJob<I>>,
    /// Accounts that the jobs of each lane name.
    accounts: BTreeMap<LaneId, usize>,
    received: u64,
}

/// A delivery without a report.
#[derive(Debug)]
struct OutstandingJob<I> {
    identity: I,
    mode: Mode,
    /// Accounts that its job names.
    accounts: usize,
    received_at: SystemTime,
}

impl<I> OutstandingJobs<I> {
    const fn new() -> Self {
        Self { jobs: BTreeMap::new(), accounts: BTreeMap::new(), received: 0 }
    }

    /// Returns the number of deliveries.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Inserts a job and returns the number of its delivery.
    fn insert(&mut self, lane: LaneId, job: OutstandingJob<I>) -> DeliveryId {
        let delivery = DeliveryId(deliveries(lane).start.0 + self.received);
        self.received += 1;
        *self.accounts.entry(lane).or_default() += job.accounts;
        self.jobs.insert(delivery, job);
        delivery
    }

    /// Removes a delivery that has its report.
    fn settle(&mut self, delivery: DeliveryId) -> Option<(LaneId, OutstandingJob<I>)> {
        let lane = u32::try_from(delivery.0 >> COUNT_BITS).expect("24 bits are left");
        let (lane, job) = (LaneId(lane), self.jobs.remove(&delivery)?);
        if let Some(accounts) = self.accounts.get_mut(&lane) {
            *accounts -= job.accounts;
        }
        Some((lane, job))
    }

    /// Returns how many accounts the jobs of a lane name.
    pub(super) fn accounts(&self, lane: LaneId) -> usize {
        self.accounts.get(&lane).copied().unwrap_or_default()
    }

    /// Returns whether a lane has no outstanding delivery.
    pub(super) fn has_none(&self, lane: LaneId) -> bool {
        self.jobs.range(deliveries(lane)).next().is_none()
    }

    /// Removes the deliveries of a lane, in the order in which they arrived.
    fn remove_lane(&mut self, lane: LaneId) -> impl Iterator<Item = I> {
        self.accounts.remove(&lane);
        self.jobs.extract_if(deliveries(lane), |_, _| true).map(|(_, job)| job.identity)
    }

    /// Returns when the oldest delivery of a lane arrived.
    pub(super) fn oldest(&self, lane: LaneId) -> Option<SystemTime> {
        self.jobs.range(deliveries(lane)).next().map(|(_, job)| job.received_at)
    }
}

/// Returns the numbers of a lane's deliveries.
fn deliveries(lane: LaneId) -> Range<DeliveryId> {
    let from = |lane: u64| DeliveryId(lane << COUNT_BITS);
    from(lane.0.into())..from(u64::from(lane.0) + 1)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    #[test]
    fn jobs_of_lane_keep_their_order() {
        let mut jobs = OutstandingJobs::new();
        let mut take = |lane, second| {
            let job = OutstandingJob { identity: second, mode: Mode::Share, accounts: 1, received_at: at(second) };
            jobs.insert(LaneId(lane), job)
        };
        let [first, _, third, _] = [take(1, 10), take(0, 11), take(1, 12), take(2, 13)];
        assert_eq!((jobs.oldest(LaneId(1)), jobs.oldest(LaneId(3))), (Some(at(10)), None));
        assert_eq!((jobs.accounts(LaneId(1)), jobs.accounts(LaneId(3))), (2, 0));
        let (lane, job) = jobs.settle(first).unwrap();
        assert_eq!((lane, job.identity), (LaneId(1), 10));
        assert!(jobs.settle(first).is_none(), "once");
        assert_eq!(jobs.oldest(LaneId(1)), Some(at(12)));
        assert_eq!((jobs.accounts(LaneId(1)), jobs.has_none(LaneId(1))), (1, false));
        assert_eq!(jobs.remove_lane(LaneId(1)).collect::<Vec<_>>(), [12]);
        assert_eq!((jobs.accounts(LaneId(1)), jobs.has_none(LaneId(1))), (0, true));
        assert!(jobs.settle(third).is_none());
        assert_eq!((jobs.len(), jobs.oldest(LaneId(0)), jobs.oldest(LaneId(2))), (2, Some(at(11)), Some(at(13))));
    }
}
