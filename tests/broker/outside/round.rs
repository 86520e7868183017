//! Runs one round: two workers, a sandbox and a broker, with the faults of the plan, until every job is reported.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::plan::{RoundFault, RoundPlan, texts};
use kit::{
    BrokerNode, ReceivedMessage, Relay, SandboxProcess,
    history::REGIONS,
    setup::{DEAD, REPORTS, TWO_LANES, TestSetup},
    worker::Worker,
};

/// How long a round may take to settle. A correct worker needs a fraction of this.
const SETTLED_WITHIN: Duration = Duration::from_secs(90);

/// How long a worker on a busy machine may take to process a response that has arrived, in milliseconds.
const PROCESSING: u64 = 1000;

/// Ends a fault of an instance.
type Recover = fn(&Instance);

/// A running round.
pub(super) struct Round<'a> {
    plan: &'a RoundPlan,
    setup: TestSetup<'a>,
    instances: Vec<Instance>,
    recoveries: Vec<(Instant, usize, Recover)>,
    reports: Vec<Value>,
}

/// A worker behind its own relays to the broker and to the API. The relays outlive the worker.
struct Instance {
    worker: Option<Worker>,
    /// Whether it received SIGTERM. Faults that began before still have to end for it.
    is_leaving: bool,
    pid: u32,
    broker: Relay,
    api: Relay,
}

impl Instance {
    fn signal(&self, name: &str) {
        if let Some(worker) = &self.worker {
            worker.signal(name);
        }
    }
}

impl<'a> Round<'a> {
    /// Runs a plan on a node and returns its record.
    pub(super) fn run(node: &'a BrokerNode, plan: &'a RoundPlan) -> Value {
        let setup = set_up(node, plan);
        let initial = setup.sandbox.state();
        let (instances, recoveries, reports) = (Vec::new(), Vec::new(), Vec::new());
        let mut round = Self { plan, setup, instances, recoveries, reports };
        if !plan.jobs_first {
            round.start_workers();
        }
        for step in &plan.steps {
            round.prepare(&step.fault);
            round.setup.publish(&step.jobs);
            round.start_workers();
            round.pause(step.pause);
            round.inject(&step.fault, step.victim);
        }
        round.settle();
        round.record(&initial)
    }

    /// Starts workers until two are running.
    fn start_workers(&mut self) {
        while self.alive().len() < 2 {
            let (broker, api) = (Relay::to(self.setup.vhost.node.port), Relay::to(self.setup.sandbox.port()));
            let worker = self.setup.worker_via(broker.port, api.port);
            self.instances.push(Instance { pid: worker.id(), worker: Some(worker), is_leaving: false, broker, api });
        }
    }

    /// Indexes of the workers that were neither killed nor sent SIGTERM, oldest first.
    fn alive(&self) -> Vec<usize> {
        let is_alive = |instance: &Instance| instance.worker.is_some() && !instance.is_leaving;
        (0..self.instances.len()).filter(|&place| is_alive(&self.instances[place])).collect()
    }

    /// Configures the faults of the sandbox, which must precede the jobs.
    fn prepare(&self, fault: &RoundFault) {
        let write = "ModifyImageSharePermission";
        let list = "DescribeImageSharePermission";
        let faults = match fault {
            RoundFault::LateWrites(late) => {
                let late = format!("apply_late:{}", Duration::from_millis(*late).as_secs_f64());
                json!({"script": [{"action": write, "nth": 2, "times": 3, "do": late}]})
            }
            RoundFault::Throttle(times) => json!({"script": [
                {"action": write, "nth": 2, "times": times, "do": "throttle"},
                {"action": list, "times": times, "do": "throttle"},
            ]}),
            RoundFault::Errors(error) => json!({"script": [
                {"action": write, "nth": 2, "do": error},
                {"action": write, "nth": 4, "times": 2, "do": error},
                {"action": list, "nth": 2, "do": error},
            ]}),
            RoundFault::Busy(length) => {
                let (image, _) = &self.plan.images[0];
                json!({"busy_images": {image: Duration::from_millis(*length).as_secs_f64()}})
            }
            _ => return,
        };
        self.setup.sandbox.faults(&faults);
    }

