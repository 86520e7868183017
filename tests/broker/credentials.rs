//! Credentials that change, expire or belong to another account while a worker runs.

use std::{fs, path::Path};

use kit::{
    BrokerNode, Folder, SandboxProcess,
    history::{JobHistory, SECOND_REGION_START, account, image},
    setup::{DEAD, TWO_LANES, TestSetup},
    wait_until,
};
use serde_json::{Value, json};

const ROLE: &str = "qcs::cam::uin/100009999999:roleName/share";

#[test]
fn missing_key_blocks_no_other_lane() {
    let setup = TestSetup::with_lanes(BrokerNode::shared(), &TWO_LANES, &[], "", "");
    let denied = json!({"action": "GetCallerIdentity", "times": 99, "do": "code:UnauthorizedOperation"});
    setup.sandbox.faults(&json!({"script": [denied]}));
    let mut history = JobHistory::for_scenario(64);
    history.add_random(20, 0);
    history.add_random(20, SECOND_REGION_START);
    setup.publish(&history.jobs);
    setup.change_keys(&TWO_LANES[..1]);
    let worker = setup.worker();
    worker.wait_for_log_after(0, &["lane closed", r#""lane":"two""#, r#""reason":"credential""#]);
    wait_until("the other lane is settled", || {
        (setup.lane_depth("one").ready + setup.lane_depth("one").held == 0).then_some(())
    });
    assert_eq!((setup.lane_depth("two").ready, setup.lane_depth("two").consumers), (20, 0));
    setup.change_keys(&TWO_LANES);
    setup.check_all_succeeded(&history);
    let log = worker.drain();
    assert_eq!(log.matches("account of the key not identified").count(), 2, "{log}");
    assert_eq!(setup.sandbox.stats()["by_action"]["GetCallerIdentity"], 2);
}

/// Creates a setup with this credential.
fn setup(sandbox: SandboxProcess, credential: &str) -> TestSetup<'static> {
    TestSetup::with_settings(BrokerNode::shared(), sandbox, 100, &format!("[credentials.default]\n{credential}\n"))
}

/// Creates a setup with a key file.
fn stage_with_file(sandbox: SandboxProcess, path: &Path) -> TestSetup<'static> {
    setup(sandbox, &format!("source = \"file\"\npath = {path:?}"))
}

fn write_key(path: &Path, key: &Value) {
    fs::write(path, key.to_string()).unwrap();
}

