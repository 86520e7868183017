//! Runs one round: two workers, a sandbox and a broker, with the faults of the plan, until every job is reported.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use lapin::types::AMQPValue;
use serde_json::{Value, json};

use super::plan::{Fault, LANES, Plan};
use kit::{
    Amqp, Folder, Node, Program, Relay, Sandbox, Vhost,
    history::REGIONS,
    properties,
    stage::{DEAD, REPORTS},
    worker::Worker,
};

/// How long a round may take to settle. A correct worker needs a fraction of this.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

/// Read lag of the sandbox, in seconds.
const LISTING_LAG: f64 = 0.2;

/// Call timeout of the workers, in milliseconds.
const CALL_TIMEOUT: u64 = 1000;

/// How long a worker on a busy machine may take to process a response that has arrived, in milliseconds.
const PROCESSING: u64 = 1000;

/// A running round.
pub(super) struct Round<'a> {
    plan: &'a Plan,
    vhost: Vhost<'a>,
    sandbox: Sandbox,
    folder: Folder,
    instances: Vec<Instance>,
    /// Workers that received SIGTERM. Those still running at the end of the round are killed.
    leaving: Vec<Worker>,
    recoveries: Vec<(Instant, Recovery)>,
    published: Vec<Value>,
}

/// A worker behind its own relays to the broker and to the API. The relays outlive the worker.
struct Instance {
    worker: Option<Worker>,
    pid: u32,
    broker: Relay,
    api: Relay,
}

/// The end of a fault, with the index of the instance.
#[derive(Clone, Copy)]
enum Recovery {
    Continue(usize),
    ThawBroker(usize),
    ThawApi(usize),
}

impl<'a> Round<'a> {
    /// Runs a plan on a node and returns its record.
    pub(super) fn run(node: &'a Node, plan: &'a Plan) -> Value {
        let folder = Folder::new();
        let sandbox = start_sandbox(&folder, plan);
        let initial =
            json!(sandbox.state().iter().map(|(image, set)| (image.clone(), texts(set))).collect::<BTreeMap<_, _>>());
        let vhost = node.vhost();
        let (instances, leaving, recoveries, published) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut round = Self { plan, vhost, sandbox, folder, instances, leaving, recoveries, published };
        let settings = round.write_settings(round.sandbox.port(), plan.batch);
        round.program("topology", &settings, node.port).arg("--declare").run().check(0);
        if !plan.jobs_first {
            round.start_workers();
        }
        for step in &plan.steps {
            round.prepare(&step.fault);
            round.publish(&step.jobs);
            round.start_workers();
            round.pause(step.pause);
            round.inject(&step.fault, step.victim);
        }
        round.settle();
        round.record(&initial)
    }

    /// Describes the state of a round that does not settle.
    fn progress(&self) -> String {
        let depths: Vec<_> =
            self.queues().iter().map(|queue| format!("{queue} {:?}", self.vhost.depth(queue))).collect();
        format!("{} jobs published, {}", self.published.len(), depths.join(", "))
    }

    /// Starts workers until two are running.
    fn start_workers(&mut self) {
        while self.alive().len() < 2 {
            self.start_worker();
        }
    }

    fn start_worker(&mut self) {
        let (broker, api) = (Relay::to(self.vhost.node.port), Relay::to(self.sandbox.port()));
        let settings = self.write_settings(api.port, self.plan.batch);
        let worker = Worker::start(self.program("worker", &settings, broker.port));
        self.instances.push(Instance { pid: worker.id(), worker: Some(worker), broker, api });
    }

    /// Indexes of the workers that were neither killed nor sent SIGTERM, oldest first.
    fn alive(&self) -> Vec<usize> {
        (0..self.instances.len()).filter(|&place| self.instances[place].worker.is_some()).collect()
    }

    fn program(&self, command: &str, settings: &std::path::Path, broker: u16) -> Program {
        Program::new([command, "--config"]).arg(settings).env("IMAGESHARE_BROKER_URL", self.vhost.url_by(broker))
    }