    fn inject(&mut self, fault: &RoundFault, victim: usize) {
        let alive = self.alive();
        // The oldest worker is usually the active one.
        let place = alive[if victim == 2 { alive.len() - 1 } else { 0 }];
        let instance = &self.instances[place];
        match *fault {
            RoundFault::Nothing | RoundFault::Throttle(_) | RoundFault::Errors(_) | RoundFault::Busy(_) => {}
            RoundFault::Kill | RoundFault::LateWrites(_) => self.kill(place),
            RoundFault::KillBoth => alive.into_iter().for_each(|place| self.kill(place)),
            RoundFault::Freeze(length) => {
                self.instances[place].signal("STOP");
                self.recover_after(length, place, |instance| instance.signal("CONT"));
            }
            RoundFault::Drain => {
                self.signal_started(place, "TERM");
                self.instances[place].is_leaving = true;
            }
            RoundFault::Reload => {
                let batch = self.plan.batch;
                let (from, to) = (format!("batch = {batch}\n"), format!("batch = {}\n", batch % 40 + 5));
                self.setup.change_settings(instance.api.port, &from, &to);
                self.signal_started(place, "HUP");
            }
            RoundFault::BrokerKilled | RoundFault::BrokerRestarted => {
                self.finish_recoveries();
                let node = self.setup.vhost.node;
                if *fault == RoundFault::BrokerKilled {
                    node.kill();
                } else {
                    node.stop();
                }
                node.start_again();
            }
            RoundFault::BrokerFrozen(length) => {
                self.setup.vhost.node.signal("STOP");
                self.pause(length);
                self.setup.vhost.node.signal("CONT");
            }
            RoundFault::ConnectionsClosed => self.setup.vhost.close_connections(),
            RoundFault::BrokerCut => instance.broker.cut(),
            RoundFault::BrokerCutAfter(bytes) => {
                let bytes = usize::try_from(bytes).unwrap();
                instance.broker.set(|state| state.allowance = Some(bytes));
            }
            RoundFault::BrokerSilent(length) => {
                instance.broker.freeze();
                self.recover_after(length, place, |instance| instance.broker.thaw());
            }
            RoundFault::ApiCut => instance.api.cut(),
            RoundFault::ApiSilent(length) => {
                instance.api.freeze();
                self.recover_after(length, place, |instance| instance.api.thaw());
            }
            RoundFault::HeldWrites => {
                instance.api.freeze();
                self.pause(200);
                self.kill(place);
                self.recover_after(self.plan.write_lag / 3, place, |instance| instance.api.thaw());
            }
        }
    }

    fn kill(&mut self, place: usize) {
        if let Some(worker) = self.instances[place].worker.take() {
            worker.kill();
        }
    }

    /// Sends a signal once the worker has signal handlers, before which it would die.
    fn signal_started(&mut self, place: usize, name: &str) {
        while self.instances[place].worker.as_ref().is_some_and(|worker| !worker.stderr().contains("starting")) {
            self.pause(10);
        }
        self.instances[place].signal(name);
    }

    /// Schedules the end of a fault.
    fn recover_after(&mut self, milliseconds: u64, place: usize, recover: Recover) {
        self.recoveries.push((Instant::now() + Duration::from_millis(milliseconds), place, recover));
    }

    /// Waits, and ends the faults that are due.
    fn pause(&mut self, milliseconds: u64) {
        let end = Instant::now() + Duration::from_millis(milliseconds);
        loop {
            let now = Instant::now();
            let (due, pending) = self.recoveries.drain(..).partition(|&(at, ..)| at <= now);
            self.recoveries = pending;
            due.into_iter().for_each(|(_, place, recover)| recover(&self.instances[place]));
            if now >= end {
                return;
            }
            // The plan determines the moments of the faults; there is no condition to wait for.
            thread::sleep(Duration::from_millis(10).min(end - now));
        }
    }

    fn finish_recoveries(&mut self) {
        while !self.recoveries.is_empty() {
            self.pause(10);
        }
    }

    /// Messages that wait in the queues of the lanes.
    fn left(&self) -> usize {
        self.setup.queues().map(|queue| self.setup.client().ready(&queue)).sum()
    }

    /// Ends all faults, waits until every job has a report and the queues are empty, and ends all workers, which then
    /// hold nothing.
    fn settle(&mut self) {
        self.finish_recoveries();
        self.setup.sandbox.faults(&json!({}));
        self.start_workers();
        let begun = Instant::now();
        let mut missing: BTreeSet<&str> =
            self.plan.steps.iter().flat_map(|step| &step.jobs).filter_map(|job| job["job_id"].as_str()).collect();
        while !missing.is_empty() || self.left() > 0 {
            if begun.elapsed() > SETTLED_WITHIN {
                eprintln!("not settled: {} jobs without a report, {} in the queues", missing.len(), self.left());
                break;
            }
            self.pause(100);
            let reports = self.setup.client().take_all(REPORTS);
            self.reports.extend(reports.iter().map(ReceivedMessage::json));
            for report in &self.reports[self.reports.len() - reports.len()..] {
                missing.remove(report["job_id"].as_str().unwrap_or_default());
            }
        }
        for place in self.alive() {
            self.instances[place].worker.take().map(Worker::drain);
        }
        for worker in self.instances.iter_mut().filter_map(|instance| instance.worker.take()) {
            let (code, log) = worker.wait();
            assert_eq!(code, Some(0), "{log}");
        }
        // LateEffect writes take effect; no worker sends anything more.
        let is_pending = |request: &Value| request["fault"] == "apply_late" && request.get("late").is_none();
        let is_pending = self.setup.sandbox.requests().iter().any(is_pending);
        self.pause(if is_pending { self.plan.write_lag } else { 0 });
    }

