//! Metrics, status and logs of a worker: correct in every state, and without secrets.

use serde_json::json;

use kit::{
    BrokerNode, Relay, SandboxProcess,
    broker::{PASSWORD, WRONG_PASSWORD},
    history::{JobHistory, account, image},
    http, json_lines, properties,
    setup::{DEAD, REPORTS, TestSetup},
    text, wait_until, with_headers,
    worker::{MonitoredWorker, count, sum},
};

use crate::hostile_publisher::hostile;

const WRITE: &str = "ModifyImageSharePermission";

/// Adds jobs with distinct accounts for each image.
fn add_distinct(history: &mut JobHistory, jobs: u64, from: u64) {
    for number in from..from + jobs {
        history.share(&image(number % 5), [account(2 * number), account(2 * number + 1)]);
    }
}

#[test]
fn metrics_count_what_was_done() {
    let setup = TestSetup::shared(500);
    let monitored = MonitoredWorker::start(setup.program("worker"));
    assert_eq!(monitored.wait_for_state("subscribed").0, 200);
    let mut history = JobHistory::default();
    add_distinct(&mut history, 300, 0);
    setup.publish(&history.jobs);
    setup.check_all_succeeded(&history);
    wait_until("the last job is counted", || {
        let metrics = monitored.metrics();
        (count(&metrics, &["imageshare_jobs_finished_total", "succeeded"]) == 300).then_some(())
    });
    let metrics = monitored.metrics();
    assert_eq!(count(&metrics, &["imageshare_accounts_total", "SHARE", "changed"]), 600);
    let writes = count(&metrics, &["imageshare_api_requests_total", WRITE, "ok"]);
    assert_eq!(writes, setup.sandbox.writes());
    assert_eq!(count(&metrics, &["imageshare_api_batch_accounts_count"]), writes);
    assert_eq!(count(&metrics, &["imageshare_api_batch_accounts_sum"]), 600);
    assert_eq!(count(&metrics, &["imageshare_api_request_duration_seconds_count", WRITE]), writes);
    for name in ["job_wait_seconds_count", "job_total_seconds_count", "job_duration_seconds_count"] {
        assert_eq!(count(&metrics, &[&format!("imageshare_{name}")]), 300, "{name}");
    }
    for name in
        ["jobs_held", "api_requests_in_flight", "acks_lost_total", "dead_letters_total", "account_failures_total"]
    {
        let name = format!("imageshare_{name}");
        assert!(metrics.lines().any(|line| line.starts_with(&name)), "{name}");
        assert_eq!(count(&metrics, &[&name]), 0, "{name}");
    }
    let published = count(&metrics, &["imageshare_broker_publish_duration_seconds_count"]);
    assert_eq!(published, 300, "a report for each job");
    assert_eq!(count(&metrics, &["imageshare_broker_connected"]), 2, "one to publish, one for the lane");
    let series = metrics.lines().filter(|line| !line.starts_with('#')).count();
    assert!(series < 400, "{series}");

    let status = http::get(&monitored.admin, "/status").json();
    let lane = &status["lanes"][0];
    assert_eq!((&status["ready"], &status["publisher"]["state"]), (&json!(true), &json!("connected")));
    assert_eq!((&lane["state"], &lane["shared"]["changed"]), (&json!("serving"), &json!(600)));
    assert_eq!((&lane["jobs"]["succeeded"], &lane["batch_limit"]), (&json!(300), &json!(50)));
    assert!(http::get(&monitored.admin, "/").body.contains("<title>imageshare</title>"));
    monitored.worker.drain();
}

