//! The API's side fails for all: the lane closes and says why, no job fails for it, and it goes on by itself.

use std::{thread, time::Instant};

use serde_json::json;

use kit::{
    Node, Relay, Sandbox, Sizes,
    history::{History, Random},
    stage::Stage,
};

const IMAGES: u64 = 5;

#[test]
fn an_endpoint_that_is_away_for_long_gives_the_lane_back_until_it_is_there_again() {
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0"]), 100);
    let endpoint = Relay::to(stage.sandbox.port());
    let (mut history, mut random) = (History::default(), Random::of(41));
    history.add_random(&mut random, 100, IMAGES);
    endpoint.refuse();
    let worker = stage.worker_between(stage.vhost.node.port, endpoint.port);
    stage.publish(&history.jobs);
    worker.until_logged_after(0, &["the lane is closed", r#""reason":"endpoint""#]);
    assert_eq!(stage.reports().len(), 0);
    worker.until_long_logged_after(0, &["given back", r#""reason":"closed""#]);
    let mark = worker.mark();
    endpoint.serve_again();
    worker.until_long_logged_after(mark, &["the lane is open again"]);
    stage.check_done(&history);
    worker.drain();
}

/// The endpoint goes away while jobs come, and is there again after a while.
#[track_caller]
fn check_away(seed: u64, leave: impl Fn(&Relay), come_back: impl Fn(&Relay)) {
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0", "--latency", "20ms"]), 100);
    let endpoint = Relay::to(stage.sandbox.port());
    let (mut history, mut random) = (History::default(), Random::of(seed));
    let worker = stage.worker_between(stage.vhost.node.port, endpoint.port);
    worker.until_subscribed();
    history.add_random(&mut random, 100, IMAGES);
    stage.publish(&history.jobs);
    worker.until_serving();
    let left = Instant::now();
    leave(&endpoint);
    history.add_random(&mut random, 100, IMAGES);
    stage.publish(&history.jobs[100..]);
    worker.until_logged_after(0, &["the lane is closed", r#""reason":"endpoint""#]);
    // Not waiting for anything: it is to be away for so long.
    thread::sleep(Sizes::of_run().endpoint_away.saturating_sub(left.elapsed()));
    let mark = worker.mark();
    come_back(&endpoint);
    // A probe may be a minute away.
    worker.until_long_logged_after(mark, &["the lane is open again"]);
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn an_endpoint_that_refuses_for_a_while_fails_no_job() {
    check_away(43, Relay::refuse, Relay::serve_again);
}

#[test]
fn an_endpoint_that_is_silent_for_a_while_fails_no_job() {
    check_away(44, Relay::freeze, |endpoint| {
        // What it was sent meanwhile never arrives: so long after, nothing does.
        endpoint.cut();
        endpoint.thaw();
    });
}

#[test]
fn an_endpoint_whose_answers_trickle_for_a_while_fails_no_job() {
    check_away(45, |endpoint| endpoint.trickle(true), |endpoint| endpoint.trickle(false));
}

#[test]
fn a_credential_that_is_revoked_closes_the_lane_until_it_is_restored() {
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0"]), 100);
    let (mut history, mut random) = (History::default(), Random::of(42));
    let worker = stage.worker();
    history.add_random(&mut random, 50, IMAGES);
    stage.publish(&history.jobs);
    stage.until_worked_off();
    let revoked = ["ModifyImageSharePermission", "DescribeImageSharePermission", "DescribeImages"]
        .map(|action| json!({"action": action, "times": 1_000_000, "do": "expired_credential"}));
    stage.sandbox.faults(&json!({ "script": revoked }));
    history.add_random(&mut random, 50, IMAGES);
    stage.publish(&history.jobs[50..]);
    worker.until_logged_after(0, &["the lane is closed", r#""reason":"credential""#]);
    stage.sandbox.faults(&json!({}));
    worker.until_logged_after(0, &["the lane is open again"]);
    stage.check_done(&history);
    worker.drain();
}
