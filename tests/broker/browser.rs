//! The page for people at `/`, in a real browser. Its pictures stay in the target folder, to be looked at by whoever
//! changes it.

use std::path::Path;

use serde_json::{Value, json};

use kit::{
    Node, Sandbox,
    browser::{Scheme, look_at},
    history::{History, account, image},
    http,
    stage::Stage,
    until,
    worker::Watched,
};

/// A text as a browser writes it out between tags.
fn between_tags(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[test]
fn the_page_shows_what_the_status_says_and_takes_words_from_outside_for_words() {
    // A gateway that answers with a page of its own: its tags become the lane's last error.
    let stage = Stage::new(Node::shared(), Sandbox::start(&["--rps", "0"]), 50);
    let odd = ["ModifyImageSharePermission", "DescribeImageSharePermission", "DescribeImages"]
        .map(|action| json!({"action": action, "times": 1_000_000, "do": "html"}));
    stage.sandbox.faults(&json!({ "script": odd }));
    let watched = Watched::start(stage.program("worker"));
    let mut history = History::default();
    for number in 0..4 {
        history.add(&image(number), true, [account(1), account(2), account(3)]);
    }
    stage.publish(&history.jobs);
    watched.until_state("closed");
    let lane = until("all jobs are there and the lane was probed", || {
        let lane = http::get(&watched.admin, "/status").json()["lanes"][0].clone();
        let is_probed = lane["last_error"]["message"].as_str()?.starts_with("DescribeImages: ");
        (lane["operations_pending"] == 12 && is_probed).then_some(lane)
    });
    let message = lane["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("<html>"), "{message}");
    assert_eq!((&lane["name"], &lane["reason"]), (&json!("default"), &json!("endpoint")));

    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let light = look_at(&format!("http://{}/", watched.admin), Scheme::Light, &pictures.join("page-light.png"));
    let dark = look_at(&format!("http://{}/", watched.admin), Scheme::Dark, &pictures.join("page-dark.png"));
    for seen in [&light, &dark] {
        check(seen, &lane, message);
    }
    // It would keep what it holds for a minute more.
    watched.worker.kill();
}

fn check(seen: &str, lane: &Value, message: &str) {
    let shows = |what: &str| assert!(seen.contains(what), "{what} is not in\n{seen}");
    shows("<h2>default</h2><span class=\"badge bad\">closed: endpoint</span>");
    shows("class=\"badge bad\">not ready</span>");
    for (name, value) in [
        ("accounts pending", &lane["operations_pending"]),
        ("jobs in hand", &lane["jobs_held"]),
        ("accounts failed", &lane["shared"]["failed"]),
        ("jobs succeeded", &lane["jobs"]["succeeded"]),
        ("accounts a request, max", &lane["batch_limit"]),
    ] {
        shows(&format!("<dt>{name}</dt><dd>{value}</dd>"));
    }
    let rate = lane["rate"]["ModifyImageSharePermission"].as_f64().unwrap();
    shows(&format!("<dt>writes a second, max</dt><dd>{rate}</dd>"));
    shows(&format!(": {}</p>", between_tags(message)));
    assert_eq!(seen.matches("<title>").count(), 1, "the gateway's title is no element");
    assert!(!seen.contains("<h1>The gateway"), "{seen}");
}
