//! One history: the real engines of all workers, the queue, the ledger, a virtual clock.

use std::collections::{BTreeMap, BTreeSet};

use imageshare_core::{
    Class, Permission,
    ids::{AccountId, ImageId, RequestId},
};
use imageshare_engine::{
    LaneStatus,
    io::{Action, Answer, CallId, Command, DeliveryId, ImageReadiness, Input, LaneId, Notice, Outcome},
    job::Report,
    time::Instant,
};
use imageshare_sandbox::{
    ledger::{ImageState, Refusal},
    rate::Meter,
};

use crate::{
    broker::{BrokerDelivery, HEARTBEAT, Queue},
    checker::Checker,
    coverage::Coverage,
    fault::InjectedFault,
    process::{Away, Process},
    random::Random,
    scenario::{self, Scenario},
};

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// What was wrong; empty if nothing was.
    pub violations: Vec<String>,
    /// The reports by job.
    pub reports: BTreeMap<usize, Report>,
    /// Who has the first image in the end.
    pub shared: BTreeSet<AccountId>,
    /// When the last job was settled, in milliseconds.
    pub settled_at: u64,
    /// Write requests that reached the cloud.
    pub writes: u64,
    /// Requests that the cloud refused for their number.
    pub throttled: u64,
    /// Calls that were made, and events that happened.
    pub seen: (u64, u64),
    /// How much of the time, and of the calls, that the jobs may cost it took, in hundredths.
    pub of_bounds: (u64, u64),
    /// What was reached.
    pub coverage: Coverage,
    /// Everything that happened, if it was asked for.
    pub log: Vec<String>,
}

pub(crate) const LANE: LaneId = LaneId(0);
/// The time after which a driver reports a call without an answer, in milliseconds.
pub(crate) const CALL_TIMEOUT: u64 = 10_000;
/// How long a delivery takes after another consumer became the active one, in milliseconds.
const TAKEOVER: u64 = 7;
/// A worker that was suspended for longer gives up its lane when it wakes up, in milliseconds.
const STANDSTILL_MAX: u64 = 2000;
/// The longest that a connection is silent, in milliseconds.
const SILENCE_MAX: u64 = 100_000;
/// Violations after which a run ends.
const VIOLATIONS_MAX: usize = 1000;

/// What is going to happen.
#[derive(Debug)]
enum Event {
    Publish(usize),
    /// A request of a process is written; of this kind, if that is not counted yet.
    Sent(u64, CallId, Option<usize>),
    /// A call reaches the cloud. A client that still waits receives the outcome.
    Arrive {
        process: u64,
        call: CallId,
        caller: AccountId,
        action: Action,
        answers_at: Option<u64>,
    },
    Answer(u64, CallId, Outcome),
    Refreshed(u64),
    /// A process connects to the broker and consumes, if it does not already.
    Subscribe(u64),
    /// The broker delivers what it can.
    Deliver,
    /// A delivery reaches its worker.
    Delivered(BrokerDelivery),
    /// The acknowledgements of a consumer that are due are applied.
    AcksApplied(u64),
    /// A process closes its connection.
    Close(u64, u64),
    /// The active consumer's connection ends.
    Disconnect,
    /// A process sees that the connection of its consumer ended.
    EndSeen(u64, u64),
    /// The broker ends the connection of a consumer that is silent since that time.
    TimedOut(u64, u64),
    /// A process that is cut off gives up the connection of its consumer.
    GaveUp(u64, u64),
    /// A process is no longer cut off.
    Reachable(u64),
    /// A process that was suspended at that time runs again.
    Woken(u64, u64),
    /// Processes sign with a key of this account from now on.
    KeyReplaced(AccountId),
    /// A process receives the account of the key in use, or that it is unavailable.
    OwnerLearned(u64, Option<AccountId>),
    Interrupt,
    /// A moment at which something may go wrong.
    Moment,
}

