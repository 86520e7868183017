//! One history: the real engine, the ledger, a virtual clock.

use std::collections::BTreeMap;

use imageshare_core::{Class, Permission, ids::RequestId};
use imageshare_engine::{
    Engine, LaneStatus,
    io::{Action, Answer, CallId, Command, ImageState, Input, LaneId, Notice, Outcome, TicketId},
    job::Report,
    time::Instant,
};
use imageshare_sandbox::{
    ledger::{ImageState as State, Refusal},
    rate::Meter,
};

use crate::{
    checker::Checker,
    coverage::Coverage,
    fault::Fault,
    random::Random,
    world::{self, World},
};

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// What was wrong; empty if nothing was.
    pub violations: Vec<String>,
    /// The reports by job.
    pub reports: BTreeMap<usize, Report>,
    /// When the last job was settled, in milliseconds.
    pub settled_at: u64,
    /// Write requests that reached the cloud.
    pub writes: u64,
    /// Requests that the cloud refused for their number.
    pub throttled: u64,
    /// Calls that were made, and events that happened.
    pub seen: (u64, u64),
    /// What was reached.
    pub coverage: Coverage,
    /// Everything that happened, if it was asked for.
    pub log: Vec<String>,
}

const LANE: LaneId = LaneId(0);
/// After this virtual time, in milliseconds, the world has no more faults and permits everything.
const HEALS_AT: u64 = 3_600_000;
/// A run that is not over by then never will be.
const GIVES_UP_AT: u64 = 60_000_000;
/// A driver that gets no answer says so after this time, in milliseconds.
const CALL_TIMEOUT: u64 = 10_000;

/// What is going to happen.
#[derive(Debug)]
enum Event {
    Publish(usize),
    Sent(u64, CallId, usize),
    /// A call reaches the cloud; if its client still waits, that is told what came of it then.
    Arrive {
        process: u64,
        call: CallId,
        action: Action,
        answers_at: Option<u64>,
    },
    Answer(u64, CallId, Outcome),
    Refreshed(u64),
    LaneUp(u64),
    Interrupt,
}

/// A run under way.
struct Run {
    world: World,
    random: Random,
    engine: Engine,
    /// Which process this is: a killed one's answers reach nobody.
    process: u64,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    meters: [Meter; 3],
    checker: Checker,
    tickets: BTreeMap<TicketId, usize>,
    next_ticket: u64,
    delivered: usize,
    /// Whether the lane waits to be consumed again.
    given_back: bool,
    outage_until: u64,
    /// What was settled last, newest last: a kill may undo the acknowledgement of some of it.
    settled_last: Vec<(u64, usize)>,
    ended: Ended,
    logging: bool,
}

/// Runs a world to its end.
#[must_use]
pub fn run(world: World, seed: u64, logging: bool) -> Ended {
    let mut run = Run::new(world, seed, logging);
    run.play();
    let Run { mut checker, mut ended, world, .. } = run;
    if checker.violations.is_empty() {
        checker.finish(&world);
    }
    ended.reports = checker.reports().clone();
    ended.seen = world.faults.seen();
    ended.violations = checker.violations;
    ended
}

impl Run {
    fn new(world: World, seed: u64, logging: bool) -> Self {
        let random = Random::new(seed.wrapping_mul(31));
        let engine = Engine::new(world.limits.clone(), seed);
        let (limit, window) = world.rate;
        let meter = |limit| Meter::new(limit, window, 1000);
        // Limits are small whole numbers.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let paced = (world.lane.rate as u32, world.lane.image_rate as u32);
        let checker = Checker::new(&world, paced);
        let mut run = Self {
            meters: [meter(limit), meter(limit), meter(limit * 4)],
            random,
            engine,
            process: 0,
            now: 0,
            events: BTreeMap::new(),
            next_event: 0,
            checker,
            tickets: BTreeMap::new(),
            next_ticket: 0,
            delivered: 0,
            given_back: false,
            outage_until: 0,
            settled_last: Vec::new(),
            ended: Ended {
                violations: Vec::new(),
                reports: BTreeMap::new(),
                settled_at: 0,
                writes: 0,
                throttled: 0,
                seen: (0, 0),
                coverage: Coverage::default(),
                log: Vec::new(),
            },
            logging,
            world,
        };
        for nth in 0..run.world.jobs.len() {
            run.at(run.world.jobs[nth].0.0, Event::Publish(nth));
        }
        if let Some(at) = run.world.interrupted_at {
            run.at(at, Event::Interrupt);
        }
        run.input(Input::LaneUp(LANE, run.world.lane));
        run
    }

