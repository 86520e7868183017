//! Input that is not as it should be: each with a message that says where, what was found and what is allowed.

use std::fs::{self, File};

use kit::{Folder, Program, Sandbox, check_plain, job, of_repository};

/// Five jobs of which the third is this.
fn lines(third: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    for number in 1..=5_u64 {
        if number == 3 {
            text.extend_from_slice(third);
            text.push(b'\n');
        } else {
            text.extend_from_slice(job("img-6pb6lrmy", "SHARE", [100_000_000_000 + number]).as_bytes());
        }
    }
    text
}

#[track_caller]
fn check(sandbox: &Sandbox, third: impl AsRef<[u8]>, reason: &str) {
    let folder = Folder::new();
    let file = folder.file("jobs.ndjson", lines(third.as_ref()));
    let ended = sandbox.program("run").arg(&file).run().check(1);
    let reports = ended.json();
    assert_eq!(reports.len(), 5, "nothing is lost");
    let is_done = |report: &&serde_json::Value| report["status"] == "succeeded";
    assert_eq!(reports.iter().filter(is_done).count(), 4, "the other four are carried out");
    let expected = format!("{} line 3: {reason}", file.display());
    let report = ended.report("line-3");
    assert_eq!(report["status"], "rejected");
    assert!(report["reason"].as_str().unwrap().starts_with(&expected), "{expected}\n{}", report["reason"]);
    assert!(ended.stderr.contains(&expected), "{expected}\n{}", ended.stderr);
}

#[test]
fn a_bad_line_is_rejected_by_itself_and_says_why() {
    let sandbox = Sandbox::start(&["--rps", "0"]);
    let good = job("img-6pb6lrmy", "SHARE", [100_000_000_003]);
    let good = good.trim_end();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from));
        good.replace(from, to)
    };
    check(&sandbox, "{\"image_id\":\"img-6pb6lrmy\",", "found malformed JSON (EOF while parsing a value)");
    check(
        &sandbox,
        with("account_ids", "accounts"),
        "\"accounts\": found a member that is not known, allowed are job_id,",
    );
    let allowed = "allowed is a root account id of 5 to 19 digits without a leading zero";
    check(&sandbox, with("100000000003", "10384x"), &format!("account_ids[0]: found \"10384x\", {allowed}"));
    check(&sandbox, with("100000000003", "01038"), &format!("account_ids[0]: found \"01038\", {allowed}"));
    check(&sandbox, with("img-6pb6lrmy", "ins-6pb6lrmy"), "image_id: found \"ins-6pb6lrmy\", allowed is img- and");
    check(
        &sandbox,
        with("SHARE", "share"),
        "permission: found \"share\", allowed is SHARE, CANCEL or SYNC in capitals",
    );
    check(
        &sandbox,
        with("\"100000000003\"", ""),
        "account_ids: found an empty list, allowed are 1 to 10000 account ids",
    );
    let many = job("img-6pb6lrmy", "SHARE", 100_000..110_001);
    check(&sandbox, many.trim_end(), "account_ids: found 10001 account ids, allowed are 1 to 10000 account ids");
    let long = with("{", &format!("{{{}", " ".repeat(1024 * 1024)));
    check(&sandbox, long, "found a text of more than 1048576 bytes, allowed are 1048576");
    check(&sandbox, b"{\"job_id\":\"\xff\"}", "found byte 0xff at byte 11, allowed is UTF-8");
    check(&sandbox, with("\"ap-singapore\"", "null"), "region: found ");
    check(&sandbox, with("{", "{\"lane\":\"other\","), "lane: found \"other\", allowed are default");
}

#[test]
fn a_region_that_no_lane_serves_is_rejected() {
    let sandbox = Sandbox::start(&[]);
    let folder = Folder::new();
    let lane = format!("[lanes.europe]\nendpoint = \"http://{}\"\nregions = [\"eu-frankfurt\"]\n", sandbox.address);
    let settings = folder.file("settings.toml", lane);
    let program = |command| {
        Program::new([command]).arg("--config").arg(&settings).key("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
    };
    let ended = program("run").arg("-").input(job("img-6pb6lrmy", "SHARE", [100_000_000_001])).run().check(1);
    let reason = "standard input line 1: region: found ap-singapore, which no lane serves, allowed are eu-frankfurt";
    assert_eq!(ended.report("line-1")["reason"], reason);
    let share =
        program("share").args(["--image", "img-6pb6lrmy", "--region", "ap-singapore", "--account", "100000000001"]);
    let ended = share.run().check(2);
    assert!(ended.stderr.contains("region: found ap-singapore, which no lane serves"), "{}", ended.stderr);
    assert_eq!(sandbox.stats()["requests"], 0);
}

#[test]
fn csv_is_read_and_a_bad_row_is_rejected_by_itself() {
    let sandbox = Sandbox::start(&[]);
    let folder = Folder::new();
    let text = "image_id,region,permission,account_id\r\n\
                img-6pb6lrmy,ap-singapore,SHARE,100000000001\r\n\
                img-6pb6lrmy,ap-singapore,SHARE,abc\r\n\
                img-6pb6lrmy,ap-singapore,SHARE,100000000002\r\n";
    let file = folder.file("jobs.csv", text);
    let ended = sandbox.program("run").arg(&file).run().check(1);
    let reason = ended.report("line-3")["reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with(&format!("{} line 3: account_id: found \"abc\"", file.display())), "{reason}");
    assert_eq!(ended.report("line-2")["changed"].as_array().unwrap().len(), 2);
    assert_eq!(sandbox.shared("img-6pb6lrmy"), [100_000_000_001, 100_000_000_002].into());
}

