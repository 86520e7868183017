//! The driver's hands: what it owns, what it takes in, and how it does what the engine wants.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher, RandomState},
    iter,
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, SystemTime},
};

use http::Uri;
use imageshare_core::{Class, ids::RequestId, request::Signer};
use imageshare_engine::{
    Engine,
    io::{Action, CallId, Command, DeliveryId, Input, LaneId, Notice, Outcome},
    job::Report,
    limits::{LaneLimits, Limits},
    time::{Instant, Millis},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant as TokioInstant,
};

use super::{
    Closing, Delivery, Lane, Progress, Said, Settled, Summary,
    calls::{self, Flight, Kind},
    clock::{Offset, ServerClock},
    event::News,
    held::{Held, HeldJob},
    serve::Tenure,
};
use crate::{
    credentials::{Keeper, Owner},
    endpoint::Endpoint,
    events,
    http::{Client, Waiting, authority},
    lane::Regions,
    status::Status,
};

/// Items (accounts of jobs) that a process holds before it takes in no more jobs, including the outcomes of reports that
/// are not published yet. The lanes of a daemon have equal shares of it.
pub(super) const OPERATIONS_MAX: usize = 2_000_000;

/// Operations with which a turn of the loop ends, up to the end of the job with which there are so many: what is left
/// follows in the next turn. So a turn takes some hundredths of a second, and one that took seconds was suspended.
pub(super) const WORK_MAX: usize = 20_000;

/// How often it is shown how the lanes are, at most: the engine looks at each image for that.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// The longest sleep. Waking early does no harm, and the end of time is no moment that a timer can be set to.
const SLEEP_MAX: Duration = Duration::from_secs(60 * 60);

/// Owns the engine and everything that it needs to be carried out.
#[derive(Debug)]
pub struct Driver<I> {
    pub(super) engine: Engine,
    started: TokioInstant,
    pub(super) client: Client,
    pub(super) lanes: Vec<OpenLane>,
    clocks: Vec<(Endpoint, ServerClock)>,
    pub(super) held: Held<I>,
    in_flight: BTreeMap<CallId, InFlight>,
    pub(super) tasks: JoinSet<()>,
    pub(super) news_sender: mpsc::UnboundedSender<News>,
    /// At most two for each call in flight and a few a second for each lane, so it needs no bound of its own.
    pub(super) news: mpsc::UnboundedReceiver<News>,
    /// What is to be said when there is room. At most [`DELIVERIES_MAX`] reports with [`OPERATIONS_MAX`] outcomes, and the
    /// engine's notices.
    pub(super) outbox: VecDeque<Said<I>>,
    /// Outcomes of the reports in the outbox.
    pub(super) outcomes_waiting: usize,
    wake_at: Option<Instant>,
    /// When an interrupted run ends, whatever is under way.
    pub(super) ends_at: Option<TokioInstant>,
    pub(super) source_ended: bool,
    pub(super) given_up: watch::Sender<bool>,
    pub(super) progress: Arc<Progress>,
    pub(super) status: Arc<Status>,
    /// When it was shown last how the lanes are.
    looked_at: Option<TokioInstant>,
    pub(super) summary: Summary,
}

#[derive(Debug)]
pub(super) struct OpenLane {
    pub(super) uri: Uri,
    pub(super) regions: Regions,
    /// `None` until the lane has its first credential. It is not consumed before that, so no call is wanted of it.
    pub(super) signer: Option<Signer>,
    /// How often another credential took the place of the one before.
    pub(super) generation: u64,
    /// The newest credential, by that number, that was refused.
    pub(super) refused: Option<u64>,
    pub(super) keeper: Keeper,
    /// Whose its credential is, as far as the driver took that in.
    pub(super) owner: Owner,
    /// Why its source gives none, as it was said last.
    pub(super) source_problem: Option<String>,
    /// Its endpoint's place in the list of clocks.
    clock: usize,
    /// How much it may do.
    pub(super) limits: LaneLimits,
    /// Whether it is ours, where it can be lost.
    pub(super) tenure: Tenure,
    /// From its first call without an answer to the next call with one.
    waiting: Option<Waiting>,
    /// Outcomes that its subscription received and has not published yet.
    pub(super) outcomes: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct InFlight {
    lane: LaneId,
    call: events::Call,
    signed: Offset,
    /// The credential that it was signed with, by its number.
    generation: u64,
    /// When its request was written.
    sent_at: Option<TokioInstant>,
}

impl<I: Send + 'static> Driver<I> {
    /// A driver for these lanes, which it numbers in this order.
    #[must_use]
    pub fn new(lanes: &[Lane], limits: Limits, client: Client) -> Self {
        let status = Status::new(lanes.iter().map(|lane| lane.name.as_str()));
        Self::with_status(lanes, limits, client, Arc::new(status))
    }

