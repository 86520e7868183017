//! The source of a daemon: the subscriptions of its lanes, which can be lost and come up again.

use std::{
    collections::VecDeque,
    future::{pending, ready},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use imageshare_core::ids::AccountId;
use imageshare_engine::{
    LaneStatus,
    io::{LaneId, Notice},
    limits::{LaneLimits, Limits},
};
use tokio::sync::mpsc;

use super::{Demand, Driver, DriverEvent, JobSource, WORK_MAX, jobs::ITEMS_MAX};
use crate::{
    events,
    lane_messages::{Delivery, Epoch, FromLane, Requeue, ToLane, UnpublishedOutcomes},
    ownership_proof::OwnershipProof,
    wire::job::ACCOUNTS_MAX,
};

/// Messages of lanes that are received at once. How many of them the driver handles in one turn depends on their size.
const MESSAGES_AT_ONCE: usize = 64;

/// The longest sleep after which the loop still trusts that its lanes are ours. After a longer one, the process may
/// have been suspended, and other workers may have taken over. Only sleep is measured: the work of a turn is bounded
/// (see [`WORK_MAX`]), but may take long on a slow machine. A process that is suspended during its work sends nothing
/// either, since each call needs a fresh [`OwnershipProof`].
const ASLEEP_MAX: Duration = Duration::from_secs(2);

/// The channels between a driver, the subscriptions of its lanes, and the daemon.
#[derive(Debug)]
pub struct DriverChannels<I> {
    /// The messages of the subscriptions. Its capacity should be small: no engine holds a job in it.
    pub messages: mpsc::Receiver<FromLane<I>>,
    /// To the subscription of each lane, in the order of the lanes. Each holds at most a report for each delivery of the
    /// lane's window, and one of each other message for each subscription.
    pub lanes: Vec<mpsc::UnboundedSender<ToLane<I>>>,
    /// What the daemon asks for. Its end means [`DriverOrder::Drain`].
    pub orders: mpsc::Receiver<DriverOrder>,
}

/// What a daemon asks of its driver.
#[derive(Debug)]
pub enum DriverOrder {
    /// Use other limits, and load the credentials of all lanes again.
    Reload {
        /// The limits of the engine.
        limits: Box<Limits>,
        /// The settings of each lane, in their order.
        lanes: Vec<LaneReload>,
    },
    /// Finish what is in flight, requeue all lanes, end.
    Drain,
}

/// The settings of a lane that may change while a daemon runs.
#[derive(Clone, Copy, Debug)]
pub struct LaneReload {
    /// Its limits.
    pub limits: LaneLimits,
    /// The account that its credential must be of.
    pub account: Option<AccountId>,
    /// Whether its jobs are left in the queue.
    pub is_paused: bool,
}

/// The source of a daemon.
#[derive(Debug)]
pub struct BrokerSource<I> {
    messages: mpsc::Receiver<FromLane<I>>,
    /// Messages that were received and not handled yet.
    received: VecDeque<FromLane<I>>,
    buffer: Vec<FromLane<I>>,
    lanes: Vec<SubscribedLane<I>>,
    orders: mpsc::Receiver<DriverOrder>,
    is_draining: bool,
}

#[derive(Debug)]
struct SubscribedLane<I> {
    sender: mpsc::UnboundedSender<ToLane<I>>,
    ownership: LaneOwnership,
    /// Outcomes that its subscription received and has not published yet.
    unpublished: Arc<AtomicUsize>,
}

/// Whether a lane is ours.
#[derive(Debug)]
enum LaneOwnership {
    /// Its subscription has the order to consume it.
    Requested,
    /// It is ours.
    Owned {
        epoch: Epoch,
        proof: Arc<OwnershipProof>,
        /// Why it will be requeued, if it will.
        leaving: Option<Requeue>,
        /// Whether a job did not fit into its share. No later delivery of this subscription is taken in: the broker keeps
        /// them, and delivers them again in their order.
        is_full: bool,
    },
    /// It is not consumed: it is paused, was requeued while it was closed, or has no credential yet. It is consumed when that
    /// ends.
    Released,
}

/// What can happen to a daemon.
#[derive(Debug)]
pub enum BrokerEvent {
    /// Messages of subscriptions were received.
    Messages,
    /// The daemon asks for something, or is gone.
    Order(Option<DriverOrder>),
}

impl LaneOwnership {
    fn is_of(&self, subscription: Epoch) -> bool {
        matches!(self, Self::Owned { epoch, .. } if *epoch == subscription)
    }
}

impl<I> BrokerSource<I> {
    /// Returns the source that has these channels.
    #[must_use]
    pub fn new(channels: DriverChannels<I>) -> Self {
        let DriverChannels { messages, lanes, orders } = channels;
        let lane = |sender| SubscribedLane { sender, ownership: LaneOwnership::Released, unpublished: Arc::default() };
        Self {
            messages,
            received: VecDeque::new(),
            buffer: Vec::with_capacity(MESSAGES_AT_ONCE),
            lanes: lanes.into_iter().map(lane).collect(),
            orders,
            is_draining: false,
        }
    }

    fn lane(&mut self, lane: LaneId) -> &mut SubscribedLane<I> {
        self.lanes.get_mut(lane.place()).expect("there is a subscription for each lane")
    }

    fn send(&mut self, lane: LaneId, message: ToLane<I>) {
        // A subscription that broke down receives nothing more; the daemon waits for its end.
        drop(self.lane(lane).sender.send(message));
    }
}

impl<I: Send + 'static> BrokerSource<I> {
    /// Consumes a lane, unless it is paused.
    fn consume(&mut self, lane: LaneId, driver: &Driver<I>) {
        if driver.is_paused(lane) {
            self.lane(lane).ownership = LaneOwnership::Released;
            return;
        }
        self.lane(lane).ownership = LaneOwnership::Requested;
        if !self.is_draining {
            self.send(lane, ToLane::Consume);
        }
    }

    /// Stops a lane that is paused now. Calls in flight end, finished jobs are settled, and all others are requeued.
    fn pause(&mut self, id: LaneId, driver: &mut Driver<I>) {
        driver.status().lane(id).set_paused(true);
        let ownership = &mut self.lane(id).ownership;
        match ownership {
            LaneOwnership::Owned { leaving: Some(_), .. } => {}
            LaneOwnership::Owned { leaving, .. } => {
                *leaving = Some(Requeue::Paused);
                driver.leave_lane(id);
            }
            LaneOwnership::Requested => {
                *ownership = LaneOwnership::Released;
                self.send(id, ToLane::Release);
            }
            // A closed lane sends probes.
            LaneOwnership::Released => driver.leave_lane(id),
        }
    }

    /// Consumes a lane that is not paused any more. One that is still being requeued is consumed after that.
    fn resume(&mut self, id: LaneId, driver: &Driver<I>) {
        let status = driver.status().lane(id);
        if matches!(self.lane(id).ownership, LaneOwnership::Released) && driver.has_credential(id) {
            // If it was closed, the next calls show whether it still has to be.
            status.open();
            self.consume(id, driver);
        }
        status.set_paused(false);
    }

    fn handle_message(&mut self, message: FromLane<I>, driver: &mut Driver<I>) {
        match message {
            FromLane::Delivered(epoch, delivery) => self.handle_delivery(epoch, delivery, driver),
            FromLane::Up { lane, epoch, .. } if self.is_draining => {
                self.send(lane, ToLane::Requeue(epoch, Requeue::Drain));
            }
            // The order to release it is on its way to this subscription.
            FromLane::Up { lane, .. } if driver.is_paused(lane) => {}
            FromLane::Up { lane, epoch, proof } => {
                self.lane(lane).ownership = LaneOwnership::Owned { epoch, proof, leaving: None, is_full: false };
                driver.lane_up(lane);
            }
            FromLane::Down { lane, epoch } => {
                if self.lane(lane).ownership.is_of(epoch) {
                    self.lose(lane, driver);
                }
            }
        }
    }

    /// Passes a delivery on, unless its subscription has ended, will end, or is full: then it is redelivered.
    fn handle_delivery(&mut self, from: Epoch, delivery: Delivery<I>, driver: &mut Driver<I>) {
        let (id, accounts, share) = (delivery.lane, delivery.accounts(), self.share());
        let SubscribedLane { ownership, unpublished, .. } = self.lane(id);
        match ownership {
            LaneOwnership::Owned { epoch, leaving: None, is_full: is_full @ false, .. } if *epoch == from => {
                let held = driver.accounts_in_hand(id) + unpublished.load(Relaxed);
                // A lane that holds nothing takes in any job, so every lane makes progress.
                if held == 0 || held + accounts <= share {
                    driver.receive(delivery);
                } else {
                    *is_full = true;
                    driver.lane_full(id);
                }
            }
            LaneOwnership::Owned { .. } | LaneOwnership::Requested | LaneOwnership::Released => {}
        }
    }

    /// Returns how many items each lane may hold: at least those of one job.
    fn share(&self) -> usize {
        (ITEMS_MAX / self.lanes.len().max(1)).max(ACCOUNTS_MAX)
    }

    /// Requeues each full lane whose jobs are all settled. The broker then redelivers what was not taken in, in
    /// order, because the prefetch never changes: messages that a smaller one left behind would be redelivered first.
    fn leave_finished(&mut self, driver: &mut Driver<I>) {
        for (id, lane) in (0..).map(LaneId).zip(&mut self.lanes) {
            if let LaneOwnership::Owned { leaving: leaving @ None, is_full: true, .. } = &mut lane.ownership
                && !driver.has_jobs_of(id)
            {
                *leaving = Some(Requeue::Operations);
                driver.leave_lane(id);
            }
        }
    }

    /// A lane is no longer ours: its jobs are redelivered, to any worker.
    fn lose(&mut self, lane: LaneId, driver: &mut Driver<I>) {
        if let LaneOwnership::Owned { proof, .. } = &self.lane(lane).ownership {
            proof.revoke();
        }
        driver.lane_lost(lane);
        self.consume(lane, driver);
    }

    fn take_event(&mut self, event: DriverEvent<I>, driver: &Driver<I>) {
        match event {
            DriverEvent::Settled(settled) => {
                let lane = self.lane(settled.lane);
                let unpublished = UnpublishedOutcomes::add(settled.outcomes(), &lane.unpublished);
                self.send(settled.lane, ToLane::Settled(settled, unpublished));
            }
            DriverEvent::Requeued { lane, .. } => self.requeue(lane, driver),
            DriverEvent::Notice(lane, notice) => {
                // The lane was requeued while it was closed, or had no credential.
                if matches!(notice, Notice::Opened)
                    && matches!(self.lane(lane).ownership, LaneOwnership::Released)
                    && !self.is_draining
                {
                    self.consume(lane, driver);
                }
                events::Noticed { lane: driver.status().lane(lane), notice: &notice }.record();
            }
            DriverEvent::CredentialFailed(lane, reason) => {
                events::CredentialFailed { lane: driver.status().lane(lane), reason: &reason }.record();
            }
        }
    }

    /// The engine has forgotten the jobs of a lane: its subscription requeues them.
    fn requeue(&mut self, lane: LaneId, driver: &Driver<I>) {
        let is_draining = self.is_draining;
        let LaneOwnership::Owned { epoch, leaving, .. } = self.lane(lane).ownership else { return };
        let why = match (driver.lane_status(lane), leaving) {
            (LaneStatus::Closed(_, reason), _) => Requeue::Closed(reason),
            _ if is_draining => Requeue::Drain,
            (_, Some(why)) => why,
            (_, None) => Requeue::Lease,
        };
        self.send(lane, ToLane::Requeue(epoch, why));
        match why {
            Requeue::Closed(_) => self.lane(lane).ownership = LaneOwnership::Released,
            Requeue::Drain | Requeue::Lease | Requeue::Operations | Requeue::Paused => {
                if why == Requeue::Paused {
                    // A lane that was closed when it was paused is open in the engine when it comes up again.
                    driver.status().lane(lane).open();
                }
                self.consume(lane, driver);
            }
        }
    }

    fn reload(&mut self, limits: Limits, lanes: Vec<LaneReload>, driver: &mut Driver<I>) {
        driver.set_limits(limits);
        for (id, lane) in driver.lane_ids().zip(lanes) {
            let was_paused = driver.is_paused(id);
            driver.reload_lane(id, lane);
            if matches!(self.lane(id).ownership, LaneOwnership::Owned { .. }) {
                driver.lane_up(id);
            }
            match (was_paused, lane.is_paused) {
                (false, true) => self.pause(id, driver),
                (true, false) => self.resume(id, driver),
                (false, false) | (true, true) => {}
            }
        }
    }
}