/// A run under way.
struct Run {
    world: Scenario,
    random: Random,
    /// The processes that are alive.
    processes: Vec<Process>,
    /// The number of the next one.
    next_process: u64,
    queue: Queue,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    meters: [Meter; 3],
    checker: Checker,
    /// How many jobs are published.
    published: usize,
    outage_until: u64,
    /// Until when calls are refused with this code; only writes, if so.
    revoked: (u64, &'static str, bool),
    ended: Ended,
    logging: bool,
}

/// Runs a world to its end.
#[must_use]
pub fn run(world: Scenario, seed: u64, logging: bool) -> Ended {
    let (bound, calls_bound) = (world.bound(), world.calls_bound());
    let mut run = Run::new(world, seed, logging);
    let is_over = run.play(bound);
    let Run { mut checker, mut ended, world, .. } = run;
    if is_over {
        checker.finish(&world);
    }
    ended.reports = checker.reports().clone();
    ended.seen = world.faults.seen();
    let first = scenario::image(0);
    ended.shared =
        (0..world.accounts).map(scenario::account).filter(|&account| world.ledger.is_shared(first, account)).collect();
    if ended.seen.0 > calls_bound {
        checker.wrong(format!("{} calls, its jobs may cost {calls_bound}", ended.seen.0));
    }
    ended.of_bounds = (ended.settled_at * 100 / bound, ended.seen.0 * 100 / calls_bound);
    ended.violations = checker.violations;
    ended
}

impl Run {
    fn new(world: Scenario, seed: u64, logging: bool) -> Self {
        let random = Random::new(seed.wrapping_mul(31));
        let (limit, window) = world.rate;
        let meter = |limit| Meter::new(limit, window, 1000);
        // Limits are small whole numbers.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let paced = (world.lane.rate as u32, world.lane.image_rate as u32);
        let checker = Checker::new(&world, paced);
        let mut run = Self {
            meters: [meter(limit), meter(limit), meter(limit * 4)],
            random,
            processes: Vec::new(),
            next_process: seed,
            queue: Queue::new(world.broker.clone(), world.priority),
            now: 0,
            events: BTreeMap::new(),
            next_event: 0,
            checker,
            published: 0,
            outage_until: 0,
            revoked: (0, "", false),
            ended: Ended {
                violations: Vec::new(),
                reports: BTreeMap::new(),
                shared: BTreeSet::new(),
                settled_at: 0,
                writes: 0,
                throttled: 0,
                seen: (0, 0),
                of_bounds: (0, 0),
                coverage: Coverage::default(),
                log: Vec::new(),
            },
            logging,
            world,
        };
        for nth in 0..run.world.jobs.len() {
            run.at(run.world.jobs[nth].0.0, Event::Publish(nth));
        }
        let first = run.world.jobs.first().map_or(0, |(at, _)| at.0);
        for after in run.world.moments.clone() {
            run.at(first + after, Event::Moment);
        }
        if let Some(at) = run.world.interrupted_at {
            run.at(at, Event::Interrupt);
        }
        for _ in 0..run.world.workers {
            let id = run.begin_process(scenario::account_of(scenario::OWNER));
            run.subscribe(id);
        }
        if !run.world.has_takeover_checks() {
            // A command reads its jobs from a file.
            let process = &mut run.processes[0];
            process.away = None;
            run.input_to(seed, Input::LaneUp(LANE, run.world.lane_limits()));
        }
        run
    }

    /// Tells a process that begins whose its key is and has to be, if that is known.
    fn introduce(&mut self, id: u64) {
        let owner = scenario::account_of(scenario::OWNER);
        if self.world.expects_account {
            self.input_to(id, Input::ExpectAccount(LANE, Some(owner)));
        }
        let key_owner = self.process(id).map(|process| process.key_owner);
        let told = key_owner.filter(|_| self.world.knows_owners);
        self.happen(Event::OwnerLearned(id, told));
    }

