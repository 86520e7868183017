//! What a scenario with workers plays on: a virtual host with a lane or two, a sandbox, settings.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use jiff::Timestamp;
use lapin::BasicProperties;
use serde_json::Value;

use crate::{
    Amqp, Folder, Message, Node, Program, Sandbox,
    broker::{Depth, Vhost},
    history::{History, REGIONS, region},
    properties, until,
    worker::Worker,
};

/// The queue of the one lane.
pub const QUEUE: &str = "imageshare.jobs.default";

/// The lanes of a stage that has several, each for a region of its own and with a key of its own.
pub const LANES: [&str; REGIONS.len()] = ["one", "two", "three", "four", "five", "six", "seven", "eight"];

/// Those of a stage that has two.
pub const TWO_LANES: [&str; 2] = [LANES[0], LANES[1]];

/// What the settings have in place of the endpoint, which is known when a program is started.
const ENDPOINT: &str = "http://ENDPOINT";

/// What could not be done.
pub const DEAD: &str = "imageshare.dead";

/// Where reports go.
pub const REPORTS: &str = "imageshare.reports";

/// Seconds of the worker's heartbeat.
pub const HEARTBEAT: u64 = 4;

/// The key of one of the two lanes: its id and its secret.
fn key_of(lane: &str) -> [(&str, String); 2] {
    [("secret_id", format!("AKID{lane}")), ("secret_key", format!("sandbox-secret-key-of-{lane}"))]
}

/// Writes the file with a key for each of the lanes.
fn write_keys(folder: &Folder, of: &[&str]) -> PathBuf {
    let mut file = String::new();
    for (lane, of) in LANES.iter().zip(of) {
        let key = key_of(of).map(|(name, value)| format!("{name} = {value}\n")).concat();
        write!(file, "[{lane}]\n{key}").unwrap();
    }
    folder.file("credentials", file)
}

pub fn queue_of(lane: &str) -> String {
    format!("imageshare.jobs.{lane}")
}

/// The scenario's world.
pub struct Stage<'a> {
    pub vhost: Vhost<'a>,
    pub sandbox: Sandbox,
    settings: String,
    folder: Folder,
    lanes: &'static [&'static str],
    /// Jobs that were published and whose reports were not taken yet.
    unreported: AtomicUsize,
}

impl<'a> Stage<'a> {
    /// A stage with this sandbox. Workers may send so many requests a second.
    pub fn new(node: &'a Node, sandbox: Sandbox, rate: u32) -> Self {
        Self::with_settings(node, sandbox, rate, "")
    }

    /// The same with more in the section `broker` of the settings.
    pub fn with_settings(node: &'a Node, sandbox: Sandbox, rate: u32, broker: &str) -> Self {
        let lane = format!("[lanes.default]\nrate = {rate}\nendpoint = \"{ENDPOINT}\"\n");
        Self::set_up(node, sandbox, Folder::new(), &["default"], head(broker) + &lane)
    }

