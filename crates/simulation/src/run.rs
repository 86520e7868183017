//! One history: the real engine, the ledger, a virtual clock.

use std::collections::{BTreeMap, BTreeSet};

use imageshare_core::{
    Class, Permission,
    ids::{AccountId, ImageId, RequestId},
};
use imageshare_engine::{
    LaneStatus,
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
    process::{Away, Process},
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
/// A driver that gets no answer says so after this time, in milliseconds.
pub(crate) const CALL_TIMEOUT: u64 = 10_000;

/// What is going to happen.
#[derive(Debug)]
enum Event {
    Publish(usize),
    Sent(u64, CallId, usize),
    /// A call reaches the cloud; if its client still waits, that is told what came of it then.
    Arrive {
        process: u64,
        call: CallId,
        caller: AccountId,
        action: Action,
        answers_at: Option<u64>,
    },
    Answer(u64, CallId, Outcome),
    Refreshed(u64),
    LaneUp(u64),
    /// A process that did not know that it has no lane learns of it, and ends.
    Noticed(u64),
    /// Processes sign with a key of this account from now on.
    KeyReplaced(AccountId),
    /// A process is told the account of the key in use, or that it cannot be learned.
    OwnerLearned(u64, Option<AccountId>),
    /// The lane goes back to a process that lost it to another one, which is gone.
    Returns(u64),
    Interrupt,
    /// A moment at which something may go wrong.
    Moment,
}

/// A run under way.
struct Run {
    world: World,
    random: Random,
    /// The processes that are alive: the last one has the lane, one before it does not know.
    processes: Vec<Process>,
    processes_begun: u64,
    now: u64,
    events: BTreeMap<(u64, u64), Event>,
    next_event: u64,
    meters: [Meter; 3],
    checker: Checker,
    delivered: usize,
    outage_until: u64,
    /// Until when calls are refused with this code; only writes, if so.
    revoked: (u64, &'static str, bool),
    ended: Ended,
    logging: bool,
}

/// Runs a world to its end.
#[must_use]
pub fn run(world: World, seed: u64, logging: bool) -> Ended {
    let (bound, calls_bound) = (world.bound(), world.calls_bound());
    let mut run = Run::new(world, seed, logging);
    run.play(bound);
    let Run { mut checker, mut ended, world, .. } = run;
    if checker.violations.is_empty() {
        checker.finish(&world);
    }
    ended.reports = checker.reports().clone();
    ended.seen = world.faults.seen();
    let first = world::image(0);
    ended.shared =
        (0..world.accounts).map(world::account).filter(|&account| world.ledger.is_shared(first, account)).collect();
    if ended.seen.0 > calls_bound {
        checker.wrong(format!("{} calls, its jobs may cost {calls_bound}", ended.seen.0));
    }
    ended.of_bounds = (ended.settled_at * 100 / bound, ended.seen.0 * 100 / calls_bound);
    ended.violations = checker.violations;
    ended
}

impl Run {
    fn new(world: World, seed: u64, logging: bool) -> Self {
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
            processes: vec![Process::new(seed, world.limits.clone(), world::account_of(world::OWNER))],
            processes_begun: seed,
            now: 0,
            events: BTreeMap::new(),
            next_event: 0,
            checker,
            delivered: 0,
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
        run.introduce(seed);
        run.consume();
        run
    }

    /// Tells a process that begins whose its key is and has to be, if that is known.
    fn introduce(&mut self, id: u64) {
        let owner = world::account_of(world::OWNER);
        if self.world.expects_account {
            self.input_to(id, Input::ExpectAccount(LANE, Some(owner)));
        }
        let key_owner = self.process(id).map(|process| process.key_owner);
        let told = key_owner.filter(|_| self.world.knows_owners);
        self.happen(Event::OwnerLearned(id, told));
    }

    fn play(&mut self, bound: u64) {
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
            if self.now > bound {
                self.log_engine();
                self.checker.wrong(format!("not over after {bound} ms"));
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
        let open = self.current().engine.tickets();
        if open > 0 {
            self.log_engine();
            self.checker.wrong(format!("nothing is left to happen and {open} tickets are open"));
        }
    }

    /// The process that has the lane, or is about to.
    fn current(&mut self) -> &mut Process {
        self.processes.last_mut().expect("one process is always alive")
    }

    fn process(&mut self, id: u64) -> Option<&mut Process> {
        self.processes.iter_mut().find(|process| process.id == id)
    }

    fn is_current(&self, id: u64) -> bool {
        self.processes.last().is_some_and(|process| process.id == id)
    }

    /// Carries out commands until every engine waits. Gives until when.
    fn drain(&mut self) -> Option<u64> {
        let ids: Vec<_> = self.processes.iter().map(|process| process.id).collect();
        ids.into_iter().filter_map(|id| self.drain_one(id)).min()
    }

    fn drain_one(&mut self, id: u64) -> Option<u64> {
        for _ in 0..100_000 {
            let now = self.now;
            match self.process(id)?.engine.poll(Instant(now)) {
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
        let Some(process) = self.process(id) else { return };
        let (is_unaware, away) = (process.is_unaware, process.away);
        match command {
            // Held back, since nothing proves the lane.
            Command::Call { action: Action::Modify { .. }, .. } if is_unaware => {}
            Command::Call { call, action, .. } => {
                if process.knows_foreign {
                    self.checker.wrong(format!("{call:?} is made with a key of another account"));
                }
                if !is_unaware {
                    self.checker.called(call, &action, away);
                }
                self.call(id, call, action);
            }
            Command::Settle { ticket, report } => self.settle(id, ticket, *report),
            Command::GiveBack(_) => self.give_back(id),
            Command::RefreshCredential(_) => self.at(now + 50, Event::Refreshed(id)),
            Command::Notice(_, notice) => {
                self.ended.coverage.notice(&notice);
                if away == Some(Away::GaveBack) && notice == Notice::Opened {
                    self.at(now + 500, Event::LaneUp(id));
                }
            }
            Command::WaitUntil(_) | Command::Idle => {}
        }
    }

    fn settle(&mut self, id: u64, ticket: TicketId, report: Report) {
        let now = self.now;
        let confirmed_at = now + self.random.of(&[1, 5, 20, 2000]);
        let Some(process) = self.process(id) else { return };
        let Some(job) = process.tickets.remove(&ticket) else {
            return self.checker.wrong(format!("{ticket:?} is settled and was not in hand"));
        };
        if process.is_unaware {
            // It may publish that report; its acknowledgement counts for nothing.
            self.checker.check_causes(&self.world, job, &report);
            return;
        }
        process.settled(now, ticket, job, confirmed_at);
        self.ended.settled_at = now;
        self.ended.coverage.report(&report);
        self.checker.settle(now, &self.world, job, report, self.delivered);
    }

    /// A process gives its jobs back: it waits until its acknowledgements are applied and consumes again, unless
    /// the lane is closed, or it ends and another one takes over.
    fn give_back(&mut self, id: u64) {
        let now = self.now;
        let Some(process) = self.process(id) else { return };
        if process.is_unaware {
            return self.processes.retain(|process| process.id != id);
        }
        process.tickets.clear();
        process.away = Some(Away::GaveBack);
        let again_at = process.acks_applied_at(now);
        if process.is_draining {
            let next = self.begin_process();
            self.at(again_at, Event::LaneUp(next));
        } else if process.engine.lane_status(LANE) == LaneStatus::Down {
            self.at(again_at, Event::LaneUp(id));
        }
    }

    /// Decides what becomes of a call.
    fn call(&mut self, process: u64, call: CallId, action: Action) {
        let caller = self.process(process).map_or_else(|| world::account_of(world::OWNER), |process| process.key_owner);
        let id = request_id(process, call);
        let refused = |code: &str, message: &str| refused(code, message, id);
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
        if fault == Some(Fault::ListingRefused) {
            match &action {
                Action::ReadShares { image_id, .. } => self.checker.listing_refused(*image_id),
                Action::Modify { .. } | Action::ReadImage { .. } => fault = None,
            }
        }
        self.checker.asked(self.now, id, &action);
        self.at(sent, Event::Sent(process, call, kind(&action)));
        let arrives = sent + (takes / 2).min(landing.saturating_sub(1));
        let lost = |reason: &str| Outcome::Unanswered { sent: true, reason: reason.into() };
        let (outcome, at, arrives) = match fault {
            None => {
                return self
                    .at(arrives, Event::Arrive { process, call, caller, action, answers_at: Some(sent + takes) });
            }
            Some(Fault::AnswerLate) => {
                let answers_at = Some(sent + CALL_TIMEOUT - 1);
                return self.at(arrives, Event::Arrive { process, call, caller, action, answers_at });
            }
            Some(Fault::AnswerLost) => (lost("connection reset"), sent + takes, Some(arrives)),
            Some(Fault::Late) => {
                // At the very last moment as often as before.
                let after = [self.random.below(landing), landing - 1];
                (lost("time-out"), sent + CALL_TIMEOUT.min(takes), Some(sent + self.random.of(&after)))
            }
            Some(Fault::Html) => (lost("<html>"), sent + takes, None),
            Some(Fault::Credential) => (refused("AuthFailure.TokenFailure", "the token expired"), sent + takes, None),
            Some(Fault::InternalError) => (refused("InternalError", "try again"), sent + takes, None),
            Some(Fault::Clock) => (refused("AuthFailure.SignatureExpire", "the clocks differ"), sent + takes, None),
            Some(Fault::ListingRefused) => {
                (refused("UnauthorizedOperation", "not allowed to list"), sent + takes, None)
            }
            Some(Fault::Deployment) => (refused("ActionOffline", "not for this account"), sent + takes, None),
            Some(Fault::Skew) => (Outcome::Skewed, sent + takes, None),
            Some(Fault::Throttle) => {
                self.ended.throttled += 1;
                (refused("RequestLimitExceeded", "too many"), sent + takes, None)
            }
            Some(_) => (lost("time-out"), sent + CALL_TIMEOUT, None),
        };
        if let Some(arrives) = arrives {
            self.at(arrives, Event::Arrive { process, call, caller, action, answers_at: None });
        }
        self.at(at, Event::Answer(process, call, outcome));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Publish(job) => {
                self.delivered = self.delivered.max(job + 1);
                if self.current().away.is_none() {
                    self.deliver(job, false);
                }
            }
            Event::Interrupt => self.input(Input::Drain),
            Event::Sent(process, call, kind) => {
                // One that does not know takes slots of its own.
                if self.process(process).is_none_or(|process| !process.is_unaware) {
                    self.checker.sent(self.now, kind);
                }
                self.input_to(process, Input::Sent(call));
            }
            Event::Arrive { process, call, caller, action, answers_at } => {
                let outcome = self.arrive(request_id(process, call), caller, &action);
                self.log(|| format!("   {call:?} of process {process} arrives: {outcome:?}"));
                if let Some(at) = answers_at {
                    self.at(at, Event::Answer(process, call, outcome));
                }
            }
            Event::Answer(process, call, outcome) => {
                if self.is_current(process) {
                    self.checker.answered(call);
                    self.ended.coverage.outcome(&outcome);
                    // What comes after it was given up brings a lane back no more.
                    let given_up = matches!(self.current().engine.lane_status(LANE), LaneStatus::GivenUp(_));
                    if matches!(outcome, Outcome::Accepted(_)) && !given_up {
                        self.checker.accepted(self.now);
                    }
                }
                self.input_to(process, Input::Answer { call, outcome });
            }
            Event::Refreshed(process) => {
                let Some(owner) = self.process(process).map(|process| process.key_owner) else { return };
                self.input_to(process, Input::CredentialFresh(LANE));
                self.identify(process, owner);
            }
            Event::LaneUp(process) if self.is_current(process) && self.current().away.is_some() => self.consume(),
            Event::LaneUp(_) | Event::Moment => {}
            Event::Noticed(process) => self.processes.retain(|other| other.id != process || !other.is_unaware),
            Event::Returns(process) => self.give_lane_to(process),
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
                seen.map(|view| Answer::Image(view.map_or(ImageState::Missing, |view| state_of(view.state))))
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

    /// A process begins to consume: all that is not settled comes, in order.
    fn consume(&mut self) {
        let process = self.current();
        process.away = None;
        process.tickets.clear();
        self.checker.up(self.now);
        self.input(Input::LaneUp(LANE, self.world.lane));
        for job in 0..self.delivered {
            if !self.checker.is_settled(job) {
                self.deliver(job, true);
            }
        }
    }

    fn deliver(&mut self, nth: usize, redelivered: bool) {
        let mut job = self.world.jobs[nth].1.clone();
        job.redelivered = redelivered;
        self.checker.delivered(self.now, nth, redelivered);
        let delivery = self.current().delivery(nth, job);
        self.input(delivery);
    }

    fn break_something(&mut self) {
        if self.now >= self.world.heals_at() {
            return;
        }
        let Some(fault) = self.world.faults.of_step(&mut self.random) else { return };
        self.ended.coverage.fault(fault);
        self.log(|| format!("   {}", fault.as_str()));
        match fault {
            Fault::Kill => {
                let next = self.taken_over();
                self.at(self.now + 7, Event::LaneUp(next));
            }
            Fault::Unaware => {
                // Of two that do not know, the older one is gone.
                self.processes.retain(|process| !process.is_unaware);
                let unaware = self.current().id;
                self.current().is_unaware = true;
                let next = self.taken_over();
                let up_at = self.now + self.random.between(7, 30_000);
                self.at(up_at, Event::LaneUp(next));
                let noticed_at = self.now + self.random.between(1000, 100_000);
                self.at(noticed_at, Event::Noticed(unaware));
            }
            Fault::Returned if self.current().away.is_none() && !self.current().is_draining => {
                self.input(Input::LaneLost(LANE));
                self.processes.retain(|process| !process.is_standby);
                let process = self.current();
                process.tickets.clear();
                (process.away, process.is_standby) = (Some(Away::Lost), true);
                let first = process.id;
                let next = self.taken_over();
                self.at(self.now + 7, Event::LaneUp(next));
                let returns_at = self.now + self.random.of(&[100, 2000, 10_000, 40_000]);
                self.at(returns_at, Event::Returns(first));
            }
            Fault::Drained if self.current().away.is_none() => {
                self.current().is_draining = true;
                self.input(Input::Drain);
            }
            Fault::Drained => {
                let next = self.taken_over();
                self.at(self.now + 500, Event::LaneUp(next));
            }
            Fault::Lost if self.current().is_draining => {
                let next = self.taken_over();
                self.at(self.now + 300, Event::LaneUp(next));
            }
            Fault::Lost if self.current().away.is_none() => {
                self.input(Input::LaneLost(LANE));
                self.lose_acks();
                let process = self.current();
                process.tickets.clear();
                process.away = Some(Away::Lost);
                let id = process.id;
                self.at(self.now + 300, Event::LaneUp(id));
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
                let is_shared = self.world.ledger.is_shared(image, account);
                self.checker.note_state(self.now, image, account, is_shared);
                self.checker.disturbed(self.now, image);
            }
            Fault::Revoked => {
                self.checker.revoked();
                let codes = ["UnauthorizedOperation", "UnauthorizedOperation.CamNoAuth", "IpNotInWhitelist"];
                let until = self.now + self.random.of(&[3000, 60_000, 400_000, 1_800_000]);
                self.revoked = (until, self.random.of(&codes), self.random.chance(50));
            }
            Fault::ForeignKey => {
                self.replace_key(world::account_of(world::OTHER_OWNER));
                let until = self.now + self.random.of(&[2000, 20_000, 600_000]);
                self.at(until, Event::KeyReplaced(world::account_of(world::OWNER)));
            }
            Fault::Outage => self.outage_until = self.now + self.random.between(1000, 150_000),
            _ => {}
        }
    }

    /// The process that has the lane is killed, and one that had it before gets it again, if that is still there.
    fn give_lane_to(&mut self, id: u64) {
        let Some(place) = self.processes.iter().position(|process| process.id == id && process.is_standby) else {
            return;
        };
        self.checker.killed();
        self.lose_acks();
        let mut first = self.processes.remove(place);
        first.is_standby = false;
        self.processes.retain(|process| process.is_unaware);
        self.processes.push(first);
        self.at(self.now + 7, Event::LaneUp(id));
    }

    /// The key of all processes that run is replaced, unless it is of that account already.
    fn replace_key(&mut self, owner: AccountId) {
        for id in self.processes.iter().map(|process| process.id).collect::<Vec<_>>() {
            let Some(process) = self.process(id).filter(|process| process.key_owner != owner) else { continue };
            (process.key_owner, process.knows_foreign) = (owner, false);
            self.input_to(id, Input::CredentialFresh(LANE));
            self.identify(id, owner);
        }
    }

    /// A process is told whose its key is, or that this cannot be learned, at once or later.
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
        process.knows_foreign = owner.is_some_and(|owner| owner != world::account_of(world::OWNER));
        match owner {
            Some(owner) => self.input_to(id, Input::OwnAccount(LANE, owner)),
            None => self.input_to(id, Input::OwnerUnknown(LANE)),
        }
    }

    /// Another process is about to take over from one that ends without a word. Gives its number.
    fn taken_over(&mut self) -> u64 {
        self.checker.killed();
        self.lose_acks();
        self.begin_process()
    }

    fn begin_process(&mut self) -> u64 {
        self.processes_begun += 1;
        let id = self.processes_begun;
        let last_owner = self.processes.last().map(|process| process.key_owner);
        self.processes.retain(|process| process.is_unaware || process.is_standby);
        let owner = world::account_of(world::OWNER);
        // One that is told nothing trusts the key that it begins with: then that is the right one again.
        let key_owner = last_owner.filter(|_| self.world.expects_account && self.world.knows_owners).unwrap_or(owner);
        self.processes.push(Process::new(id, self.world.limits.clone(), key_owner));
        self.introduce(id);
        id
    }

    /// What was settled and not acknowledged comes again, and with it that of the last acknowledgements, which were not
    /// applied.
    fn lose_acks(&mut self) {
        let now = self.now;
        let Self { processes, random, .. } = self;
        let Some(process) = processes.last_mut() else { return };
        for job in process.come_again(now, random) {
            self.checker.comes_again(job);
        }
    }

    /// In the end nothing goes wrong any more and the cloud permits everything.
    fn heal(&mut self) {
        if self.now < self.world.heals_at() {
            return;
        }
        self.world.faults.end();
        self.revoked.0 = 0;
        if self.processes.iter().any(|process| process.key_owner != world::account_of(world::OWNER)) {
            self.replace_key(world::account_of(world::OWNER));
        }
        for nth in 0..self.world.images {
            self.world.ledger.permit(world::image(nth));
        }
    }

    fn input(&mut self, input: Input) {
        let id = self.current().id;
        self.input_to(id, input);
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

    fn log_engine(&mut self) {
        if self.logging {
            let engine = format!("{:#?}", self.current().engine);
            self.ended.log.push(engine);
        }
    }

    fn log(&mut self, line: impl FnOnce() -> String) {
        if self.logging {
            let line = format!("{:>9} {}", self.now, line());
            self.ended.log.push(line);
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

fn state_of(state: State) -> ImageState {
    match state {
        State::Normal => ImageState::Normal,
        State::CreateFailed | State::ImportFailed => ImageState::Broken(state.as_str().into()),
        State::Creating | State::Importing | State::Syncing | State::Using => {
            ImageState::Pending(state.as_str().into())
        }
    }
}