impl<I: Send + 'static> JobSource<I> for BrokerSource<I> {
    type Event = BrokerEvent;

    fn start(&mut self, driver: &mut Driver<I>) {
        driver.follow_owners();
        for id in driver.lane_ids() {
            driver.status().lane(id).set_paused(driver.is_paused(id));
            if driver.has_credential(id) {
                self.consume(id, driver);
            }
        }
    }

    async fn next(&mut self, _demand: Demand) -> BrokerEvent {
        let Self { messages, received, buffer, orders, is_draining, .. } = self;
        tokio::select! {
            biased;
            order = orders.recv(), if !*is_draining => BrokerEvent::Order(order),
            () = ready(()), if !received.is_empty() => BrokerEvent::Messages,
            // Nothing follows once all subscriptions have ended.
            _ = messages.recv_many(buffer, MESSAGES_AT_ONCE), if !messages.is_closed() || !messages.is_empty() => {
                received.extend(buffer.drain(..));
                BrokerEvent::Messages
            }
            else => pending().await,
        }
    }

    async fn handle(&mut self, event: BrokerEvent, driver: &mut Driver<I>) {
        match event {
            BrokerEvent::Messages => {
                let mut work = 0;
                while work < WORK_MAX
                    && let Some(message) = self.received.pop_front()
                {
                    work += operations(&message);
                    self.handle_message(message, driver);
                }
            }
            BrokerEvent::Order(Some(DriverOrder::Reload { limits, lanes })) => self.reload(*limits, lanes, driver),
            BrokerEvent::Order(Some(DriverOrder::Drain) | None) => {
                self.is_draining = true;
                driver.drain();
            }
        }
    }

    fn take_events(&mut self, driver: &mut Driver<I>) {
        while let Some(event) = driver.next_event() {
            self.take_event(event, driver);
        }
        self.leave_finished(driver);
    }

    /// All lanes were requeued or lost.
    fn is_done(&self, _driver: &Driver<I>) -> bool {
        self.is_draining && !self.lanes.iter().any(|lane| matches!(lane.ownership, LaneOwnership::Owned { .. }))
    }

    /// After this process was suspended, other workers may have taken over its lanes.
    fn woke(&mut self, asleep: Duration, driver: &mut Driver<I>) {
        if asleep <= ASLEEP_MAX {
            return;
        }
        events::Suspended { length: asleep }.record();
        for id in driver.lane_ids() {
            if let LaneOwnership::Owned { epoch, .. } = self.lane(id).ownership {
                self.send(id, ToLane::Cut(epoch));
                self.lose(id, driver);
            }
        }
    }

    fn proof(&self, lane: LaneId) -> Option<Arc<OwnershipProof>> {
        match &self.lanes.get(lane.place())?.ownership {
            LaneOwnership::Owned { proof, .. } => Some(Arc::clone(proof)),
            LaneOwnership::Requested | LaneOwnership::Released => None,
        }
    }
}

/// Returns how much work a message is for the engine, in operations.
fn operations<I>(message: &FromLane<I>) -> usize {
    match message {
        FromLane::Delivered(_, delivery) => delivery.accounts(),
        FromLane::Up { .. } | FromLane::Down { .. } => 0,
    }
}
