//! Credentials that change, expire or belong to another account while a worker runs.

use std::{fs, path::Path};

use kit::{
    Folder, Node, Sandbox,
    history::{History, OF_SECOND_REGION, account, image},
    stage::{DEAD, Stage, TWO_LANES},
    until,
};
use serde_json::{Value, json};

const ROLE: &str = "qcs::cam::uin/100009999999:roleName/share";

#[test]
fn missing_key_blocks_no_other_lane() {
    let stage = Stage::of_lanes(Node::shared(), &TWO_LANES, &[], "", "");
    let denied = json!({"action": "GetCallerIdentity", "times": 99, "do": "code:UnauthorizedOperation"});
    stage.sandbox.faults(&json!({"script": [denied]}));
    let mut history = History::of(64);
    history.add_random(20, 0);
    history.add_random(20, OF_SECOND_REGION);
    stage.publish(&history.jobs);
    stage.change_keys(&TWO_LANES[..1]);
    let worker = stage.worker();
    worker.until_logged_after(0, &["lane closed", r#""lane":"two""#, r#""reason":"credential""#]);
    until("the other lane is done", || (stage.depth_of("one").ready + stage.depth_of("one").held == 0).then_some(()));
    assert_eq!((stage.depth_of("two").ready, stage.depth_of("two").consumers), (20, 0));
    stage.change_keys(&TWO_LANES);
    stage.check_done(&history);
    let log = worker.drain();
    assert_eq!(log.matches("account of the key not identified").count(), 2, "{log}");
    assert_eq!(stage.sandbox.stats()["by_action"]["GetCallerIdentity"], 2);
}

/// A stage whose lane has this credential.
fn stage(sandbox: Sandbox, credential: &str) -> Stage<'static> {
    Stage::with_settings(Node::shared(), sandbox, 100, &format!("[credentials.default]\n{credential}\n"))
}

/// A stage whose lane has the key of a file.
fn stage_with_file(sandbox: Sandbox, path: &Path) -> Stage<'static> {
    stage(sandbox, &format!("source = \"file\"\npath = {path:?}"))
}

fn write_key(path: &Path, key: &Value) {
    fs::write(path, key.to_string()).unwrap();
}

