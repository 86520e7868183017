//! The status page in a browser. The screenshots stay in the target folder.

use std::{fs, path::Path};

use serde_json::json;

use kit::{
    Folder, Program,
    history::{JobHistory, account, image},
    http,
    setup::TestSetup,
    wait_until,
    worker::MonitoredWorker,
};

/// The page's virtual time until the screenshot, in milliseconds. Waiting for the server does not count.
const VIRTUAL_TIME_MS: u32 = 5000;

/// Opens a page, writes a screenshot, and returns its elements after its script has run.
#[track_caller]
fn open(url: &str, scheme: u8, picture: &Path) -> String {
    let folder = Folder::new();
    // Chromium's sandbox needs permissions that neither root nor a container has.
    let page = Program::external("chromium", ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--no-first-run", "--disable-dev-shm-usage", "--disable-background-networking"])
        .arg("--window-size=1200,800")
        .arg(format!("--user-data-dir={}", folder.path("profile").display()))
        .arg(format!("--virtual-time-budget={VIRTUAL_TIME_MS}"))
        .arg(format!("--blink-settings=preferredColorScheme={scheme}"))
        .arg(format!("--screenshot={}", picture.display()))
        .args(["--dump-dom", url])
        .env("HOME", folder.path(""))
        .terminated_after(60)
        .run()
        .check(0);
    assert!(fs::read(picture).unwrap().starts_with(b"\x89PNG"), "{}", picture.display());
    page.stdout
}

#[test]
fn page_shows_status_and_escapes_outside_text() {
    // A gateway responds with an HTML page, whose tags become part of the lane's last error.
    let setup = TestSetup::shared(50);
    let odd = ["ModifyImageSharePermission", "DescribeImageSharePermission", "DescribeImages"]
        .map(|action| json!({"action": action, "times": 1_000_000, "do": "html"}));
    setup.sandbox.faults(&json!({ "script": odd }));
    let monitored = MonitoredWorker::start(setup.program("worker"));
    let mut history = JobHistory::default();
    for number in 0..4 {
        history.share(&image(number), [account(1), account(2), account(3)]);
    }
    setup.publish(&history.jobs);
    monitored.wait_for_state("closed");
    let lane = wait_until("all jobs are delivered and the lane was probed", || {
        let lane = http::get(&monitored.admin, "/status").json()["lanes"][0].clone();
        let is_probed = lane["last_error"]["message"].as_str()?.starts_with("DescribeImages: ");
        (lane["operations_pending"] == 12 && is_probed).then_some(lane)
    });
    let message = lane["last_error"]["message"].as_str().unwrap();
    assert!(message.contains("<html>"), "{message}");
    assert_eq!((&lane["name"], &lane["reason"]), (&json!("default"), &json!("endpoint")));

    let mut expected = vec![
        "<h2>default</h2><span class=\"badge bad\">closed: endpoint</span>".to_owned(),
        // The process works, although its lane does not.
        "class=\"badge good\">ready</span>".to_owned(),
        // As a browser serializes text.
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
        // JavaScript prints 50.0 as 50.
        expected.push(format!("<dt>{name}</dt><dd>{}</dd>", value.as_f64().unwrap()));
    }
    // Chromium's numbers of the color schemes.
    for (scheme, name) in [(1, "light"), (0, "dark")] {
        let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("page-{name}.png"));
        let page = open(&format!("http://{}/", monitored.admin), scheme, &picture);
        for text in &expected {
            assert!(page.contains(text), "{text} is not in\n{page}");
        }
        assert_eq!(page.matches("<title>").count(), 1, "the gateway's title is text");
        assert!(!page.contains("<h1>The gateway"), "{page}");
    }
    // A drain would wait for the jobs for a minute.
    monitored.worker.kill();
}
