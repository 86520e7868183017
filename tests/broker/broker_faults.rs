//! Broker faults: the worker recovers, and nothing is lost.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use kit::{
    BrokerNode, QueueDepth, Relay, SandboxProcess,
    broker::{PASSWORD, WRONG_PASSWORD},
    history::{JobHistory, REGIONS, account, image},
    properties,
    setup::{DEAD, QUEUE, REPORTS, TWO_LANES, TestSetup, lane_queue},
    size, wait_until,
};

use crate::outside::{self, RoundFault, RoundPlan};

fn sandbox() -> SandboxProcess {
    SandboxProcess::start(&["--rps", "0", "--latency", "30ms"])
}

#[test]
fn broker_restart_loses_nothing() {
    let faults = [RoundFault::BrokerRestarted, RoundFault::BrokerKilled, RoundFault::BrokerKilled];
    outside::check(&BrokerNode::start(), &RoundPlan::with_faults(11, faults));
}

#[test]
fn cut_connections_lose_nothing_even_mid_publish() {
    let cut = |number| if number % 2 == 0 { RoundFault::BrokerCutAfter(2000 * number) } else { RoundFault::BrokerCut };
    outside::check(BrokerNode::shared(), &RoundPlan::with_faults(12, (0..size(10, 50)).map(cut)));
}

/// Frames sent during the freeze reach the broker late, on a connection that the worker has abandoned.
#[test]
fn frozen_or_closed_connections_are_reopened() {
    let faults = [
        RoundFault::BrokerSilent(8000),
        RoundFault::ConnectionsClosed,
        RoundFault::ConnectionsClosed,
        RoundFault::BrokerSilent(8000),
    ];
    outside::check(BrokerNode::shared(), &RoundPlan::with_faults(13, faults));
}