    fn write_settings(&self, endpoint: u16, batch: u64) -> std::path::PathBuf {
        let Plan { write_lag, heartbeat, prefetch, cap, cap_is_known, .. } = *self.plan;
        let mut text = format!(
            "[engine]\nlanding = \"{write_lag}ms\"\nread_delay = \"{}ms\"\n[http]\nconnect_timeout = \"500ms\"\n\
             call_timeout = \"{CALL_TIMEOUT}ms\"\n[broker]\nheartbeat = \"{heartbeat}s\"\nprefetch = {prefetch}\n",
            LISTING_LAG * 1000.0 + 50.0
        );
        if let Some(lease) = self.plan.lease {
            writeln!(text, "lease = \"{lease}s\"").unwrap();
        }
        let keys = self.folder.path("credentials");
        for (lane, region) in LANES.iter().zip(REGIONS).take(self.plan.lanes) {
            let rate = self.plan.limits.1;
            write!(
                text,
                "[lanes.{lane}]\nrate = {rate}\nbatch = {batch}\nendpoint = \"http://127.0.0.1:{endpoint}\"\n\
                 regions = [\"{region}\"]\ncredential = \"{lane}\"\n[credentials.{lane}]\nsource = \"profile\"\n\
                 section = \"{lane}\"\npath = {keys:?}\n"
            )
            .unwrap();
        }
        if cap_is_known {
            text = text.replace("[engine]\n", &format!("[engine]\ncap = {cap}\n"));
        }
        self.folder.file(&format!("settings-{endpoint}.toml"), text)
    }

    /// Publishes jobs in order and waits for the confirms.
    fn publish(&mut self, jobs: &[Value]) {
        let client = Amqp::open(&self.vhost.url());
        for (lane, region) in LANES.iter().zip(REGIONS).take(self.plan.lanes) {
            let of_lane = jobs.iter().filter(|job| job["region"] == region);
            client.publish_to("imageshare", lane, of_lane.map(|job| (job.to_string().into_bytes(), properties())));
        }
        self.published.extend_from_slice(jobs);
    }

    /// Configures the faults of the sandbox, which must precede the jobs.
    fn prepare(&self, fault: &Fault) {
        let write = "ModifyImageSharePermission";
        let list = "DescribeImageSharePermission";
        let faults = match fault {
            Fault::LateWrites(late) => {
                let late = format!("apply_late:{}", Duration::from_millis(*late).as_secs_f64());
                json!({"script": [{"action": write, "nth": 2, "times": 3, "do": late}]})
            }
            Fault::Throttle(times) => json!({"script": [
                {"action": write, "nth": 2, "times": times, "do": "throttle"},
                {"action": list, "times": times, "do": "throttle"},
            ]}),
            Fault::Errors(error) => json!({"script": [
                {"action": write, "nth": 2, "do": error},
                {"action": write, "nth": 4, "times": 2, "do": error},
                {"action": list, "nth": 2, "do": error},
            ]}),
            Fault::Busy(length) => {
                let (image, _) = &self.plan.images[0];
                json!({"busy_images": {image: Duration::from_millis(*length).as_secs_f64()}})
            }
            _ => return,
        };
        self.sandbox.faults(&faults);
    }

