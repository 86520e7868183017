//! Outages of the API: the lane closes with a reason, no job fails, and the lane reopens by itself.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use kit::{BrokerNode, Relay, SandboxProcess, history::JobHistory, setup::TestSetup, size};

/// Whether the lane stays closed until its jobs are requeued.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClosedFor {
    Short,
    Long,
}

/// Makes the API fail while jobs arrive, and work again later.
#[track_caller]
fn check_outage(
    seed: u64,
    reason: &str,
    closed_for: ClosedFor,
    fail: impl Fn(&TestSetup<'_>, &Relay),
    mend: impl Fn(&TestSetup<'_>, &Relay),
) {
    let setup = TestSetup::new(BrokerNode::any(), SandboxProcess::start(&["--rps", "0", "--latency", "20ms"]), 100);
    let endpoint = Relay::to(setup.sandbox.port());
    let mut history = JobHistory::for_scenario(seed);
    let worker = setup.worker_via(setup.vhost.node.port, endpoint.port);
    worker.wait_until_subscribed();
    setup.publish_random(&mut history, 100);
    worker.wait_until_serving();
    let failed = Instant::now();
    fail(&setup, &endpoint);
    setup.publish_random(&mut history, 100);
    let reason = format!(r#""reason":"{reason}""#);
    worker.wait_for_log_after(0, &["lane closed", &reason]);
    if closed_for == ClosedFor::Long {
        worker.wait_for_log_after(0, &["lane requeued", r#""reason":"closed""#]);
    }
    // The length of the outage is a parameter, not a condition to wait for.
    thread::sleep(Duration::from_secs(size(5, 120)).saturating_sub(failed.elapsed()));
    let mark = worker.mark();
    mend(&setup, &endpoint);
    // The next probe may be due in a minute.
    worker.wait_for_log_after(mark, &["lane opened"]);
    setup.check_all_succeeded(&history);
    worker.drain();
}

#[test]
fn refusing_endpoint_requeues_jobs() {
    check_outage(
        43,
        "endpoint",
        ClosedFor::Long,
        |_, endpoint| endpoint.refuse(),
        |_, endpoint| endpoint.serve_again(),
    );
}

#[test]
fn silent_endpoint_fails_no_job() {
    let mend = |_: &TestSetup<'_>, endpoint: &Relay| {
        // Requests sent meanwhile are lost: after this delay none would arrive.
        endpoint.cut();
        endpoint.thaw();
    };
    check_outage(44, "endpoint", ClosedFor::Short, |_, endpoint| endpoint.freeze(), mend);
}

#[test]
fn trickling_responses_fail_no_job() {
    let trickle = |rate| move |_: &TestSetup<'_>, endpoint: &Relay| endpoint.set(|state| state.bytes_per_second = rate);
    check_outage(45, "endpoint", ClosedFor::Short, trickle(Some(10)), trickle(None));
}

#[test]
fn revoked_credential_closes_lane_until_restored() {
    let revoke = |setup: &TestSetup<'_>, _: &Relay| setup.sandbox.fail_all("expired_credential");
    check_outage(42, "credential", ClosedFor::Short, revoke, |setup, _| setup.sandbox.faults(&json!({})));
}
