//! The two example files: one that shows the product, one that shows trouble.

use serde_json::json;

use kit::{Program, Sandbox, job, of_repository};

fn example(name: &str) -> String {
    of_repository("examples").join(name).to_str().unwrap().to_owned()
}

#[test]
fn the_demo_ends_well_with_every_outcome_that_it_shows() {
    let ended = Program::new(["run", &example("jobs.ndjson"), "--sandbox"]).run().check(0);
    let reports = ended.json();
    assert_eq!(reports.len(), 308);
    assert!(reports.iter().all(|report| report["status"] == "succeeded"));
    let len = |job: &str, list: &str| ended.report(job)[list].as_array().map(Vec::len);

    // Hundreds of one-account jobs went in a handful of requests.
    let singles = reports.iter().filter(|report| report["job_id"].as_str().unwrap().starts_with("onboard-"));
    assert_eq!(singles.filter(|report| report["changed"].as_array().unwrap().len() == 1).count(), 242);
    assert_eq!(ended.report("onboard-0241")["duplicates"], 1);
    assert_eq!(len("guangzhou-all", "changed"), Some(320));
    assert_eq!(len("gpu-partners", "changed"), Some(60));
    assert_eq!(ended.report("gpu-partners")["labels"], json!({"release": "2026.11", "kind": "gpu"}));
    // Shared already, taken back, and made exact.
    assert_eq!(ended.report("keep-october")["unchanged"], json!(["1038493875"]));
    assert_eq!(ended.report("leave-october")["changed"], json!(["909619400"]));
    assert_eq!((len("exact-october", "changed"), len("exact-october", "cancelled")), (Some(2), Some(10)));
    assert_eq!(len("exact-october", "unchanged"), Some(33));

    let said = &ended.stderr;
    assert!(said.starts_with("working on a sandbox at http://127.0.0.1:"), "{said}");
    assert!(said.contains("img-19mu3fy3: not ready yet"), "{said}");
    assert!(said.contains("jobs      308   308 succeeded"), "{said}");
    assert!(said.contains("accounts  732   688 changed, 34 unchanged, 10 taken off by a SYNC"), "{said}");
}

#[test]
fn the_demo_of_trouble_names_each_account_that_failed_and_why() {
    let ended = Program::new(["run", &example("trouble.ndjson"), "--sandbox"]).run().check(1);
    let status = |job: &str| ended.report(job)["status"].as_str().unwrap().to_owned();
    assert_eq!(status("good"), "succeeded");
    assert_eq!(status("one-unknown-account"), "partial");
    assert_eq!(status("unknown-image"), "failed");
    assert_eq!(status("full-image"), "failed");
    assert_eq!(status("licence"), "failed");
    assert_eq!(status("cut-off"), "rejected");
    assert_eq!(ended.report("one-unknown-account")["changed"].as_array().unwrap().len(), 49);

    let said = &ended.stderr;
    for words in [
        "trouble.ndjson line 3: found malformed JSON",
        "img-6pb6lrmy  InvalidAccountId.NotFound: ",
        "\n    100000000404\n",
        "img-00000000  InvalidImageId.NotFound: ",
        "img-fu11c0de  Local.OverQuota: the image is shared with 500 accounts and may be shared with 500",
        "img-by0l7w2k  FailedOperation.BYOLImageShareFailed: ",
        "jobs      6    1 succeeded, 1 partial, 3 failed, 1 rejected",
    ] {
        assert!(said.contains(words), "{words} is not in\n{said}");
    }
    for failed in ended.json().iter().flat_map(|report| report["failed"].as_array().unwrap()) {
        let mut accounts = failed["account_ids"].as_array().unwrap().iter();
        assert!(accounts.all(|account| said.contains(account.as_str().unwrap())), "{failed}");
    }
}

#[test]
fn one_bad_account_of_fifty_costs_at_most_twelve_requests() {
    let sandbox = Sandbox::start(&["--rps", "0"]);
    sandbox.faults(&json!({"unknown_accounts": ["100000000023"]}));
    let ended = sandbox.program("run").arg("-").input(job("img-6pb6lrmy", "SHARE", 100_000_000_000..100_000_000_050));
    let report = ended.run().check(1).report("line-1");
    assert_eq!(report["status"], "partial");
    assert_eq!(report["changed"].as_array().unwrap().len(), 49);
    assert_eq!(report["failed"][0]["account_ids"], json!(["100000000023"]));
    assert_eq!(report["failed"][0]["code"], "InvalidAccountId.NotFound");
    let expected = (100_000_000_000..100_000_000_050).filter(|id| *id != 100_000_000_023).collect();
    assert_eq!(sandbox.shared("img-6pb6lrmy"), expected);
    assert!(sandbox.writes() <= 12, "{}", sandbox.stats());
}

#[test]
fn the_second_run_of_a_file_sends_no_write() {
    let sandbox = Sandbox::start(&["--world", &example("world.toml")]);
    let run = || sandbox.program("run").arg(example("jobs.ndjson")).run().check(0);
    run();
    let (writes, state) = (sandbox.writes(), sandbox.state());
    let second = run();
    assert_eq!(sandbox.writes(), writes);
    assert_eq!(sandbox.state(), state);
    assert_eq!(sandbox.stats()["repeated_accounts"], 0);
    assert!(second.json().iter().all(|report| report["changed"] == json!([]) && report["requests"] == 0));
}
