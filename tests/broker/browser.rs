//! The page for people at `/`, in a real browser. Its pictures stay in the target folder for a developer to look at.

use std::path::Path;

use serde_json::json;

use kit::{
    Node, Sandbox,
    browser::{Scheme, look_at},
    history::{History, account, image},
    http,
    stage::Stage,
    until,
    worker::Watched,
};

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

    let mut expected = vec![
        "<h2>default</h2><span class=\"badge bad\">closed: endpoint</span>".to_owned(),
        "class=\"badge bad\">not ready</span>".to_owned(),
        // As a browser writes text.
        format!(": {}</p>", message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")),
    ];
    for (name, value) in [
        ("accounts pending", &lane["operations_pending"]),
        ("jobs in hand", &lane["jobs_held"]),
        ("accounts failed", &lane["shared"]["failed"]),
        ("jobs succeeded", &lane["jobs"]["succeeded"]),
        ("accounts a request, max", &lane["batch_limit"]),
        ("writes a second, max", &lane["rate"]["ModifyImageSharePermission"]),
    ] {
        // A script writes 50 in place of 50.0.
        expected.push(format!("<dt>{name}</dt><dd>{}</dd>", value.as_f64().unwrap()));
    }
    for scheme in [Scheme::Light, Scheme::Dark] {
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{scheme:?}.png"));
        let page = look_at(&format!("http://{}/", watched.admin), scheme, &picture);
        for text in &expected {
            assert!(page.contains(text), "{text} is not in\n{page}");
        }
        assert_eq!(page.matches("<title>").count(), 1, "the gateway's title is no element");
        assert!(!page.contains("<h1>The gateway"), "{page}");
    }
    // It would keep what it holds for a minute more.
    watched.worker.kill();
}
