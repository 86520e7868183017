//! A hostile publisher, who attacks terminals, other lanes, queues or the worker's memory.

use std::time::Instant;

use lapin::BasicProperties;
use serde_json::{Value, json};

use kit::{
    Program, ReceivedMessage, check_plain,
    history::{JobHistory, account, image},
    http, properties,
    setup::{DEAD, QUEUE, REPORTS, TestSetup},
    text, wait_until, with_headers,
    worker::MonitoredWorker,
};

/// A text that moves the cursor, rings the bell, reverses the writing direction, and forges a line of logs and metrics.
const HOSTILE: &str = "\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}31m\u{7f}\u{202e}\u{2066}\u{61c}\u{200b}\r\nforged\"} 1\nimageshare_jobs_held{lane=\"yü";

/// A hostile label: formatting characters, since labels with control characters are rejected.
const HOSTILE_LABEL: &str = "\u{202e}\u{2066}\u{61c}\u{feff}\u{e0041}";

/// The maximum number of labels of a job.
const LABELS: usize = 16;

fn good(job_id: &str, account_id: u64) -> Value {
    json!({"job_id": job_id, "image_id": image(0), "region": "ap-singapore", "permission": "SHARE",
        "account_ids": [account_id.to_string()]})
}

fn with(member: &str, value: &Value) -> Vec<u8> {
    let mut job = good("job", account(0));
    job[member] = value.clone();
    job.to_string().into_bytes()
}

/// Returns invalid messages with a hostile text in every place.
pub(crate) fn hostile() -> Vec<(Vec<u8>, BasicProperties)> {
    let hostile = json!(HOSTILE);
    let members =
        ["job_id", "lane", "image_id", "region", "permission", "account_ids", "labels", "expires_at", "force"];
    let mut bodies: Vec<_> = members.into_iter().map(|member| with(member, &hostile)).collect();
    bodies.push(with(HOSTILE, &hostile));
    bodies.push(with("account_ids", &json!([HOSTILE])));
    bodies.push(with("labels", &json!({ HOSTILE: "a" })));
    bodies.push(with("labels", &json!({ "a": HOSTILE })));
    bodies.push(with("labels", &json!({ HOSTILE_LABEL: 1 })));
    bodies.push(HOSTILE.as_bytes().to_vec());
    let headers = ["traceparent", "imageshare-reason", "imageshare-detail", "imageshare-worker", "own"];
    let properties = with_headers(headers.map(|name| (name, text(HOSTILE))))
        .with_message_id(HOSTILE.into())
        .with_correlation_id(HOSTILE.into())
        .with_content_type(HOSTILE.into())
        .with_content_encoding(HOSTILE.into())
        .with_type(HOSTILE.into())
        .with_app_id(HOSTILE.into())
        .with_reply_to(HOSTILE.into());
    bodies.into_iter().map(|body| (body, properties.clone())).collect()
}

/// Asserts that a text has no control characters and no line that the publisher forged.
#[track_caller]
fn check_escaped(what: &str, text: &str) {
    // A terminal ends lines with CRLF.
    let text = text.replace("\r\n", "\n");
    check_plain(what, &text);
    assert!(!text.lines().any(|line| line.starts_with("forged")), "{what}: {text}");
}