#[test]
fn expired_key_holds_jobs_until_file_is_valid() {
    let (sandbox, folder) = (SandboxProcess::start(&["--rps", "0", "--latency", "20ms"]), Folder::new());
    let path = folder.path("key.json");
    write_key(&path, &sandbox.temporary_key(3));
    let setup = stage_with_file(sandbox, &path);
    let mut history = JobHistory::for_scenario(61);
    let worker = setup.worker();
    setup.publish_random(&mut history, 50);
    worker.wait_until_serving();
    // Publish until the key has expired.
    let closed = ["lane closed", r#""reason":"credential""#];
    while !worker.stderr().lines().any(|line| closed.iter().all(|part| line.contains(part))) {
        publish_if_few(&setup, &mut history);
    }
    // A partly written file is logged once, however often it is read.
    let key = setup.sandbox.temporary_key(3_600);
    let (text, mark) = (key.to_string(), worker.mark());
    fs::write(&path, text.get(..text.len() / 2).unwrap()).unwrap();
    worker.wait_for_log_after(mark, &["credential source failed", "incomplete JSON"]);
    write_key(&path, &key);
    worker.wait_for_log_after(mark, &["lane opened"]);
    assert_eq!(setup.client().ready(DEAD), 0);
    setup.check_all_succeeded(&history);
    let log = worker.drain();
    assert!(!log.contains(key["secret_key"].as_str().unwrap()), "{log}");
    assert_eq!(log.matches("credential source failed").count(), 1, "{log}");
}

#[test]
fn key_file_replaced_in_time_costs_no_call() {
    let (sandbox, folder) = (SandboxProcess::start(&["--rps", "0", "--latency", "20ms"]), Folder::new());
    let path = folder.path("key.json");
    write_key(&path, &sandbox.temporary_key(3_600));
    let setup = stage_with_file(sandbox, &path);
    let mut history = JobHistory::for_scenario(62);
    let worker = setup.worker();
    for _ in 0..3 {
        setup.publish_random(&mut history, 50);
        worker.wait_until_serving();
        let mark = worker.mark();
        // Secret stores replace files this way.
        write_key(&folder.path("next"), &setup.sandbox.temporary_key(3_600));
        fs::rename(folder.path("next"), &path).unwrap();
        worker.wait_for_log_after(mark, &["credential refreshed"]);
    }
    setup.check_all_succeeded(&history);
    assert!(!worker.drain().contains("lane closed"));
    check_no_refused_key(&setup);
}

#[test]
fn key_of_another_account_closes_lane() {
    let folder = Folder::new();
    let key = |id: &str, account: &str| {
        format!("[[keys]]\nsecret_id = \"{id}\"\nsecret_key = \"secret-{id}\"\naccount = \"{account}\"\n")
    };
    let keys = [key("AKIDOURS", "100009999999"), key("AKIDOTHER", "100008888888")].concat();
    let world = folder.file("world.toml", format!("open_images = true\nopen_accounts = true\n{keys}"));
    let sandbox = SandboxProcess::start(&["--rps", "0", "--world", world.to_str().unwrap()]);
    let path = folder.path("key.json");
    let put = |id: &str| write_key(&path, &json!({"secret_id": id, "secret_key": format!("secret-{id}")}));
    put("AKIDOURS");
    let setup = stage_with_file(sandbox, &path);
    let mut history = JobHistory::for_scenario(65);
    let worker = setup.worker();
    setup.publish_random(&mut history, 20);
    setup.wait_until_settled();
    let (mark, calls) = (worker.mark(), setup.sandbox.writes());
    put("AKIDOTHER");
    worker.wait_for_log_after(mark, &["lane closed", r#""reason":"account""#, "100008888888"]);
    // New accounts, since a job that needs no write could succeed without the API.
    let first = history.jobs.len();
    for number in 1000..1050 {
        history.share(&image(0), [account(number)]);
    }
    setup.publish(&history.jobs[first..]);
    wait_until("the jobs are held", || (setup.lane_depth("default").held == 50).then_some(()));
    assert_eq!(setup.sandbox.writes(), calls);
    let mark = worker.mark();
    put("AKIDOURS");
    worker.wait_for_log_after(mark, &["lane opened"]);
    setup.check_all_succeeded(&history);
    // The operator sets the other account.
    let mark = worker.mark();
    put("AKIDOTHER");
    worker.wait_for_log_after(mark, &["lane closed", r#""reason":"account""#]);
    setup.change_settings(setup.sandbox.port(), "[lanes.default]\n", "[lanes.default]\naccount = \"100008888888\"\n");
    worker.signal("HUP");
    worker.wait_for_log_after(mark, &["lane opened"]);
    worker.drain();
}

#[test]
fn role_is_renewed_before_it_expires() {
    let sandbox = SandboxProcess::start(&["--rps", "0", "--latency", "20ms"]);
    let role = format!(
        "source = \"assume_role\"\nrole_arn = \"{ROLE}\"\nduration = \"6s\"\ncredential = \"base\"\n\
         [credentials.base]\nsource = \"environment\""
    );
    let setup = setup(sandbox, &role);
    let mut history = JobHistory::for_scenario(63);
    let worker = setup.worker();
    worker.wait_until_subscribed();
    while setup.sandbox.stats()["by_action"]["AssumeRole"].as_u64().unwrap_or_default() < 4 {
        publish_if_few(&setup, &mut history);
    }
    setup.check_all_succeeded(&history);
    assert!(!worker.drain().contains("lane closed"));
    check_no_refused_key(&setup);
}

/// Publishes more jobs if fewer than 100 are pending.
fn publish_if_few(setup: &TestSetup<'_>, history: &mut JobHistory) {
    let depth = setup.lane_depth("default");
    if depth.ready + depth.held < 100 {
        setup.publish_random(history, 20);
    }
}

#[track_caller]
fn check_no_refused_key(setup: &TestSetup<'_>) {
    let codes = setup.sandbox.stats()["by_code"].clone();
    assert!(!codes.as_object().unwrap().keys().any(|code| code.starts_with("AuthFailure")), "{codes}");
}