    /// The same that notes its state in one which has these lanes.
    #[must_use]
    pub(crate) fn with_status(lanes: &[Lane], limits: Limits, client: Client, status: Arc<Status>) -> Self {
        let (news_sender, news) = mpsc::unbounded_channel();
        let mut driver = Self {
            engine: Engine::new(limits, seed()),
            started: TokioInstant::now(),
            client,
            lanes: Vec::with_capacity(lanes.len()),
            clocks: Vec::new(),
            held: Held::new(),
            in_flight: BTreeMap::new(),
            tasks: JoinSet::new(),
            news_sender,
            news,
            outbox: VecDeque::new(),
            outcomes_waiting: 0,
            wake_at: None,
            ends_at: None,
            source_ended: false,
            given_up: watch::Sender::new(false),
            progress: Arc::default(),
            status,
            looked_at: None,
            summary: Summary::default(),
        };
        lanes.iter().for_each(|lane| driver.open(lane));
        driver
    }

    fn open(&mut self, lane: &Lane) {
        let known = self.clocks.iter().position(|(endpoint, _)| *endpoint == lane.endpoint);
        let clock = known.unwrap_or_else(|| {
            self.clocks.push((lane.endpoint.clone(), ServerClock::default()));
            self.clocks.len() - 1
        });
        let id = LaneId(u32::try_from(self.lanes.len()).expect("lanes are numbered by 32 bits"));
        self.status.lane(id).metrics.show_limits(&lane.limits);
        let signer = lane.keeper.credential().map(Signer::new);
        let tenure = if signer.is_some() { Tenure::Asked } else { Tenure::Closed };
        self.lanes.push(OpenLane {
            uri: lane.uri(),
            regions: lane.regions.clone(),
            signer,
            generation: 0,
            refused: None,
            keeper: lane.keeper.clone(),
            owner: Owner::Asked,
            source_problem: None,
            clock,
            limits: lane.limits,
            tenure,
            waiting: None,
            outcomes: Arc::default(),
        });
        if lane.account.is_some() {
            self.engine.handle(self.now(), Input::ExpectAccount(id, lane.account));
        }
    }