    fn inject(&mut self, fault: &Fault, victim: usize) {
        let alive = self.alive();
        // The oldest worker is usually the active one.
        let place = alive[if victim == 2 { alive.len() - 1 } else { 0 }];
        let instance = &self.instances[place];
        match *fault {
            Fault::Nothing | Fault::Throttle(_) | Fault::Errors(_) | Fault::Busy(_) => {}
            Fault::Kill | Fault::LateWrites(_) => self.kill(place),
            Fault::KillBoth => alive.into_iter().for_each(|place| self.kill(place)),
            Fault::Freeze(length) => {
                self.signal(place, "STOP");
                self.recover_after(length, Recovery::Continue(place));
            }
            Fault::Drain => {
                self.signal(place, "TERM");
                self.leaving.extend(self.instances[place].worker.take());
            }
            Fault::Reload => {
                self.write_settings(instance.api.port, self.plan.batch % 40 + 5);
                self.signal(place, "HUP");
                // The signal kills a worker that was started a moment ago, so start another one.
                self.start_worker();
            }
            Fault::BrokerKilled | Fault::BrokerRestarted => {
                self.finish_recoveries();
                let node = self.vhost.node;
                if *fault == Fault::BrokerKilled {
                    node.kill();
                } else {
                    node.stop();
                }
                node.start_again();
            }
            Fault::BrokerFrozen(length) => {
                self.vhost.node.signal("STOP");
                self.pause(length);
                self.vhost.node.signal("CONT");
            }
            Fault::ConnectionsClosed => self.vhost.close_connections(),
            Fault::BrokerCut => instance.broker.cut(),
            Fault::BrokerSilent(length) => {
                instance.broker.freeze();
                self.recover_after(length, Recovery::ThawBroker(place));
            }
            Fault::ApiCut => instance.api.cut(),
            Fault::ApiSilent(length) => {
                instance.api.freeze();
                self.recover_after(length, Recovery::ThawApi(place));
            }
            Fault::HeldWrites => {
                instance.api.freeze();
                self.pause(200);
                self.kill(place);
                self.recover_after(self.plan.write_lag / 3, Recovery::ThawApi(place));
            }
        }
    }

    fn kill(&mut self, place: usize) {
        if let Some(worker) = self.instances[place].worker.take() {
            worker.kill();
        }
    }

    fn signal(&self, place: usize, name: &str) {
        if let Some(worker) = &self.instances[place].worker {
            worker.signal(name);
        }
    }

    fn recover_after(&mut self, milliseconds: u64, what: Recovery) {
        self.recoveries.push((Instant::now() + Duration::from_millis(milliseconds), what));
    }

    /// Waits, and ends the faults that are due.
    fn pause(&mut self, milliseconds: u64) {
        let end = Instant::now() + Duration::from_millis(milliseconds);
        loop {
            let now = Instant::now();
            let (due, pending) = self.recoveries.drain(..).partition(|&(at, _)| at <= now);
            self.recoveries = pending;
            due.into_iter().for_each(|(_, what)| self.end_fault(what));
            if now >= end {
                return;
            }
            // The plan decides the moments of the faults, so there is nothing to observe here.
            thread::sleep(Duration::from_millis(10).min(end - now));
        }
    }

    fn end_fault(&self, what: Recovery) {
        match what {
            Recovery::Continue(place) => self.signal(place, "CONT"),
            Recovery::ThawBroker(place) => self.instances[place].broker.thaw(),
            Recovery::ThawApi(place) => self.instances[place].api.thaw(),
        }
    }

    fn finish_recoveries(&mut self) {
        while !self.recoveries.is_empty() {
            self.pause(10);
        }
    }

    fn queues(&self) -> Vec<String> {
        LANES.iter().take(self.plan.lanes).map(|lane| format!("imageshare.jobs.{lane}")).collect()
    }

    /// Messages in the queues of the lanes, ready or unacknowledged.
    fn left(&self) -> u64 {
        self.queues().iter().map(|queue| self.vhost.depth(queue)).map(|depth| depth.ready + depth.held).sum()
    }

    /// Ends all faults and waits until every job has a report and the queues are empty.
    fn settle(&mut self) {
        self.finish_recoveries();
        self.sandbox.faults(&json!({}));
        self.start_workers();
        let begun = Instant::now();
        let jobs = u64::try_from(self.published.len()).unwrap();
        while self.vhost.depth(REPORTS).ready < jobs || self.left() > 0 {
            if begun.elapsed() > SETTLED_WITHIN {
                eprintln!("not settled: {}", self.progress());
                break;
            }
            self.pause(100);
        }
        // Let late writes take effect; no worker sends anything more.
        for place in self.alive() {
            self.kill(place);
        }
        self.pause(if self.holds_back() { self.plan.write_lag } else { 0 });
    }

