//! The supervisor of a lane: it opens subscriptions, one after the other.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep},
};

use super::events;
use super::{
    BrokerLane, Connection, JobEnvelope, Publishers, TimeOuts, Url,
    connection::SMALL_FRAME_MAX,
    lane_connection::LaneConnection,
    orders::{LaneOrder, Orders},
    subscription::{LaneContext, Served, Subscription, SubscriptionEnd, void_order},
    topology::{self, Difference},
};
use crate::{
    lane_messages::{Epoch, FromLane, Requeue, ToLane},
    metrics::Up,
    pauses::Pauses,
    status::{LaneRecord, Status},
};

/// How long to wait before the topology is checked again after it was missing or different.
const TOPOLOGY_PAUSE: Duration = Duration::from_secs(4);

/// Bytes of bodies that the lanes of a process may have received and not parsed.
const BODIES_LEN_MAX: usize = 8 * 1024 * 1024;

/// Bytes of invalid messages that the lanes of a process may keep until their dead letters are confirmed.
const INVALID_LEN_MAX: usize = 8 * 1024 * 1024;

/// Lanes that connect at the same time. Each needs a thread for the client library, and one to resolve a name.
const OPENINGS_MAX: usize = 2;

/// After a connection that lasted this long, the next pause is short again, even without messages.
pub(super) const LASTED: Duration = Duration::from_secs(30);

/// What the supervisors of all lanes share.
#[derive(Debug)]
pub struct Setup {
    /// The broker.
    pub url: Url,
    /// `host:pid`, in reports, dead letters, and the names of connections.
    pub worker: String,
    /// The limits for calls to the broker.
    pub time_outs: TimeOuts,
    /// Unacknowledged deliveries of a lane, at least 1: the window in which jobs are coalesced. It is the same for every
    /// subscription of every lane, because the broker keeps the order of redelivered messages only then.
    pub prefetch: u16,
    /// Whether missing exchanges and queues are declared.
    pub declares: bool,
    /// The connections for publishing.
    pub publishers: Publishers,
    /// The states of the lanes, in their order.
    pub status: Arc<Status>,
    /// The channel to the driver.
    pub events: mpsc::Sender<FromLane<Box<JobEnvelope>>>,
    /// What the subscriptions of all lanes share.
    pub shared: SharedByLanes,
}

/// What the subscriptions of all lanes of a process share.
#[derive(Debug)]
pub struct SharedByLanes {
    /// The number of the next subscription.
    epochs: AtomicU64,
    bodies: Arc<Semaphore>,
    invalid: Arc<Semaphore>,
    openings: Semaphore,
    is_priority_logged: AtomicBool,
}

impl Default for SharedByLanes {
    fn default() -> Self {
        Self {
            epochs: AtomicU64::new(1),
            bodies: Arc::new(Semaphore::new(BODIES_LEN_MAX)),
            invalid: Arc::new(Semaphore::new(INVALID_LEN_MAX)),
            openings: Semaphore::new(OPENINGS_MAX),
            is_priority_logged: AtomicBool::new(false),
        }
    }
}

/// Keeps one lane subscribed while the driver wants that.
#[derive(Debug)]
pub struct Supervisor {
    setup: Arc<Setup>,
    lane: BrokerLane,
    orders: Orders,
    pauses: Pauses,
    /// The differences that were logged last.
    differences: Vec<Difference>,
}

impl Supervisor {
    /// A supervisor, and the channel for the driver's orders.
    #[must_use]
    pub fn new(setup: Arc<Setup>, lane: BrokerLane) -> (Self, mpsc::UnboundedSender<ToLane<Box<JobEnvelope>>>) {
        let (sender, orders) = Orders::new();
        (Self { setup, lane, orders, pauses: Pauses::between_connections(), differences: Vec::new() }, sender)
    }

    /// Runs until the driver's channel ends and its orders are carried out.
    pub async fn run(mut self) {
        let mut is_wanted = false;
        loop {
            if !is_wanted {
                match self.orders.recv().await {
                    None => return,
                    Some(order) => is_wanted = self.is_to_consume(&order).unwrap_or(false),
                }
                continue;
            }
            let began = Instant::now();
            let Served { ended, was_up, acknowledged } = self.subscribe().await;
            if acknowledged > 0 || began.elapsed() > LASTED {
                self.pauses.reset();
            }
            let pause = self.pause(&ended);
            let is_released = matches!(ended, SubscriptionEnd::Requeued(_)) && !was_up;
            if !is_released {
                self.record(&ended, pause);
            }
            // A subscription that never came up is tried again, unless it was released. After one that did, the driver decides.
            match self.rest(pause, !was_up && !is_released).await {
                None => return,
                Some(is_wanted_now) => is_wanted = is_wanted_now,
            }
        }
    }

    /// Waits. Returns whether the lane has to be consumed then, or `None` if the process ends.
    async fn rest(&mut self, pause: Duration, mut is_wanted: bool) -> Option<bool> {
        let mut pause = pin!(sleep(pause));
        loop {
            tokio::select! {
                () = &mut pause => return Some(is_wanted),
                order = self.orders.recv() => is_wanted = self.is_to_consume(&order?).unwrap_or(is_wanted),
            }
        }
    }