    /// How far it has come, to be looked at while it runs.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// How it and its lanes are, to be looked at while it runs.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        Arc::clone(&self.status)
    }

    /// Milliseconds since the driver was made.
    pub(super) fn now(&self) -> Instant {
        Instant(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// When to wake, whatever happens until then.
    pub(super) fn alarm(&self) -> TokioInstant {
        let latest = TokioInstant::now() + SLEEP_MAX;
        let wanted = self.wake_at.and_then(|at| self.started.checked_add(Duration::from_millis(at.0)));
        [wanted, self.ends_at].into_iter().flatten().fold(latest, TokioInstant::min)
    }

    pub(super) fn receive(&mut self, delivery: Delivery<I>) {
        let Delivery { identity, lane, mut job, expires_at } = delivery;
        let (now, received_at) = (self.now(), SystemTime::now());
        job.deadline = expires_at.map(|end| {
            // What has passed already ends now.
            let left = end.duration_since(received_at).unwrap_or_default();
            now + Millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
        });
        self.progress.job_received(job.account_ids.len());
        let held = HeldJob { identity, mode: job.mode, accounts: job.account_ids.len(), received_at };
        let delivery = self.held.take_in(lane, held);
        self.engine.handle(now, Input::Job { delivery, lane, job });
    }

    pub(super) fn hear(&mut self, news: News) {
        let now = self.now();
        match news {
            News::Sent(call) => {
                if let Some(in_flight) = self.in_flight.get_mut(&call) {
                    in_flight.sent_at = Some(TokioInstant::now());
                    *self.summary.calls.entry(in_flight.call.action).or_default() += 1;
                    self.progress.call_sent();
                    events::Sent { lane: self.status.lane(in_flight.lane), call: &in_flight.call }.record();
                }
                self.engine.handle(now, Input::Sent(call));
            }
            News::Answer { call, outcome, request_id, date } => {
                let outcome = self.judge(now, call, outcome, request_id, date);
                self.engine.handle(now, Input::Answer { call, outcome });
            }
            News::Refreshed { lane, found } => self.refreshed(lane, found),
            News::Renewed { lane, loaded } => self.renewed(lane, loaded),
            News::Owner { lane } => self.owner(lane),
            News::SourceFailed { lane, problem } => self.source_failed(lane, problem),
            News::SourceWorks { lane } => self.source_works(lane),
        }
    }

    /// Takes in what the driver itself has to know of an answer: that a call was throttled, and what the time is.
    fn judge(
        &mut self,
        now: Instant,
        id: CallId,
        outcome: Outcome,
        request_id: Option<RequestId>,
        date: Option<SystemTime>,
    ) -> Outcome {
        let Some(InFlight { lane, call, signed, generation, sent_at }) = self.in_flight.remove(&id) else {
            return outcome;
        };
        self.note_wait(lane, matches!(outcome, Outcome::Unanswered { .. }));
        let outcome = match &outcome {
            Outcome::Refused { class: Class::Clock, .. }
                if self.clock(lane).refused(now, SystemTime::now(), signed, date) =>
            {
                Outcome::Skewed
            }
            Outcome::Refused { class: Class::Credential, .. } => {
                let refused = &mut self.lane(lane).refused;
                *refused = (*refused).max(Some(generation));
                outcome
            }
            Outcome::Refused { class: Class::Throttle | Class::ThrottleAll, .. } => {
                self.summary.calls_throttled += 1;
                self.progress.call_throttled();
                outcome
            }
            _ => outcome,
        };
        let took = sent_at.map(|at| at.elapsed());
        let lane = self.status.lane(lane);
        events::Answered { lane, call: &call, outcome: &outcome, request_id, took }.record();
        outcome
    }

    /// Notes whether a lane still waits for an answer of its endpoint.
    fn note_wait(&mut self, lane: LaneId, is_unanswered: bool) {
        let waits = self.client.waits().clone();
        let OpenLane { uri, waiting, .. } = self.lane(lane);
        if is_unanswered {
            waiting.get_or_insert_with(|| waits.begin(authority(uri)));
        } else {
            *waiting = None;
        }
    }

    /// Does what the engine wants done, and notes when it wants to be woken: at once if that was much.
    pub(super) fn carry_out_commands(&mut self) {
        let mut work = 0;
        loop {
            let now = self.now();
            if work >= WORK_MAX {
                self.wake_at = Some(now);
                break;
            }
            match self.engine.poll(now) {
                Command::Call { call, lane, action } => self.call(call, lane, action),
                Command::Settle { delivery, report } => {
                    work += outcomes(&report);
                    self.settle(delivery, *report);
                }
                Command::Requeue(lane) => self.give_back(lane),
                Command::RefreshCredential(lane) => self.refresh(lane),
                Command::Notice(lane, notice) => self.notice(lane, notice),
                Command::WaitUntil(at) => {
                    self.wake_at = Some(at);
                    break;
                }
                Command::Idle => {
                    self.wake_at = None;
                    break;
                }
            }
        }
    }

    fn call(&mut self, call: CallId, lane: LaneId, action: Action) {
        let (kind, told) = (Kind::of(&action), calls::told_of(&action));
        let clock = *self.clock(lane);
        let &mut OpenLane { ref uri, ref mut signer, generation, .. } = self.lane(lane);
        let prepared = calls::prepare(uri, action);
        let signer = signer.as_mut().expect("a lane without a credential is not consumed");
        let request = calls::sign(&prepared, signer, clock.second(SystemTime::now()), uri);
        self.in_flight.insert(call, InFlight { lane, call: told, signed: clock.offset(), generation, sent_at: None });
        let proof = self.lane(lane).tenure.proof();
        let flight = Flight::new(call, kind, proof, self.news_sender.clone());
        self.tasks.spawn(flight.fly(self.client.clone(), request));
    }

    fn settle(&mut self, delivery: DeliveryId, report: Report) {
        let Some((lane, HeldJob { identity, mode, received_at, .. })) = self.held.settle(delivery) else { return };
        self.progress.job_settled(&report);
        self.outcomes_waiting += outcomes(&report);
        let finished_at = SystemTime::now();
        let settled = Settled { identity, lane, mode, report, received_at, finished_at };
        self.outbox.push_back(Said::Settled(Box::new(settled)));
    }

    fn give_back(&mut self, lane: LaneId) {
        let jobs = self.held.let_go(lane).collect();
        self.outbox.push_back(Said::GivenBack { lane, jobs });
    }

    pub(super) fn notice(&mut self, lane: LaneId, notice: Notice) {
        match &notice {
            Notice::Closed { reason, detail } => {
                let closing = Closing { reason: *reason, detail: detail.clone(), is_over: false };
                self.summary.closed.insert(lane, closing);
                self.progress.lane(lane, Some(*reason));
                self.status.lane(lane).close(*reason);
            }
            Notice::Opened => {
                if let Some(closing) = self.summary.closed.get_mut(&lane) {
                    closing.is_over = true;
                }
                self.progress.lane(lane, None);
                self.status.lane(lane).open();
            }
            Notice::CannotRead { .. }
            | Notice::BatchLearned(_)
            | Notice::CapLearned { .. }
            | Notice::ImageBusy { .. } => {}
        }
        self.outbox.push_back(Said::Notice(lane, notice));
    }

    /// The loop came round: shows that, and how the lanes are if that was not shown just before.
    pub(super) fn turned(&mut self, now: TokioInstant) {
        self.status.turned();
        if self.looked_at.is_some_and(|at| now.saturating_duration_since(at) < BETWEEN_LOOKS) {
            return;
        }
        self.looked_at = Some(now);
        for id in self.ids() {
            let lane = self.status.lane(id);
            if let Some(numbers) = self.engine.lane_numbers(id) {
                lane.metrics.show(&numbers);
            }
            let waited = self.held.oldest(id).and_then(|came| came.elapsed().ok()).unwrap_or_default();
            lane.metrics.oldest_wait.set(waited.as_secs_f64());
            let offset = self.lanes.get(id.0 as usize).and_then(|open| self.clocks.get(open.clock));
            lane.metrics.clock_offset.set(offset.map_or(0, |(_, clock)| clock.offset().seconds()));
            lane.block(self.engine.is_blocked(id));
        }
    }

    /// Whether the engine has more to do at this moment.
    pub(super) fn has_more(&self) -> bool {
        self.wake_at.is_some_and(|at| at <= self.now())
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = LaneId> + use<I> {
        iter::successors(Some(LaneId(0)), |id| Some(LaneId(id.0 + 1))).take(self.lanes.len())
    }

    pub(super) fn next_to_say(&mut self) -> Option<Said<I>> {
        let next = self.outbox.pop_front();
        if let Some(Said::Settled(settled)) = &next {
            self.outcomes_waiting -= outcomes(&settled.report);
        }
        next
    }

    pub(super) fn lane(&mut self, lane: LaneId) -> &mut OpenLane {
        self.lanes.get_mut(lane.place()).expect("the engine names only lanes that it was told of")
    }

    fn clock(&mut self, lane: LaneId) -> &mut ServerClock {
        let place = self.lane(lane).clock;
        &mut self.clocks.get_mut(place).expect("every lane's endpoint has a clock").1
    }
}

pub(super) const fn outcomes(report: &Report) -> usize {
    report.outcomes.len() + report.cancelled.len()
}

/// What the engine's random choices come from: different in every process, from the system's random source by way of
/// the standard library's hasher keys.
fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