    fn play(&mut self) {
        loop {
            let wakes = self.drain();
            if !self.checker.violations.is_empty() {
                return;
            }
            let next = self.events.first_key_value().map(|(&(at, _), _)| at);
            let at = match (next, wakes) {
                (Some(event), Some(wake)) => event.min(wake),
                (Some(only), None) | (None, Some(only)) => only,
                (None, None) => return self.check_over(),
            };
            if self.checker.reports().len() == self.world.jobs.len() && next.is_none() {
                return;
            }
            self.now = self.now.max(at);
            if self.now > GIVES_UP_AT {
                self.checker.wrong(format!("not over after {GIVES_UP_AT} ms"));
                return;
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
        if self.engine.tickets() > 0 {
            self.log_engine();
            self.checker.wrong(format!("nothing is left to happen and {} tickets are open", self.engine.tickets()));
        }
    }

    /// Carries out commands until the engine waits. Gives until when.
    fn drain(&mut self) -> Option<u64> {
        for _ in 0..100_000 {
            match self.engine.poll(Instant(self.now)) {
                Command::WaitUntil(at) if at.0 <= self.now => {
                    self.checker.wrong(format!("waits at {} until {}", self.now, at.0));
                    return None;
                }
                Command::WaitUntil(at) => return Some(at.0),
                Command::Idle => return None,
                command => self.carry_out(command),
            }
        }
        self.checker.wrong("a hundred thousand commands at one moment".into());
        None
    }

    fn carry_out(&mut self, command: Command) {
        self.log(|| format!("-> {command:?}"));
        match command {
            Command::Call { call, action, .. } => {
                self.checker.called(call, &action);
                self.call(call, action);
            }
            Command::Settle { ticket, report } => self.settle(ticket, *report),
            Command::GiveBack(_) => {
                self.tickets.clear();
                self.given_back = true;
                if self.engine.lane_status(LANE) == LaneStatus::Down {
                    self.at(self.now + 500, Event::LaneUp(self.process));
                }
            }
            Command::RefreshCredential(_) => self.at(self.now + 50, Event::Refreshed(self.process)),
            Command::Notice(_, notice) => {
                self.ended.coverage.notice(&notice);
                if self.given_back && notice == Notice::Opened {
                    self.at(self.now + 500, Event::LaneUp(self.process));
                }
            }
            Command::WaitUntil(_) | Command::Idle => {}
        }
    }

    fn settle(&mut self, ticket: TicketId, report: Report) {
        let Some(job) = self.tickets.remove(&ticket) else {
            self.checker.wrong(format!("{ticket:?} is settled and was not in hand"));
            return;
        };
        self.ended.settled_at = self.now;
        self.settled_last.push((self.now, job));
        self.ended.coverage.report(&report);
        self.checker.settle(&self.world, job, report, self.delivered);
    }

    /// Decides what becomes of a call.
    fn call(&mut self, call: CallId, action: Action) {
        let process = self.process;
        let sent = self.now + self.random.below(4);
        let (least, most) = self.world.latency;
        let takes = self.random.between(least, most);
        let landing = self.world.limits.landing.0;
        let mut fault = self.world.faults.of_call(&mut self.random);
        if self.now < self.outage_until {
            fault = Some(Fault::Unconnected);
        }
        if let Some(fault) = fault {
            self.ended.coverage.fault(fault);
        }
        if fault == Some(Fault::Unconnected) {
            let outcome = Outcome::Unanswered { sent: false, reason: "connection refused".into() };
            return self.at(sent + 1, Event::Answer(process, call, outcome));
        }
        self.at(sent, Event::Sent(process, call, kind(&action)));
        let arrives = sent + (takes / 2).min(landing.saturating_sub(1));
        let lost = |reason: &str| Outcome::Unanswered { sent: true, reason: reason.into() };
        let (outcome, at, arrives) = match fault {
            None => return self.at(arrives, Event::Arrive { process, call, action, answers_at: Some(sent + takes) }),
            Some(Fault::AnswerLate) => {
                let answers_at = Some(sent + CALL_TIMEOUT - 1);
                return self.at(arrives, Event::Arrive { process, call, action, answers_at });
            }
            Some(Fault::AnswerLost) => (lost("connection reset"), sent + takes, Some(arrives)),
            Some(Fault::Late) => {
                (lost("time-out"), sent + CALL_TIMEOUT.min(takes), Some(sent + self.random.below(landing)))
            }
            Some(Fault::Html) => (lost("<html>"), sent + takes, None),
            Some(Fault::Credential) => (refused("AuthFailure.TokenFailure", "the token expired"), sent + takes, None),
            Some(Fault::InternalError) => (refused("InternalError", "try again"), sent + takes, None),
            Some(Fault::Skew) => (Outcome::Skewed, sent + takes, None),
            Some(Fault::Throttle) => {
                self.ended.throttled += 1;
                (refused("RequestLimitExceeded", "too many"), sent + takes, None)
            }
            Some(_) => (lost("time-out"), sent + CALL_TIMEOUT, None),
        };
        if let Some(arrives) = arrives {
            self.at(arrives, Event::Arrive { process, call, action, answers_at: None });
        }
        self.at(at, Event::Answer(process, call, outcome));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Publish(job) => {
                self.delivered = self.delivered.max(job + 1);
                if !self.given_back {
                    self.deliver(job, false);
                }
            }
            Event::Interrupt => self.input(Input::Drain),
            Event::Sent(process, call, kind) => {
                self.checker.sent(self.now, kind);
                if process == self.process {
                    self.input(Input::Sent(call));
                }
            }
            Event::Arrive { process, call, action, answers_at } => {
                let outcome = self.arrive(&action);
                self.log(|| format!("   {call:?} of process {process} arrives: {outcome:?}"));
                if let Some(at) = answers_at {
                    self.at(at, Event::Answer(process, call, outcome));
                }
            }
            Event::Answer(process, call, outcome) if process == self.process => {
                self.checker.answered(call);
                self.ended.coverage.outcome(&outcome);
                self.input(Input::Answer { call, outcome });
            }
            Event::Refreshed(process) if process == self.process => self.input(Input::CredentialFresh(LANE)),
            Event::LaneUp(process) if process == self.process && self.given_back => self.consume(),
            Event::Answer(..) | Event::Refreshed(_) | Event::LaneUp(_) => {}
        }
    }

    /// The cloud does what a request asks.
    fn arrive(&mut self, action: &Action) -> Outcome {
        let caller = world::account_of(world::OWNER);
        if self.meters[kind(action)].admit(self.now).is_err() {
            self.ended.throttled += 1;
            return refused("RequestLimitExceeded", "too many requests in a second");
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
                seen.map(|view| Answer::Image(view.map_or(ImageState::Missing, |view| state_of(view.state))))
            }
        };
        match answered {
            Ok(answer) => Outcome::Accepted(answer),
            Err(Refusal { code, message }) => refused(&code, &message),
        }
    }

