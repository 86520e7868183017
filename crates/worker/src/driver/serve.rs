//! The loop of a daemon: jobs come from subscriptions of lanes, which can be lost and come again.

use std::{
    collections::VecDeque,
    future::ready,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use imageshare_core::ids::AccountId;
use imageshare_engine::{
    LaneStatus,
    io::{Input, LaneId, Notice},
    limits::{LaneLimits, Limits},
};
use tokio::{
    sync::mpsc,
    time::{Instant as TokioInstant, sleep_until},
};

use super::{
    Delivery, Driver, Epoch, FromLane, Order, Outcomes, Requeue, Said, ToLane,
    carry_out::{OPERATIONS_MAX, WORK_MAX, outcomes},
    event::News,
};
use crate::{events, proof::Proof, wire::job::ACCOUNTS_MAX};

/// Events of lanes that are taken at once. How many of them the engine is given in one turn depends on how much work they
/// are.
const EVENTS_AT_ONCE: usize = 64;

/// The loop turns at least this often, so that one that stood still is told from one that had nothing to do.
const TURN: Duration = Duration::from_millis(500);

/// A loop that waited for longer may have lost its lanes to other workers meanwhile. Its own work does not count: a turn
/// does a bounded amount (see [`WORK_MAX`]), but a machine may be slow. One that stood still in the middle of its work sends
/// nothing either, since each write needs a fresh [`Proof`].
const STANDSTILL_MAX: Duration = Duration::from_secs(2);

/// The ways between a driver and the subscriptions of its lanes, and whoever runs the process.
#[derive(Debug)]
pub struct Lines<I> {
    /// What the subscriptions tell. Should be small: what waits in it is in no engine.
    pub events: mpsc::Receiver<FromLane<I>>,
    /// To the subscription of each lane, in the order of the lanes. What waits in one is at most a report for each
    /// delivery of the lane's window, and a few words.
    pub lanes: Vec<mpsc::UnboundedSender<ToLane<I>>>,
    /// What is wanted of the driver. Its end means [`Order::Drain`].
    pub orders: mpsc::Receiver<Order>,
}

/// Whether a lane is ours.
#[derive(Debug)]
pub(super) enum Tenure {
    /// Its subscription was told to consume it.
    Asked,
    /// It is ours.
    Ours {
        epoch: Epoch,
        proof: Arc<Proof>,
        /// Why it is about to be given back, if it is.
        leaves: Option<Requeue>,
        /// Whether a job did not fit into its share. No later delivery of this subscription is taken in: the broker keeps
        /// them all, and delivers them again in their order.
        is_full: bool,
    },
    /// It was given back while it was closed, or has no credential yet, and is consumed when it opens.
    Closed,
}

/// What woke the loop.
enum Woken {
    Events,
    News(News),
    Order(Option<Order>),
    Time,
}

impl Tenure {
    /// What writes of the lane need.
    pub(super) fn proof(&self) -> Option<Arc<Proof>> {
        match self {
            Self::Ours { proof, .. } => Some(Arc::clone(proof)),
            Self::Asked | Self::Closed => None,
        }
    }

    fn is_of(&self, of: Epoch) -> bool {
        matches!(self, Self::Ours { epoch, .. } if *epoch == of)
    }
}

impl<I: Send + 'static> Driver<I> {
    /// Serves the lanes until it is told to drain, and then until all are given back. Every call ends within the
    /// client's time-out, so a drain ends within that time; what the subscriptions still have to publish is theirs.
    pub async fn serve(mut self, lines: Lines<I>) {
        let Lines { mut events, lanes, mut orders } = lines;
        let mut serving = Serving { lanes, draining: false };
        let (mut buffer, mut received) = (Vec::with_capacity(EVENTS_AT_ONCE), VecDeque::new());
        self.follow_credentials();
        self.follow_owners();
        for id in self.ids() {
            if matches!(self.lane(id).tenure, Tenure::Asked) {
                serving.tell(id, ToLane::Consume);
            }
        }
        let mut waits_since = TokioInstant::now();
        while !(serving.draining && self.has_none()) {
            let alarm = self.alarm().min(waits_since + TURN);
            let woken = tokio::select! {
                biased;
                order = orders.recv(), if !serving.draining => Woken::Order(order),
                Some(news) = self.news.recv() => Woken::News(news),
                () = ready(()), if !received.is_empty() => Woken::Events,
                // Once all subscriptions have ended there is nothing to wait for.
                _ = events.recv_many(&mut buffer, EVENTS_AT_ONCE), if !events.is_closed() || !events.is_empty() => {
                    received.extend(buffer.drain(..));
                    Woken::Events
                }
                () = sleep_until(alarm) => Woken::Time,
            };
            let turned_at = TokioInstant::now();
            let stood_still = turned_at - waits_since;
            if stood_still > STANDSTILL_MAX {
                self.lose_all(&serving, stood_still);
            }
            match woken {
                Woken::Events => {
                    let mut work = 0;
                    while work < WORK_MAX
                        && let Some(event) = received.pop_front()
                    {
                        work += operations(&event);
                        self.take(event, &serving);
                    }
                }
                Woken::News(news) => self.hear(news),
                Woken::Order(Some(Order::Reload { limits, lanes })) => self.reload(*limits, &lanes),
                Woken::Order(Some(Order::Drain) | None) => {
                    serving.draining = true;
                    self.status.draining();
                    self.engine.handle(self.now(), Input::Drain);
                }
                Woken::Time => {}
            }
            self.carry_out_commands();
            while let Some(said) = self.next_to_say() {
                self.hand_over(said, &serving);
            }
            self.leave_finished();
            self.turned(turned_at);
            // Tasks that ended have told all that they know.
            while self.tasks.try_join_next().is_some() {}
            waits_since = TokioInstant::now();
        }
    }

    /// Whether no lane is ours.
    fn has_none(&self) -> bool {
        !self.lanes.iter().any(|lane| matches!(lane.tenure, Tenure::Ours { .. }))
    }

    fn take(&mut self, event: FromLane<I>, serving: &Serving<I>) {
        match event {
            FromLane::Delivered(epoch, delivery) => self.take_delivery(epoch, delivery),
            FromLane::Up { lane, epoch, .. } if serving.draining => {
                serving.tell(lane, ToLane::Requeue(epoch, Requeue::Drain));
            }
            FromLane::Up { lane, epoch, proof } => {
                let limits = self.lane(lane).limits;
                self.lane(lane).tenure = Tenure::Ours { epoch, proof, leaves: None, is_full: false };
                self.engine.handle(self.now(), Input::LaneUp(lane, limits));
            }
            FromLane::Down { lane, epoch } => {
                if self.lane(lane).tenure.is_of(epoch) {
                    self.lose_lane(lane, serving);
                }
            }
        }
    }

    /// Takes in a job, unless its subscription is over, about to be, or full: then it is delivered again.
    fn take_delivery(&mut self, from: Epoch, delivery: Delivery<I>) {
        let (lane, accounts) = (delivery.lane, delivery.job.account_ids.len());
        match &self.lane(lane).tenure {
            Tenure::Ours { epoch, leaves: None, is_full: false, .. } if *epoch == from => {}
            Tenure::Ours { .. } | Tenure::Asked | Tenure::Closed => return,
        }
        let held = self.held.accounts(lane) + self.lane(lane).outcomes.load(Relaxed);
        // A lane that holds nothing takes in any job, so every lane makes progress.
        if held == 0 || held + accounts <= share(self.lanes.len()) {
            return self.receive(delivery);
        }
        if let Tenure::Ours { is_full, .. } = &mut self.lane(lane).tenure {
            *is_full = true;
        }
        self.engine.handle(self.now(), Input::Full(lane));
    }

    /// Requeues each full lane whose jobs are all settled. With the same window the broker then delivers what was not
    /// taken in, in its order. (Of messages that it delivers again it prefers those that a smaller window left behind.)
    fn leave_finished(&mut self) {
        for id in self.ids() {
            if let Tenure::Ours { epoch, leaves: None, is_full: true, .. } = self.lane(id).tenure
                && self.held.has_none(id)
            {
                self.leave(id, epoch, Requeue::Operations);
            }
        }
    }

    /// Lets a lane be given back as soon as no call of it is in flight.
    fn leave(&mut self, lane: LaneId, of: Epoch, why: Requeue) {
        match &mut self.lane(lane).tenure {
            Tenure::Ours { epoch, leaves: leaves @ None, .. } if *epoch == of => *leaves = Some(why),
            Tenure::Ours { .. } | Tenure::Asked | Tenure::Closed => return,
        }
        self.engine.handle(self.now(), Input::Leave(lane));
    }

    /// A lane is no longer ours: its jobs come again, to whomever.
    fn lose_lane(&mut self, lane: LaneId, serving: &Serving<I>) {
        if let Some(proof) = self.lane(lane).tenure.proof() {
            proof.revoke();
        }
        self.lane(lane).tenure = Tenure::Asked;
        self.held.let_go(lane).for_each(drop);
        self.engine.handle(self.now(), Input::LaneLost(lane));
        self.status.lane(lane).open();
        if !serving.draining {
            serving.tell(lane, ToLane::Consume);
        }
    }

    /// This process did not run for a while, and others may have taken its lanes.
    fn lose_all(&mut self, serving: &Serving<I>, stood_still: Duration) {
        events::StoodStill { length: stood_still }.record();
        for id in self.ids() {
            if let Tenure::Ours { epoch, .. } = self.lane(id).tenure {
                serving.tell(id, ToLane::Cut(epoch));
                self.lose_lane(id, serving);
            }
        }
    }

    fn hand_over(&mut self, said: Said<I>, serving: &Serving<I>) {
        match said {
            Said::Settled(settled) => {
                let waiting = Outcomes::add(outcomes(&settled.report), &self.lane(settled.lane).outcomes);
                serving.tell(settled.lane, ToLane::Settled(settled, waiting));
            }
            Said::GivenBack { lane, .. } => self.give_back_to(lane, serving),
            Said::Notice(lane, notice) => {
                if matches!(notice, Notice::Opened) {
                    self.consume_again(lane, serving);
                }
                events::Noticed { lane: self.status.lane(lane), notice: &notice }.record();
            }
            Said::RefreshFailed(lane, reason) => {
                events::RefreshFailed { lane: self.status.lane(lane), reason: &reason }.record();
            }
        }
    }

    /// The engine has forgotten the jobs of a lane: its subscription gives them back.
    fn give_back_to(&mut self, lane: LaneId, serving: &Serving<I>) {
        let status = self.engine.lane_status(lane);
        let Tenure::Ours { epoch, leaves, .. } = self.lane(lane).tenure else { return };
        let why = match (status, leaves) {
            (LaneStatus::Closed(_, reason), _) => Requeue::Closed(reason),
            _ if serving.draining => Requeue::Drain,
            (_, Some(why)) => why,
            (_, None) => Requeue::Lease,
        };
        serving.tell(lane, ToLane::Requeue(epoch, why));
        self.lane(lane).tenure = if matches!(why, Requeue::Closed(_)) { Tenure::Closed } else { Tenure::Asked };
        if !serving.draining && !matches!(why, Requeue::Closed(_)) {
            serving.tell(lane, ToLane::Consume);
        }
    }

    /// A lane is open that was given back while it was closed, or had no credential.
    fn consume_again(&mut self, lane: LaneId, serving: &Serving<I>) {
        if matches!(self.lane(lane).tenure, Tenure::Closed) && !serving.draining {
            self.lane(lane).tenure = Tenure::Asked;
            serving.tell(lane, ToLane::Consume);
        }
    }

    fn reload(&mut self, limits: Limits, lanes: &[(LaneLimits, Option<AccountId>)]) {
        let now = self.now();
        self.engine.handle(now, Input::Limits(limits));
        for (id, &(limits, account)) in self.ids().zip(lanes) {
            self.engine.handle(now, Input::ExpectAccount(id, account));
            self.lane(id).limits = limits;
            if matches!(self.lane(id).tenure, Tenure::Ours { .. }) {
                self.engine.handle(now, Input::LaneUp(id, limits));
            }
            self.reread(id);
        }
    }
}

/// How much work an event is for the engine, in operations.
fn operations<I>(event: &FromLane<I>) -> usize {
    match event {
        FromLane::Delivered(_, delivery) => delivery.job.account_ids.len(),
        FromLane::Up { .. } | FromLane::Down { .. } => 0,
    }
}

/// The items that each of so many lanes may hold: never less than one job has at most.
fn share(lanes: usize) -> usize {
    (OPERATIONS_MAX / lanes.max(1)).max(ACCOUNTS_MAX)
}

/// What the loop needs to speak to the lanes.
struct Serving<I> {
    lanes: Vec<mpsc::UnboundedSender<ToLane<I>>>,
    draining: bool,
}

impl<I> Serving<I> {
    fn tell(&self, lane: LaneId, what: ToLane<I>) {
        // A subscription that broke down takes nothing more; whoever waits for it finds out.
        drop(self.lanes.get(lane.place()).expect("there is a line for each lane").send(what));
    }
}
