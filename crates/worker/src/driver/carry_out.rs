//! The driver's hands: what it owns, what it takes in, and how it does what the engine wants.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{BuildHasher, RandomState},
    iter,
    sync::{Arc, atomic::AtomicUsize},
    time::{Duration, SystemTime},
};

use imageshare_core::{Class, ids::RequestId};
use imageshare_engine::{
    Engine,
    io::{Action, CallId, Command, DeliveryId, Input, LaneId, Notice, Outcome},
    job::Report,
    limits::{LaneLimits, Limits},
    policy::Policy,
    time::{Instant, Millis},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant as TokioInstant,
};

use super::{
    Closing, Delivery, Lane, Progress, Said, Settled, Summary,
    calls::{self, Flight},
    event::News,
    held::{Held, HeldJob},
    serve::Tenure,
};
use crate::{
    api::{ApiSender, SharedClock},
    credentials::{CredentialCache, Owner},
    endpoint::Endpoint,
    events,
    http::{Client, Waiting},
    settings::Regions,
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
    /// Lanes with the same endpoint share its clock.
    clocks: BTreeMap<Endpoint, SharedClock>,
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
    /// Without a credential until the lane has its first one. It is not consumed before that, so it makes no calls.
    pub(super) api: ApiSender,
    pub(super) regions: Regions,
    /// The generation of the newest credential that was refused.
    pub(super) refused: Option<u64>,
    pub(super) credentials: CredentialCache,
    /// Whose its credential is, as far as the driver took that in.
    pub(super) owner: Owner,
    /// Why its source gives none, as it was said last.
    pub(super) source_problem: Option<String>,
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
    /// When its request was written.
    sent_at: Option<TokioInstant>,
}

impl<I: Send + 'static> Driver<I> {
    /// A driver for these lanes, which it numbers in this order.
    #[must_use]
    pub fn new(lanes: &[Lane], policy: Policy, limits: Limits, client: Client) -> Self {
        let status = Status::new(lanes.iter().map(|lane| lane.name.as_str()));
        Self::with_status(lanes, policy, limits, client, Arc::new(status))
    }

    /// The same that notes its state in one which has these lanes.
    #[must_use]
    pub(crate) fn with_status(
        lanes: &[Lane],
        policy: Policy,
        limits: Limits,
        client: Client,
        status: Arc<Status>,
    ) -> Self {
        let (news_sender, news) = mpsc::unbounded_channel();
        let mut driver = Self {
            engine: Engine::new(policy, limits, seed()),
            started: TokioInstant::now(),
            client,
            lanes: Vec::with_capacity(lanes.len()),
            clocks: BTreeMap::new(),
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
        let clock = self.clocks.entry(lane.endpoint.clone()).or_default().clone();
        let id = LaneId(u32::try_from(self.lanes.len()).expect("lanes are numbered by 32 bits"));
        self.status.lane(id).metrics.show_limits(&lane.limits);
        let credential = lane.credentials.credential();
        let tenure = if credential.is_some() { Tenure::Asked } else { Tenure::Closed };
        self.lanes.push(OpenLane {
            api: ApiSender::new(self.client.clone(), lane.endpoint.clone(), clock, credential),
            regions: lane.regions.clone(),
            refused: None,
            credentials: lane.credentials.clone(),
            owner: Owner::Asked,
            source_problem: None,
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
            News::Answer { call, outcome, request_id, generation } => {
                self.take_in(call, &outcome, request_id, generation);
                self.engine.handle(now, Input::Answer { call, outcome });
            }
            News::Refreshed { lane, found } => self.refreshed(lane, found),
            News::Renewed { lane, loaded } => self.renewed(lane, loaded),
            News::Owner { lane } => self.owner(lane),
            News::SourceFailed { lane, problem } => self.source_failed(lane, problem),
            News::SourceWorks { lane } => self.source_works(lane),
        }
    }

    /// Records what the driver itself needs of an outcome: throttling, a refused credential, and how long it took.
    fn take_in(&mut self, id: CallId, outcome: &Outcome, request_id: Option<RequestId>, generation: Option<u64>) {
        let Some(InFlight { lane, call, sent_at }) = self.in_flight.remove(&id) else { return };
        self.note_wait(lane, matches!(outcome, Outcome::Unanswered { .. }));
        match outcome {
            Outcome::Refused { class: Class::Credential, .. } => {
                let refused = &mut self.lane(lane).refused;
                *refused = (*refused).max(generation);
            }
            Outcome::Refused { class: Class::Throttle | Class::ThrottleAll, .. } => {
                self.summary.calls_throttled += 1;
                self.progress.call_throttled();
            }
            _ => {}
        }
        let took = sent_at.map(|at| at.elapsed());
        let lane = self.status.lane(lane);
        events::Answered { lane, call: &call, outcome, request_id, took }.record();
    }

    /// Notes whether a lane still waits for an answer of its endpoint.
    fn note_wait(&mut self, lane: LaneId, is_unanswered: bool) {
        let OpenLane { api, waiting, .. } = self.lane(lane);
        if is_unanswered {
            waiting.get_or_insert_with(|| api.wait());
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
        self.in_flight.insert(call, InFlight { lane, call: calls::told_of(&action), sent_at: None });
        let (api, proof) = (self.lane(lane).api.clone(), self.lane(lane).tenure.proof());
        let flight = Flight::new(call, proof, self.news_sender.clone());
        self.tasks.spawn(flight.fly(api, action));
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
            Notice::CannotList { .. }
            | Notice::BatchReduced(_)
            | Notice::CapReduced { .. }
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
            lane.metrics.clock_offset.set(self.lanes.get(id.place()).map_or(0, |open| open.api.clock_offset()));
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
}

pub(super) const fn outcomes(report: &Report) -> usize {
    report.outcomes.len() + report.cancelled.len()
}

/// What the engine's random choices come from: different in every process, from the system's random source by way of
/// the standard library's hasher keys.
fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