    /// A process begins to consume: all that is not settled comes, in order.
    fn consume(&mut self) {
        self.given_back = false;
        self.tickets.clear();
        self.input(Input::LaneUp(LANE, self.world.lane));
        for job in 0..self.delivered {
            if !self.checker.is_settled(job) {
                self.deliver(job, true);
            }
        }
    }

    fn deliver(&mut self, job: usize, redelivered: bool) {
        let ticket = TicketId(self.next_ticket);
        self.next_ticket += 1;
        self.tickets.insert(ticket, job);
        let mut job = self.world.jobs[job].1.clone();
        job.redelivered = redelivered;
        self.input(Input::Job { ticket, lane: LANE, job });
    }

    fn break_something(&mut self) {
        if self.now >= HEALS_AT + self.first_job() {
            return;
        }
        let Some(fault) = self.world.faults.of_step(&mut self.random) else { return };
        self.ended.coverage.fault(fault);
        self.log(|| format!("   {}", fault.as_str()));
        match fault {
            Fault::Kill => self.kill(),
            Fault::Lost if !self.given_back => {
                self.input(Input::LaneLost(LANE));
                self.tickets.clear();
                self.given_back = true;
                self.at(self.now + 300, Event::LaneUp(self.process));
            }
            Fault::Busy => {
                let image = world::image(self.random.below(self.world.images));
                self.world.ledger.occupy(image, self.now + 3_600_000);
            }
            Fault::Outside => {
                let image = world::image(self.random.below(self.world.images));
                let account = world::account(self.random.below(self.world.accounts));
                let permission = Permission::of_presence(self.random.chance(50));
                self.world.ledger.impose(self.now, image, account, permission);
                self.checker.disturbed(image);
            }
            Fault::Outage => self.outage_until = self.now + self.random.between(1000, 150_000),
            _ => {}
        }
    }