#[test]
fn every_lane_state_is_shown_with_its_reason() {
    let setup =
        TestSetup::with_settings(BrokerNode::shared(), SandboxProcess::start(&["--rps", "0"]), 100, "prefetch = 2");
    let broker = Relay::to(setup.vhost.node.port);
    let monitored = MonitoredWorker::start(setup.program_via("worker", broker.port, setup.sandbox.port()));
    monitored.wait_until_ready();
    assert_eq!(monitored.wait_for_state("subscribed").0, 200);
    assert_eq!(http::get(&monitored.admin, "/livez").code, 200);

    // All jobs of the prefetch window are for images that are not ready.
    setup.sandbox.faults(&json!({"busy_images": {image(0): 3600.0, image(1): 3600.0}}));
    let mut history = JobHistory::default();
    history.share(&image(0), [account(1)]);
    history.share(&image(1), [account(1)]);
    setup.publish(&history.jobs);
    let (code, lane) = monitored.wait_for_state("blocked");
    assert_eq!((code, &lane["reason"]), (200, &json!("blocked")), "a lane does not make the process unready");
    let metrics = monitored.metrics();
    assert_eq!(count(&metrics, &["imageshare_jobs_held"]), 2);
    assert_eq!(count(&metrics, &["imageshare_lane_operations_pending"]), 2);
    wait_until("the oldest operation waits", || {
        (monitored.sum(&["imageshare_lane_oldest_wait_seconds"]) > 0.0).then_some(())
    });
    setup.sandbox.faults(&json!({}));
    setup.wait_until_settled();
    setup.check_state(&history);
    assert_eq!(monitored.wait_for_state("serving").0, 200);
    wait_until("no operation waits", || (monitored.sum(&["imageshare_lane_oldest_wait_seconds"]) == 0.0).then_some(()));

    // The credential is refused.
    setup.sandbox.fail_all("expired_credential");
    history.share(&image(2), [account(1)]);
    setup.publish(&history.jobs[2..]);
    let (code, lane) = monitored.wait_for_state("closed");
    assert_eq!((code, &lane["reason"]), (200, &json!("credential")));
    assert!(lane["detail"].as_str().unwrap().contains("AuthFailure"), "{lane}");
    assert_eq!(monitored.count(&["imageshare_lane_state", "closed"]), 1);
    setup.sandbox.faults(&json!({}));
    setup.wait_until_settled();
    setup.check_state(&history);
    assert_eq!(monitored.wait_for_state("serving").0, 200);

    // The broker is unreachable.
    broker.refuse();
    broker.cut();
    assert_eq!(monitored.wait_for_state("disconnected").1["reason"], "disconnected");
    wait_until("the process is not ready", || {
        let ready = http::get(&monitored.admin, "/readyz");
        (ready.code == 503 && ready.json()["publisher"]["state"] == "down").then_some(())
    });
    let metrics = monitored.metrics();
    assert_eq!(count(&metrics, &["imageshare_broker_connected"]) + count(&metrics, &["imageshare_consuming"]), 0);
    assert!(sum(&metrics, &["imageshare_broker_reconnects_total"]) >= 2.0, "{metrics}");
    broker.serve_again();
    monitored.wait_until_ready();
    assert_eq!(monitored.wait_for_state("subscribed").0, 200);
    monitored.worker.drain();
}

