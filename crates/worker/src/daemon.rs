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
    time::sleep,
};

use crate::{
    broker::{self, Publisher, Setup, Supervisor, TimeOuts, Url},
    driver::{self, Driver, Lane, Lines, NoCredential, Order},
    events,
    http::Client,
    pauses::Renewals,
    settings::{self, Environment, Settings, SettingsError},
    status::{OfLane, Status},
    tls::TlsError,
    wire::report::worker_name,
};

/// Events of all lanes that the driver has not taken yet.
const EVENTS_MAX: usize = 256;

/// Orders that the driver has not taken yet: more say nothing new.
const ORDERS_MAX: usize = 4;

/// The longest pause between two looks at a source that has no credential yet.
const CREDENTIAL_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often a process that waits for its credentials shows that it is alive.
const TURN: Duration = Duration::from_millis(500);

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

/// Opens the lanes of the settings. A credential that its source may give later is waited for: the lane is shown as closed
/// and the reason is logged each time. Must be called on the runtime.
///
/// # Errors
/// If a credential needs a change of the settings or of the environment.
pub async fn open_lanes(
    settings: &Settings,
    environment: &Environment,
    client: &Client,
    status: &Status,
) -> Result<Vec<Lane>, NoCredential> {
    let mut pauses = Renewals::default();
    let opening = async {
        loop {
            match driver::open_lanes(&settings.lanes, environment, client).await {
                Err(NoCredential { lane, error }) if error.can_pass() => {
                    if let Some(lane) = status.lanes().find(|of| of.name() == lane) {
                        events::CredentialAwaited { lane, reason: &error.to_string() }.record();
                    }
                    sleep(pauses.next().min(CREDENTIAL_PAUSE_MAX)).await;
                }
                opened => return opened,
            }
        }
    };
    // The process is alive while it waits.
    let turning = async {
        loop {
            status.turned();
            sleep(TURN).await;
        }
    };
    let opened = tokio::select! {
        opened = opening => opened?,
        never = turning => never,
    };
    status.lanes().for_each(OfLane::open);
    Ok(opened)
}

impl Daemon {
    /// Starts it: for the lanes of these settings, which are given with their credentials, at this broker. With
    /// `declares`, whatever is missing at the broker is made. `status` has the same lanes. Must be called on the runtime.
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
            Err(error) => return error.problems.iter().for_each(|problem| events::ReloadFailed { problem }.record()),
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
        ending: Ending::GiveBack,
        guard: true,
        ..settings.limits.clone()
    }
}

/// Whether something differs that is looked at only when the process starts.
fn is_fixed_part_different(old: &Settings, new: &Settings) -> bool {
    let fixed = |lane: &settings::Lane| settings::Lane { limits: LaneLimits::default(), account: None, ..lane.clone() };
    let lanes = |settings: &Settings| settings.lanes.iter().map(fixed).collect::<Vec<_>>();
    let broker = |settings: &Settings| settings::Broker { lease: Duration::ZERO, ..settings.broker.clone() };
    lanes(old) != lanes(new)
        || broker(old) != broker(new)
        || old.http != new.http
        || old.outside != new.outside
        || old.admin != new.admin
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{http, settings::Flags, status::LaneState};

    fn settings(folder: &tempfile::TempDir, credential: &str) -> Settings {
        let path = folder.path().join("settings.toml");
        fs::write(&path, format!("[credentials.default]\n{credential}\n")).unwrap();
        Settings::load(&Flags { config: Some(path), ..Flags::default() }, &Environment::of([])).unwrap()
    }

    #[tokio::test]
    async fn credential_that_may_still_come_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let settings = settings(&folder, &format!("source = \"file\"\npath = {path:?}"));
        let (status, client) = (Arc::new(Status::new(["default"])), Client::new(http::TimeOuts::default()).unwrap());
        let key = r#"{"secret_id": "AKIDx", "secret_key": "topsecret"}"#;
        let noted = Arc::clone(&status);
        let writing = tokio::spawn(async move {
            let lane = || noted.lanes().next().unwrap();
            for (text, problem) in [(None, "No such file"), (key.get(..30), "only the beginning")] {
                if let Some(text) = text {
                    fs::write(&path, text).unwrap();
                }
                while !lane().last_error().is_some_and(|error| error.message.contains(problem)) {
                    task::yield_now().await;
                }
                assert!(matches!(lane().state(), LaneState::Closed(_)));
            }
            fs::write(&path, key).unwrap();
        });
        let lanes = open_lanes(&settings, &Environment::of([]), &client, &status).await.unwrap();
        writing.await.unwrap();
        assert_eq!(lanes.first().unwrap().keeper.credential().secret_id.as_str(), "AKIDx");
        assert_eq!(status.lanes().next().unwrap().state(), LaneState::Disconnected);
    }

    #[tokio::test]
    async fn credential_that_needs_other_settings_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder, "source = \"environment\"");
        let (status, client) = (Status::new(["default"]), Client::new(http::TimeOuts::default()).unwrap());
        for variables in [[("A", "")], [("TENCENTCLOUD_SECRET_ID", "AKIDx")], [("TENCENTCLOUD_SECRET_ID", "'x'")]] {
            assert!(open_lanes(&settings, &Environment::of(variables), &client, &status).await.is_err());
        }
    }
}
