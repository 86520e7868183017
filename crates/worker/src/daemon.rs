//! The daemon: the driver, a supervisor for each lane, the publisher, and the channels between them.

use std::{sync::Arc, time::Duration};

use imageshare_engine::{
    io::LaneId,
    limits::{LaneLimits, LimitValues, Limits},
    policy::Policy,
    time::Millis,
};
use tokio::{
    sync::mpsc,
    task::{self, JoinSet},
};

use crate::{
    broker::{self, Publishers, Setup, Supervisor, TimeOuts, Url, watch_depths},
    driver::{BrokerSource, Driver, DriverChannels, DriverOrder, LaneReload},
    events,
    http::Client,
    lane::LaneConfig,
    lanes::OpenLane,
    settings::{self, Settings, SettingsError},
    status::{PublisherStatus, Status},
    tls::TlsError,
    wire::report::worker_name,
};

/// Messages of all lanes that the driver has not received yet.
const MESSAGES_MAX: usize = 256;

/// Orders that the driver has not received yet.
const ORDERS_MAX: usize = 4;

/// A daemon that runs.
#[derive(Debug)]
pub struct Daemon {
    orders: mpsc::Sender<DriverOrder>,
    lanes: Vec<OpenLane>,
    settings: Settings,
    /// The driver, the supervisors, the publisher, the watch over depths. They end in this order.
    parts: JoinSet<()>,
    /// The name of each part.
    names: Vec<(task::Id, &'static str)>,
}

/// A task panicked, which is a bug. Nothing is lost: the jobs in hand are redelivered after the process has ended.
#[derive(Debug, thiserror::Error)]
#[error("{0} broke down; this is a bug")]
pub struct BrokenDown(&'static str);

impl Daemon {
    /// Starts a daemon for the lanes of these settings at a broker. Lanes without a credential are closed until their source
    /// has one. With `declares`, missing queues and exchanges are declared. `status` has the same lanes. Must be called on
    /// the runtime.
    #[must_use]
    pub fn start(
        settings: Settings,
        lanes: Vec<OpenLane>,
        client: &Client,
        url: Url,
        declares: bool,
        status: &Arc<Status>,
    ) -> Self {
        let worker = worker_name();
        let time_outs = TimeOuts { heartbeat: settings.broker.heartbeat, ..TimeOuts::default() };
        let name = format!("imageshare worker {worker} publisher");
        let (publishers, connections) = Publishers::new(url.clone(), &name, time_outs, Arc::clone(status.of_process()));
        let driver = Driver::with_status(
            &lanes,
            Policy::WORKER,
            limits(&settings, settings.broker.prefetch),
            client,
            Arc::clone(status),
        );
        let state = publishers.state();
        let depths = watch_depths(url.clone(), worker.clone(), time_outs, Arc::clone(status), state.clone());
        status.has_broker(move || publisher_status(&state.borrow()));
        let (events, events_in) = mpsc::channel(MESSAGES_MAX);
        let setup = Arc::new(Setup {
            url,
            worker,
            time_outs,
            prefetch: settings.broker.prefetch,
            declares,
            publishers,
            status: Arc::clone(status),
            events,
            shared: broker::SharedByLanes::default(),
        });
        let (mut parts, mut names) = (JoinSet::new(), Vec::with_capacity(lanes.len() + 3));
        let mut lines = Vec::with_capacity(lanes.len());
        for (id, lane) in (0..).map(LaneId).zip(&lanes) {
            let lane = broker::BrokerLane { id, name: lane.name.clone(), regions: lane.regions.clone() };
            let (supervisor, line) = Supervisor::new(Arc::clone(&setup), lane);
            names.push((parts.spawn(supervisor.run()).id(), "a lane's supervisor"));
            lines.push(line);
        }
        let (orders, orders_in) = mpsc::channel(ORDERS_MAX);
        let source = BrokerSource::new(DriverChannels { messages: events_in, lanes: lines, orders: orders_in });
        names.push((parts.spawn(async move { drop(driver.run(source).await) }).id(), "the driver"));
        names.push((parts.spawn(connections.run()).id(), "the publisher"));
        names.push((parts.spawn(depths).id(), "the watch over depths"));
        Self { orders, lanes, parts, names, settings }
    }

    /// Applies the settings that may change while it runs: the limits of the engine and of the lanes, and which lanes are paused. Loads all credentials
    /// again. Invalid settings change nothing. `trust` is the result of reading the trusted authorities again, and
    /// `has_other_url` whether the broker's address differs.
    pub async fn reload(
        &mut self,
        settings: Result<Settings, SettingsError>,
        trust: Result<(), TlsError>,
        has_other_url: bool,
    ) {
        let settings = match settings {
            Ok(settings) => settings,
            Err(error) => {
                let problems = error.problems.iter().map(ToString::to_string);
                return problems.for_each(|problem| events::ReloadFailed { problem: &problem }.record());
            }
        };
        if let Err(error) = trust {
            events::TrustKept { problem: &error.to_string() }.record();
        }
        let needs_restart = has_other_url || is_fixed_part_different(&self.settings, &settings);
        // Added and removed lanes take effect after a restart.
        for lane in &mut self.lanes {
            if let Some(of) = settings.lanes.iter().find(|of| of.name == lane.name) {
                (lane.config.limits, lane.config.account, lane.config.is_paused) =
                    (of.limits, of.account, of.is_paused);
            }
        }
        let reload =
            |lane: &OpenLane| LaneReload { limits: lane.limits, account: lane.account, is_paused: lane.is_paused };
        let lanes = self.lanes.iter().map(reload).collect();
        let limits = limits(&settings, self.settings.broker.prefetch);
        // A driver that has ended receives no orders; the caller waits for its end.
        drop(self.orders.send(DriverOrder::Reload { limits: Box::new(limits), lanes }).await);
        events::Reloaded { needs_restart }.record();
    }

    /// Starts the shutdown: calls in flight end, finished jobs are settled, all lanes are requeued.
    pub async fn drain(&self) {
        drop(self.orders.send(DriverOrder::Drain).await);
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// If a part of it broke down. The caller must end the process at once: only so are the jobs in hand requeued in their
    /// order.
    pub async fn ended(&mut self) -> Result<(), BrokenDown> {
        while let Some(ended) = self.parts.join_next().await {
            ended.map_err(|error| {
                let name = self.names.iter().find(|(id, _)| *id == error.id());
                BrokenDown(name.map_or("a part", |(_, name)| name))
            })?;
        }
        Ok(())
    }
}

/// Returns the state of the publisher as the admin server shows it.
pub(crate) fn publisher_status(state: &broker::State) -> PublisherStatus {
    let is_connected = !matches!(state, broker::State::Connecting | broker::State::Down(_));
    let (is_ready, state, detail) = match state {
        broker::State::Blocked => (false, "blocked", None),
        broker::State::Connected => (true, "connected", None),
        broker::State::Connecting => (false, "connecting", None),
        broker::State::Down(error) => (false, "down", Some(error.to_string())),
        broker::State::Refused { to, .. } => (false, "refused", Some(format!("{to}: refuses messages"))),
        broker::State::TooLong(to) => {
            (false, "too_long", Some(format!("{to}: message longer than the broker accepts")))
        }
        broker::State::Unroutable(to) => (false, "unroutable", Some(format!("{to}: no queue is bound to it"))),
    };
    PublisherStatus { is_connected, is_ready, state, detail }
}

/// Returns the engine's limits for a daemon whose lanes have this window.
fn limits(settings: &Settings, prefetch: u16) -> Limits {
    let lease = settings.broker.lease.min(Duration::from_hours(24));
    let limits = Limits::new(LimitValues {
        window: Some(prefetch.into()),
        lease: Some(Millis(crate::millis(lease))),
        ..settings.limits.clone()
    });
    limits.expect("the settings were validated, and so were the lease and the prefetch")
}

/// Returns whether a setting differs that is only read at the start.
fn is_fixed_part_different(old: &Settings, new: &Settings) -> bool {
    let fixed = |lane: &LaneConfig| {
        let (limits, account, is_paused) = (LaneLimits::default(), None, false);
        LaneConfig { limits, account, is_paused, ..lane.clone() }
    };
    let lanes = |settings: &Settings| settings.lanes.iter().map(fixed).collect::<Vec<_>>();
    let broker = |settings: &Settings| settings::Broker { lease: Duration::ZERO, ..settings.broker.clone() };
    lanes(old) != lanes(new)
        || broker(old) != broker(new)
        || old.http != new.http
        || old.outside != new.outside
        || old.admin != new.admin
        || old.readiness != new.readiness
}