    /// Another process takes over at once. The acknowledgements sent last were not applied: a plain suffix of them.
    fn kill(&mut self) {
        self.process += 1;
        self.engine = Engine::new(self.world.limits.clone(), self.process);
        self.checker.killed();
        self.given_back = true;
        let recent = self.settled_last.iter().filter(|&&(at, _)| at + 500 > self.now).count() as u64;
        for _ in 0..self.random.below(recent + 1) {
            if let Some((_, job)) = self.settled_last.pop() {
                self.checker.comes_again(job);
            }
        }
        self.at(self.now + 7, Event::LaneUp(self.process));
    }

    fn first_job(&self) -> u64 {
        self.world.jobs.first().map_or(0, |(at, _)| at.0)
    }

    /// In the end nothing goes wrong any more and the cloud permits everything.
    fn heal(&mut self) {
        if self.now < HEALS_AT + self.first_job() {
            return;
        }
        self.world.faults.end();
        for nth in 0..self.world.images {
            self.world.ledger.permit(world::image(nth));
        }
    }

    fn input(&mut self, input: Input) {
        self.log(|| format!("<- {input:?}"));
        self.engine.handle(Instant(self.now), input);
    }

    fn at(&mut self, at: u64, event: Event) {
        self.events.insert((at, self.next_event), event);
        self.next_event += 1;
    }

    fn log_engine(&mut self) {
        if self.logging {
            self.ended.log.push(format!("{:#?}", self.engine));
        }
    }

    fn log(&mut self, line: impl FnOnce() -> String) {
        if self.logging {
            let line = format!("{:>9} {}", self.now, line());
            self.ended.log.push(line);
        }
    }
}

/// The place of an action among those that are counted.
const fn kind(action: &Action) -> usize {
    match action {
        Action::Modify { .. } => 0,
        Action::ReadShares { .. } => 1,
        Action::ReadImage { .. } => 2,
    }
}

fn refused(code: &str, message: &str) -> Outcome {
    Outcome::Refused {
        code: code.into(),
        class: Class::of(code),
        message: message.into(),
        request_id: RequestId::new("71e69b56-32be-4412-ab45-49eded6a87be"),
    }
}

fn state_of(state: State) -> ImageState {
    match state {
        State::Normal => ImageState::Normal,
        State::CreateFailed | State::ImportFailed => ImageState::Broken(state.as_str().into()),
        State::Creating | State::Importing | State::Syncing | State::Using => {
            ImageState::Pending(state.as_str().into())
        }
    }
}