#[test]
fn a_file_that_is_read_is_never_replaced_by_the_reports() {
    let sandbox = Sandbox::start(&[]);
    let folder = Folder::new();
    let text = job("img-6pb6lrmy", "SHARE", [100_000_000_001]);
    let file = folder.file("jobs.ndjson", &text);
    let other_name = folder.path("other.ndjson");
    fs::hard_link(&file, &other_name).unwrap();
    let accounts = folder.file("accounts.txt", "100000000001\n");
    let settings = folder.file("settings.toml", "[http]\n");
    let world = folder.file("world.toml", fs::read(of_repository("examples/world.toml")).unwrap());
    let share = || sandbox.program("share").args(["--image", "img-6pb6lrmy", "--region", "ap-singapore"]);
    let in_process = Program::new(["run", "--sandbox", "--world"]).arg(&world).arg(&file);
    let with_settings = || sandbox.program("run").arg(&file);
    let stdin = sandbox.program("run").arg("-").input_from(File::open(&file).unwrap());
    for (program, report, taken) in [
        (sandbox.program("run").arg(&file), &file, "the input"),
        (sandbox.program("run").arg(&file), &other_name, "the input"),
        (stdin, &file, "the input"),
        (share().arg("--accounts-file").arg(&accounts), &accounts, "--accounts-file"),
        (in_process, &world, "--world"),
        (with_settings().arg("--config").arg(&settings), &settings, "the settings file"),
        (with_settings().env("IMAGESHARE_CONFIG", &settings), &settings, "the settings file"),
    ] {
        let before = fs::read(report).unwrap();
        let ended = program.arg("--report").arg(report).run().check(2);
        let words = format!("--report {}: found the same file as {taken}, allowed is another one", report.display());
        assert!(ended.stderr.contains(&words), "{words}\n{}", ended.stderr);
        assert_eq!(fs::read(report).unwrap(), before, "{}", report.display());
    }
    assert_eq!(sandbox.stats()["requests"], 0);

    // What the settings name, and by any name.
    let key = "[default]\nsecret_id = AKIDSANDBOXEXAMPLE\nsecret_key = sandbox-secret-key-example\n";
    let (profile, roots) = (folder.file("keys", key), folder.file("roots.pem", "x"));
    let (address, client_key) = (folder.file("url", "amqps://127.0.0.1"), folder.file("client.key", "x"));
    let (usual, parts) = (folder.path("home/.tencentcloud/credentials"), folder.path("parts"));
    fs::create_dir_all(usual.parent().unwrap()).unwrap();
    fs::write(&usual, key).unwrap();
    fs::create_dir(&parts).unwrap();
    folder.file("parts/secret_id", "AKIDEXAMPLE");
    let part = folder.file("parts/secret_key", "x");
    let endpoint = format!("endpoint = \"http://{}\"", sandbox.address);
    let link = folder.path("link");
    std::os::unix::fs::symlink(&profile, &link).unwrap();
    let all = format!(
        "[lanes.default]\ncredential = \"profile\"\n{endpoint}\n[lanes.two]\ncredential = \"parts\"\n{endpoint}\n\
         [credentials.profile]\nsource = \"profile\"\npath = '{}'\n[credentials.parts]\nsource = \"file\"\n\
         path = '{}'\n[broker]\nurl_file = '{}'\nclient_key = '{}'\nclient_certificate = '{}'\n",
        profile.display(),
        parts.display(),
        address.display(),
        client_key.display(),
        roots.display()
    );
    let all = folder.file("all.toml", all);
    let spelled = folder.path("parts/../keys");
    for (report, taken) in [
        (&profile, "a file of credential profile"),
        (&link, "a file of credential profile"),
        (&spelled, "a file of credential profile"),
        (&part, "a file of credential parts"),
        (&address, "broker.url_file"),
        (&client_key, "broker.client_key"),
        (&roots, "broker.client_certificate"),
    ] {
        let before = fs::read(report).unwrap();
        let program = Program::new(["run", "--sandbox", "--config"]).arg(&all).arg(&file);
        // --sandbox takes the place of the lanes, so these are read without it.
        let program =
            if taken.starts_with("broker") { program } else { Program::new(["run", "--config"]).arg(&all).arg(&file) };
        let ended = program.arg("--report").arg(report).run();
        let words = format!("--report {}: found the same file as {taken}, allowed is another one", report.display());
        assert!(ended.code == Some(2) && ended.stderr.contains(&words), "{words}\n{}", ended.stderr);
        assert_eq!(fs::read(report).unwrap(), before, "{}", report.display());
    }
    let by_home = Program::new(["run"]).arg(&file).args(["--endpoint", &format!("http://{}", sandbox.address)]);
    let ended = by_home.env("HOME", folder.path("home")).arg("--report").arg(&usual).run().check(2);
    assert!(ended.stderr.contains("the same file as a file of credential default"), "{}", ended.stderr);
    let by_variable = sandbox.program("run").arg(&file).env("SSL_CERT_FILE", &roots).arg("--report").arg(&roots);
    let ended = by_variable.run().check(2);
    assert!(ended.stderr.contains("the same file as a root certificate of this machine"), "{}", ended.stderr);

    // An older report is replaced whole.
    let report = folder.file("reports.ndjson", "x".repeat(10_000));
    let ended = sandbox.program("run").arg(&file).arg("--report").arg(&report).run().check(0);
    assert_eq!(fs::read_to_string(report).unwrap(), ended.stdout);
}

