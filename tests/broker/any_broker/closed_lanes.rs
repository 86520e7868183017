//! The API's side fails for all: the lane closes and says why, no job fails for it, and it goes on by itself.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use kit::{Node, Relay, Sandbox, history::History, size, stage::Stage};

/// The API fails while jobs come, and works again later.
#[track_caller]
fn check_away(
    seed: u64,
    reason: &str,
    is_for_long: bool,
    fail: impl Fn(&Stage<'_>, &Relay),
    mend: impl Fn(&Stage<'_>, &Relay),
) {
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0", "--latency", "20ms"]), 100);
    let endpoint = Relay::to(stage.sandbox.port());
    let mut history = History::of(seed);
    let worker = stage.worker_between(stage.vhost.node.port, endpoint.port);
    worker.until_subscribed();
    stage.publish_random(&mut history, 100);
    worker.until_serving();
    let failed = Instant::now();
    fail(&stage, &endpoint);
    stage.publish_random(&mut history, 100);
    let reason = format!(r#""reason":"{reason}""#);
    worker.until_logged_after(0, &["lane closed", &reason]);
    if is_for_long {
        worker.until_logged_after(0, &["given back", r#""reason":"closed""#]);
    }
    // Not waiting for anything: it is to be away for so long.
    thread::sleep(Duration::from_secs(size(5, 120)).saturating_sub(failed.elapsed()));
    let mark = worker.mark();
    mend(&stage, &endpoint);
    // A probe may be a minute away.
    worker.until_logged_after(mark, &["lane opened"]);
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn refusing_endpoint_requeues_jobs() {
    check_away(43, "endpoint", true, |_, endpoint| endpoint.refuse(), |_, endpoint| endpoint.serve_again());
}

#[test]
fn silent_endpoint_fails_no_job() {
    let mend = |_: &Stage<'_>, endpoint: &Relay| {
        // What it was sent meanwhile never arrives: so long after, nothing does.
        endpoint.cut();
        endpoint.thaw();
    };
    check_away(44, "endpoint", false, |_, endpoint| endpoint.freeze(), mend);
}

#[test]
fn trickling_responses_fail_no_job() {
    let trickle = |rate| move |_: &Stage<'_>, endpoint: &Relay| endpoint.set(|state| state.bytes_a_second = rate);
    check_away(45, "endpoint", false, trickle(Some(10)), trickle(None));
}

#[test]
fn revoked_credential_closes_lane_until_restored() {
    let revoke = |stage: &Stage<'_>, _: &Relay| stage.sandbox.fail_all("expired_credential");
    check_away(42, "credential", false, revoke, |stage, _| stage.sandbox.faults(&json!({})));
}