    /// Lets everything happen. Returns whether nothing is left to happen.
    fn play(&mut self, bound: u64) -> bool {
        loop {
            let wakes = self.drain();
            if self.checker.violations.len() >= VIOLATIONS_MAX {
                return false;
            }
            let next = self.events.first_key_value().map(|(&(at, _), _)| at);
            let at = match (next, wakes) {
                (Some(event), Some(wake)) => event.min(wake),
                (Some(only), None) | (None, Some(only)) => only,
                (None, None) => {
                    self.check_over();
                    return true;
                }
            };
            if next.is_none() && (0..self.world.jobs.len()).all(|job| self.checker.is_over(job)) {
                return true;
            }
            self.now = self.now.max(at);
            if self.now > bound {
                self.log_engines();
                self.checker.wrong(format!("not over after {bound} ms"));
                return false;
            }
            self.heal();
            if next == Some(at)
                && let Some((_, event)) = self.events.pop_first()
            {
                self.happen(event);
                self.drain();
            }
            self.break_something();
        }
    }

    fn check_over(&mut self) {
        let open: usize = self.processes.iter().map(|process| process.engine.jobs()).sum();
        if open > 0 {
            self.log_engines();
            self.checker.wrong(format!("nothing is left to happen and {open} deliveries are open"));
        }
    }

    fn process(&mut self, id: u64) -> Option<&mut Process> {
        self.processes.iter_mut().find(|process| process.id == id)
    }

    /// The process that has the lane, or else any.
    fn active_process(&self) -> u64 {
        self.queue.active_worker().or_else(|| Some(self.processes.first()?.id)).unwrap_or_default()
    }

    /// Carries out commands until every engine waits. Gives until when.
    fn drain(&mut self) -> Option<u64> {
        let ids: Vec<_> = self.processes.iter().map(|process| process.id).collect();
        ids.into_iter().filter_map(|id| self.drain_one(id)).min()
    }

    fn drain_one(&mut self, id: u64) -> Option<u64> {
        for _ in 0..100_000 {
            let now = self.now;
            match self.process(id).filter(|process| process.suspended_until.is_none())?.engine.poll(Instant(now)) {
                Command::WaitUntil(at) if at.0 < now => {
                    self.checker.wrong(format!("waits at {now} until {}", at.0));
                    return None;
                }
                // It has done much and has more to do.
                Command::WaitUntil(at) if at.0 == now => {}
                Command::WaitUntil(at) => return Some(at.0),
                Command::Idle => return None,
                command => self.carry_out(id, command),
            }
        }
        self.checker.wrong("a hundred thousand commands at one moment".into());
        None
    }

    fn carry_out(&mut self, id: u64, command: Command) {
        self.log(|| format!("{id} -> {command:?}"));
        let now = self.now;
        let needs_proof = self.world.broker.proof;
        let Some(process) = self.process(id) else { return };
        let (consumer, away) = (process.consumer, process.away);
        match command {
            Command::Call { call, action, .. } => {
                let (caller, is_foreign) = (process.key_owner, process.knows_foreign);
                let is_held_back = needs_proof && !process.may_call(now);
                if is_held_back {
                    process.held_back.push((call, action.clone(), caller));
                    self.ended.coverage.broker("call waits for a proof");
                }
                if is_foreign {
                    self.checker.wrong(format!("{call:?} is made with a key of another account"));
                }
                if !is_held_back {
                    self.make_call(id, call, action, caller);
                }
            }
            Command::Settle { delivery, report } => self.settle(id, delivery, *report),
            Command::Requeue(_) => self.give_back(id),
            Command::RefreshCredential(_) => self.at(now + 50, Event::Refreshed(id)),
            Command::Notice(_, notice) => {
                self.ended.coverage.notice(&notice);
                if away == Some(Away::GaveBack) && notice == Notice::Opened && consumer.is_none() {
                    self.at(now + 500, Event::Subscribe(id));
                }
            }
            Command::WaitUntil(_) | Command::Idle => {}
        }
    }