#[test]
fn broker_outage_loses_nothing() {
    let node = BrokerNode::start();
    let setup = TestSetup::new(&node, sandbox(), 40);
    let mut history = JobHistory::for_scenario(21);
    let worker = setup.worker();
    worker.wait_until_subscribed();
    setup.publish_random(&mut history, 300);
    worker.wait_until_serving();
    let mark = worker.mark();
    node.kill();
    worker.wait_for_log_after(mark, &[r#""state":"disconnected""#]);
    let writes = setup.sandbox.writes();
    // The length of the outage is a parameter, not a condition to wait for.
    thread::sleep(Duration::from_secs(size(5, 60)));
    assert_eq!(setup.sandbox.writes(), writes, "no write without a lane");
    node.start_again();
    worker.wait_until_subscribed_after(mark);
    setup.check_all_succeeded(&history);
    worker.drain();
}

/// Starts a worker at a broker with a problem, and checks that it recovers once that is fixed.
#[track_caller]
fn check_recovery(words: &[&str], harm: impl Fn(&TestSetup<'_>, &Relay), fix: impl Fn(&TestSetup<'_>, &Relay)) {
    let setup = TestSetup::new(BrokerNode::shared(), sandbox(), 500);
    let relay = Relay::to(setup.vhost.node.port);
    let mut history = JobHistory::for_scenario(14);
    setup.publish_random(&mut history, 50);
    harm(&setup, &relay);
    let worker = setup.worker_via(relay.port, setup.sandbox.port());
    worker.wait_for_log_after(0, words);
    fix(&setup, &relay);
    worker.wait_until_subscribed();
    setup.check_all_succeeded(&history);
    assert!(!worker.drain().contains("battery"), "a password is in the log");
}

#[test]
fn silent_broker_is_retried() {
    check_recovery(&["no subscription"], |_, relay| relay.freeze(), |_, relay| relay.thaw());
}

#[test]
fn corrected_password_reconnects() {
    let set = |password| move |setup: &TestSetup<'_>, _: &Relay| setup.vhost.set_password(password);
    check_recovery(&["no subscription"], set(WRONG_PASSWORD), set(PASSWORD));
}

#[test]
fn missing_report_queue_holds_jobs_back() {
    let delete = |setup: &TestSetup<'_>, _: &Relay| setup.client().delete(REPORTS);
    check_recovery(&[REPORTS, "is missing"], delete, |setup, _| setup.declare());
}

/// RabbitMQ closes the channel, or cancels the consumer from 4.3 on. The connection stays open in both cases.
#[test]
fn late_acknowledgement_costs_the_subscription_alone() {
    let node = BrokerNode::start();
    // Checks each second for deliveries that are unacknowledged for two.
    let set = |name, value| node.eval(&format!("application:set_env(rabbit, {name}, {value})."));
    set("channel_tick_interval", 1000);
    set("consumer_timeout", 2000);
    let setup = TestSetup::new(&node, sandbox(), 100);
    let mut history = JobHistory::for_scenario(20);
    // Jobs of this image are acknowledged too late.
    setup.sandbox.faults(&json!({"busy_images": {image(0): 6.0}}));
    setup.publish_random(&mut history, 100);
    let worker = setup.worker();
    worker.wait_for_log_after(0, &["no subscription", "acknowledgement", "timed out"]);
    setup.check_all_succeeded(&history);
    worker.drain();
}

#[test]
fn redeclared_queue_is_consumed_again() {
    let setup = TestSetup::new(BrokerNode::shared(), sandbox(), 500);
    let mut history = JobHistory::for_scenario(16);
    setup.publish_random(&mut history, 50);
    let worker = setup.worker();
    worker.wait_until_serving();
    setup.wait_until_settled();
    setup.client().delete(QUEUE);
    worker.wait_for_log_after(0, &["imageshare.jobs.default", "is missing", "topology --declare"]);
    let mark = worker.mark();
    setup.declare();
    worker.wait_until_subscribed_after(mark);
    setup.publish_random(&mut history, 50);
    setup.check_all_succeeded(&history);
    worker.drain();
}

#[test]
fn memory_alarm_delays_and_loses_nothing() {
    let node = BrokerNode::start();
    let setup = TestSetup::new(&node, sandbox(), 500);
    let mut history = JobHistory::for_scenario(18);
    setup.publish_random(&mut history, 200);
    node.memory_alarm(true);
    let worker = setup.worker();
    worker.wait_until_serving();
    // API requests continue; only reports wait.
    wait_until("images are shared", || (setup.sandbox.writes() > 0).then_some(()));
    assert_eq!(setup.client().ready(REPORTS), 0);
    node.memory_alarm(false);
    setup.check_all_succeeded(&history);
    worker.drain();
}

/// Returns an expired job with 10,000 long account ids, all of which fail.
fn expired(job_id: &str) -> Vec<u8> {
    let accounts: Vec<u64> = (1_000_000_000_000_000_000..).take(10_000).collect();
    let job = json!({"job_id": job_id, "image_id": image(0), "region": "ap-singapore", "permission": "SHARE",
        "account_ids": accounts, "expires_at": "2020-01-01T00:00:00Z"});
    job.to_string().into_bytes()
}

/// Publishes a large job that fails and small ones, at a broker with a size limit. Returns the report and the dead letter of
/// the large job.
fn large_job_with_limit(max_message_size: u32) -> (Value, Value) {
    const SMALL: usize = 20;
    let node = BrokerNode::start_with(&format!("max_message_size = {max_message_size}\n"));
    let setup = TestSetup::new(&node, sandbox(), 500);
    let mut history = JobHistory::for_scenario(22);
    let client = setup.client();
    setup.publish_raw([(expired("big"), properties())]);
    setup.publish_random(&mut history, SMALL);
    setup.publish_raw([(expired("last"), properties())]);
    let worker = setup.worker();
    setup.wait_until_settled();
    let reports = setup.reports();
    assert!(reports.len() == SMALL + 2 && reports.contains_key("last"), "{:?}", reports.keys());
    let dead = client.take_all(DEAD).pop().unwrap();
    worker.drain();
    (reports["big"].clone(), dead.json())
}

#[test]
fn report_is_truncated_only_at_broker_limit() {
    let (report, dead) = large_job_with_limit(1_048_576);
    assert_eq!((&report["status"], report.get("truncated")), (&json!("failed"), None));
    assert_eq!(report["failed"][0]["account_ids"].as_array().unwrap().len(), 10_000);
    assert_eq!(dead["account_ids"].as_array().unwrap().len(), 10_000);
    // The job has 200 KB. Its complete report would have 220 KB.
    let (report, dead) = large_job_with_limit(210_000);
    let counts = json!({"changed": 0, "unchanged": 0, "cancelled": 0, "failed": 10_000});
    assert_eq!((&report["status"], &report["truncated"]), (&json!("failed"), &counts));
    assert_eq!(dead["account_ids"].as_array().unwrap().len(), 10_000, "the dead letter is complete");
}

#[test]
fn full_report_queue_holds_jobs_without_duplicates() {
    const JOBS: usize = 20;
    let setup = TestSetup::new(BrokerNode::shared(), sandbox(), 500);
    setup.client().declare_bounded("full", 1, REPORTS, "#");
    let mut history = JobHistory::for_scenario(23);
    let worker = setup.worker();
    worker.wait_until_subscribed();
    setup.publish_random(&mut history, JOBS);
    worker.wait_for_log_after(0, &["queue refuses messages", REPORTS]);
    let client = setup.client();
    let mut copies = 0;
    while setup.lane_depth("default") != (QueueDepth { ready: 0, held: 0, consumers: 1 }) {
        copies += client.take_all("full").len();
    }
    // The other queue may have stored reports that the full queue rejected.
    let reports = client.take_all(REPORTS).len();
    assert!(reports <= 3 * JOBS + copies, "{reports} reports of {JOBS} jobs");
    let log = worker.drain();
    assert!(!log.contains("publisher is not connected"), "{log}");
}

#[test]
fn full_dead_letter_queue_blocks_no_other_lane() {
    let setup = TestSetup::with_lanes(BrokerNode::shared(), &TWO_LANES, &[], "", "");
    setup.client().declare_bounded("full", 1, DEAD, DEAD);
    let [failing, good] = TWO_LANES;
    let client = setup.client();
    let jobs = |region: &str, expires_at: &str| -> Vec<_> {
        let job = |number: u64| {
            json!({"job_id": number.to_string(), "image_id": image(0), "region": region, "permission": "SHARE",
                "account_ids": [account(number)], "expires_at": expires_at})
        };
        (0..20).map(|number| (job(number).to_string().into_bytes(), properties())).collect()
    };
    let worker = setup.worker();
    client.publish_to("", &lane_queue(failing), jobs(REGIONS[0], "2020-01-01T00:00:00Z"));
    worker.wait_for_log_after(0, &["queue refuses messages", DEAD]);
    client.publish_to("", &lane_queue(good), jobs(REGIONS[1], "2100-01-01T00:00:00Z"));
    wait_until("the other lane is settled", || {
        let QueueDepth { ready, held, .. } = setup.lane_depth(good);
        (ready + held == 0 && setup.sandbox.writes() > 0).then_some(())
    });
    assert!(setup.lane_depth(failing).held > 0, "no acknowledgement without a dead letter");
    while setup.lane_depth(failing).held > 0 {
        client.take_all("full");
    }
    worker.drain();
}