    /// Returns `true` for an order to consume the lane, `false` for one to release it, and `None` for any other order,
    /// which has no effect while there is no subscription.
    fn is_to_consume(&self, order: &LaneOrder) -> Option<bool> {
        void_order(order, self.setup.status.lane(self.lane.id));
        match order {
            ToLane::Consume => Some(true),
            ToLane::Release => Some(false),
            ToLane::Settled(..) | ToLane::Requeue(..) | ToLane::Cut(_) => None,
        }
    }

    /// Serves one subscription.
    async fn subscribe(&mut self) -> Served {
        let Self { setup, lane, orders, .. } = self;
        let epoch = Epoch(setup.shared.epochs.fetch_add(1, Ordering::Relaxed));
        let status = setup.status.lane(lane.id);
        let opened = tokio::select! {
            biased;
            ended = released(orders, status) => Err(ended),
            opened = open(setup, lane, epoch) => opened,
        };
        let subscription = match opened {
            Ok(subscription) => subscription,
            Err(ended) => return Served { ended, was_up: false, acknowledged: 0 },
        };
        let context = LaneContext {
            lane,
            worker: &setup.worker,
            publishers: &setup.publishers,
            events: &setup.events,
            status,
            invalid: &setup.shared.invalid,
            is_priority_logged: &setup.shared.is_priority_logged,
        };
        subscription.serve(orders, context).await
    }

    fn pause(&mut self, ended: &SubscriptionEnd) -> Duration {
        match ended {
            SubscriptionEnd::Broker(error) => self.pauses.after(error),
            SubscriptionEnd::NoConsumer | SubscriptionEnd::Cancelled => self.pauses.next(),
            SubscriptionEnd::Topology(_) => TOPOLOGY_PAUSE,
            SubscriptionEnd::Requeued(_) | SubscriptionEnd::Cut | SubscriptionEnd::Over => Duration::ZERO,
        }
    }

    fn record(&mut self, ended: &SubscriptionEnd, pause: Duration) {
        let lane = self.setup.status.lane(self.lane.id);
        if !matches!(ended, SubscriptionEnd::Topology(_)) {
            self.differences.clear();
        }
        match ended {
            SubscriptionEnd::Requeued(why) => events::Requeued { lane, why: *why }.record(),
            // Logged once, and again when it changes.
            SubscriptionEnd::Topology(differences) => {
                let is_known = *differences == self.differences;
                events::TopologyDiffers { lane, differences, is_known }.record();
                self.differences.clone_from(differences);
            }
            SubscriptionEnd::Broker(error) => {
                events::Reconnects { lane, reason: error.label(), detail: error, pause }.record();
            }
            SubscriptionEnd::NoConsumer => {
                let detail = &"the broker has no consumer of it";
                events::Reconnects { lane, reason: "no_consumer", detail, pause }.record();
            }
            SubscriptionEnd::Cancelled => {
                let detail = &"the broker ended the consumer: its queue was deleted, or an acknowledgement timed out";
                events::Reconnects { lane, reason: "cancelled", detail, pause }.record();
            }
            SubscriptionEnd::Cut => {
                let detail = &"process was suspended";
                events::Reconnects { lane, reason: "suspended", detail, pause }.record();
            }
            SubscriptionEnd::Over => {}
        }
    }
}

async fn open(setup: &Setup, lane: &BrokerLane, epoch: Epoch) -> Result<Subscription, SubscriptionEnd> {
    let name = format!("imageshare worker {} lane {}", setup.worker, lane.name);
    let _opening = setup.shared.openings.acquire().await;
    check(setup, lane, &name).await?;
    let bodies = Arc::clone(&setup.shared.bodies);
    let connection = LaneConnection::open(&setup.url, &name, setup.time_outs, bodies).await?;
    let is_connected = Up::of(&setup.status.lane(lane.id).metrics.connected);
    Subscription::open(connection, is_connected, lane, setup.prefetch, epoch).await
}

/// Checks the topology, and declares what is missing if that is configured. This needs the client library, and so a
/// connection of its own.
async fn check(setup: &Setup, lane: &BrokerLane, name: &str) -> Result<(), SubscriptionEnd> {
    let connection = Connection::open_with(&setup.url, name, setup.time_outs, SMALL_FRAME_MAX).await?;
    if setup.declares {
        topology::declare(&connection, [lane.name.as_str()], None).await?;
    }
    let differences = topology::check(&connection, [lane.name.as_str()]).await?;
    // This connection holds no deliveries, so an error while closing has no effect.
    drop(connection.close().await);
    if differences.is_empty() { Ok(()) } else { Err(SubscriptionEnd::Topology(differences)) }
}

/// Drops orders that are void, until the driver ends or releases the lane.
async fn released(orders: &mut Orders, lane: &LaneRecord) -> SubscriptionEnd {
    while let Some(order) = orders.recv().await {
        if let ToLane::Release = order {
            return SubscriptionEnd::Requeued(Requeue::Paused);
        }
        void_order(&order, lane);
    }
    SubscriptionEnd::Over
}
