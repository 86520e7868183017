//! The setup of a scenario with workers: a virtual host, a sandbox, settings.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::UNIX_EPOCH,
};

use jiff::Timestamp;
use lapin::BasicProperties;
use serde_json::Value;

use crate::{
    AmqpClient, BrokerNode, Folder, Program, ReceivedMessage, SandboxProcess,
    broker::{QueueDepth, Vhost},
    history::{JobHistory, REGIONS, region},
    properties, wait_until,
    worker::Worker,
};

/// The queue of the lane `default`.
pub const QUEUE: &str = "imageshare.jobs.default";

/// The lanes of a setup with several. Each has its own region and its own key.
pub const LANES: [&str; REGIONS.len()] = ["one", "two", "three", "four", "five", "six", "seven", "eight"];

/// The lanes of a setup with two.
pub const TWO_LANES: [&str; 2] = [LANES[0], LANES[1]];

/// A placeholder in the settings for the endpoint, whose port may differ for each program.
const ENDPOINT: &str = "http://ENDPOINT";

/// The queue of dead letters.
pub const DEAD: &str = "imageshare.dead";

/// The queue of reports.
pub const REPORTS: &str = "imageshare.reports";

/// The workers' heartbeat in seconds.
pub const HEARTBEAT: u64 = 4;

/// Returns the key of a lane: id and secret.
fn lane_key(lane: &str) -> [(&str, String); 2] {
    [("secret_id", format!("AKID{lane}")), ("secret_key", format!("sandbox-secret-key-of-{lane}"))]
}

/// Writes the key file. The first of [`LANES`] get the keys of the given lanes.
fn write_keys(folder: &Folder, keys: &[&str]) -> PathBuf {
    let mut file = String::new();
    for (lane, key) in LANES.iter().zip(keys) {
        let key = lane_key(key).map(|(name, value)| format!("{name} = {value}\n")).concat();
        write!(file, "[{lane}]\n{key}").unwrap();
    }
    folder.file("credentials", file)
}

pub fn lane_queue(lane: &str) -> String {
    format!("imageshare.jobs.{lane}")
}

/// The setup of a scenario.
pub struct TestSetup<'a> {
    pub vhost: Vhost<'a>,
    pub sandbox: SandboxProcess,
    settings: String,
    folder: Folder,
    lanes: &'static [&'static str],
    /// Published jobs whose reports were not taken yet.
    unreported: AtomicUsize,
}

