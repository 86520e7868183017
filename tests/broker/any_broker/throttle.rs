//! The API refuses what is too much: nothing fails for it, and what it lets through is used.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use kit::{
    BrokerNode, SandboxProcess,
    history::{JobHistory, account, image},
    setup::TestSetup,
    size, wait_until,
    worker::Worker,
};

const IMAGES: u64 = 10;

/// Requests a second that the API lets through, and that the worker believes to be allowed.
const ALLOWED: u32 = 10;
const BELIEVED: u32 = 20;

/// How long the worker may take to find out what is allowed, and how long it is monitored then.
const LEARNS: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(10);

/// Requests that were let through and those that were too many.
fn counts(setup: &TestSetup<'_>) -> (u64, u64) {
    let stats = setup.sandbox.stats();
    let of = |code: &str| stats["by_code"][code].as_u64().unwrap_or_default();
    (of("ok"), of("RequestLimitExceeded"))
}

/// A worker that believes in a higher limit than there is, and jobs of one account each, so many of them in a request.
#[track_caller]
fn start(jobs: u32, batch: &str) -> (TestSetup<'static>, JobHistory, Worker) {
    let sandbox = SandboxProcess::start(&["--rps", &ALLOWED.to_string(), "--latency", "20ms"]);
    let setup = TestSetup::new(BrokerNode::any(), sandbox, BELIEVED);
    let mut history = JobHistory::default();
    for number in 0..u64::from(jobs) {
        history.share(&image(number % IMAGES), [account(number)]);
    }
    setup.publish(&history.jobs);
    let worker = Worker::start(setup.program("worker").env("IMAGESHARE_BATCH", batch));
    wait_until("something is written", || (setup.sandbox.writes() > 0).then_some(()));
    (setup, history, worker)
}

#[test]
fn lower_rate_limit_is_detected_and_used() {
    let (setup, history, worker) = start(30 * ALLOWED, "1");
    // Not waiting for anything: it may take so long.
    thread::sleep(LEARNS);
    let (before, since) = (counts(&setup), Instant::now());
    thread::sleep(WATCHED);
    let (now, took) = (counts(&setup), since.elapsed());
    let (let_through, refused) = (now.0 - before.0, now.1 - before.1);
    let possible = took.as_secs_f64() * f64::from(ALLOWED);
    assert!(let_through as f64 >= 0.9 * possible, "{let_through} of {possible} possible requests were let through");
    assert!(refused * 20 <= let_through + refused, "{refused} refused beside {let_through}");
    setup.check_all_succeeded(&history);
    worker.drain();
}

#[test]
fn throttle_storm_lowers_rate_and_fails_no_job() {
    let storm = Duration::from_secs(size(5, 60));
    // Few requests: what is lost of the rate comes back slowly.
    let (setup, history, worker) = start(50 * ALLOWED, "20");
    setup.sandbox.fail_all("throttle");
    let before = counts(&setup);
    // Not waiting for anything: it is to last so long.
    thread::sleep(storm);
    let refused = counts(&setup).1 - before.1;
    // Halved every other second, and never quite silent.
    assert!(refused > 0 && refused <= u64::from(4 * BELIEVED) + storm.as_secs(), "{refused} were refused");
    setup.sandbox.faults(&json!({}));
    assert!(!worker.stderr().contains("the lane is closed"), "{}", worker.stderr());
    setup.check_all_succeeded(&history);
    worker.drain();
}
