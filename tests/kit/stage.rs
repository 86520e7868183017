//! What a scenario with workers plays on: a virtual host with a lane or two, a sandbox, settings.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use serde_json::Value;

use crate::{
    Amqp, Folder, Node, Program, Sandbox,
    broker::{Depth, Vhost},
    figures,
    history::{History, REGIONS},
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

/// What was written although it was so already.
pub struct Repeated {
    /// How many requests came before the one that did so.
    pub request: u64,
    pub image: String,
    pub account: u64,
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
        Self::set_up(node, sandbox, Folder::new(), &["default"], &format!("{broker}\n{lane}"))
    }

    /// A stage with [`TWO_LANES`] that has the machine for itself. The sandbox allows so many requests a second for each
    /// lane; the settings have this in the section of each, and this in that of the broker.
    pub fn of_two_lanes(node: &'a Node, rate: u32, of_lane: &str, broker: &str) -> Self {
        let start = |flags: &[&str]| Sandbox::start_alone(&[flags, &["--latency", "20ms"]].concat());
        Self::of_lanes(node, &TWO_LANES, start, rate, of_lane, broker)
    }

    /// The same with some of [`LANES`], and a sandbox that is started with flags.
    pub fn of_lanes(
        node: &'a Node,
        lanes: &'static [&'static str],
        start: impl FnOnce(&[&str]) -> Sandbox,
        rate: u32,
        of_lane: &str,
        broker: &str,
    ) -> Self {
        let folder = Folder::new();
        let mut world = "open_images = true\nopen_accounts = true\n".to_owned();
        for lane in lanes {
            let key = key_of(lane).map(|(name, value)| format!("{name} = {value:?}\n")).concat();
            write!(world, "[[keys]]\n{key}account = \"100009999999\"\n").unwrap();
        }
        let (world, keys) = (folder.file("world.toml", world), write_keys(&folder, lanes));
        let sandbox = start(&["--rps", &rate.to_string(), "--world", world.to_str().unwrap()]);
        let mut settings = format!("{broker}\n");
        for (lane, region) in lanes.iter().zip(REGIONS) {
            write!(
                settings,
                "[lanes.{lane}]\n{of_lane}\nendpoint = \"{ENDPOINT}\"\nregions = [\"{region}\"]\n\
                 credential = \"{lane}\"\n[credentials.{lane}]\nsource = \"profile\"\nsection = \"{lane}\"\n\
                 path = {keys:?}\n"
            )
            .unwrap();
        }
        Self::set_up(node, sandbox, folder, lanes, &settings)
    }

    fn set_up(
        node: &'a Node,
        sandbox: Sandbox,
        folder: Folder,
        lanes: &'static [&'static str],
        settings: &str,
    ) -> Self {
        // A write that got no answer lands at once here or, where a scenario has it so, within this.
        let settings = format!(
            "[engine]\nlanding = \"300ms\"\nread_delay = \"0s\"\n[broker]\nheartbeat = \"{HEARTBEAT}s\"\n{settings}"
        );
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

    /// The same with the broker by this port.
    pub fn program_by(&self, command: &str, port: u16) -> Program {
        self.program_between(command, port, self.sandbox.port())
    }

    /// The same with the broker and the API by these ports.
    fn program_between(&self, command: &str, broker: u16, endpoint: u16) -> Program {
        Program::new([command, "--config"])
            .arg(self.write_settings(endpoint, &self.settings))
            .key("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
            .env("IMAGESHARE_BROKER_URL", self.vhost.url_by(broker))
    }

    /// Changes the file of settings of the workers that are not started by a relay to the API: what is found there is
    /// replaced.
    #[track_caller]
    pub fn change_settings(&self, found: &str, replaced: &str) {
        assert!(self.settings.contains(found), "{}", self.settings);
        self.write_settings(self.sandbox.port(), &self.settings.replace(found, replaced));
    }

    /// Writes the settings for programs that reach the API by a port.
    fn write_settings(&self, endpoint: u16, settings: &str) -> PathBuf {
        let settings = settings.replace(ENDPOINT, &format!("http://127.0.0.1:{endpoint}"));
        self.folder.file(&format!("settings-{endpoint}.toml"), settings)
    }

    /// Gives each of the two lanes the key of a lane, or one that nobody knows.
    pub fn change_keys(&self, of: [&str; 2]) {
        write_keys(&self.folder, &of);
    }

    /// Starts a worker.
    pub fn worker(&self) -> Worker {
        Worker::start(self.program("worker"))
    }

    /// Starts a worker that reaches the broker by this port.
    pub fn worker_by(&self, port: u16) -> Worker {
        self.worker_between(port, self.sandbox.port())
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

    /// What the one lane's queue holds.
    #[track_caller]
    pub fn depth(&self) -> Depth {
        self.vhost.depth(QUEUE)
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
        for message in messages {
            let report: Value = serde_json::from_slice(&message.body).unwrap();
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
        if self.vhost.shows_held() {
            self.check_state(history);
        }
        let depth = self.client().ready(REPORTS);
        let mut reports = self.reports();
        let is_missing = |reports: &BTreeMap<String, Value>, job: &Value| {
            job["job_id"].as_str().is_some_and(|id| !reports.contains_key(id))
        };
        if !self.vhost.shows_held() {
            // Some came twice, so their number does not show that all are there.
            until("each job is reported", || {
                reports.append(&mut self.reports());
                let is_any_missing = history.jobs.iter().any(|job| is_missing(&reports, job));
                (!is_any_missing).then_some(())
            });
            self.check_state(history);
        }
        let stats = self.sandbox.stats();
        let (jobs, doubled) = (history.jobs.len() as u64, depth.saturating_sub(reports.len()) as u64);
        let requests = stats["requests"].as_u64().unwrap();
        figures(&[("histories", 1), ("jobs", jobs), ("doubled-reports", doubled), ("requests", requests)]);
        let missing: Vec<_> = history.jobs.iter().filter(|job| is_missing(&reports, job)).collect();
        assert!(missing.is_empty(), "{} jobs have no report: {missing:?}", missing.len());
        for report in reports.values() {
            assert_eq!(report["status"], "succeeded", "{report}");
        }
        assert_eq!(self.client().ready(DEAD), 0);
    }

    /// The images are shared as the last job of each account asked.
    #[track_caller]
    pub fn check_state(&self, history: &History) {
        let state = self.sandbox.state();
        for (image, expected) in history.expected() {
            let found = state.get(&image).cloned().unwrap_or_default();
            let differs: BTreeSet<_> = expected.symmetric_difference(&found).copied().collect();
            if let Some(account) = differs.first() {
                let story = self.story(history, &image, *account);
                panic!(
                    "{} jobs. {image} differs from what was asked in {differs:?}. The story of {account}:\n{story}",
                    history.jobs.len()
                );
            }
        }
    }

    /// Accounts of accepted writes that were so already. A listing that may have been cut off by its length proves
    /// nobody's absence, so what is cancelled after such a one does not count.
    #[track_caller]
    pub fn repeated(&self) -> Vec<Repeated> {
        const CUT_OFF: [usize; 3] = [20, 50, 100];
        let mut images: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        let (mut unproven, mut repeated) = (BTreeSet::new(), Vec::new());
        let requests = self.sandbox.requests();
        assert!(requests.len() < Sandbox::REMEMBERED, "the sandbox remembers all requests");
        for (number, request) in (0..).zip(&requests).filter(|(_, request)| request["code"] == "ok") {
            let image = request["image_id"].as_str().unwrap_or_default();
            let shared = images.entry(image.to_owned()).or_default();
            let Some(permission) = request["permission"].as_str() else {
                if CUT_OFF.contains(&shared.len()) {
                    unproven.insert(image)
                } else {
                    unproven.remove(image)
                };
                continue;
            };
            for account in request["accounts"].as_array().into_iter().flatten() {
                let account: u64 = account.as_str().and_then(|id| id.parse().ok()).unwrap();
                let is_repeated = match permission {
                    "SHARE" => !shared.insert(account),
                    _ => !shared.remove(&account) && !unproven.contains(image),
                };
                if is_repeated {
                    repeated.push(Repeated { request: number, image: image.to_owned(), account });
                }
            }
        }
        repeated
    }

    /// When the requests of one action came that are more than so many in a second, with what was written to whom.
    pub fn crowd(&self, at_most: usize) -> String {
        let requests = self.sandbox.requests();
        let mut by_action: BTreeMap<&str, Vec<(jiff::Timestamp, &Value)>> = BTreeMap::new();
        for request in &requests {
            let at = request["time"].as_str().and_then(|time| time.parse().ok()).unwrap();
            by_action.entry(request["action"].as_str().unwrap_or_default()).or_default().push((at, request));
        }
        let second = jiff::SignedDuration::from_secs(1);
        let crowd = by_action.iter().find_map(|(action, requests)| {
            let crowd =
                requests.windows(at_most + 1).find(|many| many[at_most].0.duration_since(many[0].0) < second)?;
            let lines = crowd.iter().map(|(at, request)| format!("{at} {} {}", request["image_id"], request["code"]));
            Some(format!("{action}\n{}", lines.collect::<Vec<_>>().join("\n")))
        });
        crowd.unwrap_or_default()
    }

    /// Everything about an account and an image: the jobs, what was reported of them, and the requests.
    pub fn story(&self, history: &History, image: &str, account: u64) -> String {
        let names = |list: &Value| list.as_array().is_some_and(|list| list.contains(&Value::from(account.to_string())));
        let mut lines = Vec::new();
        let reports = self.client().take_all(REPORTS);
        lines.push(format!(" {} reports", reports.len()));
        for message in reports {
            let report: Value = serde_json::from_slice(&message.body).unwrap();
            let is_changed = names(&report["changed"]);
            if report["image_id"] == *image && (is_changed || names(&report["unchanged"])) {
                let what = if is_changed { "changed" } else { "unchanged" };
                let of = |name: &str| report[name].as_str().unwrap_or_default().to_owned();
                let (from, to, id) = (of("received_at"), of("finished_at"), of("job_id"));
                let redelivered = &report["redelivered"];
                lines.push(format!("{to} report of {id}: {what}, received {from}, redelivered {redelivered}"));
            }
        }
        for request in self.sandbox.requests() {
            let is_reading = request["action"] == "DescribeImageSharePermission";
            if request["image_id"] == *image && (is_reading || names(&request["accounts"])) {
                let of = |name: &str| request[name].as_str().unwrap_or_default().to_owned();
                let count = request["accounts"].as_array().map_or(0, Vec::len);
                lines.push(format!("{} {} {} {} of {count}", of("time"), of("action"), of("permission"), of("code")));
            }
        }
        lines.sort();
        let jobs = history.jobs.iter().filter(|job| job["image_id"] == *image && names(&job["account_ids"]));
        let jobs = jobs.map(|job| format!("asked: {} {}", job["job_id"], job["permission"]));
        jobs.chain(lines).collect::<Vec<_>>().join("\n")
    }
}
