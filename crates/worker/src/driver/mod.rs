//! The driver: one task owns the engine and carries out its commands.
//!
//! [`Driver::run`] is one loop. It waits for the next event: of a call in flight, of a lane's credential, or of the
//! [`JobSource`]. It passes the event to the engine, carries out the commands that follow, and gives reports and notices to
//! the source. Calls and credential loads run in tasks of their own and send their results to the loop. Only the loop
//! uses the engine, so the engine needs no lock.
//!
//! The path of a delivery:
//!
//! 1. A source receives it (`input`, or `subscriptions` for those of a broker) and passes it to `Driver::receive`.
//! 2. `jobs` numbers the delivery and gives its job to the engine, once for each image.
//! 3. `Driver::carry_out` polls the engine for a call; `calls` starts it, by way of `lanes` for endpoint and credential.
//! 4. The task of the call waits for the ownership proof, signs, sends, and reports the outcome to the loop.
//! 5. The engine settles each image; when all are settled, `jobs` puts the report of the delivery into the outbox, and the
//!    source takes it from there.

mod calls;
mod input;
mod input_thread;
mod jobs;
mod lanes;
mod observer;
mod outstanding;
mod source;
mod subscriptions;
mod summary;
mod timed_engine;

use std::{sync::Arc, time::Duration};

use imageshare_core::Class;
use imageshare_engine::{
    LaneStatus,
    io::{Command, Input, LaneId, Notice, Outcome},
    limits::Limits,
    policy::Policy,
};
use tokio::time::{Instant, sleep_until};

pub(crate) use self::jobs::{DELIVERIES_MAX, ITEMS_MAX};
use self::{
    calls::{CallEvent, CallRecord, Calls},
    jobs::JobsInHand,
    lanes::Lanes,
};
pub use self::{
    input::{InputChannels, InputEvent, InputSource},
    input_thread::{Aside, End, Extent, InputItem, InputThread},
    observer::{Progress, Snapshot},
    source::{Demand, JobSource},
    subscriptions::{BrokerEvent, BrokerSource, DriverChannels, DriverOrder, LaneReload},
    summary::{Closing, Summary},
};
use crate::{
    events,
    http::{Client, TimeOuts},
    lane_messages::{Delivery, SettledJob, outcomes},
    lanes::OpenLane,
    status::Status,
};

/// The number of operations after which a turn of the loop ends. The job that reaches it is still completed; the rest
/// waits for the next turn. So a turn takes tens of milliseconds, and one that takes seconds shows a suspended process.
const WORK_MAX: usize = 20_000;

/// Events of calls that are handled in one turn.
const CALL_EVENTS_AT_ONCE: usize = 64;

/// The longest time between two turns, so that a suspended loop differs from one that had nothing to do.
const TURN_MAX: Duration = Duration::from_millis(500);

/// Owns the engine and carries out its commands.
#[derive(Debug)]
pub struct Driver<I> {
    jobs: JobsInHand<I>,
    lanes: Lanes,
    calls: Calls,
    time_outs: TimeOuts,
}

/// The messages of a driver to the source of its jobs, in order of events.
#[derive(Clone, Debug)]
pub enum DriverEvent<I> {
    /// A job has its report.
    Settled(Box<SettledJob<I>>),
    /// The engine has forgotten the jobs of a lane: the source may deliver them again.
    Requeued {
        /// The lane.
        lane: LaneId,
        /// The identities of its jobs, in the order in which they arrived.
        jobs: Vec<I>,
    },
    /// A notice for people.
    Notice(LaneId, Notice),
    /// The source of a lane's credential has none, for this reason: one printable line.
    CredentialFailed(LaneId, String),
}

/// What woke the loop.
enum Woken<E> {
    Call(CallEvent),
    Credential(lanes::CredentialChange),
    Source(E),
    Alarm,
}

