//! Where credentials come from, each against a stand-in that checks what it is asked, and what becomes of the work when
//! one ends.

use std::{fs, path::Path, time::Instant};

use serde_json::{Value, json};

use crate::kit::{
    Ended, Folder, Node, Program, Sandbox,
    history::{History, Random},
    stage::{DEAD, Stage},
    until,
};

const ROLE: &str = "qcs::cam::uin/100009999999:roleName/share";

/// The sources that ask somebody else, and which calls of the sandbox each makes.
const ASKING: [(&str, &str); 3] = [
    ("source = \"cvm_role\"\nendpoint = \"{sandbox}\"", "InstanceRole"),
    (
        "source = \"assume_role\"\nrole_arn = \"{role}\"\ncredential = \"base\"\nexternal_id = \"ab\"\n\
         [credentials.base]\nsource = \"environment\"",
        "AssumeRole",
    ),
    ("source = \"tke_oidc\"\ntoken_file = \"{folder}/token\"", "AssumeRoleWithWebIdentity"),
];

/// Lists an image with this credential.
fn list(sandbox: &Sandbox, folder: &Folder, credential: &str) -> Ended {
    folder.file("token", "a.b.c\n");
    let endpoint = format!("http://{}", sandbox.address);
    let credential = credential
        .replace("{sandbox}", &endpoint)
        .replace("{role}", ROLE)
        .replace("{folder}", folder.path("").to_str().unwrap().trim_end_matches('/'));
    let settings = format!(
        "[lanes.default]\nendpoint = \"{endpoint}\"\ncredential = \"x\"\n[http]\nconnect_timeout = \"2s\"\n\
         call_timeout = \"2s\"\n[credentials.x]\n{credential}\n"
    );
    Program::new(["list", "--image", "img-6pb6lrmy", "--region", "ap-singapore", "--config"])
        .arg(folder.file("settings.toml", settings))
        .key("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
        .env("HOME", folder.path(""))
        .env("TKE_PROVIDER_ID", "cls-12345678")
        .env("TKE_ROLE_ARN", ROLE)
        .env("TKE_REGION", "ap-singapore")
        .run()
}

#[test]
fn every_source_gives_a_credential_that_works() {
    let (sandbox, folder) = (Sandbox::start(&[]), Folder::new());
    let key = sandbox.temporary_key(3_600);
    folder.file("key.json", key.to_string());
    let part = |name: &str| key[name].as_str().unwrap().to_owned();
    for (file, member) in [("secret_id", "secret_id"), ("secret_key", "secret_key"), ("token", "token")] {
        fs::create_dir_all(folder.path("mounted")).unwrap();
        folder.file(&format!("mounted/{file}"), part(member));
    }
    let profile = format!(
        "[golden]\nsecret_id = {}\nsecret_key = {}\ntoken = {}\n",
        part("secret_id"),
        part("secret_key"),
        part("token")
    );
    folder.file("profile", profile);
    fs::create_dir(folder.path(".tccli")).unwrap();
    let kept = json!({
        "secretId": part("secret_id"), "secretKey": part("secret_key"), "token": part("token"),
        "expiresAt": 1_900_000_000, "type": "oauth",
    });
    folder.file(".tccli/default.credential", kept.to_string());

    let local = [
        "source = \"environment\"",
        "source = \"profile\"\npath = \"{folder}/profile\"\nsection = \"golden\"",
        "source = \"tccli\"",
        "source = \"file\"\npath = \"{folder}/key.json\"",
        "source = \"file\"\npath = \"{folder}/mounted\"",
    ];
    for credential in local {
        list(&sandbox, &folder, credential).check(0);
    }
    for (credential, action) in ASKING {
        let before = sandbox.stats()["by_action"][action].as_u64().unwrap_or_default();
        list(&sandbox, &folder, credential).check(0);
        assert_eq!(sandbox.stats()["by_action"][action], before + 1, "{action}");
    }
    let codes = sandbox.stats()["by_code"].clone();
    assert_eq!(codes.as_object().unwrap().keys().collect::<Vec<_>>(), ["ok"], "{codes}");
}

#[test]
fn whoever_gives_credentials_and_fails_is_named_with_what_came() {
    let (sandbox, folder) = (Sandbox::start(&[]), Folder::new());
    let endpoint = format!("http://{}", sandbox.address);
    for (credential, action) in ASKING {
        for (fault, words) in [
            ("http_500", "status 500"),
            ("truncate", "ended the connection before its answer was complete"),
            ("hang", "no answer within 2 s"),
            ("reset_before", "ended the connection before its answer was complete"),
        ] {
            sandbox.faults(&json!({"script": [{"action": action, "times": 9, "do": fault}]}));
            let ended = list(&sandbox, &folder, credential);
            assert_eq!(ended.code, Some(4), "{action} {fault}: {}", ended.stderr);
            assert!(ended.stderr.starts_with("imageshare: lane default: "), "{}", ended.stderr);
            assert!(ended.stderr.contains(&endpoint), "{action} {fault}: {}", ended.stderr);
            assert!(ended.stderr.contains(words), "{action} {fault}: {}", ended.stderr);
        }
    }
    sandbox.faults(&json!({"script": [{"action": "AssumeRole", "do": "code:ResourceNotFound.RoleNotFound"}]}));
    let ended = list(&sandbox, &folder, ASKING[1].0);
    assert!(ended.stderr.contains("AssumeRole: ResourceNotFound.RoleNotFound"), "{}", ended.stderr);
    assert_eq!(ended.code, Some(3));
    // Expired before it was given: who asks the API with it is told so.
    sandbox.faults(&json!({"script": [{"action": "InstanceRole", "times": 9, "do": "expired_credential"}]}));
    let ended = list(&sandbox, &folder, ASKING[0].0);
    assert!(ended.stderr.contains("AuthFailure.TokenFailure"), "{}", ended.stderr);
    assert_eq!(ended.code, Some(3));
}

#[test]
fn a_clock_that_is_wrong_is_corrected_for_temporary_keys_too() {
    let (sandbox, folder) = (Sandbox::start(&[]), Folder::new());
    sandbox.faults(&json!({"script": [{"action": "AssumeRole", "times": 2, "do": "skew"}]}));
    list(&sandbox, &folder, ASKING[1].0).check(0);
    assert_eq!(sandbox.stats()["by_code"]["AuthFailure.SignatureExpire"], 1);
}

#[test]
fn the_account_of_the_key_is_left_out_and_where_it_is_not_known_the_api_says_so() {
    let sandbox = Sandbox::start(&["--rps", "0"]);
    let share = |image: &str| {
        let accounts = ["--account", "1038493875", "--account", "100009999999", "--account", "1038493876"];
        sandbox.program("share").args(["--image", image, "--region", "ap-singapore"]).args(accounts).run()
    };
    let failed = |ended: Ended| {
        let report = ended.check(1).json().remove(0);
        assert_eq!(report["changed"], json!(["1038493875", "1038493876"]), "{report}");
        report["failed"][0]["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(failed(share("img-6pb6lrmy")), "Local.OwnAccount");
    assert_eq!(sandbox.writes(), 1, "no list was split");
    // A policy that does not allow it.
    let denied = json!({"action": "GetCallerIdentity", "times": 99, "do": "code:UnauthorizedOperation"});
    sandbox.faults(&json!({"script": [denied]}));
    assert_eq!(failed(share("img-6pb6lrm2")), "FailedOperation.AccountIsYourSelf");
}

#[test]
fn a_worker_goes_on_without_knowing_whose_its_key_is_and_says_so_once() {
    let sandbox = Sandbox::start(&["--rps", "0"]);
    let denied = json!({"action": "GetCallerIdentity", "times": 99, "do": "code:UnauthorizedOperation"});
    sandbox.faults(&json!({"script": [denied]}));
    let stage = stage(Node::shared(), sandbox, "source = \"environment\"");
    let (mut history, mut random) = (History::default(), Random::of(64));
    history.add_random(&mut random, 20, 5);
    let worker = stage.worker();
    stage.publish(&history.jobs);
    stage.check_done(&history);
    let log = worker.drain();
    assert_eq!(log.matches("whose key it is cannot be learned").count(), 1, "{log}");
    assert_eq!(stage.sandbox.stats()["by_action"]["GetCallerIdentity"], 1);
}

/// A stage whose lane has this credential.
fn stage<'a>(node: &'a Node, sandbox: Sandbox, credential: &str) -> Stage<'a> {
    Stage::with_settings(node, sandbox, 100, &format!("[credentials.default]\n{credential}\n"))
}

fn write_key(path: &Path, key: &Value) {
    fs::write(path, key.to_string()).unwrap();
}

#[test]
fn a_key_that_ends_under_load_holds_the_jobs_until_its_file_is_right() {
    let (sandbox, folder) = (Sandbox::start(&["--rps", "0", "--latency", "20ms"]), Folder::new());
    let path = folder.path("key.json");
    write_key(&path, &sandbox.temporary_key(3));
    let stage = stage(Node::shared(), sandbox, &format!("source = \"file\"\npath = \"{}\"", path.display()));
    let (mut history, mut random) = (History::default(), Random::of(61));
    history.add_random(&mut random, 50, 5);
    let worker = stage.worker();
    stage.publish(&history.jobs);
    worker.until_serving();
    // Jobs come until the key has ended.
    let closed = ["the lane is closed", r#""reason":"credential""#];
    while !worker.log().lines().any(|line| closed.iter().all(|part| line.contains(part))) {
        add_while_few(&stage, &mut history, &mut random);
    }
    // Its successor is written, and only half of it is there.
    let key = stage.sandbox.temporary_key(3_600).to_string();
    let mark = worker.mark();
    fs::write(&path, key.get(..key.len() / 2).unwrap()).unwrap();
    worker.until_logged_after(mark, &["the source of the credential gives none", "found only the beginning"]);
    let mark = worker.mark();
    fs::write(&path, &key).unwrap();
    let right_at = Instant::now();
    worker.until_logged_after(mark, &["the lane is open again"]);
    let took = right_at.elapsed();
    assert!(took.as_secs_f64() <= 5.0, "{took:?}");
    assert_eq!(stage.client().ready(DEAD), 0);
    stage.check_done(&history);
    let log = worker.drain();
    let secret: Value = serde_json::from_str(&key).unwrap();
    assert!(!log.contains(secret["secret_key"].as_str().unwrap()), "{log}");
    let said = log.matches("the source of the credential gives none").count();
    assert_eq!(said, 1, "once, however often it was looked at");
}

#[test]
fn a_key_whose_file_is_replaced_in_time_costs_no_call() {
    let (sandbox, folder) = (Sandbox::start(&["--rps", "0", "--latency", "20ms"]), Folder::new());
    let path = folder.path("key.json");
    write_key(&path, &sandbox.temporary_key(3_600));
    let stage = stage(Node::shared(), sandbox, &format!("source = \"file\"\npath = \"{}\"", path.display()));
    let (mut history, mut random) = (History::default(), Random::of(62));
    let worker = stage.worker();
    for _ in 0..3 {
        let count = history.jobs.len();
        history.add_random(&mut random, 50, 5);
        stage.publish(&history.jobs[count..]);
        worker.until_serving();
        let mark = worker.mark();
        // As secret stores do it.
        write_key(&folder.path("next"), &stage.sandbox.temporary_key(3_600));
        fs::rename(folder.path("next"), &path).unwrap();
        worker.until_logged_after(mark, &["another credential is there"]);
    }
    stage.check_done(&history);
    assert!(!worker.drain().contains("the lane is closed"));
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
    let stage = stage(Node::shared(), sandbox, &format!("source = \"file\"\npath = \"{}\"", path.display()));
    let (mut history, mut random) = (History::default(), Random::of(65));
    history.add_random(&mut random, 20, 5);
    let worker = stage.worker();
    stage.publish(&history.jobs);
    stage.until_worked_off();
    let (mark, calls) = (worker.mark(), stage.sandbox.writes());
    put("AKIDOTHER");
    worker.until_logged_after(mark, &["the lane is closed", r#""reason":"account""#, "100008888888"]);
    history.add_random(&mut random, 50, 5);
    stage.publish(&history.jobs[20..]);
    until("the jobs are held", || (stage.depth().held == 50).then_some(()));
    assert_eq!(stage.sandbox.writes(), calls);
    let mark = worker.mark();
    put("AKIDOURS");
    worker.until_logged_after(mark, &["the lane is open again"]);
    stage.check_done(&history);
    // The operator says that the other account is right.
    let mark = worker.mark();
    put("AKIDOTHER");
    worker.until_logged_after(mark, &["the lane is closed", r#""reason":"account""#]);
    stage.change_settings("[lanes.default]\n", "[lanes.default]\naccount = \"100008888888\"\n");
    worker.signal("HUP");
    worker.until_logged_after(mark, &["the lane is open again"]);
    worker.drain();
}

#[test]
fn a_role_is_assumed_again_ahead_of_its_end_while_jobs_come() {
    let sandbox = Sandbox::start(&["--rps", "0", "--latency", "20ms"]);
    let role = format!(
        "source = \"assume_role\"\nrole_arn = \"{ROLE}\"\nduration = \"6s\"\ncredential = \"base\"\n\
         [credentials.base]\nsource = \"environment\""
    );
    let stage = stage(Node::shared(), sandbox, &role);
    let (mut history, mut random) = (History::default(), Random::of(63));
    let worker = stage.worker();
    worker.until_subscribed();
    while stage.sandbox.stats()["by_action"]["AssumeRole"].as_u64().unwrap_or_default() < 4 {
        add_while_few(&stage, &mut history, &mut random);
    }
    stage.check_done(&history);
    assert!(!worker.drain().contains("the lane is closed"));
    check_no_refused_key(&stage);
}

/// Publishes more jobs unless enough wait.
fn add_while_few(stage: &Stage<'_>, history: &mut History, random: &mut Random) {
    let depth = stage.depth();
    if depth.ready + depth.held < 100 {
        let count = history.jobs.len();
        history.add_random(random, 20, 5);
        stage.publish(&history.jobs[count..]);
    }
}

#[track_caller]
fn check_no_refused_key(stage: &Stage<'_>) {
    let codes = stage.sandbox.stats()["by_code"].clone();
    assert!(!codes.as_object().unwrap().keys().any(|code| code.starts_with("AuthFailure")), "{codes}");
}
