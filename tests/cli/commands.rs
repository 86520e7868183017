//! Every other command, as people and scripts use it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use kit::{Folder, Program, Sandbox, job, of_repository};

const IMAGE: [&str; 4] = ["--image", "img-6pb6lrmy", "--region", "ap-singapore"];

#[test]
fn an_image_is_shared_listed_taken_back_and_made_exact() {
    let sandbox = Sandbox::start(&["--rps", "0"]);
    // Readings show a write at once here, so that nothing need be waited for.
    let command = |name| sandbox.program(name).args(IMAGE).env("IMAGESHARE_READ_DELAY", "0s");
    let accounts = ["--account", "100000000001", "--account", "1038493875", "--account", "100000000003"];
    let report = command("share").args(accounts).run().check(0).report("share");
    assert_eq!(report["changed"], json!(["100000000001", "1038493875", "100000000003"]));
    let again = command("share").args(accounts).run().check(0).report("share");
    assert_eq!((again["unchanged"].as_array().unwrap().len(), &again["requests"]), (3, &json!(0)));

    let listed = command("list").run().check(0).json();
    let ids: BTreeSet<_> = listed.iter().map(|line| line["account_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["100000000001", "1038493875", "100000000003"].into());
    let line = &listed[0];
    assert_eq!((&line["image_id"], &line["region"]), (&json!("img-6pb6lrmy"), &json!("ap-singapore")));
    let time = line["shared_at"].as_str().unwrap();
    assert!(time.starts_with("20") && time.ends_with('Z'), "{time}");
    assert_eq!(line.as_object().unwrap().len(), 4);

    let report = command("cancel").args(["--account", "100000000003"]).run().check(0).report("cancel");
    assert_eq!(report["changed"], json!(["100000000003"]));

    let folder = Folder::new();
    let file = folder.file("accounts.txt", "# exactly these\n1038493875\n100000000009 # new\n");
    let report = command("sync").arg("--accounts-file").arg(&file).run().check(0).report("sync");
    assert_eq!(report["changed"], json!(["100000000009"]));
    assert_eq!(report["unchanged"], json!(["1038493875"]));
    assert_eq!(report["cancelled"], json!(["100000000001"]));
    assert_eq!(sandbox.shared("img-6pb6lrmy"), [1_038_493_875, 100_000_000_009].into());
}

#[test]
fn a_sync_that_would_cancel_most_of_the_list_needs_force() {
    let sandbox = Sandbox::start(&["--rps", "0"]);
    let command = |name| sandbox.program(name).args(IMAGE).env("IMAGESHARE_READ_DELAY", "0s");
    let many = (1..=9).map(|n| format!("10000000000{n}\n")).collect::<String>();
    command("share").args(["--accounts-file", "-"]).input(many).run().check(0);
    let sync = || command("sync").args(["--account", "100000000001"]);
    let plan = sync().arg("--dry-run").run().check(1).json().remove(0);
    assert!(plan["problem"].as_str().unwrap().contains("without force"), "{plan}");
    let report = sync().run().check(1).report("sync");
    assert_eq!(report["failed"][0]["code"], "Local.Brake");
    assert_eq!(sandbox.shared("img-6pb6lrmy").len(), 9);
    let report = sync().arg("--force").run().check(0).report("sync");
    assert_eq!(report["cancelled"].as_array().unwrap().len(), 8);
    assert_eq!(sandbox.shared("img-6pb6lrmy"), [100_000_000_001].into());
}

#[test]
fn a_dry_run_reads_says_what_would_be_done_and_writes_nothing() {
    let sandbox = Sandbox::start(&["--rps", "0"]);
    sandbox
        .program("share")
        .args(IMAGE)
        .args(["--account", "100000000001", "--account", "100000000002"])
        .run()
        .check(0);
    let (writes, state) = (sandbox.writes(), sandbox.state());
    let jobs = job("img-6pb6lrmy", "SHARE", 100_000_000_002..100_000_000_080)
        + &job("img-6pb6lrmy", "CANCEL", [100_000_000_001])
        + &job("img-gvbnzy6f", "SHARE", 100_000_000_000..100_000_000_010)
        + "{}\n";
    let ended = sandbox.program("run").args(["-", "--dry-run"]).input(jobs).run().check(1);
    let plans = ended.json();
    let first = json!({
        "image_id": "img-6pb6lrmy", "region": "ap-singapore", "lane": "default",
        "would_share": 77, "would_cancel": 1, "unchanged": 1, "requests": 3,
    });
    assert_eq!(plans[0], first);
    assert_eq!((plans.len(), &plans[1]["would_share"]), (2, &json!(10)));
    assert!(
        ended.stderr.contains("would be rejected: standard input line 4: image_id: found nothing"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("would share with 87 accounts, cancel 1"), "{}", ended.stderr);
    assert_eq!((sandbox.writes(), sandbox.state()), (writes, state));
    let actions = sandbox.stats();
    let asked: Vec<_> = actions["by_action"].as_object().unwrap().keys().collect();
    // Whose the key is was asked by what wrote before.
    assert_eq!(asked, ["DescribeImageSharePermission", "GetCallerIdentity", "ModifyImageSharePermission"]);
}

#[test]
fn a_plan_names_the_image_that_cannot_be_read_and_shows_the_rest() {
    let sandbox = Sandbox::start(&["--rps", "0"]);
    let refused = json!({"action": "DescribeImageSharePermission", "nth": 2, "do": "code:UnauthorizedOperation"});
    sandbox.faults(&json!({ "script": [refused] }));
    let jobs: String = ["img-aaaaaaaa", "img-bbbbbbbb", "img-cccccccc"]
        .map(|image| job(image, "SHARE", 100_000_000_000..100_000_000_010))
        .concat();
    let ended = sandbox.program("run").args(["-", "--dry-run"]).input(jobs).run().check(3);
    let plans = ended.json();
    let shown: Vec<_> = plans.iter().map(|plan| (plan["image_id"].clone(), plan["would_share"].clone())).collect();
    let expected = [("img-aaaaaaaa", 10), ("img-bbbbbbbb", 0), ("img-cccccccc", 10)];
    assert_eq!(shown, expected.map(|(image, accounts)| (json!(image), json!(accounts))));
    assert!(plans[1]["problem"].as_str().unwrap().starts_with("UnauthorizedOperation: "), "{}", ended.stdout);
    let words = "img-bbbbbbbb: who has it cannot be read: UnauthorizedOperation";
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
}

#[test]
fn a_sandbox_of_the_process_takes_the_place_of_the_lanes_of_the_settings() {
    let folder = Folder::new();
    let settings = folder.file(
        "settings.toml",
        "[lanes.asia]\nregions = [\"ap-singapore\"]\n\
         [lanes.europe]\nregions = [\"eu-frankfurt\"]\ncredential = \"other\"\n\
         [credentials.other]\nsource = \"profile\"\n",
    );
    let share = Program::new(["share", "--sandbox", "--image", "img-6pb6lrmy", "--region", "ap-singapore"]);
    let report = share.args(["--account", "1038493875", "--config"]).arg(&settings).run().check(0).report("share");
    assert_eq!(report["lane"], "default");
    let ended = Program::new(["run", "-", "--sandbox", "--lane", "europe", "--config"]).arg(&settings).run().check(2);
    assert!(ended.stderr.contains("--lane: found a value that is not shown, allowed is"), "{}", ended.stderr);
}

#[test]
fn a_plan_ends_with_the_codes_of_the_work_itself() {
    let sandbox = Sandbox::start(&[]);
    let plan = |id| {
        let program = sandbox.program_with_key("share", id, "sandbox-secret-key-example").args(IMAGE);
        program.args(["--account", "100000000001", "--dry-run", "--give-up-after", "1"]).run()
    };
    plan("AKIDSANDBOXEXAMPLE").check(0);
    plan("AKIDNOBODY").check(3);
    let address = sandbox.address.clone();
    assert_eq!(sandbox.interrupt(), Some(0), "a sandbox that is interrupted ends well");
    let away = Program::new(["share", "--endpoint", &format!("http://{address}"), "--dry-run", "--give-up-after", "1"]);
    away.args(IMAGE).args(["--account", "100000000001"]).key("AKIDEXAMPLE", "topsecret").run().check(4);
}

#[test]
fn check_shows_every_setting_with_its_origin_and_never_a_key() {
    let folder = Folder::new();
    let profile = folder.file("credentials", "[mainland]\nsecret_id = AKIDMAINLAND\nsecret_key = topsecret\n");
    let check = || {
        Program::new(["check", "--config"])
            .arg(of_repository("examples/imageshare.toml"))
            .args(["--batch", "20"])
            .env("IMAGESHARE_RATE", "5")
            .env("TENCENTCLOUD_CREDENTIALS_FILE", &profile)
    };
    let ended = check().key("AKIDEXAMPLE", "topsecret").run().check(0);
    assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("topsecret"));
    let lines = ended.json();
    let shown = |key: &str| {
        let line =
            lines.iter().find(|line| line["key"] == key).unwrap_or_else(|| panic!("no {key} in {}", ended.stdout));
        [&line["value"], &line["origin"]].map(|text| text.as_str().unwrap().to_owned())
    };
    assert_eq!(shown("lanes.mainland.rate"), ["5", "IMAGESHARE_RATE"]);
    assert_eq!(shown("lanes.international.batch"), ["20", "--batch"]);
    assert_eq!(shown("engine.cap"), ["500", "default"]);
    let [endpoint, origin] = shown("lanes.international.endpoint");
    assert_eq!(endpoint, "https://cvm.intl.tencentcloudapi.com");
    assert!(origin.ends_with("imageshare.toml: lanes.international.endpoint"), "{origin}");
    assert_eq!(shown("engine.image_wait")[0], "30m");
    assert_eq!(shown("credentials.mainland.key")[0], "found, id AKIDMAINLAND");
    assert_eq!(shown("credentials.production.key")[0], "found, id AKIDEXAMPLE");

    // Id and key the other way round.
    let ended = check().key("topsecret", "AKIDEXAMPLE").run().check(0);
    assert!(ended.stdout.contains("found, with an id that does not begin with AKID"), "{}", ended.stdout);
    assert!(!format!("{}{}", ended.stdout, ended.stderr).contains("topsecret"));

    let ended = check().run().check(3);
    assert!(ended.stderr.contains("credential production: found no credential"), "{}", ended.stderr);
}

#[test]
fn output_that_is_lost_is_reported() {
    let folder = Folder::new();
    let jobs = folder.file("jobs.ndjson", job("img-6pb6lrmy", "SHARE", [100_000_000_001]));
    let report = folder.path("reports.ndjson");
    // Closes streams of the program as a shell does.
    let closed = |streams: &str, arguments: &[&str]| {
        let script = format!("exec \"$0\" \"$@\" {streams}");
        let program = Program::of("sh", ["-c", &script, kit::program::path().to_str().unwrap()]);
        program.args(arguments).run()
    };
    let jobs = jobs.to_str().unwrap();
    let run = ["run", jobs, "--sandbox"];
    let ended = closed(">&-", &run).check(0);
    assert!(ended.stderr.contains("standard output is closed or discarded: the reports are lost"), "{}", ended.stderr);
    let with_report = [run.as_slice(), &["--report", report.to_str().unwrap()]].concat();
    for (streams, arguments) in [(">&-", with_report.as_slice()), ("> /dev/null", &run), ("<&-", &run)] {
        let ended = closed(streams, arguments).check(0);
        assert!(!ended.stderr.contains("lost"), "{}", ended.stderr);
    }
    for arguments in [["schema", "job"].as_slice(), &["topology"], &["check", "--policy"], &["completions", "bash"]] {
        let ended = closed(">&-", arguments).check(0);
        let warnings = ended.stderr.matches("standard output is closed or discarded: the output").count();
        assert_eq!(warnings, 1, "{}", ended.stderr);
        let all = closed("<&- >&- 2>&-", arguments).check(0);
        assert_eq!((all.stdout.as_str(), all.stderr.as_str()), ("", ""));
    }
    closed("<&- >&- 2>&-", &run).check(0);
    closed("<&- >&- 2>&-", &["nonsense"]).check(2);
}

#[test]
fn the_smallest_policy_is_printed() {
    let printed = Program::new(["check", "--policy"]).run().check(0).stdout;
    let policy: Value = serde_json::from_str(&printed).unwrap();
    let actions = ["cvm:ModifyImageSharePermission", "cvm:DescribeImageSharePermission", "cvm:DescribeImages"];
    assert_eq!(policy["statement"][0]["action"], json!(actions));
}

#[test]
fn two_lanes_with_one_key_at_one_host_are_a_wrong_setting_wherever_the_key_comes_from() {
    let folder = Folder::new();
    let settings = folder.file(
        "settings.toml",
        "[lanes.asia]\nregions = [\"ap-singapore\"]\n\
         [lanes.europe]\nregions = [\"eu-frankfurt\"]\ncredential = \"named\"\n\
         [credentials.named]\nsource = \"environment\"\n",
    );
    let program = |command: &str| Program::new([command, "--config"]).arg(&settings).key("AKIDEXAMPLE", "topsecret");
    for ended in [program("check").run(), program("list").args(IMAGE).run()] {
        let ended = ended.check(2);
        assert!(ended.stderr.contains("lanes.europe") && ended.stderr.contains("as in lane asia"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("topsecret"), "{}", ended.stderr);
    }
}

#[test]
fn the_example_of_an_accounts_file_is_one() {
    let sandbox = Sandbox::start(&[]);
    let sync = sandbox.program("sync").args(IMAGE).arg("--dry-run").arg("--accounts-file");
    let plan = sync.arg(of_repository("examples/accounts.txt")).run().check(0).json().remove(0);
    assert_eq!(plan["would_share"], 12);
}

#[test]
fn schemas_completions_help_and_version_are_printed() {
    for of in ["job", "report"] {
        let ended = Program::new(["schema", of]).run().check(0);
        let schema: Value = serde_json::from_str(&ended.stdout).unwrap();
        assert!(schema["properties"]["account_ids"].is_object() == (of == "job"), "{schema}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let ended = Program::new(["completions", shell]).run().check(0);
        assert!(ended.stdout.contains("imageshare"), "{shell}");
    }
    let version = Program::new(["--version"]).run().check(0).stdout;
    assert_eq!(version, format!("imageshare {}\n", env!("CARGO_PKG_VERSION")));
    let help = Program::new(["--help"]).run().check(0).stdout;
    for command in ["run", "share", "cancel", "sync", "list", "sign", "sandbox", "check", "schema", "completions"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}");
        let of_command = Program::new([command, "--help"]).run().check(0).stdout;
        assert!(of_command.contains("Example: imageshare "), "{of_command}");
    }
}

#[test]
fn a_sandbox_says_its_address_and_nothing_else_and_has_its_flags() {
    let folder = Folder::new();
    let faults = folder.file("faults.json", r#"{"unknown_accounts": ["100000000002"]}"#);
    let flags = ["--cap", "2", "--batch-limit", "1", "--faults", faults.to_str().unwrap()];
    let sandbox = Sandbox::start(&flags);
    let share = sandbox.program("share").args(IMAGE).args(["--accounts-file", "-"]);
    let ended = share.input("100000000001\n100000000002\n100000000003\n100000000004\n").run().check(1);
    assert!(ended.stderr.contains("100000000002"), "{}", ended.stderr);
    assert_eq!(sandbox.shared("img-6pb6lrmy").len(), 2);
    let refused = Program::new(["sandbox", "--listen", &sandbox.address]).run().check(2);
    assert!(refused.stderr.contains(&format!("cannot listen on {}", sandbox.address)), "{}", refused.stderr);
    let world = folder.file("world.toml", "colour = 1\n");
    let refused = Program::new(["sandbox", "--world"]).arg(world).run().check(2);
    assert!(refused.stderr.contains("world.toml") && refused.stderr.contains("colour"), "{}", refused.stderr);
}

#[test]
fn a_sandbox_with_tls_is_trusted_by_its_authority_and_by_nothing_else() {
    let sandbox = Sandbox::start(&["--tls"]);
    let authority = sandbox.until_said("clients are to trust ");
    let share = || {
        Program::new(["share", "--give-up-after", "1", "--endpoint", &format!("https://{}", sandbox.address)])
            .args(IMAGE)
            .args(["--account", "100000000001"])
            .key("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
    };
    let report = share().env("SSL_CERT_FILE", &authority).run().check(0).report("share");
    assert_eq!(report["changed"], json!(["100000000001"]));
    let refused = share().run().check(4);
    assert!(refused.stderr.contains("no trusted connection to the endpoint"), "{}", refused.stderr);
    assert_eq!(sandbox.interrupt(), Some(0));
    assert!(!std::path::Path::new(&authority).exists(), "the certificate goes with the sandbox");
}