#[test]
fn expired_key_holds_jobs_until_file_is_valid() {
    let (sandbox, folder) = (Sandbox::start(&["--rps", "0", "--latency", "20ms"]), Folder::new());
    let path = folder.path("key.json");
    write_key(&path, &sandbox.temporary_key(3));
    let stage = stage_with_file(sandbox, &path);
    let mut history = History::of(61);
    let worker = stage.worker();
    stage.publish_random(&mut history, 50);
    worker.until_serving();
    // Jobs come until the key has ended.
    let closed = ["lane closed", r#""reason":"credential""#];
    while !worker.said().lines().any(|line| closed.iter().all(|part| line.contains(part))) {
        add_while_few(&stage, &mut history);
    }
    // Its successor is written, and only half of it is there, which is logged once however often it is read.
    let key = stage.sandbox.temporary_key(3_600);
    let (text, mark) = (key.to_string(), worker.mark());
    fs::write(&path, text.get(..text.len() / 2).unwrap()).unwrap();
    worker.until_logged_after(mark, &["credential source failed", "found only the beginning"]);
    write_key(&path, &key);
    worker.until_logged_after(mark, &["lane opened"]);
    assert_eq!(stage.client().ready(DEAD), 0);
    stage.check_done(&history);
    let log = worker.drain();
    assert!(!log.contains(key["secret_key"].as_str().unwrap()), "{log}");
    assert_eq!(log.matches("credential source failed").count(), 1, "{log}");
}

#[test]
fn key_file_replaced_in_time_costs_no_call() {
    let (sandbox, folder) = (Sandbox::start(&["--rps", "0", "--latency", "20ms"]), Folder::new());
    let path = folder.path("key.json");
    write_key(&path, &sandbox.temporary_key(3_600));
    let stage = stage_with_file(sandbox, &path);
    let mut history = History::of(62);
    let worker = stage.worker();
    for _ in 0..3 {
        stage.publish_random(&mut history, 50);
        worker.until_serving();
        let mark = worker.mark();
        // As secret stores do it.
        write_key(&folder.path("next"), &stage.sandbox.temporary_key(3_600));
        fs::rename(folder.path("next"), &path).unwrap();
        worker.until_logged_after(mark, &["credential refreshed"]);
    }
    stage.check_done(&history);
    assert!(!worker.drain().contains("lane closed"));
    check_no_refused_key(&stage);
}

#[test]
fn key_of_another_account_closes_the_lane() {
    let folder = Folder::new();
    let key = |id: &str, account: &str| {
        format!("[[keys]]\nsecret_id = \"{id}\"\nsecret_key = \"secret-{id}\"\naccount = \"{account}\"\n")
    };
    let keys = [key("AKIDOURS", "100009999999"), key("AKIDOTHER", "100008888888")].concat();
    let world = folder.file("world.toml", format!("open_images = true\nopen_accounts = true\n{keys}"));
    let sandbox = Sandbox::start(&["--rps", "0", "--world", world.to_str().unwrap()]);
    let path = folder.path("key.json");
    let put = |id: &str| write_key(&path, &json!({"secret_id": id, "secret_key": format!("secret-{id}")}));
    put("AKIDOURS");
    let stage = stage_with_file(sandbox, &path);
    let mut history = History::of(65);
    let worker = stage.worker();
    stage.publish_random(&mut history, 20);
    stage.until_worked_off();
    let (mark, calls) = (worker.mark(), stage.sandbox.writes());
    put("AKIDOTHER");
    worker.until_logged_after(mark, &["lane closed", r#""reason":"account""#, "100008888888"]);
    // Jobs of other accounts: one that needs no write could be done without the API.
    let first = history.jobs.len();
    for number in 1000..1050 {
        history.add(&image(0), true, [account(number)]);
    }
    stage.publish(&history.jobs[first..]);
    until("the jobs are held", || (stage.depth_of("default").held == 50).then_some(()));
    assert_eq!(stage.sandbox.writes(), calls);
    let mark = worker.mark();
    put("AKIDOURS");
    worker.until_logged_after(mark, &["lane opened"]);
    stage.check_done(&history);
    // The operator says that the other account is right.
    let mark = worker.mark();
    put("AKIDOTHER");
    worker.until_logged_after(mark, &["lane closed", r#""reason":"account""#]);
    stage.change_settings(stage.sandbox.port(), "[lanes.default]\n", "[lanes.default]\naccount = \"100008888888\"\n");
    worker.signal("HUP");
    worker.until_logged_after(mark, &["lane opened"]);
    worker.drain();
}

#[test]
fn role_is_renewed_before_it_expires() {
    let sandbox = Sandbox::start(&["--rps", "0", "--latency", "20ms"]);
    let role = format!(
        "source = \"assume_role\"\nrole_arn = \"{ROLE}\"\nduration = \"6s\"\ncredential = \"base\"\n\
         [credentials.base]\nsource = \"environment\""
    );
    let stage = stage(sandbox, &role);
    let mut history = History::of(63);
    let worker = stage.worker();
    worker.until_subscribed();
    while stage.sandbox.stats()["by_action"]["AssumeRole"].as_u64().unwrap_or_default() < 4 {
        add_while_few(&stage, &mut history);
    }
    stage.check_done(&history);
    assert!(!worker.drain().contains("lane closed"));
    check_no_refused_key(&stage);
}

/// Publishes more jobs unless enough wait.
fn add_while_few(stage: &Stage<'_>, history: &mut History) {
    let depth = stage.depth_of("default");
    if depth.ready + depth.held < 100 {
        stage.publish_random(history, 20);
    }
}

#[track_caller]
fn check_no_refused_key(stage: &Stage<'_>) {
    let codes = stage.sandbox.stats()["by_code"].clone();
    assert!(!codes.as_object().unwrap().keys().any(|code| code.starts_with("AuthFailure")), "{codes}");
}