    /// A stage with some of [`LANES`]. Beside its flags the sandbox has no limit; the settings have this in the section of
    /// each lane, and this in that of the broker.
    pub fn of_lanes(
        node: &'a Node,
        lanes: &'static [&'static str],
        flags: &[&str],
        of_lane: &str,
        broker: &str,
    ) -> Self {
        let flags = [&["--rps", "0"], flags].concat();
        Self::in_world(node, lanes, &flags, "open_images = true\nopen_accounts = true\n", &head(broker), of_lane)
    }

    /// The same in a world of the caller's, whose keys are added, with all settings but the keys and routes of the lanes.
    pub fn in_world(
        node: &'a Node,
        lanes: &'static [&'static str],
        flags: &[&str],
        world: &str,
        settings: &str,
        of_lane: &str,
    ) -> Self {
        let (folder, mut world, mut settings) = (Folder::new(), world.to_owned(), settings.to_owned());
        let keys = write_keys(&folder, lanes);
        for (lane, region) in lanes.iter().zip(REGIONS) {
            let key = key_of(lane).map(|(name, value)| format!("{name} = {value:?}\n")).concat();
            write!(world, "[[keys]]\n{key}account = \"100009999999\"\n").unwrap();
            write!(
                settings,
                "[lanes.{lane}]\n{of_lane}\nendpoint = \"{ENDPOINT}\"\nregions = [\"{region}\"]\n\
                 credential = \"{lane}\"\n[credentials.{lane}]\nsource = \"profile\"\nsection = \"{lane}\"\n\
                 path = {keys:?}\n"
            )
            .unwrap();
        }
        let world = folder.file("world.toml", world);
        let sandbox = Sandbox::start(&[&["--world", world.to_str().unwrap()], flags].concat());
        Self::set_up(node, sandbox, folder, lanes, settings)
    }

    fn set_up(
        node: &'a Node,
        sandbox: Sandbox,
        folder: Folder,
        lanes: &'static [&'static str],
        settings: String,
    ) -> Self {
        let unreported = AtomicUsize::new(0);
        let stage = Self { vhost: node.vhost(), sandbox, settings, folder, lanes, unreported };
        stage.declare();
        stage
    }

    /// Makes exchanges and queues.
    pub fn declare(&self) {
        self.program("topology").arg("--declare").run().check(0);
    }

    /// The program with the settings of this stage.
    pub fn program(&self, command: &str) -> Program {
        self.program_between(command, self.vhost.node.port, self.sandbox.port())
    }

    /// The same with the broker and the API by these ports.
    pub fn program_between(&self, command: &str, broker: u16, endpoint: u16) -> Program {
        Program::new([command, "--config"])
            .arg(self.write_settings(endpoint, &self.settings))
            .key("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
            .env("IMAGESHARE_BROKER_URL", self.vhost.url_by(broker))
    }

    /// Changes the file of settings of the workers that reach the API by this port: what is found there is replaced.
    #[track_caller]
    pub fn change_settings(&self, endpoint: u16, found: &str, replaced: &str) {
        assert!(self.settings.contains(found), "{}", self.settings);
        self.write_settings(endpoint, &self.settings.replace(found, replaced));
    }

    /// Writes the settings for programs that reach the API by a port.
    fn write_settings(&self, endpoint: u16, settings: &str) -> PathBuf {
        let settings = settings.replace(ENDPOINT, &format!("http://127.0.0.1:{endpoint}"));
        self.folder.file(&format!("settings-{endpoint}.toml"), settings)
    }

    /// Gives the first lanes the key of a lane each, or one that nobody knows, and the others none.
    pub fn change_keys(&self, of: &[&str]) {
        write_keys(&self.folder, of);
    }

    /// Starts a worker.
    pub fn worker(&self) -> Worker {
        Worker::start(self.program("worker"))
    }

    /// Starts a worker that reaches the broker and the API by these ports.
    pub fn worker_between(&self, broker: u16, endpoint: u16) -> Worker {
        Worker::start(self.program_between("worker", broker, endpoint))
    }

    /// A client of its own.
    pub fn client(&self) -> Amqp {
        Amqp::open(&self.vhost.url())
    }

    /// Publishes jobs as anybody may: to the lanes' queues, in order.
    #[track_caller]
    pub fn publish(&self, jobs: &[Value]) {
        self.unreported.fetch_add(jobs.len(), Relaxed);
        for (lane, region) in self.lanes.iter().zip(REGIONS) {
            let jobs = jobs.iter().filter(|job| job["region"] == region);
            self.client().publish_to("imageshare", lane, jobs.map(|job| (job.to_string().into_bytes(), properties())));
        }
    }

    /// Publishes random jobs, which the history then contains.
    #[track_caller]
    pub fn publish_random(&self, history: &mut History, count: usize) {
        let first = history.jobs.len();
        history.add_random(count, 0);
        self.publish(&history.jobs[first..]);
    }

    /// Publishes messages as they are to the one lane's queue.
    #[track_caller]
    pub fn publish_raw(&self, messages: impl IntoIterator<Item = (Vec<u8>, BasicProperties)>) {
        self.client().publish_to("", QUEUE, messages);
    }

    /// What the queue of a lane holds.
    #[track_caller]
    pub fn depth_of(&self, lane: &str) -> Depth {
        self.vhost.depth(&queue_of(lane))
    }

    /// The queues of its lanes.
    pub fn queues(&self) -> impl Iterator<Item = String> {
        self.lanes.iter().map(|lane| queue_of(lane))
    }

    /// Waits until nothing of the lanes is left at the broker.
    #[track_caller]
    pub fn until_worked_off(&self) {
        if !self.vhost.shows_held() {
            return until("all jobs are reported", || {
                let (client, unreported) = (self.client(), self.unreported.load(Relaxed));
                let none_waits = self.queues().all(|queue| client.ready(&queue) == 0);
                (none_waits && client.ready(REPORTS) + client.ready(DEAD) >= unreported).then_some(())
            });
        }
        for queue in self.queues() {
            until(&format!("all jobs of {queue} are acknowledged"), || {
                let depth = self.vhost.depth(&queue);
                (depth.ready + depth.held == 0).then_some(())
            });
        }
    }

    /// Takes the reports, by job, the first of each.
    #[track_caller]
    pub fn reports(&self) -> BTreeMap<String, Value> {
        let mut reports = BTreeMap::new();
        let messages = self.client().take_all(REPORTS);
        self.unreported.fetch_update(Relaxed, Relaxed, |jobs| Some(jobs.saturating_sub(messages.len()))).ok();
        for report in messages.iter().map(Message::json) {
            let job_id = report["job_id"].as_str().unwrap_or_default().to_owned();
            reports.entry(job_id).or_insert(report);
        }
        reports
    }

    /// Waits until all is worked off; then every job has a report that says it succeeded, nothing is among what could
    /// not be done, and the images are shared as the last job of each account asked.
    #[track_caller]
    pub fn check_done(&self, history: &History) {
        self.until_worked_off();
        let mut reports = self.reports();
        // With a broker that does not show what a worker holds, some came twice, and their number shows nothing.
        until("each job is reported", || {
            reports.append(&mut self.reports());
            history.jobs.iter().all(|job| reports.contains_key(job["job_id"].as_str().unwrap())).then_some(())
        });
        self.check_state(history);
        for report in reports.values() {
            assert_eq!(report["status"], "succeeded", "{report}");
        }
        assert_eq!(self.client().ready(DEAD), 0);
    }

    /// No lane sent more than so many requests of one action a second. The worker promises that by its own clock, which
    /// the tests of the engine's pacer check exactly; a busy machine may bring the requests of another second along, so
    /// here each span may have one second's worth more. (A request that names no image may be of any lane.)
    #[track_caller]
    pub fn check_rate(&self, rate: u32) {
        let mut spans = BTreeMap::new();
        for request in self.sandbox.requests() {
            let lane = request["image_id"].as_str().map(region);
            let limit = f64::from(rate) * if lane.is_none() { self.lanes.len() as f64 } else { 1.0 };
            let at: Timestamp = request["time"].as_str().unwrap().parse().unwrap();
            let (level, before) = spans.entry((lane, request["action"].to_string())).or_insert((0.0_f64, at));
            *level = (*level - limit * at.duration_since(*before).as_secs_f64()).max(0.0) + 1.0;
            *before = at;
            assert!(*level <= limit + 1.0, "more than {limit} requests a second for {lane:?}, such as {request}");
        }
    }

    /// The images are shared as the last job of each account asked.
    #[track_caller]
    pub fn check_state(&self, history: &History) {
        let state = self.sandbox.state();
        for (image, expected) in history.expected() {
            let shared = state.get(&image).cloned().unwrap_or_default();
            let differs: BTreeSet<_> = expected.symmetric_difference(&shared).collect();
            assert!(differs.is_empty(), "{image} differs from what was requested in {differs:?}");
        }
    }
}

/// The settings before those of the lanes. A write without a response takes effect at once here, or within this.
fn head(broker: &str) -> String {
    format!("[engine]\nwrite_lag = \"300ms\"\nread_lag = \"0s\"\n[broker]\nheartbeat = \"{HEARTBEAT}s\"\n{broker}\n")
}
