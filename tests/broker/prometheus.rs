//! A Prometheus server scrapes a worker, and its answers fill every panel and rule.

// Prometheus knows only floats; what is counted here are small whole numbers.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use std::{collections::BTreeSet, env};

use kit::{
    Folder, Node, Program, Sandbox, free_port,
    history::{History, account, image},
    http, of_repository,
    stage::Stage,
    until,
    worker::Watched,
};
use serde_json::json;

const WRITE: &str = "ModifyImageSharePermission";

/// Settings with which a server scrapes an address each second, and evaluates the rules of `deploy/`.
fn settings(target: &str) -> String {
    let rules = |name: &str| of_repository(&format!("deploy/prometheus/{name}")).display().to_string();
    format!(
        "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}', '{}']\n\
         scrape_configs: [{{job_name: imageshare, static_configs: [{{targets: ['{target}']}}]}}]\n",
        rules("recording.yml"),
        rules("alerts.yml")
    )
}

/// The value of an expression that brings one, or of none 0.
#[track_caller]
fn value(server: &str, expression: &str) -> f64 {
    let encoded: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let answer = http::get(server, &format!("/api/v1/query?query={encoded}")).json();
    let values = answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {answer}"));
    assert!(values.len() <= 1, "{expression}: {answer}");
    values.first().and_then(|one| one["value"][1].as_str()).map_or(0.0, |value| value.parse().unwrap())
}

#[test]
fn every_expression_has_a_value_in_prometheus() {
    // Every kind of trouble once, in a load that goes on while it is looked at.
    let stage = Stage::new(Node::shared(), Sandbox::start(&["--rps", "0", "--latency", "20ms"]), 50);
    let script = [
        json!({"action": WRITE, "nth": 5, "times": 2, "do": "throttle"}),
        json!({"action": WRITE, "nth": 9, "times": 1, "do": "internal_error"}),
    ];
    stage.sandbox.faults(&json!({"unknown_accounts": [account(17).to_string()], "script": script}));
    let watched = Watched::start(stage.program("worker"));
    watched.until_state("subscribed");
    let folder = Folder::new();
    let server = format!("127.0.0.1:{}", free_port());
    let (prometheus, _stdout) = Program::of("prometheus", [format!("--web.listen-address={server}")])
        .arg(format!("--config.file={}", folder.file("prometheus.yml", settings(&watched.admin)).display()))
        .arg(format!("--storage.tsdb.path={}", folder.path("data").display()))
        .start();
    until("prometheus serves", || http::try_get(&server, "/-/ready").filter(|answer| answer.code == 200));
    let value = |expression| value(&server, expression);
    until("the worker is scraped", || (value("sum(imageshare_build_info)") > 0.0).then_some(()));
    let python = env::var_os("TEST_PYTHON").expect("TEST_PYTHON is set by tests/deploy, which runs this test");
    // Asks every expression of every dashboard and rule.
    let prove = || {
        Program::of(&python, ["-B".into(), of_repository("deploy/grafana/tools/prove.py")])
            .args(["--api", &format!("http://{server}"), "--rate-interval", "5s", "--range", "5m"])
            .run()
    };
    let mut history = History::default();
    let mut published = 0;
    until("every expression has an answer", || {
        let from = history.jobs.len() as u64;
        for number in from..from + 50 {
            history.add(&image(number % 5), true, [account(2 * number), account(2 * number + 1)]);
        }
        stage.publish(&history.jobs[published..]);
        published = history.jobs.len();
        stage.until_worked_off();
        // Rules are evaluated every 15 s.
        let ruled = value("count(job_lane:imageshare_accounts_failed:ratio_rate15m)") > 0.0;
        let proven = ruled.then(prove)?;
        eprintln!("{}", proven.stderr);
        (proven.code == Some(0)).then_some(())
    });
    let lint = Program::of("promtool", ["check", "metrics"]).input(watched.metrics()).run().check(0);
    assert_eq!([lint.stdout, lint.stderr].concat(), "");

    let shared: usize = stage.sandbox.state().values().map(BTreeSet::len).sum();
    let changed = "sum(imageshare_accounts_total{outcome=\"changed\"})";
    until("Prometheus has what the sandbox counted", || (value(changed) as usize == shared).then_some(()));
    // Prometheus extrapolates by up to one scrape, which is much of a load of some seconds and little of a minute.
    let increase = "sum(increase(imageshare_accounts_total{outcome=\"changed\"}[10m]))";
    until("the increase is within a few per cent of it", || {
        (0.96..1.04).contains(&(value(increase) / shared as f64)).then_some(())
    });
    watched.worker.drain();
    prometheus.kill();
}
