//! The broker fails in every way that it can: the worker gets over it, and nothing is lost.

use std::{thread, time::Duration};

use serde_json::{Value, json};

use kit::{
    Depth, Node, Relay, Sandbox,
    history::{History, REGIONS, account, image},
    properties, size,
    stage::{DEAD, QUEUE, REPORTS, Stage, TWO_LANES, queue_of},
    until,
};

use crate::outside::{self, Fault, Plan};

fn sandbox() -> Sandbox {
    Sandbox::start(&["--rps", "0", "--latency", "30ms"])
}

#[test]
fn broker_restart_loses_nothing() {
    let faults = [Fault::BrokerRestarted, Fault::BrokerKilled, Fault::BrokerKilled];
    outside::check(&Node::start(), &Plan::of(11, faults));
}

#[test]
fn cut_connections_lose_nothing_even_mid_publish() {
    let cut = |number| if number % 2 == 0 { Fault::BrokerCutAfter(2000 * number) } else { Fault::BrokerCut };
    outside::check(Node::shared(), &Plan::of(12, (0..size(10, 50)).map(cut)));
}

/// What a worker sent meanwhile reaches the broker late, as news of a connection that is over.
#[test]
fn frozen_or_closed_connections_are_reopened() {
    let faults =
        [Fault::BrokerSilent(8000), Fault::ConnectionsClosed, Fault::ConnectionsClosed, Fault::BrokerSilent(8000)];
    outside::check(Node::shared(), &Plan::of(13, faults));
}

