//! The supervisor of a lane: it opens subscriptions, one after the other, for ever.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use super::{
    Connection, Envelope, Error, Lane, Publisher, TimeOuts, Url,
    subscription::{Ended, Orders, Served, Subscription, Surroundings, void_order},
    topology::{self, Difference},
};
use crate::{
    driver::{Epoch, FromLane, ToLane},
    events,
    metrics::Up,
    pauses::Reconnects,
    status::{OfLane, Status},
};

/// How long to wait before looking again at what somebody has to mend at the broker.
const TOPOLOGY_PAUSE: Duration = Duration::from_secs(4);

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
    /// Subscriptions so far.
    pub epochs: AtomicU64,
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
        let (line, orders) = mpsc::unbounded_channel();
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
    fn is_to_consume(&self, order: &ToLane<Box<Envelope>>) -> bool {
        void_order(order, self.setup.status.lane(self.lane.id));
        matches!(order, ToLane::Consume)
    }

    /// One subscription, from its beginning to its end.
    async fn subscribe(&mut self) -> Served {
        let Self { setup, lane, orders, .. } = self;
        let epoch = Epoch(setup.epochs.fetch_add(1, Ordering::Relaxed));
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
        let around =
            Surroundings { lane, worker: &setup.worker, publisher: &setup.publisher, events: &setup.events, status };
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
                let detail = &"the broker ended the consumer; the queue may have been deleted";
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
    let connection = Connection::open(&setup.url, &name, setup.time_outs).await?;
    let is_connected = Up::of(&setup.status.lane(lane.id).metrics.connected);
    if setup.declares {
        topology::declare(&connection, [lane.name.as_str()]).await?;
    }
    Subscription::open(connection, is_connected, lane, setup.prefetch, epoch).await
}

/// Takes orders that are void, until there are no more to come.
async fn void_all(orders: &mut Orders, lane: &OfLane) {
    while let Some(order) = orders.recv().await {
        void_order(&order, lane);
    }
}