#[test]
fn publisher_text_is_escaped_everywhere() {
    let setup = TestSetup::shared(500);
    let messages = hostile();
    let all = messages.len();
    let mut labelled = good("labelled", account(1));
    labelled["labels"] = json!({ HOSTILE_LABEL: HOSTILE_LABEL });
    setup.publish_raw(messages.clone());
    setup.publish_raw([(labelled.to_string().into_bytes(), properties())]);
    // On a terminal the log is text.
    let program = setup.program("worker").args(["--log", "trace"]).env("TERM", "xterm");
    let on_terminal = program.terminated_after(10).on_terminal().run();
    check_escaped("the log on a terminal", &on_terminal.stdout);
    assert_eq!(on_terminal.stdout.matches(" WARN rejected ").count(), all, "{}", on_terminal.stdout);
    assert_eq!(setup.client().take_all(DEAD).len(), all);
    let reports = setup.reports();
    assert_eq!(reports["labelled"]["labels"], json!({ HOSTILE_LABEL: HOSTILE_LABEL }), "labels are returned unchanged");

    // Elsewhere it is JSON.
    setup.publish_raw(messages);
    let monitored = MonitoredWorker::start(setup.program("worker").args(["--log", "trace"]));
    setup.wait_until_settled();
    for path in ["/", "/metrics", "/readyz", "/status"] {
        check_escaped(path, &http::get(&monitored.admin, path).body);
    }
    check_escaped("the log", &monitored.worker.drain());

    let url = setup.vhost.url();
    let dead = |arguments: &[&str]| Program::new(["dead", "list"]).args(arguments).env("IMAGESHARE_BROKER_URL", &url);
    let table = dead(&[]).on_terminal().run();
    check_escaped("the table of dead letters", &table.stdout);
    assert_eq!(table.stdout.matches("rejected").count(), all, "{}", table.stdout);
    check_escaped("the lines of dead letters", &dead(&["--json"]).run().check(0).stdout);
    let run = setup.sandbox.program("run").arg("-").input(format!("{labelled}\n")).run().check(0);
    check_escaped("a report", &run.stdout);
    assert_eq!(run.report("labelled")["labels"], json!({ HOSTILE_LABEL: HOSTILE_LABEL }));
}

#[test]
fn publisher_reaches_no_queue_of_ours() {
    let setup = TestSetup::shared(500);
    let client = setup.client();
    client.declare_foreign("foreign");
    let mut history = JobHistory::default();
    let mut messages = Vec::new();
    let mut add = |properties: BasicProperties| {
        history.share(&image(0), [account(history.jobs.len() as u64)]);
        messages.push((history.jobs.last().unwrap().to_string().into_bytes(), properties));
    };
    let replies = [
        QUEUE,
        "imageshare.jobs.other",
        DEAD,
        REPORTS,
        "imageshare",
        "amq.rabbitmq.reply-to.missing",
        "amq.direct",
        "amq.gen-missing",
        "*",
        "#",
        "missing",
        "",
        &"q".repeat(255),
    ];
    for reply_to in replies {
        add(properties().with_reply_to(reply_to.into()).with_correlation_id("c".into()));
    }
    add(BasicProperties::default().with_priority(4));
    add(properties().with_expiration("3600000".into()).with_user_id(setup.vhost.name.as_str().into()));
    add(properties().with_reply_to("foreign".into()));
    let done = messages.len();
    // A job of another lane.
    let mut other = good("other", account(50));
    other["lane"] = json!("other");
    messages.push((other.to_string().into_bytes(), properties()));
    setup.publish_raw(messages);
    let worker = setup.worker();
    setup.wait_until_settled();
    setup.check_state(&history);
    let duplicate = history.jobs[0].clone();
    let again = good(duplicate["job_id"].as_str().unwrap(), account(60));
    setup.publish_raw([(again.to_string().into_bytes(), properties())]);
    wait_until("the copy and all reports are published", || {
        (client.ready("foreign") == 1 && client.ready(REPORTS) >= done + 2).then_some(())
    });
    let reports = client.take_all(REPORTS);
    assert_eq!(reports.len(), done + 2, "one report for each job");
    let reports: Vec<Value> = reports.iter().map(ReceivedMessage::json).collect();
    let is_good =
        |job: &Value| reports.iter().any(|report| report["job_id"] == job["job_id"] && report["status"] == "succeeded");
    assert!(history.jobs.iter().all(is_good), "{reports:?}");
    assert_eq!(client.take("foreign", 1)[0].json()["job_id"], history.jobs.last().unwrap()["job_id"]);
    let of = |job_id: &Value| reports.iter().filter(|report| report["job_id"] == *job_id).collect::<Vec<_>>();
    assert_eq!(of(&duplicate["job_id"]).len(), 2, "a job_id may be used twice");
    assert_eq!(of(&json!("other"))[0]["status"], "rejected");
    assert_eq!(client.take_all(DEAD).len(), 1);
    assert!(!setup.sandbox.shared(&image(0)).contains(&account(50)), "the job of another lane was executed");
    assert!(setup.sandbox.shared(&image(0)).contains(&account(60)));
    assert_eq!(
        setup.lane_depth("default").ready + setup.lane_depth("default").held,
        0,
        "no message returns to the lane"
    );
    assert!(!worker.stderr().contains("disconnected"), "{}", worker.stderr());
    worker.drain();
}