#[test]
fn broker_outage_loses_nothing() {
    let node = Node::start();
    let stage = Stage::new(&node, sandbox(), 40);
    let mut history = History::of(21);
    let worker = stage.worker();
    worker.until_subscribed();
    stage.publish_random(&mut history, 300);
    worker.until_serving();
    let mark = worker.mark();
    node.kill();
    worker.until_logged_after(mark, &[r#""state":"disconnected""#]);
    let writes = stage.sandbox.writes();
    // Not waiting for anything: it is to be away for so long.
    thread::sleep(Duration::from_secs(size(5, 60)));
    assert_eq!(stage.sandbox.writes(), writes, "nothing is written without a lane");
    node.start_again();
    worker.until_subscribed_after(mark);
    stage.check_done(&history);
    worker.drain();
}

/// A worker that starts with something wrong at the broker waits until it is mended.
#[track_caller]
fn check_mended(words: &[&str], harm: impl Fn(&Stage<'_>, &Relay), mend: impl Fn(&Stage<'_>, &Relay)) {
    let stage = Stage::new(Node::shared(), sandbox(), 500);
    let relay = Relay::to(stage.vhost.node.port);
    let mut history = History::of(14);
    stage.publish_random(&mut history, 50);
    harm(&stage, &relay);
    let worker = stage.worker_between(relay.port, stage.sandbox.port());
    worker.until_logged_after(0, words);
    mend(&stage, &relay);
    worker.until_subscribed();
    stage.check_done(&history);
    assert!(!worker.drain().contains("battery"), "a password is in the log");
}

#[test]
fn silent_broker_is_retried() {
    check_mended(&["no subscription"], |_, relay| relay.freeze(), |_, relay| relay.thaw());
}

#[test]
fn corrected_password_reconnects() {
    let set = |right| move |stage: &Stage<'_>, _: &Relay| stage.vhost.set_password(right);
    check_mended(&["no subscription"], set(false), set(true));
}

#[test]
fn missing_report_queue_holds_jobs_back() {
    let delete = |stage: &Stage<'_>, _: &Relay| stage.client().delete(REPORTS);
    check_mended(&[REPORTS, "is missing"], delete, |stage, _| stage.declare());
}

/// RabbitMQ closes the channel, and from 4.3 on it ends the consumer. The connection lives on in both cases.
#[test]
fn late_acknowledgement_costs_the_subscription_alone() {
    let node = Node::start();
    // It looks each second for messages that are held longer than two.
    let set = |name, value| node.eval(&format!("application:set_env(rabbit, {name}, {value})."));
    set("channel_tick_interval", 1000);
    set("consumer_timeout", 2000);
    let stage = Stage::new(&node, sandbox(), 100);
    let mut history = History::of(20);
    // Jobs of this image are held too long.
    stage.sandbox.faults(&json!({"busy_images": {image(0): 6.0}}));
    stage.publish_random(&mut history, 100);
    let worker = stage.worker();
    worker.until_logged_after(0, &["no subscription", "acknowledgement", "timed out"]);
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn redeclared_queue_is_consumed_again() {
    let stage = Stage::new(Node::shared(), sandbox(), 500);
    let mut history = History::of(16);
    stage.publish_random(&mut history, 50);
    let worker = stage.worker();
    worker.until_serving();
    stage.until_worked_off();
    stage.client().delete(QUEUE);
    worker.until_logged_after(0, &["imageshare.jobs.default", "is missing", "topology --declare"]);
    let mark = worker.mark();
    stage.declare();
    worker.until_subscribed_after(mark);
    stage.publish_random(&mut history, 50);
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn memory_alarm_delays_and_loses_nothing() {
    let node = Node::start();
    let stage = Stage::new(&node, sandbox(), 500);
    let mut history = History::of(18);
    stage.publish_random(&mut history, 200);
    node.memory_alarm(true);
    let worker = stage.worker();
    worker.until_serving();
    // The work itself goes on, up to what can be published.
    until("images are shared", || (stage.sandbox.writes() > 0).then_some(()));
    assert_eq!(stage.client().ready(REPORTS), 0);
    node.memory_alarm(false);
    stage.check_done(&history);
    worker.drain();
}

/// A job of 10,000 long account ids that has expired: all its accounts fail.
fn expired(job_id: &str) -> Vec<u8> {
    let accounts: Vec<u64> = (1_000_000_000_000_000_000..).take(10_000).collect();
    let job = json!({"job_id": job_id, "image_id": image(0), "region": "ap-singapore", "permission": "SHARE",
        "account_ids": accounts, "expires_at": "2020-01-01T00:00:00Z"});
    job.to_string().into_bytes()
}

/// Publishes a job whose accounts fail and small ones, and waits until all are done. Gives its report and dead letter.
fn done_with_limit(max_message_size: u32) -> (Value, Value) {
    const SMALL: usize = 20;
    let node = Node::start_with(&format!("max_message_size = {max_message_size}\n"));
    let stage = Stage::new(&node, sandbox(), 500);
    let mut history = History::of(22);
    let client = stage.client();
    stage.publish_raw([(expired("big"), properties())]);
    stage.publish_random(&mut history, SMALL);
    stage.publish_raw([(expired("last"), properties())]);
    let worker = stage.worker();
    stage.until_worked_off();
    let reports = stage.reports();
    assert!(reports.len() == SMALL + 2 && reports.contains_key("last"), "{:?}", reports.keys());
    let dead = client.take_all(DEAD).pop().unwrap();
    worker.drain();
    (reports["big"].clone(), dead.json())
}

#[test]
fn report_is_truncated_only_at_broker_limit() {
    let (report, dead) = done_with_limit(1_048_576);
    assert_eq!((&report["status"], report.get("truncated")), (&json!("failed"), None));
    assert_eq!(report["failed"][0]["account_ids"].as_array().unwrap().len(), 10_000);
    assert_eq!(dead["account_ids"].as_array().unwrap().len(), 10_000);
    // The job has 200 KB, its report would have 220 KB.
    let (report, dead) = done_with_limit(210_000);
    let counts = json!({"changed": 0, "unchanged": 0, "cancelled": 0, "failed": 10_000});
    assert_eq!((&report["status"], &report["truncated"]), (&json!("failed"), &counts));
    assert_eq!(dead["account_ids"].as_array().unwrap().len(), 10_000, "the dead letter has them all");
}

#[test]
fn full_report_queue_holds_jobs_without_duplicates() {
    const JOBS: usize = 20;
    let stage = Stage::new(Node::shared(), sandbox(), 500);
    stage.client().declare_full("full", 1, REPORTS, "#");
    let mut history = History::of(23);
    let worker = stage.worker();
    worker.until_subscribed();
    stage.publish_random(&mut history, JOBS);
    worker.until_logged_after(0, &["queue refuses messages", REPORTS]);
    let client = stage.client();
    let mut copies = 0;
    while stage.depth_of("default") != (Depth { ready: 0, held: 0, consumers: 1 }) {
        copies += client.take_all("full").len();
    }
    // Whatever the full queue refused, the other one may have taken.
    let sent = client.take_all(REPORTS).len();
    assert!(sent <= 3 * JOBS + copies, "{sent} reports of {JOBS} jobs");
    let log = worker.drain();
    assert!(!log.contains("publisher is not connected"), "{log}");
}

#[test]
fn full_dead_letter_queue_blocks_no_other_lane() {
    let stage = Stage::of_lanes(Node::shared(), &TWO_LANES, &[], "", "");
    stage.client().declare_full("full", 1, DEAD, DEAD);
    let [failing, good] = TWO_LANES;
    let client = stage.client();
    let jobs = |region: &str, expires_at: &str| -> Vec<_> {
        let job = |number: u64| {
            json!({"job_id": number.to_string(), "image_id": image(0), "region": region, "permission": "SHARE",
                "account_ids": [account(number)], "expires_at": expires_at})
        };
        (0..20).map(|number| (job(number).to_string().into_bytes(), properties())).collect()
    };
    let worker = stage.worker();
    client.publish_to("", &queue_of(failing), jobs(REGIONS[0], "2020-01-01T00:00:00Z"));
    worker.until_logged_after(0, &["queue refuses messages", DEAD]);
    client.publish_to("", &queue_of(good), jobs(REGIONS[1], "2100-01-01T00:00:00Z"));
    until("the other lane is done", || {
        let Depth { ready, held, .. } = stage.depth_of(good);
        (ready + held == 0 && stage.sandbox.writes() > 0).then_some(())
    });
    assert!(stage.depth_of(failing).held > 0, "nothing is acknowledged without its dead letter");
    while stage.depth_of(failing).held > 0 {
        client.take_all("full");
    }
    worker.drain();
}
