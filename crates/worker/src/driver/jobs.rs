//! The jobs in hand: the engine that decides about them, the deliveries without a report, and the events for their
//! source.

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use imageshare_engine::{
    Engine,
    io::{Command, DeliveryId, Input, LaneId, Notice},
    job::{Job, Report},
    limits::Limits,
    policy::Policy,
};
use tokio::time::Instant;

use super::{
    DriverEvent,
    observer::Observer,
    outstanding::{FinishedJob, OutstandingJobs},
    timed_engine::TimedEngine,
};
use crate::{
    lane_messages::{Delivery, SettledJob},
    status::Status,
};

/// Items (accounts of jobs) that a process holds before it takes in no more jobs, including the outcomes of reports that
/// are not published yet. The lanes of a daemon have equal shares of it.
pub(crate) const ITEMS_MAX: usize = 2_000_000;

/// Deliveries that a run holds before it takes in no more jobs, including those whose report waits in the outbox.
pub(crate) const DELIVERIES_MAX: usize = 10_000;

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

    /// Passes an event to the engine.
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
        let accounts = delivery.accounts();
        let Delivery { identity, lane, jobs, expires_at } = delivery;
        let received_at = SystemTime::now();
        // `duration_since` fails for a time in the past: the deadline of an expired job is the current moment.
        let left = expires_at.map(|end| end.duration_since(received_at).unwrap_or_default());
        let deadline = left.map(|left| self.engine.after(left));
        self.observer.job_received(accounts);
        let first = self.outstanding.insert(lane, identity, received_at, &jobs);
        for (delivery, job) in (first.0..).map(DeliveryId).zip(jobs) {
            self.handle(Input::Job { delivery, lane, job: Job { deadline, ..job } });
        }
    }

    /// Records that an image of a delivery is settled. Puts each delivery that is finished by that into the outbox.
    pub(super) fn settle(&mut self, image: DeliveryId, report: Report) {
        let Self { engine, outstanding, outbox, outcomes_waiting, observer } = self;
        outstanding.settle(image, report, |job| {
            let FinishedJob { identity, lane, mode, received_at, reports } = job;
            reports.iter().for_each(|report| observer.job_settled(report));
            let finished_at = SystemTime::now();
            let engine_epoch = engine.epoch(finished_at);
            let settled = SettledJob { identity, lane, mode, reports, received_at, finished_at, engine_epoch };
            *outcomes_waiting += settled.outcomes();
            outbox.push_back(DriverEvent::Settled(Box::new(settled)));
        });
    }

    /// The engine has forgotten the jobs of a lane, so that their source can deliver them again.
    pub(super) fn requeue(&mut self, lane: LaneId) {
        let jobs = self.outstanding.remove_lane(lane);
        self.outbox.push_back(DriverEvent::Requeued { lane, jobs });
    }

    /// The lane is no longer ours, so its jobs are not either.
    pub(super) fn lose(&mut self, lane: LaneId) {
        drop(self.outstanding.remove_lane(lane));
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
            self.outcomes_waiting -= settled.outcomes();
        }
        next
    }

    pub(super) fn has_events(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Returns whether [`DELIVERIES_MAX`] or [`ITEMS_MAX`] is reached, so that a run takes in no more jobs.
    pub(super) fn is_full(&self) -> bool {
        self.outstanding.len() + self.outbox.len() >= DELIVERIES_MAX
            || self.engine().operations() + self.outstanding.outcomes() + self.outcomes_waiting >= ITEMS_MAX
    }

    /// Returns the deliveries without a report.
    pub(super) const fn outstanding(&self) -> &OutstandingJobs<I> {
        &self.outstanding
    }
}
