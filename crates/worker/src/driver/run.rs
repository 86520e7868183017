//! The loop of a run: one event in, all commands out, until there is nothing left to do.

use std::{future::pending, time::Duration};

use imageshare_engine::{
    LaneStatus,
    io::{Input, LaneId},
};
use tokio::{
    sync::mpsc,
    time::{Instant as TokioInstant, sleep_until, timeout_at},
};

use super::{Closing, Delivery, Driver, Said, Summary, carry_out::OPERATIONS_MAX, event::Event};
use crate::{events, wire::report::Status as ReportStatus};

/// Deliveries that are held at most before no more jobs are taken in, settled ones whose report nobody took yet included.
const DELIVERIES_MAX: usize = 10_000;

/// The loop turns at least this often, so that it can be seen to.
const TURN: Duration = Duration::from_millis(500);

/// How long what is still to be said waits for somebody who takes it, when the run is to end.
const LAST_WORDS: Duration = Duration::from_secs(2);

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

impl<I: Send + 'static> Driver<I> {
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
        self.follow_credentials();
        let mut are_owners_known = false;
        self.open_all();
        self.carry_out_commands();
        while !self.is_done() {
            let is_full = self.engine.jobs() + self.outbox.len() >= DELIVERIES_MAX
                || self.engine.operations() + self.outcomes_waiting >= OPERATIONS_MAX;
            let turned_at = TokioInstant::now();
            self.turned(turned_at);
            let alarm = self.alarm().min(turned_at + TURN);
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
                        (Some(next), Ok(room)) => {
                            self.note_said(&next);
                            room.send(next);
                        }
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
                Event::Job(delivery) => {
                    if !std::mem::replace(&mut are_owners_known, true) {
                        self.learn_owners().await;
                    }
                    events::Read { lane: self.status.lane(delivery.lane) }.record();
                    self.receive(*delivery);
                }
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

    /// What has no broker in between is up from the beginning.
    fn open_all(&mut self) {
        let now = self.now();
        for (id, lane) in (0..).map(LaneId).zip(&self.lanes) {
            self.status.lane(id).delivered();
            self.engine.handle(now, Input::LaneUp(id, lane.limits));
        }
    }

    fn is_done(&self) -> bool {
        self.source_ended && self.engine.jobs() == 0 && self.outbox.is_empty()
    }

    /// The first interrupt: no more jobs, no new calls. The jobs that were on their way in get a report like the rest.
    fn drain(&mut self, jobs: &mut mpsc::Receiver<Delivery<I>>) {
        self.summary.is_interrupted = true;
        self.status.draining();
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
        while self.has_more() {
            self.carry_out_commands();
        }
        let deadline = TokioInstant::now() + LAST_WORDS;
        while let Some(next) = self.next_to_say() {
            match timeout_at(deadline, said.reserve()).await {
                Ok(Ok(room)) => {
                    self.note_said(&next);
                    room.send(next);
                }
                Ok(Err(_)) | Err(_) => self.lose(Some(&next)),
            }
        }
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

    /// A report is out.
    fn note_said(&self, said: &Said<I>) {
        let Said::Settled(settled) = said else { return };
        let lane = self.status.lane(settled.lane);
        events::Settled::of(lane, settled).record();
        let (status, received_at) = (ReportStatus::of(&settled.report), settled.received_at);
        events::Finished { status, received_at, is_dead: false }.record(lane);
    }

    /// Nobody takes it any more.
    fn lose(&mut self, said: Option<&Said<I>>) {
        self.summary.reports_lost += u64::from(matches!(said, Some(Said::Settled(_))));
    }
}
