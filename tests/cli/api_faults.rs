//! What the API's side can do wrong: every fault ends, and with the right outcomes.

use serde_json::{Value, json};

use kit::{Ended, Folder, Sandbox, job};

const ACCOUNTS: std::ops::Range<u64> = 100_000_000_000..100_000_000_003;

const IMAGES: [&str; 3] = ["img-6pb6lrmy", "img-gvbnzy6f", "img-9qabwvbn"];

/// Shares three images while the first writes, or all of them, meet a fault.
fn run(sandbox: &Sandbox, fault: &str, times: u64, give_up_after: &str) -> Ended {
    let script = |action: &str| json!({"action": action, "times": times, "do": fault});
    let script = if times > 10 {
        json!(["ModifyImageSharePermission", "DescribeImageSharePermission", "DescribeImages"].map(script))
    } else {
        json!([script("ModifyImageSharePermission")])
    };
    sandbox.faults(&json!({ "script": script }));
    let folder = Folder::new();
    // A call that hangs is given up soon. Nothing here is applied late, so doubt need not last.
    let settings = folder.file(
        "settings.toml",
        "[http]\ncall_timeout = \"500ms\"\nconnect_timeout = \"500ms\"\n[engine]\nlanding = \"1s\"\n",
    );
    let jobs: String = IMAGES.iter().map(|image| job(image, "SHARE", ACCOUNTS)).collect();
    let program = sandbox.program("run").args(["-", "--give-up-after", give_up_after, "--config"]).arg(settings);
    program.input(jobs).run()
}

/// A fault that passes is got over.
#[track_caller]
fn check_passing(fault: &str) {
    let sandbox = Sandbox::start(&["--rps", "0"]);
    let ended = run(&sandbox, fault, 1, "30s").check(0);
    for report in ended.json() {
        assert_eq!(report["changed"].as_array().unwrap().len(), 3, "{fault}: {report}");
    }
    for image in IMAGES {
        assert!(sandbox.shared(image).into_iter().eq(ACCOUNTS), "{fault}: {image}");
    }
}

/// A fault that stays ends with a code for every account.
#[track_caller]
fn check_lasting(fault: &str, exit: i32, code: &str, words: &str) {
    let sandbox = Sandbox::start(&["--rps", "0"]);
    let ended = run(&sandbox, fault, 1_000_000, "2s").check(exit);
    let reports = ended.json();
    let failed: Vec<&Value> = reports.iter().flat_map(|report| report["failed"].as_array().unwrap()).collect();
    let accounts: usize = failed.iter().map(|failed| failed["account_ids"].as_array().unwrap().len()).sum();
    assert_eq!((reports.len(), accounts), (3, 9), "{fault}");
    assert!(failed.iter().any(|failed| failed["code"] == code), "{fault}: {reports:?}");
    assert!(ended.stderr.contains(words), "{fault}: {}", ended.stderr);
    assert!(IMAGES.iter().all(|image| sandbox.shared(image).is_empty()), "{fault}");
}

#[test]
fn pages_and_cut_off_answers_are_got_over() {
    for fault in ["html", "truncate", "http_500", "internal_error"] {
        check_passing(fault);
    }
}

#[test]
fn connections_that_break_before_and_after_the_effect_are_got_over() {
    for fault in ["reset_before", "reset_after", "hang"] {
        check_passing(fault);
    }
}

#[test]
fn an_endless_answer_an_unknown_code_and_a_throttle_are_got_over() {
    for fault in ["endless", "code:Nobody.EverHeardOfIt", "throttle"] {
        check_passing(fault);
    }
}

#[test]
fn a_server_with_another_clock_is_followed() {
    let sandbox = Sandbox::start(&["--rps", "0"]);
    let ended = run(&sandbox, "skew", 1_000_000, "30s").check(0);
    assert!(ended.json().iter().all(|report| report["changed"].as_array().unwrap().len() == 3), "{}", ended.stdout);
    let stats = sandbox.stats();
    assert!(stats["by_code"]["AuthFailure.SignatureExpire"].as_u64() >= Some(1), "it was another one: {stats}");
}

#[test]
fn an_endpoint_that_gives_nothing_usable_any_more_ends_with_4() {
    check_lasting("html", 4, "Local.NotAttempted", "the endpoint gives no usable answer");
    check_lasting("endless", 4, "Local.NotAttempted", "the endpoint gives no usable answer");
    check_lasting("reset_before", 4, "Local.NotAttempted", "the endpoint gives no usable answer");
}

#[test]
fn a_credential_that_expires_ends_with_3() {
    check_lasting(
        "expired_credential",
        3,
        "Local.NotAttempted",
        "the lane is closed (credential): AuthFailure.TokenFailure",
    );
}

#[test]
fn a_code_that_nobody_knows_fails_the_accounts_with_it() {
    let sandbox = Sandbox::start(&["--rps", "0"]);
    sandbox.faults(&json!({"script": [{"action": "ModifyImageSharePermission", "times": 100_000, "do": "code:Nobody.EverHeardOfIt"}]}));
    let ended = sandbox.program("run").arg("-").input(job(IMAGES[0], "SHARE", ACCOUNTS)).run().check(1);
    let report = ended.report("line-1");
    assert_eq!(report["status"], "failed");
    assert!(
        report["failed"].as_array().unwrap().iter().all(|failed| failed["code"] == "Nobody.EverHeardOfIt"),
        "{report}"
    );
    assert!(ended.stderr.contains("img-6pb6lrmy  Nobody.EverHeardOfIt: "), "{}", ended.stderr);
}