#[test]
fn files_of_the_sandbox_are_bounded_and_not_quoted() {
    let folder = Folder::new();
    for flag in ["--world", "--faults"] {
        let ended = Program::new(["sandbox", flag, "/dev/zero"]).run().check(2);
        let words = format!("imageshare: {flag} /dev/zero: file is too long (expected at most ");
        assert!(ended.stderr.starts_with(&words), "{}", ended.stderr);
    }
    let world = folder.file("world.toml", "[[keys]]\nsecret_id = \"A\"\nsecret_key = \"topsecret\\q\"\n");
    let faults = folder.file("faults.json", r#"{"script": "topsecret", "\u001b[31m": 1}"#);
    let worlds = Program::new(["run", "-", "--sandbox", "--world"]).arg(&world);
    for program in [worlds, Program::new(["sandbox", "--faults"]).arg(&faults)] {
        let ended = program.run().check(2);
        assert!(!ended.stderr.contains("topsecret"), "{}", ended.stderr);
        check_plain("an error", &ended.stderr);
    }
}

#[test]
fn an_input_or_setting_that_cannot_be_used_is_a_usage_error() {
    let sandbox = Sandbox::start(&[]);
    let folder = Folder::new();
    let missing = folder.path("nowhere.ndjson");
    let said = |program: Program| {
        let ended = program.run().check(2);
        assert_eq!(ended.stdout, "");
        ended.stderr
    };
    let text = said(sandbox.program("run").arg(&missing));
    assert_eq!(
        text,
        format!("imageshare: {}: cannot be opened: No such file or directory (os error 2)\n", missing.display())
    );
    assert!(said(sandbox.program("run").arg(folder.path(""))).contains("found a directory"));
    assert!(said(sandbox.program("run")).contains("<FILE>"));

    let plain = ["run", "-", "--endpoint", "http://10.0.0.1:9700"];
    let text = said(Program::new(plain).key("AKIDEXAMPLE", "topsecret"));
    assert!(
        text.starts_with(
            "imageshare: --endpoint: found \"http://10.0.0.1:9700\", allowed is https://host[:port]; plain http://"
        ),
        "{text}"
    );

    let share = ["--image", "img-6pb6lrmy", "--account", "100000000001"];
    let text = said(sandbox.program("share").args(share));
    assert!(text.contains("--region: found none, allowed is the region of the image"), "{text}");
    let text = said(sandbox.program("share").args(["--image", "img-6pb6lrmy", "--account", "0123456789"]));
    assert!(text.contains("found \"0123456789\", allowed is a root account id"), "{text}");
    let text = said(sandbox.program("share").args(["--image", "img-6pb6lrmy"]));
    assert!(text.contains("--accounts-file"), "{text}");
    let file = folder.file("accounts.txt", "100000000001\nabc # no id\n0123456\n");
    let text = said(
        sandbox
            .program("share")
            .args(["--image", "img-6pb6lrmy", "--region", "ap-singapore", "--accounts-file"])
            .arg(&file),
    );
    assert!(
        text.contains("accounts.txt line 2: found \"abc\"") && text.contains("accounts.txt line 3: found \"0123456\""),
        "{text}"
    );

    let settings =
        folder.file("settings.toml", "[engine]\nattempts = 0\ncolour = 1\n[http]\ncall_timeout = \"never\"\n");
    let text = said(sandbox.program("run").args(["-", "--rate", "0", "--batch", "501"]).arg("--config").arg(settings));
    for problem in [
        "--rate: found \"0\"",
        "--batch: found \"501\", allowed are 1 to 500",
        "engine.attempts: found \"0\"",
        "found the key \"colour\"",
        "http.call_timeout: found a value that is not shown",
    ] {
        assert!(text.contains(problem), "{problem} is not in\n{text}");
    }
    assert!(
        said(sandbox.program("run").args(["-", "--give-up-after", "soon"]))
            .contains("--give-up-after: found a value that is not shown")
    );
    assert_eq!(sandbox.stats()["requests"], 0);
}