#[test]
fn failure_metrics_use_closed_set_of_reasons() {
    let setup = TestSetup::shared(500);
    let throttle = json!({"action": WRITE, "times": 1, "do": "throttle"});
    let odd = json!({"action": WRITE, "times": 100, "do": "code:NeverHeard.OfThis"});
    setup.sandbox.faults(&json!({"unknown_accounts": [account(3).to_string()], "script": [throttle]}));
    let monitored = MonitoredWorker::start(setup.program("worker"));
    let mut history = JobHistory::default();
    history.share(&image(0), (0..8).map(account));
    setup.publish(&history.jobs);
    let bodies = ["invalid", r#"{"image_id": 7}"#];
    let elsewhere = history.jobs[0].to_string().replacen('{', r#"{"lane":"elsewhere","#, 1);
    let bodies = bodies.into_iter().chain([elsewhere.as_str()]).map(|body| (body.as_bytes().to_vec(), properties()));
    setup.client().publish_to("imageshare", "default", bodies);
    setup.wait_until_settled();
    wait_until("all four messages are counted", || {
        (monitored.count(&["imageshare_jobs_finished_total"]) == 4).then_some(())
    });
    let metrics = monitored.metrics();
    assert_eq!(count(&metrics, &["imageshare_account_failures_total", "\"InvalidAccountId.NotFound\""]), 1);
    assert_eq!(count(&metrics, &["imageshare_accounts_total", "failed"]), 1);
    assert_eq!(count(&metrics, &["imageshare_dead_letters_total", "failed"]), 1);
    assert_eq!(count(&metrics, &["imageshare_dead_letters_total", "rejected"]), 3);
    for reason in ["text", "member", "route"] {
        assert_eq!(count(&metrics, &["imageshare_messages_rejected_total", reason]), 1, "{reason}");
    }
    assert_eq!(count(&metrics, &["imageshare_api_requests_total", WRITE, "throttle"]), 1);
    assert_eq!(count(&metrics, &["imageshare_api_retries_total", "throttle"]), 1);
    wait_until("the split is counted", || (monitored.sum(&["imageshare_api_splits_total"]) >= 1.0).then_some(()));

    setup.sandbox.faults(&json!({ "script": [odd] }));
    history.share(&image(1), (0..2).map(account));
    setup.publish(&history.jobs[1..]);
    setup.wait_until_settled();
    let hostile = hostile();
    let all = 5 + hostile.len() as u64;
    setup.client().publish_to("imageshare", "default", hostile);
    wait_until("all messages are counted", || {
        (monitored.count(&["imageshare_jobs_finished_total"]) == all).then_some(())
    });
    let after = monitored.metrics();
    let series = |metrics: &str| metrics.lines().count();
    assert_eq!(series(&after), series(&metrics), "no message adds a series");
    assert!(after.is_ascii());
    monitored.worker.drain();
}

#[test]
fn worker_shows_no_secret_even_at_trace() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let setup = TestSetup::shared(100);
    setup.sandbox.faults(&json!({"unknown_accounts": [account(3).to_string()]}));
    let broker = Relay::to(setup.vhost.node.port);
    let key = setup.sandbox.temporary_key(3_600);
    let [id, secret_key, token] = ["secret_id", "secret_key", "token"].map(|part| key[part].as_str().unwrap());
    let program = setup.program_via("worker", broker.port, setup.sandbox.port()).env("IMAGESHARE_LOG", "trace");
    let monitored = MonitoredWorker::start(program.key(id, secret_key).env("TENCENTCLOUD_TOKEN", token));
    let mut history = JobHistory::default();
    history.share(&image(0), (0..8).map(account));
    let traced = with_headers([("traceparent", text(TRACE))]);
    let bodies = [history.jobs[0].to_string(), "invalid".to_owned()];
    setup.client().publish_to("imageshare", "default", bodies.map(|body| (body.into_bytes(), traced.clone())));
    setup.wait_until_settled();
    // Errors log more than successes do.
    broker.refuse();
    broker.cut();
    monitored.wait_for_state("disconnected");
    setup.vhost.set_password(WRONG_PASSWORD);
    let mark = monitored.worker.mark();
    broker.serve_again();
    monitored.worker.wait_for_log_after(mark, &["refuses the user", "no subscription"]);
    let mark = monitored.worker.mark();
    setup.vhost.set_password(PASSWORD);
    monitored.worker.wait_until_subscribed_after(mark);
    setup.sandbox.fail_all("expired_credential");
    history.share(&image(1), [account(0)]);
    setup.publish(&history.jobs[1..]);
    monitored.wait_for_state("closed");

    let mut outputs: Vec<String> =
        ["/", "/livez", "/metrics", "/readyz", "/status"].map(|path| http::get(&monitored.admin, path).body).into();
    let lines = |queue| setup.client().take_all(queue).into_iter().map(|message| format!("{message:?}"));
    outputs.extend(lines(REPORTS).chain(lines(DEAD)));
    let log = monitored.worker.drain();
    let entries = json_lines(&log);
    let settled = entries.iter().find(|entry| entry["message"] == "settled with failures").unwrap();
    assert_eq!((&settled["job_id"], &settled["lane"]), (&json!("job-00000"), &json!("default")));
    assert_eq!((&settled["image_id"], &settled["traceparent"]), (&json!(image(0)), &json!(TRACE)));
    assert!(settled["request_id"].as_str().is_some_and(|id| id.len() == 36), "{settled}");
    let rejected = entries.iter().find(|entry| entry["message"] == "rejected").unwrap();
    assert_eq!(rejected["traceparent"], TRACE);
    for (message, level) in [("request sent", "TRACE"), ("accepted", "TRACE"), ("refused", "DEBUG")] {
        let entry = entries.iter().find(|entry| entry["message"] == message).unwrap_or_else(|| panic!("{message}"));
        assert_eq!((&entry["level"], &entry["image_id"]), (&json!(level), &json!(image(0))), "{entry}");
    }
    outputs.push(log);
    for secret in [secret_key, token, "correct/horse", "correct%2Fhorse", "battery@staple", "Signature="] {
        assert!(outputs.iter().all(|text| !text.contains(secret)), "{secret}");
    }
    // A signature or a derived key is 64 hexadecimal digits.
    let is_signature = |word: &str| word.len() >= 64;
    let has_signature = |text: &String| text.split(|c: char| !c.is_ascii_hexdigit()).any(is_signature);
    assert!(!outputs.iter().any(has_signature), "a signature");
}
