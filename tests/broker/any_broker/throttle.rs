//! The API refuses what is too much: nothing fails for it, and what it lets through is used.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use kit::{
    Node, Sandbox,
    history::{History, account, image},
    size,
    stage::Stage,
    until,
    worker::Worker,
};

const IMAGES: u64 = 10;

/// Requests a second that the API lets through, and that the worker believes to be allowed.
const ALLOWED: u32 = 10;
const BELIEVED: u32 = 20;

/// How long the worker may take to find out what is allowed, and how long it is watched then.
const LEARNS: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(10);

/// Requests that were let through and those that were too many.
fn counts(stage: &Stage<'_>) -> (u64, u64) {
    let stats = stage.sandbox.stats();
    let of = |code: &str| stats["by_code"][code].as_u64().unwrap_or_default();
    (of("ok"), of("RequestLimitExceeded"))
}

/// A worker that believes in a higher limit than there is, and jobs of one account each, so many of them in a request.
#[track_caller]
fn start(jobs: u32, batch: &str) -> (Stage<'static>, History, Worker) {
    let sandbox = Sandbox::start(&["--rps", &ALLOWED.to_string(), "--latency", "20ms"]);
    let stage = Stage::new(Node::any(), sandbox, BELIEVED);
    let mut history = History::default();
    for number in 0..u64::from(jobs) {
        history.add(&image(number % IMAGES), true, [account(number)]);
    }
    stage.publish(&history.jobs);
    let worker = Worker::start(stage.program("worker").env("IMAGESHARE_BATCH", batch));
    until("something is written", || (stage.sandbox.writes() > 0).then_some(()));
    (stage, history, worker)
}

#[test]
fn lower_rate_limit_is_detected_and_used() {
    let (stage, history, worker) = start(30 * ALLOWED, "1");
    // Not waiting for anything: it may take so long.
    thread::sleep(LEARNS);
    let (before, since) = (counts(&stage), Instant::now());
    thread::sleep(WATCHED);
    let (now, took) = (counts(&stage), since.elapsed());
    let (let_through, refused) = (now.0 - before.0, now.1 - before.1);
    let possible = took.as_secs_f64() * f64::from(ALLOWED);
    assert!(let_through as f64 >= 0.9 * possible, "{let_through} of {possible} possible requests were let through");
    assert!(refused * 20 <= let_through + refused, "{refused} refused beside {let_through}");
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn throttle_storm_lowers_rate_and_fails_no_job() {
    let storm = Duration::from_secs(size(5, 60));
    // Few requests: what is lost of the rate comes back slowly.
    let (stage, history, worker) = start(50 * ALLOWED, "20");
    stage.sandbox.fail_all("throttle");
    let before = counts(&stage);
    // Not waiting for anything: it is to last so long.
    thread::sleep(storm);
    let refused = counts(&stage).1 - before.1;
    // Halved every other second, and never quite silent.
    assert!(refused > 0 && refused <= u64::from(4 * BELIEVED) + storm.as_secs(), "{refused} were refused");
    stage.sandbox.faults(&json!({}));
    assert!(!worker.said().contains("lane closed"), "{}", worker.said());
    stage.check_done(&history);
    worker.drain();
}
