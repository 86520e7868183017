//! The daemon: the driver, a supervisor for each lane, the publisher, and what holds them together.

use std::{sync::Arc, time::Duration};

use imageshare_engine::{
    io::LaneId,
    limits::{Ending, LaneLimits, Limits},
    time::Millis,
};
use tokio::{
    sync::mpsc,
    task::{self, JoinSet},
};

use crate::{
    broker::{self, Publisher, Setup, Supervisor, TimeOuts, Url},
    driver::{Driver, Lane, Lines, Order},
    events,
    http::Client,
    lane::LaneConfig,
    settings::{self, Settings, SettingsError},
    status::Status,
    tls::TlsError,
    wire::report::worker_name,
};

/// Events of all lanes that the driver has not taken yet.
const EVENTS_MAX: usize = 256;

/// Orders that the driver has not taken yet: more say nothing new.
const ORDERS_MAX: usize = 4;

/// A daemon that runs.
#[derive(Debug)]
pub struct Daemon {
    orders: mpsc::Sender<Order>,
    lanes: Vec<Lane>,
    settings: Settings,
    /// The driver, the supervisors, the publisher. In this order they end, but who watches need not see it so.
    parts: JoinSet<()>,
    /// What each part is.
    names: Vec<(task::Id, &'static str)>,
}

/// A task broke down, which is a bug. Nothing is lost by it: what was in hand comes again when the process has ended.
#[derive(Debug, thiserror::Error)]
#[error("{0} broke down, and this is a bug")]
pub struct BrokenDown(&'static str);

impl Daemon {
    /// Starts it: for the lanes of these settings, at this broker. Those that have no credential yet are closed until their
    /// source gives one. With `declares`, whatever is missing at the broker is made. `status` has the same lanes. Must be called on the runtime.
    #[must_use]
    pub fn start(
        settings: Settings,
        lanes: Vec<Lane>,
        client: Client,
        url: Url,
        declares: bool,
        status: &Arc<Status>,
    ) -> Self {
        let worker = worker_name();
        let time_outs = TimeOuts { heartbeat: settings.broker.heartbeat, ..TimeOuts::default() };
        let (publisher, publishing) =
            Publisher::new(url.clone(), &format!("imageshare worker {worker} publisher"), time_outs);
        let driver = Driver::with_status(&lanes, limits(&settings), client, Arc::clone(status));
        status.has_broker(publisher.state());
        let publishing = publishing.watched(Arc::clone(status.of_process()));
        let (events, events_in) = mpsc::channel(EVENTS_MAX);
        let setup = Arc::new(Setup {
            url,
            worker,
            time_outs,
            prefetch: settings.broker.prefetch,
            declares,
            publisher,
            status: Arc::clone(status),
            events,
            shared: broker::Shared::default(),
        });
        let (mut parts, mut names) = (JoinSet::new(), Vec::with_capacity(lanes.len() + 2));
        let mut lines = Vec::with_capacity(lanes.len());
        for (id, lane) in (0..).map(LaneId).zip(&lanes) {
            let lane = broker::Lane { id, name: lane.name.clone(), regions: lane.regions.clone() };
            let (supervisor, line) = Supervisor::new(Arc::clone(&setup), lane);
            names.push((parts.spawn(supervisor.run()).id(), "a lane's supervisor"));
            lines.push(line);
        }
        let (orders, orders_in) = mpsc::channel(ORDERS_MAX);
        let lines = Lines { events: events_in, lanes: lines, orders: orders_in };
        names.push((parts.spawn(driver.serve(lines)).id(), "the driver"));
        names.push((parts.spawn(publishing.run()).id(), "the publisher"));
        Self { orders, lanes, parts, names, settings }
    }

    /// Takes over what may change while it runs: the limits of the engine and of the lanes, and what the sources of the
    /// credentials have now. Everything stays as it is if the settings are wrong.
    /// `trust` is whether the client could read again whom to trust.
    pub async fn reload(&mut self, settings: Result<Settings, SettingsError>, trust: Result<(), TlsError>) {
        let settings = match settings {
            Ok(settings) => settings,
            Err(error) => {
                let problems = error.problems.iter().map(ToString::to_string);
                return problems.for_each(|problem| events::ReloadFailed { problem: &problem }.record());
            }
        };
        if let Err(error) = trust {
            events::ReloadFailed { problem: &error.to_string() }.record();
        }
        let needs_restart = is_fixed_part_different(&self.settings, &settings);
        // Lanes that are new or gone wait for the restart.
        for lane in &mut self.lanes {
            if let Some(of) = settings.lanes.iter().find(|of| of.name == lane.name) {
                (lane.limits, lane.account) = (of.limits, of.account);
            }
        }
        let lanes = self.lanes.iter().map(|lane| (lane.limits, lane.account)).collect();
        let limits = Limits { window: Some(self.settings.broker.prefetch.into()), ..limits(&settings) };
        // A driver that has ended takes no orders, and whoever waits for it finds out.
        drop(self.orders.send(Order::Reload { limits: Box::new(limits), lanes }).await);
        events::Reloaded { needs_restart }.record();
    }

    /// Asks it to end: calls in flight end, what is finished is settled, all lanes are given back.
    pub async fn drain(&self) {
        drop(self.orders.send(Order::Drain).await);
    }

    /// Waits until it has ended.
    ///
    /// # Errors
    /// If a part of it broke down. Whoever is told so has to end the process at once: what else is held goes back in
    /// its order only so.
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

/// The engine's limits for a daemon.
fn limits(settings: &Settings) -> Limits {
    let lease = settings.broker.lease.min(Duration::from_hours(24));
    Limits {
        window: Some(settings.broker.prefetch.into()),
        lease: Some(Millis(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX))),
        ending: Ending::Requeue,
        guard: true,
        ..settings.limits.clone()
    }
}

/// Whether something differs that is looked at only when the process starts.
fn is_fixed_part_different(old: &Settings, new: &Settings) -> bool {
    let fixed = |lane: &LaneConfig| LaneConfig { limits: LaneLimits::default(), account: None, ..lane.clone() };
    let lanes = |settings: &Settings| settings.lanes.iter().map(fixed).collect::<Vec<_>>();
    let broker = |settings: &Settings| settings::Broker { lease: Duration::ZERO, ..settings.broker.clone() };
    lanes(old) != lanes(new)
        || broker(old) != broker(new)
        || old.http != new.http
        || old.outside != new.outside
        || old.admin != new.admin
}
