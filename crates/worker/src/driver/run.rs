//! The loop: one event in, all commands out, until there is nothing left to do.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::Uri;
use imageshare_core::{Class, Credential, request::Signer};
use imageshare_engine::{
    Engine, LaneStatus,
    io::{Action, CallId, Command, Input, LaneId, Notice, Outcome, TicketId},
    job::Report,
    limits::Limits,
    time::{Instant, Millis},
};
use tokio::{
    sync::{mpsc, watch},
    task::{JoinSet, spawn_blocking},
    time::{Instant as TokioInstant, sleep_until, timeout, timeout_at},
};

use super::{
    Closing, Delivery, Lane, Progress, Refresh, Said, Settled, Summary,
    calls::{self, Flight, Kind},
    clock::{Offset, ServerClock},
    event::{Event, News},
};
use crate::{endpoint::Endpoint, http::Client};

/// Tickets that are held at most before no more jobs are taken in, settled ones whose report nobody took yet included.
const TICKETS_MAX: usize = 10_000;

/// Operations that are held at most before no more jobs are taken in, outcomes that nobody took yet included.
const OPERATIONS_MAX: usize = 2_000_000;

/// How long what is still to be said waits for somebody who takes it, when the run is to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// The longest sleep. Waking early does no harm, and the end of time is no moment that a timer can be set to.
const SLEEP_MAX: Duration = Duration::from_secs(60 * 60);

/// The three ways between a driver and whoever started it.
#[derive(Debug)]
pub struct Connections<I> {
    /// Jobs, until the senders are dropped. Should be small: what waits in it was taken from its source.
    pub jobs: mpsc::Receiver<Delivery<I>>,
    /// What the driver says. While nobody takes it, no more jobs are taken in.
    pub said: mpsc::Sender<Said<I>>,
    /// Each message is a wish to end: the first lets calls in flight end, the second ends them.
    pub interrupts: mpsc::Receiver<()>,
}

/// Owns the engine and everything that it needs to be carried out.
#[derive(Debug)]
pub struct Driver<I> {
    engine: Engine,
    started: TokioInstant,
    client: Client,
    lanes: Vec<OpenLane>,
    clocks: Vec<(Endpoint, ServerClock)>,
    held: BTreeMap<TicketId, Held<I>>,
    in_flight: BTreeMap<CallId, InFlight>,
    tasks: JoinSet<()>,
    news_sender: mpsc::UnboundedSender<News>,
    /// At most two for each call in flight and one for each lane, so it needs no bound of its own.
    news: mpsc::UnboundedReceiver<News>,
    /// What is to be said when there is room. At most [`TICKETS_MAX`] reports with [`OPERATIONS_MAX`] outcomes, and the
    /// engine's notices.
    outbox: VecDeque<Said<I>>,
    /// Outcomes of the reports in the outbox.
    outcomes_waiting: usize,
    next_ticket: u64,
    wake_at: Option<Instant>,
    /// When an interrupted run ends, whatever is under way.
    ends_at: Option<TokioInstant>,
    source_ended: bool,
    given_up: watch::Sender<bool>,
    progress: Arc<Progress>,
    summary: Summary,
}

#[derive(Debug)]
struct OpenLane {
    uri: Uri,
    signer: Signer,
    refresh: RefreshSource,
    /// Its endpoint's place in the list of clocks.
    clock: usize,
}

/// A [`Refresh`] that can be shown, as nothing.
struct RefreshSource(Refresh);

/// A job whose report is still to come.
#[derive(Debug)]
struct Held<I> {
    identity: I,
    lane: LaneId,
    received_at: SystemTime,
}

#[derive(Debug)]
struct InFlight {
    lane: LaneId,
    kind: Kind,
    signed: Offset,
}