impl<I: Send + 'static> Driver<I> {
    /// Returns a driver for these lanes, which it numbers in this order.
    #[must_use]
    pub fn new(lanes: &[OpenLane], policy: Policy, limits: Limits, client: &Client) -> Self {
        let status = Status::new(lanes.iter().map(|lane| lane.name.as_str()));
        Self::with_status(lanes, policy, limits, client, Arc::new(status))
    }

    /// Returns a driver that records its state in `status`, which has the same lanes.
    #[must_use]
    pub(crate) fn with_status(
        lanes: &[OpenLane],
        policy: Policy,
        limits: Limits,
        client: &Client,
        status: Arc<Status>,
    ) -> Self {
        let mut jobs = JobsInHand::new(policy, limits, status);
        for (id, lane) in (0..).map(LaneId).zip(lanes) {
            jobs.status().lane(id).metrics.show_limits(&lane.limits);
            if lane.account.is_some() {
                jobs.handle(Input::ExpectAccount(id, lane.account));
            }
        }
        Self { jobs, lanes: Lanes::new(lanes, client), calls: Calls::new(), time_outs: client.time_outs() }
    }

    /// Returns its progress, which can be read while it runs.
    #[must_use]
    pub fn progress(&mut self) -> Arc<Progress> {
        self.jobs.observer().progress()
    }

    /// Returns the state of its lanes, which can be read while it runs.
    #[must_use]
    pub fn shared_status(&mut self) -> Arc<Status> {
        Arc::clone(self.jobs.observer().status())
    }

    /// Runs until the source is done.
    ///
    /// Every call ends within the client's time-out. After an interrupt, the run ends within that time plus 2 s for its
    /// last reports; after a second interrupt, within 2 s. Neither limit depends on a receiver of the reports. A drain
    /// ends within the time-out of a call; the subscriptions still publish then.
    pub async fn run(mut self, mut source: impl JobSource<I>) -> Summary {
        source.start(&mut self);
        self.lanes.follow_credentials(&mut self.jobs);
        loop {
            self.carry_out(&source);
            source.take_events(&mut self);
            self.measure();
            if source.is_done(&self) {
                break;
            }
            let asleep_since = Instant::now();
            let alarm = self.jobs.alarm().min(asleep_since + TURN_MAX);
            let demand = Demand { jobs: !self.jobs.is_full(), events: self.jobs.has_events() };
            // In random order, so that neither many calls nor many jobs hold up the others.
            let woken = tokio::select! {
                event = self.calls.next() => Woken::Call(event),
                change = self.lanes.next() => Woken::Credential(change),
                event = source.next(demand) => Woken::Source(event),
                () = sleep_until(alarm) => Woken::Alarm,
            };
            source.woke(asleep_since.elapsed(), &mut self);
            match woken {
                Woken::Call(event) => {
                    self.handle_call(event);
                    for _ in 1..CALL_EVENTS_AT_ONCE {
                        let Some(event) = self.calls.try_next() else { break };
                        self.handle_call(event);
                    }
                }
                Woken::Credential(change) => self.lanes.handle(change, &mut self.jobs),
                Woken::Source(event) => source.handle(event, &mut self).await,
                Woken::Alarm => {}
            }
        }
        source.finish(&mut self).await;
        let jobs_unsettled = self.jobs.outstanding().len() as u64;
        Summary { jobs_unsettled, ..std::mem::take(self.jobs.observer().summary()) }
    }

    /// Carries out the commands of the engine, up to [`WORK_MAX`].
    fn carry_out(&mut self, source: &impl JobSource<I>) {
        let mut work = 0;
        while work < WORK_MAX
            && let Some(command) = self.jobs.poll()
        {
            match command {
                Command::Call { call, lane, action } => {
                    self.calls.start(call, lane, self.lanes.api(lane).clone(), action, source.proof(lane));
                }
                Command::Settle { delivery, report } => {
                    work += outcomes(&report);
                    self.jobs.settle(delivery, *report);
                }
                Command::Requeue(lane) => self.jobs.requeue(lane),
                Command::RefreshCredential(lane) => self.lanes.refresh(lane, &mut self.jobs),
                Command::Notice(lane, notice) => self.jobs.notice(lane, notice),
                Command::WaitUntil(_) | Command::Idle => {}
            }
        }
    }

    fn handle_call(&mut self, event: CallEvent) {
        match event {
            CallEvent::Sent(call) => {
                if let Some((lane, details)) = self.calls.sent(call) {
                    self.jobs.observer().call_sent(details.action);
                    events::CallSent { lane: self.jobs.status().lane(lane), call: details }.record();
                }
                self.jobs.handle(Input::Sent(call));
            }
            CallEvent::Ended { call, outcome, request_id, generation } => {
                if let Some(CallRecord { lane, details, sent_at }) = self.calls.remove(call) {
                    self.lanes.record(lane, &outcome, generation);
                    if let Outcome::Refused { class: Class::Throttle | Class::ThrottleAll, .. } = outcome {
                        self.jobs.observer().call_throttled();
                    }
                    let (lane, took) = (self.jobs.status().lane(lane), sent_at.map(|at| at.elapsed()));
                    events::CallEnded { lane, call: &details, outcome: &outcome, request_id, took }.record();
                }
                self.jobs.handle(Input::Answer { call, outcome });
            }
        }
    }

    /// Records that the loop turned, and now and then the numbers of the lanes.
    fn measure(&mut self) {
        if !self.jobs.observer().turned() {
            return;
        }
        for id in self.lanes.ids() {
            let lane = self.jobs.status().lane(id);
            match self.jobs.engine().lane_numbers(id) {
                Some(numbers) if self.jobs.engine().lane_status(id) != LaneStatus::Down => lane.metrics.show(&numbers),
                // The engine gets the limits when the lane comes up.
                _ => lane.metrics.show_limits(&self.lanes.limits(id)),
            }
            let oldest = self.jobs.outstanding().oldest(id);
            let waited = oldest.and_then(|arrived| arrived.elapsed().ok()).unwrap_or_default();
            lane.metrics.oldest_wait.set(waited.as_secs_f64());
            lane.metrics.clock_offset.set(self.lanes.api(id).clock_offset());
            lane.block(self.jobs.engine().is_blocked(id));
        }
    }
}

