//! The example publishers in other languages.

use std::{
    env,
    ffi::{OsStr, OsString},
};

use kit::{
    Program,
    markdown::MarkdownPage,
    repository_path,
    setup::{QUEUE, TestSetup},
};

const IMAGE: &str = "img-6pb6lrmy";

/// Returns a path that `tests/deploy` prepared.
fn prepared(variable: &str) -> OsString {
    env::var_os(variable).unwrap_or_else(|| panic!("{variable} is set by tests/deploy, which runs this test"))
}

/// Publishes one job of two accounts with an example; a worker completes it. A lane without a queue is refused.
#[track_caller]
fn check(program: &OsStr, arguments: &[OsString]) {
    let setup = TestSetup::shared(100);
    let publish = |lane: &str| {
        Program::external(program, arguments)
            .args([IMAGE, "ap-singapore", "SHARE", "100022975249", "1038493875"])
            .env("IMAGESHARE_BROKER_URL", setup.vhost.url())
            .env("IMAGESHARE_LANE", lane)
            .env("PATH", prepared("PATH"))
            .run()
    };
    let published = publish("default").check(0);
    let job_id = published.stdout.trim().strip_prefix("published ").unwrap();
    let refused = publish("missing").check(1);
    let words = "no queue for the lane missing; make it with: imageshare topology --declare";
    assert!(refused.stderr.contains(words), "{}", refused.stderr);

    assert_eq!(setup.client().ready(QUEUE), 1);
    let worker = setup.worker();
    setup.wait_until_settled();
    worker.drain();
    let reports = setup.reports();
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[job_id]["status"], "succeeded");
    assert_eq!(setup.sandbox.shared(IMAGE), [1_038_493_875, 100_022_975_249].into());
}

#[test]
fn python_publisher_works() {
    check(&prepared("TEST_PYTHON"), &["-B".into(), repository_path("examples/publishers/python/publish.py").into()]);
}

#[test]
fn python_of_the_manual_receives_its_report() {
    let setup = TestSetup::shared(100);
    let page = MarkdownPage::read("docs/jobs.md");
    let program = &page.blocks[page.find("import json, os")].text;
    let worker = setup.worker();
    let ended = Program::external(prepared("TEST_PYTHON"), ["-B", "-c", program.as_str()])
        .env("IMAGESHARE_BROKER_URL", setup.vhost.url())
        .run()
        .check(0);
    assert_eq!(ended.stdout, "succeeded changed: 1038493875 100022975249\n");
    worker.drain();
}

#[test]
fn go_publisher_works() {
    check(&prepared("TEST_GO"), &[]);
}

#[test]
fn node_publisher_works() {
    check("node".as_ref(), &[prepared("TEST_NODE")]);
}
