//! The source of a run: the jobs of files and flags. It ends when all of them have their reports, or when it is
//! interrupted.

use std::{future::pending, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout_at},
};

use super::{Demand, Driver, DriverEvent, JobSource};
use crate::{events, lane_messages::Delivery, wire::report::Status as ReportStatus};

/// How long an interrupted run waits for a receiver of its last events.
const LAST_EVENTS_MAX: Duration = Duration::from_secs(2);

/// The channels between a run and its caller.
#[derive(Debug)]
pub struct InputChannels<I> {
    /// Jobs, until the senders are dropped. Its capacity should be small: a job in it was taken from its input.
    pub jobs: mpsc::Receiver<Delivery<I>>,
    /// The events of the driver. While it is full, no more jobs are taken in.
    pub events: mpsc::Sender<DriverEvent<I>>,
    /// The first message lets calls in flight end; the second breaks them off.
    pub interrupts: mpsc::Receiver<()>,
}

/// The source of a run.
#[derive(Debug)]
pub struct InputSource<I> {
    channels: InputChannels<I>,
    has_interrupts: bool,
    has_ended: bool,
    is_first: bool,
    stage: RunStage,
    gave_up_all: watch::Sender<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunStage {
    Running,
    /// Interrupted: calls in flight end, and the run ends at this moment.
    Draining(Instant),
    /// Calls in flight are broken off.
    Stopping,
}

/// What can happen to a run.
#[derive(Debug)]
pub enum InputEvent<I> {
    /// A job was read.
    Job(Box<Delivery<I>>),
    /// There are no more jobs.
    Ended,
    /// There is room for an event.
    Room,
    /// The run is interrupted.
    Interrupt,
    /// No interrupt follows.
    NoInterrupts,
    /// An interrupted run has no time left.
    TimeUp,
}

impl<I> InputSource<I> {
    /// Returns the source that has these channels.
    #[must_use]
    pub fn new(channels: InputChannels<I>) -> Self {
        Self {
            channels,
            has_interrupts: true,
            has_ended: false,
            is_first: true,
            stage: RunStage::Running,
            gave_up_all: watch::Sender::new(false),
        }
    }

    /// Waits until every lane was given up. All jobs that follow are reported as not attempted.
    pub fn gave_up_all(&self) -> impl Future<Output = ()> + Send + use<I> {
        let mut gave_up_all = self.gave_up_all.subscribe();
        async move {
            // A run may end without that.
            if gave_up_all.wait_for(|gave_up_all| *gave_up_all).await.is_err() {
                pending::<()>().await;
            }
        }
    }
}

impl<I: Send + 'static> InputSource<I> {
    /// The first interrupt: no more jobs, no new calls. The jobs in the channel get a report like the others.
    fn drain(&mut self, driver: &mut Driver<I>) {
        self.channels.jobs.close();
        while let Ok(delivery) = self.channels.jobs.try_recv() {
            events::Read { lane: driver.status().lane(delivery.lane) }.record();
            driver.receive(delivery);
        }
        self.has_ended = true;
        self.stage = RunStage::Draining(Instant::now() + driver.time_outs().call + LAST_EVENTS_MAX);
        driver.interrupt();
    }

    /// Records a report that was taken.
    fn record(event: &DriverEvent<I>, driver: &Driver<I>) {
        let DriverEvent::Settled(settled) = event else { return };
        let lane = driver.status().lane(settled.lane);
        events::Settled::of(lane, settled).record();
        let (status, received_at) = (ReportStatus::of(&settled.reports), settled.received_at);
        events::Finished { status, published_at: None, received_at, is_dead: false }.record(lane);
        lane.metrics.acknowledged(1);
    }

    /// Records an event that nothing receives.
    fn lose(event: &DriverEvent<I>, driver: &mut Driver<I>) {
        if matches!(event, DriverEvent::Settled(_)) {
            driver.report_lost();
        }
    }
}

impl<I: Send + 'static> JobSource<I> for InputSource<I> {
    type Event = InputEvent<I>;

    /// No broker decides about the lanes, so they are up from the beginning.
    fn start(&mut self, driver: &mut Driver<I>) {
        for id in driver.lane_ids() {
            driver.status().lane(id).delivered();
            driver.lane_up(id);
        }
    }

    async fn next(&mut self, demand: Demand) -> InputEvent<I> {
        let InputChannels { jobs, events, interrupts } = &mut self.channels;
        let ends_at = match self.stage {
            RunStage::Draining(at) => Some(at),
            RunStage::Running | RunStage::Stopping => None,
        };
        tokio::select! {
            biased;
            interrupt = interrupts.recv(), if self.has_interrupts => {
                interrupt.map_or(InputEvent::NoInterrupts, |()| InputEvent::Interrupt)
            }
            _ = events.reserve(), if demand.events => InputEvent::Room,
            () = sleep_until(ends_at.unwrap_or_else(Instant::now)), if ends_at.is_some() => InputEvent::TimeUp,
            delivery = jobs.recv(), if demand.jobs && !self.has_ended => {
                delivery.map_or(InputEvent::Ended, |delivery| InputEvent::Job(Box::new(delivery)))
            }
            else => pending().await,
        }
    }

    async fn handle(&mut self, event: InputEvent<I>, driver: &mut Driver<I>) {
        match event {
            InputEvent::Job(delivery) => {
                if std::mem::replace(&mut self.is_first, false) {
                    driver.await_owners().await;
                }
                events::Read { lane: driver.status().lane(delivery.lane) }.record();
                driver.receive(*delivery);
            }
            InputEvent::Ended => self.has_ended = true,
            // Events are taken after each turn.
            InputEvent::Room => {}
            InputEvent::Interrupt if self.stage == RunStage::Running => self.drain(driver),
            InputEvent::Interrupt | InputEvent::TimeUp => self.stage = RunStage::Stopping,
            InputEvent::NoInterrupts => self.has_interrupts = false,
        }
    }

    fn take_events(&mut self, driver: &mut Driver<I>) {
        if driver.record_lanes_given_up() {
            self.gave_up_all.send_replace(true);
        }
        while driver.has_events() {
            match self.channels.events.try_reserve() {
                Ok(room) => {
                    let Some(event) = driver.next_event() else { return };
                    Self::record(&event, driver);
                    room.send(event);
                }
                Err(mpsc::error::TrySendError::Full(())) => return,
                Err(mpsc::error::TrySendError::Closed(())) => {
                    let Some(event) = driver.next_event() else { return };
                    Self::lose(&event, driver);
                }
            }
        }
    }

    fn is_done(&self, driver: &Driver<I>) -> bool {
        self.stage == RunStage::Stopping || self.has_ended && !driver.has_jobs() && !driver.has_events()
    }

    /// Ends the calls of a run that was interrupted twice, or whose time is up. With that the engine has all outcomes.
    /// The last events are sent as long as they are received.
    async fn finish(&mut self, driver: &mut Driver<I>) {
        if self.stage == RunStage::Stopping {
            driver.break_off_calls(self).await;
        }
        let deadline = Instant::now() + LAST_EVENTS_MAX;
        while let Some(event) = driver.next_event() {
            match timeout_at(deadline, self.channels.events.reserve()).await {
                Ok(Ok(room)) => {
                    Self::record(&event, driver);
                    room.send(event);
                }
                Ok(Err(_)) | Err(_) => Self::lose(&event, driver),
            }
        }
    }
}
