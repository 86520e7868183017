//! A Prometheus server scrapes a worker, and every panel and rule has a value.

// Prometheus has only floats; the counters are small whole numbers.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::{collections::BTreeSet, env};

use kit::{
    BrokerNode, Folder, Program, SandboxProcess, free_port,
    history::{JobHistory, account, image},
    http, repository_path,
    setup::TestSetup,
    wait_until,
    worker::MonitoredWorker,
};
use serde_json::json;

const WRITE: &str = "ModifyImageSharePermission";

/// Returns settings that scrape an address each second and load the rules of `deploy/`.
fn settings(target: &str) -> String {
    let rules = |name: &str| repository_path(&format!("deploy/prometheus/{name}")).display().to_string();
    format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}', '{}']\n\
         scrape_configs: [{{job_name: imageshare, static_configs: [{{targets: ['{target}']}}]}}]\n",
        rules("recording.yml"),
        rules("alerts.yml")
    )
}

/// Returns the value of an expression with at most one result, or 0 without a result.
#[track_caller]
fn value(server: &str, expression: &str) -> f64 {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let response = http::get(server, &format!("/api/v1/query?query={encoded}")).json();
    let values = response["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {response}"));
    assert!(values.len() <= 1, "{expression}: {response}");
    values.first().and_then(|one| one["value"][1].as_str()).map_or(0.0, |value| value.parse().unwrap())
}

#[test]
fn every_expression_has_value_in_prometheus() {
    // Every kind of fault once, during a load that continues while the expressions are evaluated.
    let setup = TestSetup::new(BrokerNode::shared(), SandboxProcess::start(&["--rps", "0", "--latency", "20ms"]), 50);
    let script = [
        json!({"action": WRITE, "nth": 5, "times": 2, "do": "throttle"}),
        json!({"action": WRITE, "nth": 9, "times": 1, "do": "internal_error"}),
    ];
    setup.sandbox.faults(&json!({"unknown_accounts": [account(17).to_string()], "script": script}));
    let monitored = MonitoredWorker::start(setup.program("worker"));
    monitored.wait_for_state("subscribed");
    let folder = Folder::new();
    let server = format!("127.0.0.1:{}", free_port());
    let (prometheus, _stdout) = Program::external("prometheus", [format!("--web.listen-address={server}")])
        .arg(format!("--config.file={}", folder.file("prometheus.yml", settings(&monitored.admin)).display()))
        .arg(format!("--storage.tsdb.path={}", folder.path("data").display()))
        .start();
    wait_until("prometheus serves", || http::try_get(&server, "/-/ready").filter(|response| response.code == 200));
    let value = |expression| value(&server, expression);
    wait_until("the worker is scraped", || (value("sum(imageshare_build_info)") > 0.0).then_some(()));
    let python = env::var_os("TEST_PYTHON").expect("TEST_PYTHON is set by tests/deploy, which runs this test");
    // Requests every expression of every dashboard and rule.
    let prove = || {
        Program::external(&python, ["-B".into(), repository_path("deploy/grafana/tools/prove.py")])
            .args(["--api", &format!("http://{server}"), "--rate-interval", "5s", "--range", "5m"])
            .run()
    };
    let mut history = JobHistory::default();
    let mut published = 0;
    wait_until("every expression has an answer", || {
        let from = history.jobs.len() as u64;
        for number in from..from + 50 {
            history.share(&image(number % 5), [account(2 * number), account(2 * number + 1)]);
        }
        setup.publish(&history.jobs[published..]);
        published = history.jobs.len();
        setup.wait_until_settled();
        // Rules are evaluated every 15 s.
        let ruled = value("count(job_lane:imageshare_accounts_failed:ratio_rate15m)") > 0.0;
        let proven = ruled.then(prove)?;
        eprintln!("{}", proven.stderr);
        (proven.code == Some(0)).then_some(())
    });
    let lint = Program::external("promtool", ["check", "metrics"]).input(monitored.metrics()).run().check(0);
    assert_eq!([lint.stdout, lint.stderr].concat(), "");

    let shared: usize = setup.sandbox.state().values().map(BTreeSet::len).sum();
    let changed = "sum(imageshare_accounts_total{outcome=\"changed\"})";
    wait_until("Prometheus has the sandbox's count", || (value(changed) as usize == shared).then_some(()));
    // Prometheus extrapolates by up to one scrape interval, which matters little in a load of a minute.
    let increase = "sum(increase(imageshare_accounts_total{outcome=\"changed\"}[10m]))";
    wait_until("the increase is within 4 % of the count", || {
        (0.96..1.04).contains(&(value(increase) / shared as f64)).then_some(())
    });
    monitored.worker.drain();
    prometheus.kill();
}
