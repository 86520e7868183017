//! API rate limits: throttled requests fail no job, and the worker uses the rate that the API admits.

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

/// Requests per second: the API's limit, and the worker's setting.
const LIMIT: u32 = 10;
const SETTING: u32 = 20;

/// How long the worker may take to detect the limit, and how long its rate is then measured.
const DETECTION: Duration = Duration::from_secs(10);
const MEASUREMENT: Duration = Duration::from_secs(10);

/// Returns the numbers of admitted and of throttled requests.
fn counts(setup: &TestSetup<'_>) -> (u64, u64) {
    let stats = setup.sandbox.stats();
    let of = |code: &str| stats["by_code"][code].as_u64().unwrap_or_default();
    (of("ok"), of("RequestLimitExceeded"))
}

/// Starts a worker whose rate is above the limit, and publishes jobs of one account each.
#[track_caller]
fn start(jobs: u32, batch: &str) -> (TestSetup<'static>, JobHistory, Worker) {
    let sandbox = SandboxProcess::start(&["--rps", &LIMIT.to_string(), "--latency", "20ms"]);
    let setup = TestSetup::new(BrokerNode::any(), sandbox, SETTING);
    let mut history = JobHistory::default();
    for number in 0..u64::from(jobs) {
        history.share(&image(number % IMAGES), [account(number)]);
    }
    setup.publish(&history.jobs);
    let worker = Worker::start(setup.program("worker").env("IMAGESHARE_BATCH", batch));
    wait_until("the worker writes", || (setup.sandbox.writes() > 0).then_some(()));
    (setup, history, worker)
}

#[test]
fn lower_rate_limit_is_detected_and_used() {
    let (setup, history, worker) = start(30 * LIMIT, "1");
    // The time for detection is a bound, not a condition to wait for.
    thread::sleep(DETECTION);
    let (before, since) = (counts(&setup), Instant::now());
    thread::sleep(MEASUREMENT);
    let (now, took) = (counts(&setup), since.elapsed());
    let (admitted, throttled) = (now.0 - before.0, now.1 - before.1);
    let possible = took.as_secs_f64() * f64::from(LIMIT);
    // A process that was not scheduled for a moment is throttled, and lowers its rate. Without detection half of the requests
    // would be throttled, and more.
    assert!(admitted as f64 >= 0.4 * possible, "{admitted} of {possible} possible requests were admitted");
    assert!(throttled * 3 <= admitted, "{throttled} throttled, {admitted} admitted");
    setup.check_all_succeeded(&history);
    worker.drain();
}

#[test]
fn throttle_storm_lowers_rate_and_fails_no_job() {
    let storm = Duration::from_secs(size(5, 60));
    // Few requests, since the rate recovers slowly.
    let (setup, history, worker) = start(50 * LIMIT, "20");
    setup.sandbox.fail_all("throttle");
    let before = counts(&setup);
    // The length of the storm is a parameter, not a condition to wait for.
    thread::sleep(storm);
    let throttled = counts(&setup).1 - before.1;
    // The rate is halved every other second, but never to zero.
    assert!(throttled > 0 && throttled <= u64::from(4 * SETTING) + storm.as_secs(), "{throttled} throttled");
    setup.sandbox.faults(&json!({}));
    assert!(!worker.stderr().contains("lane closed"), "{}", worker.stderr());
    setup.check_all_succeeded(&history);
    worker.drain();
}