/// Publishes `count` jobs whose reports are copied to these addresses in turn.
fn publish_with_reply_to(setup: &TestSetup<'_>, count: usize, addresses: &[&str]) -> JobHistory {
    let mut history = JobHistory::default();
    for (number, address) in (0..).zip(addresses.iter().cycle().take(count)) {
        history.share(&image(number % 20), [account(number)]);
        let body = history.jobs.last().unwrap().to_string().into_bytes();
        let properties = properties().with_reply_to((*address).into());
        setup.client().publish_to("imageshare", "default", [(body, properties)]);
    }
    history
}

/// Without the connection of its own, each copy would close the connection for reports.
#[test]
fn refused_copy_costs_one_connection_and_no_report() {
    let setup = TestSetup::shared(500);
    setup.client().declare_foreign("answers");
    setup.vhost.set_user(&setup.vhost.name, [".*", "^imageshare.*", ".*"]);
    let worker = setup.worker();
    worker.wait_until_subscribed();
    let begun = Instant::now();
    let history = publish_with_reply_to(&setup, 60, &["answers"]);
    setup.check_all_succeeded(&history);
    assert_eq!(setup.client().ready("answers"), 0);
    let log = worker.drain();
    let refused = log.matches("ACCESS_REFUSED").count();
    // The first retry is after 5 s.
    let refusals_max = 1 + usize::try_from(begun.elapsed().as_secs() / 5).unwrap();
    assert!((1..=refusals_max).contains(&refused), "{refused} refusals\n{log}");
}

/// RabbitMQ before 4.2 closes the connection for some of these addresses.
#[test]
fn copies_to_malformed_addresses_cost_no_report() {
    let setup = TestSetup::shared(500);
    let worker = setup.worker();
    worker.wait_until_subscribed();
    let addresses =
        [".", ".x", ".AAAA.BBBB", ".@@@@", ".g1hkAA==", ".A.A.A"].map(|token| format!("amq.rabbitmq.reply-to{token}"));
    let history = publish_with_reply_to(&setup, 60, &addresses.each_ref().map(String::as_str));
    setup.wait_until_settled();
    if setup.vhost.node.version() < [4, 2] {
        worker.wait_for_log_after(0, &["connection for reply_to lost"]);
    }
    let client = setup.client();
    let reports = client.take_all(REPORTS);
    assert_eq!(reports.len(), history.jobs.len(), "one report for each job");
    client.declare_foreign("answers");
    wait_until("a copy to a valid address arrives", || {
        publish_with_reply_to(&setup, 1, &["answers"]);
        setup.wait_until_settled();
        (client.ready("answers") > 0).then_some(())
    });
    let log = worker.drain();
    assert!(!log.contains("publisher is not connected"), "{log}");
}

#[test]
fn largest_jobs_fit_the_memory_limit() {
    const COUNT: u64 = 2_000;
    const KIB_PER_JOB_MAX: u64 = 12;
    let setup = TestSetup::shared(500);
    setup.sandbox.faults(&json!({"busy_images": {image(0): 3600.0}}));
    let labels: serde_json::Map<String, Value> =
        (0..LABELS).map(|number| (format!("{number:0>63}"), json!("v".repeat(256)))).collect();
    let worker = setup.worker();
    worker.wait_until_subscribed();
    let before = worker.resident_kib();
    let messages = (0..COUNT).map(|number| {
        let mut job = good(&format!("{number:0>128}"), account(number));
        job["labels"] = json!(labels);
        job["expires_at"] = json!("2100-01-01T00:00:00Z");
        let properties = properties().with_reply_to("q".repeat(255).into()).with_correlation_id("c".repeat(255).into());
        (job.to_string().into_bytes(), properties)
    });
    setup.publish_raw(messages);
    wait_until("all jobs are delivered", || (setup.lane_depth("default").held == COUNT).then_some(()));
    let growth = worker.resident_kib().saturating_sub(before);
    assert!(growth < COUNT * KIB_PER_JOB_MAX, "{growth} KiB");
    worker.kill();
}