    /// Whether a late write is still pending.
    fn holds_back(&self) -> bool {
        self.sandbox.requests().iter().any(|request| request["fault"] == "apply_late" && request.get("late").is_none())
    }

    fn record(mut self, initial: &Value) -> Value {
        self.leaving.clear();
        let left = self.left();
        let client = Amqp::open(&self.vhost.url());
        let requests = self.sandbox.requests();
        assert!(requests.len() < Sandbox::REMEMBERED, "the sandbox remembers all requests");
        let state = self.sandbox.state();
        let body = |message: &[u8]| serde_json::from_slice::<Value>(message).unwrap();
        let reports: Vec<Value> = client.take_all(REPORTS).iter().map(|message| body(&message.body)).collect();
        let dead: Vec<Value> = client
            .take_all(DEAD)
            .iter()
            .map(|message| {
                let header = |name: &str| {
                    let headers = message.headers.as_ref()?.inner();
                    headers.get(name).and_then(AMQPValue::as_long_string).map(ToString::to_string)
                };
                json!({"reason": header("imageshare-reason"), "code": header("imageshare-code"), "body": body(&message.body)})
            })
            .collect();
        let longest_freeze = self.plan.steps.iter().map(|step| match step.fault {
            Fault::Freeze(length) | Fault::ApiSilent(length) => length,
            _ => 0,
        });
        let frozen = longest_freeze.max().unwrap_or_default();
        let hosts: BTreeMap<_, _> = self
            .instances
            .iter()
            .map(|instance| (instance.pid.to_string(), format!("127.0.0.1:{}", instance.api.port)))
            .collect();
        let is_invalid = |job: &&Value| job["job_id"].as_str().is_some_and(|id| self.plan.invalid.contains(id));
        let record = json!({
            "seed": self.plan.seed,
            "jobs": self.published.iter().filter(|job| !is_invalid(job)).collect::<Vec<_>>(),
            "invalid": self.plan.invalid,
            "reports": reports,
            "dead": dead,
            "requests": requests,
            "initial": initial,
            "last": state.iter().map(|(image, set)| (image.clone(), texts(set))).collect::<BTreeMap<_, _>>(),
            "left": left,
            "hosts": hosts,
            "unknown": texts(&self.plan.unknown),
            "cap": self.plan.cap,
            "in_flight": (self.plan.latency + PROCESSING + frozen) * 1000,
            "in_doubt": (self.plan.write_lag + CALL_TIMEOUT + PROCESSING + frozen) * 1000,
        });
        drop(client);
        self.vhost.delete();
        record
    }
}

fn start_sandbox(folder: &Folder, plan: &Plan) -> Sandbox {
    let unknown = texts(&plan.unknown);
    let mut world = format!("open_accounts = true\nread_delay = {LISTING_LAG:?}\nunknown_accounts = {unknown:?}\n");
    let mut keys = String::new();
    for lane in LANES {
        let key = format!("secret_id = \"AKID{lane}\"\nsecret_key = \"sandbox-secret-key-of-{lane}\"\n");
        write!(world, "[[keys]]\n{key}account = \"100009999999\"\n").unwrap();
        write!(keys, "[{lane}]\n{}", key.replace('"', "")).unwrap();
    }
    for ((image, lane), shared) in plan.images.iter().zip(&plan.initial) {
        let (region, shared) = (REGIONS[*lane], texts(shared));
        write!(world, "[[images]]\nid = {image:?}\nregion = {region:?}\nshared = {shared:?}\n").unwrap();
    }
    folder.file("credentials", keys);
    let world = folder.file("world.toml", world);
    let (latency, rps, cap) = (format!("{}ms", plan.latency), plan.limits.0.to_string(), plan.cap.to_string());
    Sandbox::start(&["--world", world.to_str().unwrap(), "--latency", &latency, "--rps", &rps, "--cap", &cap])
}

fn texts<'a>(accounts: impl IntoIterator<Item = &'a u64>) -> Vec<String> {
    accounts.into_iter().map(ToString::to_string).collect()
}
