//! The whole worker under load: RabbitMQ, sandbox and `imageshare worker` as processes of their own, held against a
//! bare loop of the same client library on the same broker in the same run.
//!
//! `cargo bench --bench broker [-- start | throughput | sizes | lanes | backlog | held]`; `benches/README.md` explains the figures.
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a bench is a program for people, and ends where a helper fails"
)]

mod bare;
mod observed;

use std::{collections::BTreeMap, env, time::Duration};

use kit::{
    BrokerNode, Program, SandboxProcess,
    history::{REGIONS, account, image},
    setup::{LANES, REPORTS, TestSetup},
};
use serde_json::{Value, json};

use crate::observed::{MeasuredProcess, Observed};

/// Jobs for each image, with one account each: the API's limit of accounts.
const JOBS_PER_IMAGE: usize = 500;

/// Alternating measurements of the worker and the bare loop; the best of each counts.
const ROUNDS: usize = 5;

/// The prefetch, unless a bench sets another one.
const PREFETCH: u16 = 10_000;

/// A mebibyte in kibibytes.
const MIB: u64 = 1024;

fn main() -> lapin::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [name, url, report_len] = &arguments[..]
        && name == "bare"
    {
        return bare::run(url, PREFETCH, report_len.parse().unwrap());
    }
    // Cargo passes `--bench`.
    let chosen: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|chosen| *chosen == name);
    let node = BrokerNode::start();
    if is_chosen("start") {
        start(&node);
    }
    if is_chosen("throughput") {
        throughput(&node);
    }
    if is_chosen("sizes") {
        sizes(&node);
    }
    if is_chosen("lanes") {
        lanes(&node);
    }
    if is_chosen("backlog") {
        backlog(&node);
    }
    if is_chosen("held") {
        held(&node);
    }
    Ok(())
}