    fn record(mut self, initial: &BTreeMap<String, BTreeSet<u64>>) -> Value {
        let client = self.setup.client();
        let requests = self.setup.sandbox.requests();
        assert!(requests.len() < SandboxProcess::REQUESTS_MAX, "the sandbox remembers all requests");
        self.reports.extend(client.take_all(REPORTS).iter().map(ReceivedMessage::json));
        let letter = |message: &ReceivedMessage| {
            json!({"reason": message.header("imageshare-reason"), "code": message.header("imageshare-code"),
                "body": message.json()})
        };
        let longest_freeze = self.plan.steps.iter().map(|step| match step.fault {
            RoundFault::Freeze(length) | RoundFault::ApiSilent(length) => length,
            _ => 0,
        });
        let frozen = longest_freeze.max().unwrap_or_default();
        let host = |instance: &Instance| (instance.pid.to_string(), format!("127.0.0.1:{}", instance.api.port));
        let is_invalid = |job: &&Value| job["job_id"].as_str().is_some_and(|id| self.plan.invalid.contains(id));
        let RoundPlan { write_lag, latency, call_timeout, .. } = *self.plan;
        let record = json!({
            "jobs": self.plan.steps.iter().flat_map(|step| &step.jobs).filter(|job| !is_invalid(job)).collect::<Vec<_>>(),
            "invalid": self.plan.invalid,
            "reports": self.reports,
            "dead": client.take_all(DEAD).iter().map(letter).collect::<Vec<_>>(),
            "requests": requests,
            "initial": initial,
            "last": self.setup.sandbox.state(),
            "left": self.left(),
            "hosts": self.instances.iter().map(host).collect::<BTreeMap<_, _>>(),
            "unknown": self.plan.unknown,
            "cap": self.plan.cap,
            "in_flight": (latency + PROCESSING + frozen) * 1000,
            "in_doubt": (write_lag + call_timeout + PROCESSING + frozen) * 1000,
            "is_calm": self.plan.is_calm,
            "repeats_max": self.plan.repeats_max(),
        });
        drop(client);
        self.setup.vhost.delete();
        record
    }
}

/// Starts the sandbox and declares the queues.
fn set_up<'a>(node: &'a BrokerNode, plan: &RoundPlan) -> TestSetup<'a> {
    let RoundPlan { write_lag, read_lag, call_timeout, heartbeat, prefetch, cap, .. } = *plan;
    let lag = Duration::from_millis(read_lag).as_secs_f64();
    let mut world =
        format!("open_accounts = true\nread_lag = {lag:?}\nunknown_accounts = {:?}\n", texts(&plan.unknown));
    for ((image, lane), shared) in plan.images.iter().zip(&plan.initial) {
        let (region, shared) = (REGIONS[*lane], texts(shared));
        write!(world, "[[images]]\nid = {image:?}\nregion = {region:?}\nshared = {shared:?}\n").unwrap();
    }
    let cap_known = if plan.cap_is_known { format!("cap = {cap}\n") } else { String::new() };
    let lease = plan.lease.map(|lease| format!("lease = \"{lease}s\"\n")).unwrap_or_default();
    // Listings of the sandbox may be a little older than the read lag of its world.
    let read_lag = if read_lag > 0 { read_lag + 50 } else { 0 };
    let settings = format!(
        "[engine]\n{cap_known}write_lag = \"{write_lag}ms\"\nread_lag = \"{read_lag}ms\"\n[http]\n\
         connect_timeout = \"500ms\"\ncall_timeout = \"{call_timeout}ms\"\n[broker]\nheartbeat = \"{heartbeat}s\"\n\
         prefetch = {prefetch}\n{lease}"
    );
    let of_lane = format!("rate = {}\nbatch = {}\n", plan.limits.1, plan.batch);
    let (latency, rps, cap) = (format!("{}ms", plan.latency), plan.limits.0.to_string(), cap.to_string());
    let flags = ["--latency", &latency, "--rps", &rps, "--cap", &cap];
    TestSetup::in_world(node, &TWO_LANES[..plan.lanes], &flags, &world, &settings, &of_lane)
}