impl<I: Send + 'static> Driver<I> {
    /// A driver for these lanes, which it numbers in this order, and all of which are up from the beginning.
    #[must_use]
    pub fn new(lanes: &[Lane], limits: Limits, client: Client) -> Self {
        let (news_sender, news) = mpsc::unbounded_channel();
        let mut driver = Self {
            engine: Engine::new(limits, seed()),
            started: TokioInstant::now(),
            client,
            lanes: Vec::with_capacity(lanes.len()),
            clocks: Vec::new(),
            held: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            tasks: JoinSet::new(),
            news_sender,
            news,
            outbox: VecDeque::new(),
            outcomes_waiting: 0,
            next_ticket: 0,
            wake_at: None,
            ends_at: None,
            source_ended: false,
            given_up: watch::Sender::new(false),
            progress: Arc::default(),
            summary: Summary::default(),
        };
        for (id, lane) in (0..).map(LaneId).zip(lanes) {
            driver.open(id, lane);
        }
        driver
    }

    /// How far it has come, to be looked at while it runs.
    #[must_use]
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Comes true when every lane was given up: whatever still comes in will be reported as not attempted.
    pub fn given_up(&self) -> impl Future<Output = ()> + Send + use<I> {
        let mut given_up = self.given_up.subscribe();
        async move {
            // A driver that ended without having given up has nothing more to tell.
            if given_up.wait_for(|given_up| *given_up).await.is_err() {
                pending::<()>().await;
            }
        }
    }

    /// Runs until the source has ended and every job is settled, or until it is interrupted. Every call ends within
    /// the client's time-out, so an interrupted run ends within that time and a few seconds for its last reports, and
    /// one that is interrupted twice within those few seconds, whether anybody takes the reports or not.
    pub async fn run(mut self, connections: Connections<I>) -> Summary {
        let Connections { mut jobs, said, mut interrupts } = connections;
        let mut interrupts_open = true;
        self.carry_out_commands();
        while !self.is_done() {
            let is_full = self.engine.tickets() + self.outbox.len() >= TICKETS_MAX
                || self.engine.operations() + self.outcomes_waiting >= OPERATIONS_MAX;
            let alarm = self.alarm();
            let event = tokio::select! {
                biased;
                interrupt = interrupts.recv(), if interrupts_open => match interrupt {
                    Some(()) => Event::Interrupt,
                    None => {
                        interrupts_open = false;
                        continue;
                    }
                },
                Some(news) = self.news.recv() => Event::News(news),
                room = said.reserve(), if !self.outbox.is_empty() => {
                    match (self.next_to_say(), room) {
                        (Some(next), Ok(room)) => room.send(next),
                        (next, _) => self.lose(next.as_ref()),
                    }
                    continue;
                }
                () = sleep_until(alarm) => Event::Tick,
                delivery = jobs.recv(), if !self.source_ended && !is_full => match delivery {
                    Some(delivery) => Event::Job(Box::new(delivery)),
                    None => Event::SourceEnded,
                },
            };
            match event {
                Event::Job(delivery) => self.receive(*delivery),
                Event::SourceEnded => self.source_ended = true,
                Event::News(news) => self.hear(news),
                Event::Interrupt if self.summary.is_interrupted => {
                    self.stop(&said).await;
                    break;
                }
                Event::Interrupt => self.drain(&mut jobs),
                Event::Tick if self.ends_at.is_some_and(|end| end <= TokioInstant::now()) => {
                    self.stop(&said).await;
                    break;
                }
                Event::Tick => {}
            }
            self.carry_out_commands();
            self.note_lanes_given_up();
            // Tasks that ended have told all that they know.
            while self.tasks.try_join_next().is_some() {}
        }
        self.summary.jobs_unsettled = self.held.len() as u64;
        self.summary
    }

    fn is_done(&self) -> bool {
        self.source_ended && self.engine.tickets() == 0 && self.outbox.is_empty()
    }

    fn open(&mut self, id: LaneId, lane: &Lane) {
        let known = self.clocks.iter().position(|(endpoint, _)| *endpoint == lane.endpoint);
        let clock = known.unwrap_or_else(|| {
            self.clocks.push((lane.endpoint.clone(), ServerClock::default()));
            self.clocks.len() - 1
        });
        let signer = Signer::new(lane.credential.clone());
        self.lanes.push(OpenLane { uri: lane.uri(), signer, refresh: RefreshSource(Arc::clone(&lane.refresh)), clock });
        self.engine.handle(self.now(), Input::LaneUp(id, lane.limits));
    }

    /// Milliseconds since the driver was made.
    fn now(&self) -> Instant {
        Instant(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// When to wake, whatever happens until then.
    fn alarm(&self) -> TokioInstant {
        let latest = TokioInstant::now() + SLEEP_MAX;
        let wanted = self.wake_at.and_then(|at| self.started.checked_add(Duration::from_millis(at.0)));
        [wanted, self.ends_at].into_iter().flatten().fold(latest, TokioInstant::min)
    }

    fn receive(&mut self, delivery: Delivery<I>) {
        let Delivery { identity, lane, mut job, expires_at } = delivery;
        let (now, received_at) = (self.now(), SystemTime::now());
        job.deadline = expires_at.map(|end| {
            // What has passed already ends now.
            let left = end.duration_since(received_at).unwrap_or_default();
            now + Millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
        });
        let ticket = TicketId(self.next_ticket);
        self.next_ticket += 1;
        self.progress.job_received(job.account_ids.len());
        self.held.insert(ticket, Held { identity, lane, received_at });
        self.engine.handle(now, Input::Job { ticket, lane, job });
    }

    fn hear(&mut self, news: News) {
        let now = self.now();
        match news {
            News::Sent(call) => {
                if let Some(in_flight) = self.in_flight.get(&call) {
                    *self.summary.calls.entry(in_flight.kind.name()).or_default() += 1;
                    self.progress.call_sent();
                }
                self.engine.handle(now, Input::Sent(call));
            }
            News::Answer { call, outcome, date } => {
                let outcome = self.judge(now, call, outcome, date);
                self.engine.handle(now, Input::Answer { call, outcome });
            }
            News::Refreshed { lane, found } => {
                let input = self.renew(lane, found);
                self.engine.handle(now, input);
            }
        }
    }

    /// Takes in what the driver itself has to know of an answer: that a call was throttled, and what the time is.
    fn judge(&mut self, now: Instant, call: CallId, outcome: Outcome, date: Option<SystemTime>) -> Outcome {
        let Some(InFlight { lane, signed, .. }) = self.in_flight.remove(&call) else { return outcome };
        let Outcome::Refused { class, .. } = &outcome else { return outcome };
        match class {
            Class::Throttle => {
                self.summary.calls_throttled += 1;
                self.progress.call_throttled();
                outcome
            }
            Class::Clock if self.clock(lane).refused(now, SystemTime::now(), signed, date) => Outcome::Skewed,
            _ => outcome,
        }
    }

    fn renew(&mut self, lane: LaneId, found: Result<Credential, String>) -> Input {
        match found {
            Ok(credential) if credential != *self.lane(lane).signer.credential() => {
                self.lane(lane).signer = Signer::new(credential);
                Input::CredentialFresh(lane)
            }
            Ok(_) => Input::CredentialBroken(lane),
            Err(reason) => {
                self.outbox.push_back(Said::RefreshFailed(lane, reason));
                Input::CredentialBroken(lane)
            }
        }
    }

    /// Does what the engine wants done, and notes when it wants to be woken.
    fn carry_out_commands(&mut self) {
        loop {
            let now = self.now();
            match self.engine.poll(now) {
                Command::Call { call, lane, action } => self.call(call, lane, action),
                Command::Settle { ticket, report } => self.settle(ticket, *report),
                Command::GiveBack(lane) => self.give_back(lane),
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
        let kind = Kind::of(&action);
        let clock = *self.clock(lane);
        let OpenLane { uri, signer, .. } = self.lane(lane);
        let host = uri.authority().map_or("", |authority| authority.as_str());
        let prepared = calls::prepare(host, action);
        let request = calls::sign(&prepared, signer, clock.second(SystemTime::now()), uri);
        self.in_flight.insert(call, InFlight { lane, kind, signed: clock.offset() });
        let flight = Flight::new(call, kind, self.news_sender.clone());
        self.tasks.spawn(flight.fly(self.client.clone(), request));
    }

    fn settle(&mut self, ticket: TicketId, report: Report) {
        let Some(Held { identity, lane, received_at }) = self.held.remove(&ticket) else { return };
        self.progress.job_settled(&report);
        self.outcomes_waiting += outcomes(&report);
        let finished_at = SystemTime::now();
        self.outbox.push_back(Said::Settled(Box::new(Settled { identity, lane, report, received_at, finished_at })));
    }

    fn give_back(&mut self, lane: LaneId) {
        let given_back = self.held.extract_if(.., |_, held| held.lane == lane);
        let jobs: Vec<I> = given_back.map(|(_, held)| held.identity).collect();
        self.outbox.push_back(Said::GivenBack { lane, jobs });
    }

    /// Asks the lane's source for another credential, once, no longer than a call may take. A source that hangs keeps
    /// its thread, but nobody waits for it.
    fn refresh(&mut self, lane: LaneId) {
        let ask = Arc::clone(&self.lane(lane).refresh.0);
        let patience = self.client.time_outs().call;
        let news = self.news_sender.clone();
        self.tasks.spawn(async move {
            let found = match timeout(patience, spawn_blocking(move || ask())).await {
                Ok(Ok(found)) => found,
                Ok(Err(_)) => Err("the credential's source broke down".to_owned()),
                Err(_) => Err(format!("the credential's source gave no answer within {} s", patience.as_secs_f64())),
            };
            drop(news.send(News::Refreshed { lane, found }));
        });
    }

    fn notice(&mut self, lane: LaneId, notice: Notice) {
        match &notice {
            Notice::Closed { reason, detail } => {
                let closing = Closing { reason: *reason, detail: detail.clone(), is_over: false };
                self.summary.closed.insert(lane, closing);
                self.progress.lane(lane, Some(*reason));
            }
            Notice::Opened => {
                if let Some(closing) = self.summary.closed.get_mut(&lane) {
                    closing.is_over = true;
                }
                self.progress.lane(lane, None);
            }
            Notice::CannotRead { .. }
            | Notice::BatchLearned(_)
            | Notice::CapLearned { .. }
            | Notice::ImageBusy { .. } => {}
        }
        self.outbox.push_back(Said::Notice(lane, notice));
    }

    /// The first interrupt: no more jobs, no new calls. The jobs that were on their way in get a report like the rest.
    fn drain(&mut self, jobs: &mut mpsc::Receiver<Delivery<I>>) {
        self.summary.is_interrupted = true;
        jobs.close();
        while let Ok(delivery) = jobs.try_recv() {
            self.receive(delivery);
        }
        self.source_ended = true;
        self.ends_at = Some(TokioInstant::now() + self.client.time_outs().call + LAST_WORDS);
        self.engine.handle(self.now(), Input::Drain);
    }

    /// The second interrupt, or time is up: calls in flight are broken off, and with that the engine knows all that it
    /// ever will. What is still to be said is said as long as somebody takes it.
    async fn stop(&mut self, said: &mpsc::Sender<Said<I>>) {
        self.tasks.shutdown().await;
        while let Ok(news) = self.news.try_recv() {
            self.hear(news);
        }
        self.carry_out_commands();
        let deadline = TokioInstant::now() + LAST_WORDS;
        while let Some(next) = self.next_to_say() {
            match timeout_at(deadline, said.reserve()).await {
                Ok(Ok(room)) => room.send(next),
                Ok(Err(_)) | Err(_) => self.lose(Some(&next)),
            }
        }
    }

    fn next_to_say(&mut self) -> Option<Said<I>> {
        let next = self.outbox.pop_front();
        if let Some(Said::Settled(settled)) = &next {
            self.outcomes_waiting -= outcomes(&settled.report);
        }
        next
    }

    /// Lanes that were given up end as closed, also those of which there was nothing to be said before.
    fn note_lanes_given_up(&mut self) {
        let mut is_any_left = false;
        for id in (0..).map(LaneId).take(self.lanes.len()) {
            match self.engine.lane_status(id) {
                LaneStatus::GivenUp(reason) => {
                    let closing = Closing { reason, detail: Box::default(), is_over: false };
                    self.summary.closed.entry(id).or_insert(closing).is_over = false;
                }
                LaneStatus::Closed(..) | LaneStatus::Down | LaneStatus::Leaving | LaneStatus::Open => {
                    is_any_left = true;
                }
            }
        }
        if !is_any_left {
            self.given_up.send_replace(true);
        }
    }

    /// Nobody takes it any more.
    fn lose(&mut self, said: Option<&Said<I>>) {
        self.summary.reports_lost += u64::from(matches!(said, Some(Said::Settled(_))));
    }

    fn lane(&mut self, lane: LaneId) -> &mut OpenLane {
        let place = usize::try_from(lane.0).expect("a usize has at least 32 bits");
        self.lanes.get_mut(place).expect("the engine names only lanes that it was told of")
    }

    fn clock(&mut self, lane: LaneId) -> &mut ServerClock {
        let place = self.lane(lane).clock;
        &mut self.clocks.get_mut(place).expect("every lane's endpoint has a clock").1
    }
}

impl std::fmt::Debug for RefreshSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RefreshSource")
    }
}

const fn outcomes(report: &Report) -> usize {
    report.outcomes.len() + report.cancelled.len()
}

/// What the engine's random choices come from: different in every process, from the system's random source by way of
/// the standard library's hasher keys.
fn seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}