/// Measures the time from the start of the process until it consumes.
fn start(node: &BrokerNode) {
    let setup = setup(node, PREFETCH);
    let times: Vec<Duration> = (0..ROUNDS)
        .map(|_| MeasuredProcess::start(setup.program("worker")).wait_for_stderr(r#""state":"subscribed""#))
        .collect();
    let (best, worst) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    println!("start to consuming: {:.0} to {:.0} ms of {ROUNDS} (target: below 500 ms)", millis(*best), millis(*worst));
}

/// Measures 20,000 jobs with the bare loop and the worker in turn.
fn throughput(node: &BrokerNode) {
    const JOBS: usize = 20_000;
    let report_len = report_len(node);
    println!("{JOBS} jobs over {} images, prefetch {PREFETCH}, reports of {report_len} bytes", images(JOBS));
    let mut best: BTreeMap<&str, Observed> = BTreeMap::new();
    for _ in 0..ROUNDS {
        for subject in ["bare loop", "worker"] {
            let setup = filled(node, JOBS, PREFETCH);
            let program = match subject {
                "worker" => setup.program("worker"),
                _ => Program::external(
                    env::current_exe().unwrap(),
                    ["bare", &setup.vhost.url(), &report_len.to_string()],
                ),
            };
            let observed = observed::measure(&setup, MeasuredProcess::start(program), JOBS);
            println!("  {subject:<10} {observed}");
            best.entry(subject).and_modify(|best| *best = best.clone().better(&observed)).or_insert(observed);
        }
    }
    let rate = |subject| best.get(subject).map_or(0.0, |observed: &Observed| observed.rate());
    for (subject, observed) in &best {
        println!("best {subject:<10} {observed}");
    }
    println!("worker / bare loop: {:.0} % (target: 80 %)", 100.0 * rate("worker") / rate("bare loop"));
}

/// Measures the same number of accounts in jobs of different sizes.
fn sizes(node: &BrokerNode) {
    const ACCOUNTS: usize = 100_000;
    println!("{ACCOUNTS} accounts in jobs of several sizes");
    for each in [1, 5, 50, 500] {
        let setup = setup(node, PREFETCH);
        let (jobs, of_image) = (ACCOUNTS / each, (JOBS_PER_IMAGE / each) as u64);
        let job = |number: u64| {
            let first = number / (jobs as u64 / of_image) * each as u64;
            let accounts: Vec<String> =
                (first..first + each as u64).map(|number| account(number).to_string()).collect();
            job(number, &image(number % (jobs as u64 / of_image)), REGIONS[0], &accounts)
        };
        setup.publish(&(0..).take(jobs).map(job).collect::<Vec<_>>());
        let observed = observed::measure(&setup, MeasuredProcess::start(setup.program("worker")), jobs);
        println!("  {each:>3} accounts: {observed}");
    }
}

/// Measures the same jobs on one lane and on several.
fn lanes(node: &BrokerNode) {
    const JOBS: usize = 20_000;
    println!("{JOBS} jobs on several lanes");
    for count in [1, 2, 4, 8] {
        let broker = format!("prefetch = {PREFETCH}");
        let setup = TestSetup::with_lanes(node, &LANES[..count], &[], "rate = 1000", &broker);
        let of_lane = images(JOBS / count);
        let job = |number: u64| {
            let (lane, number_of_lane) = (number % count as u64, number / count as u64);
            let image = image(lane * of_lane + number_of_lane % of_lane);
            let region = REGIONS[usize::try_from(lane).unwrap()];
            job(number, &image, region, &[account(number_of_lane / of_lane).to_string()])
        };
        setup.publish(&(0..).take(JOBS).map(job).collect::<Vec<_>>());
        let observed = observed::measure(&setup, MeasuredProcess::start(setup.program("worker")), JOBS);
        println!("  {count} lanes: {observed}");
    }
}

/// Measures a queue of 100,000 jobs.
fn backlog(node: &BrokerNode) {
    const JOBS: usize = 100_000;
    let setup = filled(node, JOBS, PREFETCH);
    let observed = observed::measure(&setup, MeasuredProcess::start(setup.program("worker")), JOBS);
    println!("{JOBS} jobs, prefetch {PREFETCH}: {observed} (target: below 64 MiB)");
}

/// Measures 60,000 unacknowledged jobs for busy images, and their completion.
fn held(node: &BrokerNode) {
    const JOBS: u16 = 60_000;
    let setup = filled(node, JOBS.into(), JOBS);
    let busy_for = |seconds: f64| {
        let busy: BTreeMap<String, f64> = (0..images(JOBS.into())).map(|number| (image(number), seconds)).collect();
        setup.sandbox.faults(&json!({"busy_images": busy}));
    };
    busy_for(3600.0);
    let worker = MeasuredProcess::start(setup.program("worker"));
    worker.wait_for_stderr(r#""state":"blocked""#);
    assert_eq!(setup.lane_depth("default").held, u64::from(JOBS));
    println!("{JOBS} jobs held: {:.1} MiB (target: below 128 MiB)", mib(worker.peak_kib()));
    busy_for(0.0);
    println!("  then finished: {}", observed::measure(&setup, worker, JOBS.into()));
}

/// Creates a setup with practically no rate limit.
fn setup(node: &BrokerNode, prefetch: u16) -> TestSetup<'_> {
    TestSetup::with_settings(node, SandboxProcess::start(&["--rps", "0"]), 1000, &format!("prefetch = {prefetch}"))
}

/// Creates a setup with jobs of one account each in the queue.
fn filled(node: &BrokerNode, jobs: usize, prefetch: u16) -> TestSetup<'_> {
    let setup = setup(node, prefetch);
    let images = images(jobs);
    let job = |number: u64| job(number, &image(number % images), REGIONS[0], &[account(number / images).to_string()]);
    let jobs: Vec<Value> = (0..).take(jobs).map(job).collect();
    setup.publish(&jobs);
    setup
}

/// Returns a SHARE.
fn job(number: u64, image: &str, region: &str, accounts: &[String]) -> Value {
    json!({
        "job_id": format!("job-{number:06}"), "image_id": image, "region": region, "permission": "SHARE",
        "account_ids": accounts,
    })
}

/// Returns the number of images for a number of jobs.
fn images(jobs: usize) -> u64 {
    jobs.div_ceil(JOBS_PER_IMAGE) as u64
}

/// Measures the length of a report in bytes.
fn report_len(node: &BrokerNode) -> usize {
    let setup = filled(node, 1, PREFETCH);
    observed::measure(&setup, MeasuredProcess::start(setup.program("worker")), 1);
    setup.client().take(REPORTS, 1)[0].body.len()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

#[allow(clippy::cast_precision_loss, reason = "a memory size is far below 2^52 KiB")]
fn mib(kib: u64) -> f64 {
    kib as f64 / MIB as f64
}