impl<'a> TestSetup<'a> {
    /// Creates a setup on the shared node, with a sandbox without rate limit.
    pub fn shared(rate: u32) -> TestSetup<'static> {
        TestSetup::new(BrokerNode::shared(), SandboxProcess::start(&["--rps", "0"]), rate)
    }

    /// Creates a setup whose workers may send `rate` requests per second.
    pub fn new(node: &'a BrokerNode, sandbox: SandboxProcess, rate: u32) -> Self {
        Self::with_settings(node, sandbox, rate, "")
    }

    /// As [`Self::new`], with additional settings in the section `broker`.
    pub fn with_settings(node: &'a BrokerNode, sandbox: SandboxProcess, rate: u32, broker: &str) -> Self {
        let lane = format!("[lanes.default]\nrate = {rate}\nendpoint = \"{ENDPOINT}\"\n");
        Self::set_up(node, sandbox, Folder::new(), &["default"], head(broker) + &lane)
    }

    /// Creates a setup with some of [`LANES`] and a sandbox without rate limit, with additional flags of the sandbox and
    /// settings of the sections `lanes.NAME` and `broker`.
    pub fn with_lanes(
        node: &'a BrokerNode,
        lanes: &'static [&'static str],
        flags: &[&str],
        lane_settings: &str,
        broker: &str,
    ) -> Self {
        let flags = [&["--rps", "0"], flags].concat();
        Self::in_world(node, lanes, &flags, "open_images = true\nopen_accounts = true\n", &head(broker), lane_settings)
    }

    /// Creates a setup with some of [`LANES`], to whose world and settings the keys and routes of the lanes are added.
    pub fn in_world(
        node: &'a BrokerNode,
        lanes: &'static [&'static str],
        flags: &[&str],
        world: &str,
        settings: &str,
        lane_settings: &str,
    ) -> Self {
        let (folder, mut world, mut settings) = (Folder::new(), world.to_owned(), settings.to_owned());
        let keys = write_keys(&folder, lanes);
        for (lane, region) in lanes.iter().zip(REGIONS) {
            let key = lane_key(lane).map(|(name, value)| format!("{name} = {value:?}\n")).concat();
            write!(world, "[[keys]]\n{key}account = \"100009999999\"\n").unwrap();
            write!(
                settings,
                "[lanes.{lane}]\n{lane_settings}\nendpoint = \"{ENDPOINT}\"\nregions = [\"{region}\"]\n\
                 credential = \"{lane}\"\n[credentials.{lane}]\nsource = \"profile\"\nsection = \"{lane}\"\n\
                 path = {keys:?}\n"
            )
            .unwrap();
        }
        let world = folder.file("world.toml", world);
        let sandbox = SandboxProcess::start(&[&["--world", world.to_str().unwrap()], flags].concat());
        Self::set_up(node, sandbox, folder, lanes, settings)
    }

    fn set_up(
        node: &'a BrokerNode,
        sandbox: SandboxProcess,
        folder: Folder,
        lanes: &'static [&'static str],
        settings: String,
    ) -> Self {
        let unreported = AtomicUsize::new(0);
        let setup = Self { vhost: node.vhost(), sandbox, settings, folder, lanes, unreported };
        setup.declare();
        setup
    }

    /// Declares the exchanges and queues.
    pub fn declare(&self) {
        self.program("topology").arg("--declare").run().check(0);
    }

    /// Returns a command of the program with the settings.
    pub fn program(&self, command: &str) -> Program {
        self.program_via(command, self.vhost.node.port, self.sandbox.port())
    }

    /// As [`Self::program`], with the ports through which it reaches the broker and the API.
    pub fn program_via(&self, command: &str, broker: u16, endpoint: u16) -> Program {
        Program::new([command, "--config"])
            .arg(self.write_settings(endpoint, &self.settings))
            .key("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
            .env("IMAGESHARE_BROKER_URL", self.vhost.url_with_port(broker))
    }

    /// Replaces a text in the settings file of the workers that reach the API through a port.
    #[track_caller]
    pub fn change_settings(&self, endpoint: u16, from: &str, to: &str) {
        assert!(self.settings.contains(from), "{}", self.settings);
        self.write_settings(endpoint, &self.settings.replace(from, to));
    }

    /// Writes the settings file of programs that reach the API through a port.
    fn write_settings(&self, endpoint: u16, settings: &str) -> PathBuf {
        let settings = settings.replace(ENDPOINT, &format!("http://127.0.0.1:{endpoint}"));
        self.folder.file(&format!("settings-{endpoint}.toml"), settings)
    }

    /// Gives the first lanes the keys of other lanes, or unknown ones. The remaining lanes have no key.
    pub fn change_keys(&self, keys: &[&str]) {
        write_keys(&self.folder, keys);
    }

    /// Starts a worker.
    pub fn worker(&self) -> Worker {
        Worker::start(self.program("worker"))
    }

    /// Starts a worker that reaches the broker and the API through these ports.
    pub fn worker_via(&self, broker: u16, endpoint: u16) -> Worker {
        Worker::start(self.program_via("worker", broker, endpoint))
    }

    /// Connects a client.
    pub fn client(&self) -> AmqpClient {
        AmqpClient::connect(&self.vhost.url())
    }

    /// Publishes jobs to the lanes' queues, in order.
    #[track_caller]
    pub fn publish(&self, jobs: &[Value]) {
        self.unreported.fetch_add(jobs.len(), Relaxed);
        for (lane, region) in self.lanes.iter().zip(REGIONS) {
            let is_of_lane = |job: &&Value| job["region"] == region || job["images"][0]["region"] == region;
            let jobs = jobs.iter().filter(is_of_lane);
            let properties = properties().with_timestamp(UNIX_EPOCH.elapsed().unwrap().as_secs());
            let message = |job: &Value| (job.to_string().into_bytes(), properties.clone());
            self.client().publish_to("imageshare", lane, jobs.map(message));
        }
    }

    /// Adds random jobs to a history and publishes them.
    #[track_caller]
    pub fn publish_random(&self, history: &mut JobHistory, count: usize) {
        let first = history.jobs.len();
        history.add_random(count, 0);
        self.publish(&history.jobs[first..]);
    }

    /// Publishes messages to the queue of the lane `default`.
    #[track_caller]
    pub fn publish_raw(&self, messages: impl IntoIterator<Item = (Vec<u8>, BasicProperties)>) {
        self.client().publish_to("", QUEUE, messages);
    }

    /// Returns the depth of a lane's queue.
    #[track_caller]
    pub fn lane_depth(&self, lane: &str) -> QueueDepth {
        self.vhost.depth(&lane_queue(lane))
    }

    /// Returns the queues of the lanes.
    pub fn queues(&self) -> impl Iterator<Item = String> {
        self.lanes.iter().map(|lane| lane_queue(lane))
    }

    /// Waits until every job is acknowledged.
    #[track_caller]
    pub fn wait_until_settled(&self) {
        if !self.vhost.can_inspect() {
            return wait_until("all jobs are reported", || {
                let (client, unreported) = (self.client(), self.unreported.load(Relaxed));
                let none_waits = self.queues().all(|queue| client.ready(&queue) == 0);
                (none_waits && client.ready(REPORTS) + client.ready(DEAD) >= unreported).then_some(())
            });
        }
        for queue in self.queues() {
            wait_until(&format!("all jobs of {queue} are acknowledged"), || {
                let depth = self.vhost.depth(&queue);
                (depth.ready + depth.held == 0).then_some(())
            });
        }
    }

    /// Takes the reports and returns the first one of each job.
    #[track_caller]
    pub fn reports(&self) -> BTreeMap<String, Value> {
        let mut reports = BTreeMap::new();
        let messages = self.client().take_all(REPORTS);
        self.unreported.fetch_update(Relaxed, Relaxed, |jobs| Some(jobs.saturating_sub(messages.len()))).ok();
        for report in messages.iter().map(ReceivedMessage::json) {
            let job_id = report["job_id"].as_str().unwrap_or_default().to_owned();
            reports.entry(job_id).or_insert(report);
        }
        reports
    }

    /// Waits until every job is acknowledged. Asserts that every job is reported as succeeded, that there is no dead letter,
    /// and [`Self::check_state`].
    #[track_caller]
    pub fn check_all_succeeded(&self, history: &JobHistory) {
        self.wait_until_settled();
        let mut reports = self.reports();
        // With an external broker the wait only counts reports, some of which may be duplicates.
        wait_until("each job is reported", || {
            reports.append(&mut self.reports());
            history.jobs.iter().all(|job| reports.contains_key(job["job_id"].as_str().unwrap())).then_some(())
        });
        self.check_state(history);
        for report in reports.values() {
            assert_eq!(report["status"], "succeeded", "{report}");
        }
        assert_eq!(self.client().ready(DEAD), 0);
    }

    /// Asserts that no lane sent more than `rate` requests of an action per second. The worker limits the rate by its own
    /// clock, which the tests of the engine check exactly. On a busy machine requests of two seconds may arrive together,
    /// so each span may have one second's worth more. (A request without an image may belong to any lane.)
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
            assert!(*level <= limit + 1.0, "more than {limit} requests per second for {lane:?}, such as {request}");
        }
    }

    /// Asserts that the images are shared as the last job of each account requested.
    #[track_caller]
    pub fn check_state(&self, history: &JobHistory) {
        let state = self.sandbox.state();
        for (image, expected) in history.expected() {
            let shared = state.get(&image).cloned().unwrap_or_default();
            let differs: BTreeSet<_> = expected.symmetric_difference(&shared).collect();
            assert!(differs.is_empty(), "{image} differs from what was requested in {differs:?}");
        }
    }
}

/// Returns the settings of the engine and the broker. In the sandbox, a write takes effect at once or within the write lag.
fn head(broker: &str) -> String {
    format!("[engine]\nwrite_lag = \"300ms\"\nread_lag = \"0s\"\n[broker]\nheartbeat = \"{HEARTBEAT}s\"\n{broker}\n")
}
