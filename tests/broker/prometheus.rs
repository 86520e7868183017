//! A Prometheus server scrapes a worker, and its answers fill every panel and rule.

// Prometheus knows only floats; what is counted here are small whole numbers.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

use kit::{
    Node, Sandbox,
    history::{History, account, image},
    http,
    prometheus::{Prometheus, lint},
    stage::Stage,
    until,
    worker::Watched,
};
use serde_json::json;

const WRITE: &str = "ModifyImageSharePermission";

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
    let prometheus = Prometheus::scraping(&watched.admin);
    until("the worker is scraped", || (prometheus.value("sum(imageshare_build_info)") > 0.0).then_some(()));
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
        let ruled = prometheus.value("count(job_lane:imageshare_accounts_failed:ratio_rate15m)") > 0.0;
        let proven = ruled.then(|| prometheus.prove())?;
        eprintln!("{}", String::from_utf8_lossy(&proven.stderr));
        proven.status.success().then_some(())
    });
    assert_eq!(lint(&http::get(&watched.admin, "/metrics").body), "");

    let shared: usize = stage.sandbox.state().values().map(std::collections::BTreeSet::len).sum();
    let changed = "sum(imageshare_accounts_total{outcome=\"changed\"})";
    until("Prometheus has what the sandbox counted", || (prometheus.value(changed) as usize == shared).then_some(()));
    // Prometheus extrapolates by up to one scrape, which is much of a load of some seconds and little of a minute.
    let increase = "sum(increase(imageshare_accounts_total{outcome=\"changed\"}[10m]))";
    until("the increase is within a few per cent of it", || {
        (0.96..1.04).contains(&(prometheus.value(increase) / shared as f64)).then_some(())
    });
    watched.worker.drain();
}