    fn settle(&mut self, id: u64, delivery: DeliveryId, report: Report) {
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
    fn give_back(&mut self, id: u64) {
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
    fn close(&mut self, id: u64, consumer: u64) {
        self.end_connection(consumer);
        let Some(process) = self.process(id) else { return };
        if process.is_draining {
            self.replace(id);
        } else if !matches!(process.engine.lane_status(LANE), LaneStatus::Closed(..)) {
            self.subscribe(id);
        }
    }

    /// A process makes a call that nothing holds back, with a key of this account.
    fn make_call(&mut self, id: u64, call: CallId, action: Action, caller: AccountId) {
        let Some(process) = self.process(id) else { return };
        let (away, consumer) = (process.away, process.consumer);
        let is_consumer = consumer.is_some_and(|consumer| self.queue.has_consumer(consumer));
        self.checker.called(id, call, &action, away, is_consumer || !self.world.has_takeover_checks());
        self.call(id, call, action, caller);
    }

    /// Decides what becomes of a call.
    fn call(&mut self, process: u64, call: CallId, action: Action, caller: AccountId) {
        let id = request_id(process, call);
        let refused = |code: &str, message: &str| refused(code, message, id);
        let sent = self.now + self.random.below(4);
        let (least, most) = self.world.latency;
        let takes = self.random.between(least, most);
        let write_lag = self.world.limits.write_lag.0;
        let mut fault = self.world.faults.of_call(&mut self.random);
        if self.now < self.outage_until {
            fault = Some(InjectedFault::Unconnected);
        }
        if let Some(fault) = fault {
            self.ended.coverage.fault(fault);
        }
        if fault == Some(InjectedFault::Unconnected) {
            let outcome = Outcome::Unanswered { sent: false, reason: "connection refused".into() };
            return self.at(sent + 1, Event::Answer(process, call, outcome));
        }
        if fault == Some(InjectedFault::ListingRefused) {
            match &action {
                Action::ReadShares { image_id, .. } => self.checker.listing_refused(*image_id),
                Action::Modify { .. } | Action::ReadImage { .. } => fault = None,
            }
        }
        self.checker.asked(self.now, id, &action);
        self.at(sent, Event::Sent(process, call, Some(kind(&action))));
        let arrives = sent + (takes / 2).min(write_lag.saturating_sub(1));
        let lost = |reason: &str| Outcome::Unanswered { sent: true, reason: reason.into() };
        let (outcome, at, arrives) = match fault {
            None => {
                return self
                    .at(arrives, Event::Arrive { process, call, caller, action, answers_at: Some(sent + takes) });
            }
            Some(InjectedFault::AnswerLate) => {
                let answers_at = Some(sent + CALL_TIMEOUT - 1);
                return self.at(arrives, Event::Arrive { process, call, caller, action, answers_at });
            }
            Some(InjectedFault::AnswerLost) => (lost("connection reset"), sent + takes, Some(arrives)),
            Some(InjectedFault::Late) => {
                // At the very last moment as often as before.
                let after = [self.random.below(write_lag), write_lag - 1];
                (lost("time-out"), sent + CALL_TIMEOUT.min(takes), Some(sent + self.random.of(&after)))
            }
            Some(InjectedFault::Html) => (lost("<html>"), sent + takes, None),
            Some(InjectedFault::Credential) => {
                (refused("AuthFailure.TokenFailure", "the token expired"), sent + takes, None)
            }
            Some(InjectedFault::InternalError) => (refused("InternalError", "try again"), sent + takes, None),
            Some(InjectedFault::Clock) => {
                (refused("AuthFailure.SignatureExpire", "the clocks differ"), sent + takes, None)
            }
            Some(InjectedFault::ListingRefused) => {
                (refused("UnauthorizedOperation", "not allowed to list"), sent + takes, None)
            }
            Some(InjectedFault::Deployment) => (refused("ActionOffline", "not for this account"), sent + takes, None),
            Some(InjectedFault::Skew) => (Outcome::Skewed, sent + takes, None),
            Some(InjectedFault::Throttle) => {
                self.ended.throttled += 1;
                let of_account = self.ended.throttled.is_multiple_of(4);
                let code = if of_account { "RequestLimitExceeded.UinLimitExceeded" } else { "RequestLimitExceeded" };
                (refused(code, "too many"), sent + takes, None)
            }
            Some(_) => (lost("time-out"), sent + CALL_TIMEOUT, None),
        };
        if let Some(arrives) = arrives {
            self.at(arrives, Event::Arrive { process, call, caller, action, answers_at: None });
        }
        self.at(at, Event::Answer(process, call, outcome));
    }

    fn happen(&mut self, event: Event) {
        let mut event = event;
        if let Event::Sent(.., uncounted) = &mut event
            && let Some(kind) = uncounted.take()
        {
            self.checker.sent(self.now, kind);
        }
        // What is meant for a suspended process waits until it runs again.
        if let Some(until) = event.process().and_then(|id| self.process(id)?.suspended_until) {
            return self.at(until, event);
        }
        match event {
            Event::Publish(job) => {
                self.published = self.published.max(job + 1);
                self.queue.publish(job, self.world.priorities.get(&job).copied());
                self.deliver();
            }
            Event::Interrupt => self.input_to(self.active_process(), Input::Drain),
            Event::Sent(process, call, _) => self.input_to(process, Input::Sent(call)),
            Event::Arrive { process, call, caller, action, answers_at } => {
                let outcome = self.arrive(request_id(process, call), caller, &action);
                self.log(|| format!("   {call:?} of process {process} arrives: {outcome:?}"));
                if let Some(at) = answers_at {
                    self.at(at, Event::Answer(process, call, outcome));
                }
            }
            Event::Answer(process, call, outcome) => {
                self.checker.answered(process, call);
                if let Some(process) = self.process(process) {
                    // What comes after it was given up brings a lane back no more.
                    let given_up = matches!(process.engine.lane_status(LANE), LaneStatus::GivenUp(_));
                    self.ended.coverage.outcome(&outcome);
                    if matches!(outcome, Outcome::Accepted(_)) && !given_up {
                        self.checker.accepted(self.now);
                    }
                }
                self.input_to(process, Input::Answer { call, outcome });
            }
            Event::Refreshed(process) => {
                let Some(owner) = self.process(process).map(|process| process.key_owner) else { return };
                self.input_to(process, Input::CredentialRefreshed(LANE));
                self.identify(process, owner);
            }
            Event::Subscribe(id) => self.subscribe(id),
            Event::Deliver => self.deliver(),
            Event::Delivered(delivery) => self.receive(delivery),
            Event::AcksApplied(consumer) => {
                self.queue.apply_acks(consumer, self.now);
                self.deliver();
            }
            Event::Close(id, consumer) => self.close(id, consumer),
            Event::Disconnect => self.disconnect(),
            Event::EndSeen(id, consumer)
                if self.process(id).is_some_and(|process| process.consumer == Some(consumer)) =>
            {
                self.lose(id);
            }
            Event::TimedOut(consumer, since) if self.queue.silent_since(consumer) == Some(since) => {
                self.log(|| format!("   consumer {consumer} timed out"));
                self.ended.coverage.broker("silent connection ended");
                self.end_connection(consumer);
            }
            Event::GaveUp(id, consumer) => self.give_up_connection(id, consumer),
            Event::Reachable(id) => self.reach(id),
            Event::Woken(id, since) => self.wake(id, since),
            Event::Moment | Event::EndSeen(..) | Event::TimedOut(..) => {}
            Event::KeyReplaced(owner) => self.replace_key(owner),
            Event::OwnerLearned(id, owner) => self.learn_owner(id, owner),
        }
    }

    /// The cloud does what a request asks.
    fn arrive(&mut self, id: RequestId, caller: AccountId, action: &Action) -> Outcome {
        let refused = |code: &str, message: &str| refused(code, message, id);
        if self.meters[kind(action)].admit(self.now).is_err() {
            self.ended.throttled += 1;
            return refused("RequestLimitExceeded", "too many requests in a second");
        }
        let (revoked_until, code, is_of_writes) = self.revoked;
        if self.now < revoked_until && (!is_of_writes || matches!(action, Action::Modify { .. })) {
            return refused(code, "the policy was revoked");
        }
        if let Action::Modify { image_id, .. } = action {
            self.look_whether_full(*image_id);
        }
        let ledger = &mut self.world.ledger;
        let answered = match action {
            Action::Modify { region, image_id, permission, account_ids } => {
                self.ended.writes += 1;
                let done = ledger.modify(self.now, caller, *region, *image_id, account_ids, *permission);
                done.map(|()| Answer::Modified)
            }
            Action::ReadShares { region, image_id } => {
                let as_of = self.now.saturating_sub(self.random.below(self.world.lag_max + 1));
                let listed = ledger.shares(as_of, caller, *region, *image_id);
                listed.map(|shares| Answer::Shares(shares.into_iter().map(|(account, _)| account).collect()))
            }
            Action::ReadImage { region, image_id } => {
                let seen = ledger.image(self.now, caller, *region, *image_id);
                seen.map(|view| Answer::Image(view.map_or(ImageReadiness::Missing, |view| readiness(view.state))))
            }
        };
        if let Action::Modify { image_id, account_ids, .. } = action {
            self.look_whether_full(*image_id);
            for &account in account_ids {
                let is_shared = self.world.ledger.is_shared(*image_id, account);
                self.checker.note_state(self.now, *image_id, account, is_shared);
            }
        }
        match answered {
            Ok(answer) => Outcome::Accepted(answer),
            Err(Refusal { code, message }) => refused(&code, &message),
        }
    }

    /// As full as the cloud lets it be, or as the engine is set to make it.
    fn look_whether_full(&mut self, image: ImageId) {
        if self.world.ledger.shared_count(image) >= self.world.cap() {
            self.checker.is_full(self.now, image);
        }
    }

    /// A process becomes a consumer of the lane, unless it is one already, or still is the one that it was.
    fn subscribe(&mut self, id: u64) {
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
    fn deliver(&mut self) {
        for delivery in self.queue.deliver() {
            match self.process(delivery.worker).and_then(|process| process.unreachable_until()) {
                Some(until) => self.at(until, Event::Delivered(delivery)),
                None => self.receive(delivery),
            }
        }
    }

    /// A delivery reaches its worker. The lane comes up with the first one of a subscription.
    fn receive(&mut self, delivery: BrokerDelivery) {
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

    /// The broker ends a connection, and another consumer may become the active one.
    fn end_connection(&mut self, consumer: u64) {
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
    fn disconnect(&mut self) {
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
    fn lose(&mut self, id: u64) {
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
    fn give_up_connection(&mut self, id: u64, consumer: u64) {
        let Some(process) = self.process(id) else { return };
        if process.consumer == Some(consumer) && process.cut_off_until.is_some() {
            self.lose(id);
        }
    }

    /// A process is no longer cut off: its connection works again, or both sides see that it ended.
    fn reach(&mut self, id: u64) {
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
    fn wake(&mut self, id: u64, since: u64) {
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
    fn silence(&mut self) {
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

    fn break_something(&mut self) {
        if self.now >= self.world.heals_at() {
            return;
        }
        let Some(fault) = self.world.faults.of_step(&mut self.random) else { return };
        self.ended.coverage.fault(fault);
        self.log(|| format!("   {}", fault.as_str()));
        match fault {
            InjectedFault::Kill => self.kill(),
            InjectedFault::Silent => self.silence(),
            InjectedFault::Lost => self.disconnect(),
            InjectedFault::Returned => {
                self.disconnect();
                let again_at = self.now + self.random.of(&[100, 2000, 10_000, 40_000]);
                self.at(again_at, Event::Disconnect);
            }
            InjectedFault::Drained => self.tell_to_end(),
            InjectedFault::Busy => {
                let image = scenario::image(self.random.below(self.world.images));
                self.world.ledger.occupy(image, self.now + 3_600_000);
            }
            InjectedFault::Outside => {
                let image = scenario::image(self.random.below(self.world.images));
                let account = scenario::account(self.random.below(self.world.accounts));
                let permission = Permission::of_presence(self.random.chance(50));
                self.world.ledger.impose(self.now, image, account, permission);
                let is_shared = self.world.ledger.is_shared(image, account);
                self.checker.note_state(self.now, image, account, is_shared);
                self.checker.disturbed(self.now, image);
            }
            InjectedFault::Revoked => {
                self.checker.revoked();
                let codes = ["UnauthorizedOperation", "UnauthorizedOperation.CamNoAuth", "IpNotInWhitelist"];
                let until = self.now + self.random.of(&[3000, 60_000, 400_000, 1_800_000]);
                self.revoked = (until, self.random.of(&codes), self.random.chance(50));
            }
            InjectedFault::ForeignKey => {
                self.replace_key(scenario::account_of(scenario::OTHER_OWNER));
                let until = self.now + self.random.of(&[2000, 20_000, 600_000]);
                self.at(until, Event::KeyReplaced(scenario::account_of(scenario::OWNER)));
            }
            InjectedFault::Outage => self.outage_until = self.now + self.random.between(1000, 150_000),
            _ => {}
        }
    }

    /// The active process is killed.
    fn kill(&mut self) {
        let id = self.active_process();
        let is_cut_off = self.process(id).is_some_and(|process| process.cut_off_until.is_some());
        // Otherwise the broker does not see it before its time-out.
        for consumer in self.queue.consumers_of(id).into_iter().filter(|_| !is_cut_off) {
            self.end_connection(consumer);
        }
        self.replace(id);
    }

    /// The active process receives SIGTERM. Without a lane it ends at once.
    fn tell_to_end(&mut self) {
        let id = self.active_process();
        let Some(process) = self.process(id).filter(|process| process.suspended_until.is_none()) else { return };
        if process.away.is_some() {
            return self.kill();
        }
        process.is_draining = true;
        self.input_to(id, Input::Drain);
    }

    /// A process ended, and another one takes its place.
    fn replace(&mut self, id: u64) {
        self.checker.ended(id);
        let Some(place) = self.processes.iter().position(|process| process.id == id) else { return };
        let last_owner = self.processes.remove(place).key_owner;
        // A process without this information trusts its first key, so that must be the right one again.
        let is_told = self.world.expects_account && self.world.knows_owners;
        let next = self.begin_process(if is_told { last_owner } else { scenario::account_of(scenario::OWNER) });
        // Where there is a standby, that one has the lane meanwhile.
        let pause = if self.world.workers > 1 { self.random.of(&[300, 3000]) } else { 0 };
        self.at(self.now + pause, Event::Subscribe(next));
    }

    /// The key of all processes that run is replaced, unless it is of that account already.
    fn replace_key(&mut self, owner: AccountId) {
        for id in self.processes.iter().map(|process| process.id).collect::<Vec<_>>() {
            let Some(process) = self.process(id).filter(|process| process.key_owner != owner) else { continue };
            (process.key_owner, process.knows_foreign) = (owner, false);
            self.input_to(id, Input::CredentialRefreshed(LANE));
            self.identify(id, owner);
        }
    }

    /// A process receives its key's account, or that it is unavailable, at once or later.
    fn identify(&mut self, id: u64, owner: AccountId) {
        let at = self.now + self.random.of(&[0, 20, 300, 6000]);
        let told = Some(owner).filter(|_| self.world.knows_owners);
        self.at(at, Event::OwnerLearned(id, told));
    }

    fn learn_owner(&mut self, id: u64, owner: Option<AccountId>) {
        let Some(process) = self.process(id).filter(|process| owner.is_none_or(|owner| owner == process.key_owner))
        else {
            return;
        };
        process.knows_foreign = owner.is_some_and(|owner| owner != scenario::account_of(scenario::OWNER));
        match owner {
            Some(owner) => self.input_to(id, Input::OwnAccount(LANE, owner)),
            None => self.input_to(id, Input::OwnerUnknown(LANE)),
        }
    }

    fn begin_process(&mut self, key_owner: AccountId) -> u64 {
        let id = self.next_process;
        self.next_process += 1;
        self.processes.push(Process::new(id, &self.world, key_owner));
        self.introduce(id);
        id
    }

    /// In the end nothing goes wrong any more and the cloud permits everything.
    fn heal(&mut self) {
        if self.now < self.world.heals_at() {
            return;
        }
        self.world.faults.end();
        self.revoked.0 = 0;
        if self.processes.iter().any(|process| process.key_owner != scenario::account_of(scenario::OWNER)) {
            self.replace_key(scenario::account_of(scenario::OWNER));
        }
        for nth in 0..self.world.images {
            self.world.ledger.permit(scenario::image(nth));
        }
    }

    fn input_to(&mut self, id: u64, input: Input) {
        self.log(|| format!("{id} <- {input:?}"));
        let now = self.now;
        if let Some(process) = self.process(id) {
            process.handle(now, input);
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.events.insert((at, self.next_event), event);
        self.next_event += 1;
    }

    fn log_engines(&mut self) {
        if self.logging {
            let engines = self.processes.iter().map(|process| format!("{:#?}", process.engine));
            self.ended.log.extend(engines);
        }
    }

    fn log(&mut self, line: impl FnOnce() -> String) {
        if self.logging {
            let line = format!("{:>9} {}", self.now, line());
            self.ended.log.push(line);
        }
    }
}

impl Event {
    /// The process that it needs to run.
    const fn process(&self) -> Option<u64> {
        match self {
            Self::Sent(id, ..)
            | Self::Answer(id, ..)
            | Self::Refreshed(id)
            | Self::OwnerLearned(id, _)
            | Self::Subscribe(id)
            | Self::Close(id, _)
            | Self::EndSeen(id, _) => Some(*id),
            Self::Delivered(delivery) => Some(delivery.worker),
            Self::Publish(_)
            | Self::Arrive { .. }
            | Self::Deliver
            | Self::AcksApplied(_)
            | Self::Disconnect
            | Self::TimedOut(..)
            | Self::GaveUp(..)
            | Self::Reachable(_)
            | Self::Woken(..)
            | Self::KeyReplaced(_)
            | Self::Interrupt
            | Self::Moment => None,
        }
    }
}

/// Every call has a request id of its own.
fn request_id(process: u64, call: CallId) -> RequestId {
    RequestId::new(&format!("{:016x}-{:08x}", process, call.0)).expect("25 printable characters are a request id")
}

/// The place of an action among those that are counted.
const fn kind(action: &Action) -> usize {
    match action {
        Action::Modify { .. } => 0,
        Action::ReadShares { .. } => 1,
        Action::ReadImage { .. } => 2,
    }
}

fn refused(code: &str, message: &str, request_id: RequestId) -> Outcome {
    Outcome::Refused {
        code: code.into(),
        class: Class::of(code),
        message: message.into(),
        request_id: Some(request_id),
    }
}

fn readiness(state: ImageState) -> ImageReadiness {
    match state {
        ImageState::Normal => ImageReadiness::Normal,
        ImageState::CreateFailed | ImageState::ImportFailed => ImageReadiness::Broken(state.as_str().into()),
        ImageState::Creating | ImageState::Importing | ImageState::Syncing | ImageState::Using => {
            ImageReadiness::Pending(state.as_str().into())
        }
    }
}