/// What the sources use.
impl<I: Send + 'static> Driver<I> {
    fn status(&self) -> &Status {
        self.jobs.status()
    }

    const fn time_outs(&self) -> TimeOuts {
        self.time_outs
    }

    fn lane_ids(&self) -> impl Iterator<Item = LaneId> + use<I> {
        self.lanes.ids()
    }

    fn receive(&mut self, delivery: Delivery<I>) {
        self.jobs.receive(delivery);
    }

    fn has_events(&self) -> bool {
        self.jobs.has_events()
    }

    fn next_event(&mut self) -> Option<DriverEvent<I>> {
        self.jobs.next_event()
    }

    /// Returns whether the engine has a job.
    fn has_jobs(&self) -> bool {
        self.jobs.engine().jobs() > 0
    }

    /// Returns whether a delivery of a lane has no report yet.
    fn has_jobs_of(&self, lane: LaneId) -> bool {
        !self.jobs.outstanding().has_none(lane)
    }

    /// Returns how many accounts the outstanding jobs of a lane name.
    fn accounts_in_hand(&self, lane: LaneId) -> usize {
        self.jobs.outstanding().accounts(lane)
    }

    fn has_credential(&self, lane: LaneId) -> bool {
        self.lanes.api(lane).credential().is_some()
    }

    fn lane_status(&self, lane: LaneId) -> LaneStatus {
        self.jobs.engine().lane_status(lane)
    }

    /// Informs the engine that a lane is up, or that its limits changed.
    fn lane_up(&mut self, lane: LaneId) {
        self.jobs.handle(Input::LaneUp(lane, self.lanes.limits(lane)));
    }

    /// The lane receives no more jobs until it is up again.
    fn lane_full(&mut self, lane: LaneId) {
        self.jobs.handle(Input::Full(lane));
    }

    fn lane_lost(&mut self, lane: LaneId) {
        self.jobs.lose(lane);
    }

    /// Requeues a lane as soon as none of its calls is in flight.
    fn leave_lane(&mut self, lane: LaneId) {
        self.jobs.handle(Input::Leave(lane));
    }

    fn set_limits(&mut self, limits: Limits) {
        self.jobs.handle(Input::Limits(limits));
    }

    /// Returns whether the settings pause a lane.
    fn is_paused(&self, lane: LaneId) -> bool {
        self.lanes.is_paused(lane)
    }

    /// Applies the settings of a lane, and loads its credential again. The limits take effect when it comes up. To pause or
    /// resume it is left to the source.
    fn reload_lane(&mut self, lane: LaneId, LaneReload { limits, account, is_paused }: LaneReload) {
        self.jobs.handle(Input::ExpectAccount(lane, account));
        self.lanes.reload(lane, limits, is_paused);
    }

    fn follow_owners(&mut self) {
        self.lanes.follow_owners();
    }

    async fn await_owners(&mut self) {
        self.lanes.await_owners(&mut self.jobs).await;
    }

    /// Makes no new calls from now on.
    fn drain(&mut self) {
        self.jobs.status().draining();
        self.jobs.handle(Input::Drain);
    }

    fn interrupt(&mut self) {
        self.jobs.observer().summary().is_interrupted = true;
        self.drain();
    }

    /// Records a report that nothing received.
    fn report_lost(&mut self) {
        self.jobs.observer().summary().reports_lost += 1;
    }

    /// Records the lanes that were given up. Returns whether these are all.
    fn record_lanes_given_up(&mut self) -> bool {
        let mut is_any_left = false;
        for id in self.lanes.ids() {
            match self.lane_status(id) {
                LaneStatus::GivenUp(reason) => self.jobs.observer().gave_up(id, reason),
                LaneStatus::Closed(..) | LaneStatus::Down | LaneStatus::Leaving | LaneStatus::Open => {
                    is_any_left = true;
                }
            }
        }
        !is_any_left
    }

    /// Breaks off the calls in flight. With that the engine has all outcomes, and settles all jobs.
    async fn break_off_calls(&mut self, source: &impl JobSource<I>) {
        self.calls.break_off().await;
        while let Some(event) = self.calls.try_next() {
            self.handle_call(event);
        }
        self.carry_out(source);
        while self.jobs.is_due() {
            self.carry_out(source);
        }
    }
}

#[cfg(test)]
mod tests;
