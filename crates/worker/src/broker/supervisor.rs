//! The supervisor of a lane: it opens subscriptions, one after the other, for ever.

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
    Connection, Envelope, Error, Lane, Publisher, TimeOuts, Url,
    connection::SMALL_FRAME_MAX,
    lane_connection::LaneConnection,
    orders::{Order, Orders},
    subscription::{Ended, Served, Subscription, Surroundings, void_order},
    topology::{self, Difference},
};
use crate::{
    lane_messages::{Epoch, FromLane, ToLane},
    metrics::Up,
    pauses::Reconnects,
    status::{OfLane, Status},
};

/// How long to wait before looking again at what somebody has to mend at the broker.
const TOPOLOGY_PAUSE: Duration = Duration::from_secs(4);

/// Bytes of bodies that the lanes of a process may have read and not yet parsed.
const BODIES_LEN_MAX: usize = 8 * 1024 * 1024;

/// Bytes of invalid messages that they may keep until their dead letters are confirmed.
const INVALID_LEN_MAX: usize = 8 * 1024 * 1024;

/// Lanes that connect at the same time: each needs a thread for the client library, and one to look up a name.
const OPENINGS_MAX: usize = 2;

/// A subscription that lasted as long did its work, whether a job came or not: the next pause is short again.
const LASTED: Duration = Duration::from_secs(30);

/// What the supervisors of all lanes share.
#[derive(Debug)]
pub struct Setup {
    /// The broker.
    pub url: Url,
    /// `host:pid`, in reports, dead letters, and the names of connections.
    pub worker: String,
    /// How long the broker may take.
    pub time_outs: TimeOuts,
    /// Deliveries that a lane holds at once, at least 1: the window in which jobs are coalesced. It is the same for every
    /// subscription of every lane, because the broker keeps the order of redelivered messages only then.
    pub prefetch: u16,
    /// Whether what is missing at the broker is made.
    pub declares: bool,
    /// What the lanes publish with.
    pub publisher: Publisher,
    /// Where it is noted how the lanes are, in their order.
    pub status: Arc<Status>,
    /// To the driver.
    pub events: mpsc::Sender<FromLane<Box<Envelope>>>,
    /// What the subscriptions of all lanes share.
    pub shared: Shared,
}

/// What the subscriptions of all lanes of a process share.
#[derive(Debug)]
pub struct Shared {
    /// Subscriptions so far.
    epochs: AtomicU64,
    bodies: Arc<Semaphore>,
    invalid: Arc<Semaphore>,
    openings: Semaphore,
    is_priority_said: AtomicBool,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            epochs: AtomicU64::new(1),
            bodies: Arc::new(Semaphore::new(BODIES_LEN_MAX)),
            invalid: Arc::new(Semaphore::new(INVALID_LEN_MAX)),
            openings: Semaphore::new(OPENINGS_MAX),
            is_priority_said: AtomicBool::new(false),
        }
    }
}

/// Keeps one lane subscribed, whenever the driver wants it to be.
#[derive(Debug)]
pub struct Supervisor {
    setup: Arc<Setup>,
    lane: Lane,
    orders: Orders,
    reconnects: Reconnects,
    /// What was said to be missing or different.
    differences: Vec<Difference>,
}

impl Supervisor {
    /// A supervisor, and the line on which the driver tells it what to do.
    #[must_use]
    pub fn new(setup: Arc<Setup>, lane: Lane) -> (Self, mpsc::UnboundedSender<ToLane<Box<Envelope>>>) {
        let (line, orders) = Orders::new();
        (Self { setup, lane, orders, reconnects: Reconnects::default(), differences: Vec::new() }, line)
    }

    /// Works until the driver's line ends and what it said before is done.
    pub async fn run(mut self) {
        let mut is_wanted = false;
        loop {
            if !is_wanted {
                match self.orders.recv().await {
                    None => return,
                    Some(order) => is_wanted = self.is_to_consume(&order),
                }
                continue;
            }
            let began = Instant::now();
            let Served { ended, was_up, settled } = self.subscribe().await;
            if settled > 0 || began.elapsed() > LASTED {
                self.reconnects.reset();
            }
            let pause = self.pause(&ended);
            self.say(&ended, pause);
            // What never came about is tried again; of what did the driver heard, and says what is next.
            match self.rest(pause).await {
                None => return,
                Some(is_asked) => is_wanted = !was_up || is_asked,
            }
        }
    }

