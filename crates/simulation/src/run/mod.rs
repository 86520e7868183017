//! One history: the real engines of all workers, the queue, the ledger, a virtual clock.

mod calls;
mod connections;
mod faults;

use std::collections::{BTreeMap, BTreeSet};

use imageshare_core::ids::AccountId;
use imageshare_engine::{
    LaneStatus,
    io::{Action, CallId, Command, Input, LaneId, Notice, Outcome},
    job::Report,
    time::Instant,
};
use imageshare_sandbox::rate::Meter;

use self::calls::request_id;
use crate::{
    broker::{BrokerDelivery, Queue},
    checker::Checker,
    coverage::Coverage,
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
                let (caller, is_foreign) = (process.key_owner, process.has_foreign_key);
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
                self.checker.answered(process, call, request_id(process, call), &outcome);
                if let Some(process) = self.process(process) {
                    // What comes after it was given up brings a lane back no more.
                    let given_up = matches!(process.engine.lane_status(LANE), LaneStatus::GivenUp(_));
                    self.ended.coverage.outcome(&outcome);
                    if let Outcome::Accepted(answer) = &outcome
                        && !given_up
                    {
                        self.checker.accepted(self.now, answer);
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