    /// Waits. Says whether the lane is to be consumed afterwards, or nothing if the process ends.
    async fn rest(&mut self, pause: Duration) -> Option<bool> {
        let mut pause = pin!(sleep(pause));
        let mut is_asked = false;
        loop {
            tokio::select! {
                () = &mut pause => return Some(is_asked),
                order = self.orders.recv() => is_asked |= self.is_to_consume(&order?),
            }
        }
    }

    /// Whether that is the order; any other is void while there is no subscription.
    fn is_to_consume(&self, order: &Order) -> bool {
        void_order(order, self.setup.status.lane(self.lane.id));
        matches!(order, ToLane::Consume)
    }

    /// One subscription, from its beginning to its end.
    async fn subscribe(&mut self) -> Served {
        let Self { setup, lane, orders, .. } = self;
        let epoch = Epoch(setup.shared.epochs.fetch_add(1, Ordering::Relaxed));
        let status = setup.status.lane(lane.id);
        let opened = tokio::select! {
            biased;
            () = void_all(orders, status) => Err(Ended::Over),
            opened = open(setup, lane, epoch) => opened,
        };
        let subscription = match opened {
            Ok(subscription) => subscription,
            Err(ended) => return Served { ended, was_up: false, settled: 0 },
        };
        let around = Surroundings {
            lane,
            worker: &setup.worker,
            publisher: &setup.publisher,
            events: &setup.events,
            status,
            invalid: &setup.shared.invalid,
            is_priority_said: &setup.shared.is_priority_said,
        };
        subscription.serve(orders, &around).await
    }

    fn pause(&mut self, ended: &Ended) -> Duration {
        match ended {
            Ended::Broker(error) => self.reconnects.after(error),
            Ended::NotOurs | Ended::Cancelled => {
                self.reconnects.after(&Error::Lost { call: "", detail: String::new() })
            }
            Ended::Topology(_) => TOPOLOGY_PAUSE,
            Ended::GivenBack(_) | Ended::Cut | Ended::Over => Duration::ZERO,
        }
    }

    fn say(&mut self, ended: &Ended, pause: Duration) {
        let lane = self.setup.status.lane(self.lane.id);
        if !matches!(ended, Ended::Topology(_)) {
            self.differences.clear();
        }
        match ended {
            Ended::GivenBack(why) => events::GivenBack { lane, why: *why }.record(),
            // Said once, and again when it is not the same any more.
            Ended::Topology(differences) => {
                let is_known = *differences == self.differences;
                events::TopologyDiffers { lane, differences, is_known }.record();
                self.differences.clone_from(differences);
            }
            Ended::Broker(error) => events::Reconnects { lane, reason: error.label(), detail: error, pause }.record(),
            Ended::NotOurs => {
                let detail = &"the broker has no consumer of it";
                events::Reconnects { lane, reason: "not_ours", detail, pause }.record();
            }
            Ended::Cancelled => {
                let detail = &"the broker ended the consumer: its queue was deleted, or an acknowledgement timed out";
                events::Reconnects { lane, reason: "cancelled", detail, pause }.record();
            }
            Ended::Cut => {
                let detail = &"this process stood still";
                events::Reconnects { lane, reason: "stood_still", detail, pause }.record();
            }
            Ended::Over => {}
        }
    }
}

async fn open(setup: &Setup, lane: &Lane, epoch: Epoch) -> Result<Subscription, Ended> {
    let name = format!("imageshare worker {} lane {}", setup.worker, lane.name);
    let _opening = setup.shared.openings.acquire().await;
    check(setup, lane, &name).await?;
    let bodies = Arc::clone(&setup.shared.bodies);
    let connection = LaneConnection::open(&setup.url, &name, setup.time_outs, bodies).await?;
    let is_connected = Up::of(&setup.status.lane(lane.id).metrics.connected);
    Subscription::open(connection, is_connected, lane, setup.prefetch, epoch).await
}

/// Looks at what there is at the broker, and makes what is missing if that is wanted. This needs many calls of the client
/// library, and so a connection of its own, which ends with it.
async fn check(setup: &Setup, lane: &Lane, name: &str) -> Result<(), Ended> {
    let connection = Connection::open_with(&setup.url, name, setup.time_outs, SMALL_FRAME_MAX).await?;
    if setup.declares {
        topology::declare(&connection, [lane.name.as_str()]).await?;
    }
    let differences = topology::check(&connection, [lane.name.as_str()]).await?;
    // Nothing is held on it, so it may end in any way.
    drop(connection.close().await);
    if differences.is_empty() { Ok(()) } else { Err(Ended::Topology(differences)) }
}

/// Takes orders that are void, until there are no more to come.
async fn void_all(orders: &mut Orders, lane: &OfLane) {
    while let Some(order) = orders.recv().await {
        void_order(&order, lane);
    }
}
