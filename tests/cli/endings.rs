//! How a command ends: interrupted, killed, without an endpoint, without a key, without anybody who reads.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
};

use serde_json::{Value, json};

use kit::{Folder, Program, Sandbox, job, json_lines, until};

/// Jobs of one image each, so that there are as many writes as images.
fn jobs(images: u64) -> String {
    (0..images).map(|image| job(&format!("img-golden{image:02}"), "SHARE", ACCOUNTS)).collect()
}

const ACCOUNTS: std::ops::Range<u64> = 100_000_000_000..100_000_000_060;

fn is_done(sandbox: &Sandbox, images: u64) -> bool {
    let state = sandbox.state();
    (0..images)
        .all(|image| state.get(&format!("img-golden{image:02}")).is_some_and(|set| set.iter().copied().eq(ACCOUNTS)))
}

#[track_caller]
fn check_all_not_attempted(reports: &[Value], jobs: usize) {
    assert_eq!(reports.len(), jobs, "one report for every job");
    let failed = || reports.iter().flat_map(|report| report["failed"].as_array().unwrap());
    assert_eq!(failed().map(|failed| failed["account_ids"].as_array().unwrap().len()).sum::<usize>(), jobs * 60);
    assert!(failed().all(|failed| failed["code"] == "Local.NotAttempted"), "{}", reports[0]);
}

#[test]
fn an_endpoint_that_is_away_ends_the_command_with_4_and_every_report() {
    // A port that was free just now and that nobody listens on.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let ended = Program::new(["run", "-", "--endpoint", &format!("http://127.0.0.1:{port}"), "--give-up-after", "3"])
        .key("AKIDEXAMPLE", "topsecret")
        .input(jobs(5))
        .run()
        .check(4);
    check_all_not_attempted(&ended.json(), 5);
    let words = format!("the endpoint gives no usable answer: 127.0.0.1:{port}: no connection to the endpoint");
    assert!(ended.stderr.contains(&words), "{}", ended.stderr);
}

#[test]
fn a_wrong_key_ends_the_command_with_3_and_every_report() {
    let sandbox = Sandbox::start(&[]);
    for (id, key, code) in [
        ("AKIDSANDBOXEXAMPLE", "topsecret", "AuthFailure.SignatureFailure"),
        ("AKIDNOBODY", "topsecret", "AuthFailure.SecretIdNotFound"),
    ] {
        let program = sandbox.program_with_key("run", id, key).args(["-", "--give-up-after", "3"]);
        let ended = program.input(jobs(3)).run().check(3);
        check_all_not_attempted(&ended.json(), 3);
        assert!(ended.stderr.contains("lane default: the credential is refused"), "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("the lane is closed (credential): {code}")), "{}", ended.stderr);
        assert!(!ended.stderr.contains("topsecret"), "{}", ended.stderr);
    }
    assert!(sandbox.state().values().all(|accounts| accounts.is_empty()));
}

#[test]
fn a_command_that_only_reads_ends_in_the_same_way() {
    let sandbox = Sandbox::start(&[]);
    let list = ["--image", "img-6pb6lrmy", "--region", "ap-singapore", "--give-up-after", "1"];
    let ended = sandbox.program_with_key("list", "AKIDNOBODY", "topsecret").args(list).run().check(3);
    assert!(ended.stderr.contains("AuthFailure.SecretIdNotFound"), "{}", ended.stderr);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let away =
        Program::new(["list", "--endpoint", &format!("http://127.0.0.1:{port}")]).key("AKIDEXAMPLE", "topsecret");
    away.args(list).run().check(4);
}

#[test]
fn a_run_that_was_killed_is_finished_by_the_next_one_and_nothing_is_done_twice() {
    let sandbox = Sandbox::start(&["--latency", "150ms"]);
    let folder = Folder::new();
    let file = folder.file("jobs.ndjson", jobs(8));
    let (running, _stdout) = sandbox.program("run").arg(&file).start();
    until("some writes were made", || (sandbox.writes() >= 4).then_some(()));
    running.kill();
    assert!(!is_done(&sandbox, 8), "it was killed in the middle");
    sandbox.program("run").arg(&file).run().check(0);
    assert!(is_done(&sandbox, 8));
    assert_eq!(sandbox.stats()["repeated_accounts"], 0);
}

#[test]
fn an_interrupt_reports_what_was_done_and_what_was_not() {
    let sandbox = Sandbox::start(&["--latency", "150ms"]);
    let folder = Folder::new();
    let report = folder.path("reports.ndjson");
    let program = sandbox.program("run").arg(folder.file("jobs.ndjson", jobs(12))).arg("--report").arg(&report);
    let (running, mut stdout) = program.start();
    until("some writes were made", || (sandbox.writes() >= 3).then_some(()));
    running.signal("INT");
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
    let reports = json_lines(&text);
    assert_eq!(fs::read_to_string(report).unwrap(), text);
    assert_eq!(reports.len(), 12);
    let state = sandbox.state();
    let mut changed = 0;
    for report in &reports {
        let image = report["image_id"].as_str().unwrap();
        for account in report["changed"].as_array().unwrap() {
            changed += 1;
            let id: u64 = account.as_str().unwrap().parse().unwrap();
            assert!(state[image].contains(&id), "{id} has not got {image}");
        }
        assert!(report["failed"].as_array().unwrap().iter().all(|failed| failed["code"] == "Local.NotAttempted"));
    }
    assert!(changed > 0 && changed < 12 * 60, "{changed}");
    assert!(said.contains("interrupted: requests in flight are waited for"), "{said}");
    assert!(said.contains("run it again to go on"), "{said}");
}

#[test]
fn jobs_are_carried_out_as_they_come_and_an_input_that_never_ends_can_be_interrupted() {
    let sandbox = Sandbox::start(&[]);
    let program = sandbox.program("run").arg("-").input(jobs(2));
    let (running, stdout, _stdin) = program.start_with_open_input();
    let mut reports = BufReader::new(stdout).lines();
    for _ in 0..2 {
        assert!(reports.next().unwrap().unwrap().contains("\"succeeded\""));
    }
    assert!(is_done(&sandbox, 2));
    running.signal("INT");
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(reports.next().is_none());
}

#[test]
fn reports_that_nobody_takes_keep_neither_the_file_from_being_whole_nor_an_interrupted_run_from_ending() {
    let sandbox = Sandbox::start(&["--rps", "0"]);
    let folder = Folder::new();
    // Far more reports than the system's pipe holds.
    let many: String = (0..2000).map(|number| job("img-golden00", "SHARE", [100_000_000_000 + number % 400])).collect();
    let report = folder.path("reports.ndjson");
    let program = sandbox.program("run").arg(folder.file("jobs.ndjson", many)).arg("--report").arg(&report);
    let (running, _stdout) = program.start();
    until("the file has every report", || {
        let written = fs::read_to_string(&report).unwrap_or_default();
        (written.lines().count() == 2000).then_some(())
    });
    running.signal("INT");
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.contains("standard output: nobody takes the reports, so some are not written"), "{said}");
    assert!(said.contains("jobs      2,000  2,000 succeeded"), "{said}");
    assert_eq!(json_lines(&fs::read_to_string(&report).unwrap()).len(), 2000);
}

#[test]
fn an_interrupt_says_how_far_the_input_was_read_and_every_job_up_to_there_has_a_report() {
    // More than a run holds at once.
    const JOBS: u64 = 12_000;

    let sandbox = Sandbox::start(&[]);
    sandbox.faults(&json!({"script": [{"action": "DescribeImageSharePermission", "times": 1000, "do": "hang"}]}));
    let folder = Folder::new();
    let settings = folder.file("settings.toml", "[http]\ncall_timeout = \"1s\"\nconnect_timeout = \"1s\"\n");
    let many: String = (0..JOBS).map(|number| job("img-golden00", "SHARE", [100_000_000_000 + number])).collect();
    let program = sandbox.program("run").arg(folder.file("jobs.ndjson", many)).arg("--config").arg(settings);
    let (running, mut stdout) = program.start();
    until("something was asked", || (sandbox.stats()["requests"] != 0).then_some(()));
    running.signal("INT");
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
    let (_, rest) = said.split_once("jobs up to line ").unwrap_or_else(|| panic!("{said}"));
    let last: u64 = rest.split_once(" of the input were read; later ones").unwrap().0.parse().unwrap();
    assert!((1..JOBS).contains(&last), "{said}");
    let reported: BTreeSet<_> = json_lines(&text).iter().map(|report| report["job_id"].to_string()).collect();
    assert_eq!(reported, (1..=last).map(|line| format!("\"line-{line}\"")).collect());
    assert_eq!(text.lines().count() as u64, last, "one report each");
}

#[test]
fn an_endpoint_that_never_answers_is_given_up_in_time() {
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = deaf.local_addr().unwrap();
    let endpoint = format!("http://{address}");
    let program = |command: &str| {
        Program::new([command, "--endpoint", &endpoint, "--give-up-after", "3"]).key("AKIDEXAMPLE", "topsecret")
    };
    let ended = program("run").arg("-").input(jobs(1)).run().check(4);
    check_all_not_attempted(&ended.json(), 1);
    // And not after the ten seconds that a call may take otherwise.
    assert!(ended.stderr.contains(&format!("{address}: no answer within 3 s")), "{}", ended.stderr);
    let list = program("list").args(["--image", "img-6pb6lrmy", "--region", "ap-singapore"]).run().check(4);
    assert!(list.stderr.contains("no answer within 3 s"), "{}", list.stderr);
}

#[test]
fn an_input_that_stays_open_ends_with_the_last_lane() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let run = Program::new(["run", "-", "--endpoint", &format!("http://127.0.0.1:{port}"), "--give-up-after", "1"]);
    let (running, mut stdout, _stdin) = run.key("AKIDEXAMPLE", "topsecret").input(jobs(3)).start_with_open_input();
    // Its end first: it has little to say, and one that goes on would be listened to for ever.
    let (code, said) = running.end();
    assert_eq!(code, Some(4), "{said}");
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    check_all_not_attempted(&json_lines(&text), 3);
    assert!(said.contains("jobs up to line 3 of the input were read"), "{said}");
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let sandbox = Sandbox::start(&[]);
    sandbox.faults(&json!({"script": [{"action": "ModifyImageSharePermission", "times": 1000, "do": "hang"}]}));
    let folder = Folder::new();
    let settings = folder.file("settings.toml", "[http]\ncall_timeout = \"10m\"\n");
    let program = sandbox.program("run").arg(folder.file("jobs.ndjson", jobs(2))).arg("--config").arg(settings);
    let (running, mut stdout) = program.start();
    until("a write hangs", || (sandbox.writes() >= 1).then_some(()));
    running.signal("INT");
    // Two signals that come at once are one.
    running.until_said("interrupt again to end at once");
    running.signal("INT");
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    let (code, said) = running.end();
    assert_eq!(code, Some(130), "{said}");
    let reports = json_lines(&text);
    assert_eq!(reports.len(), 2);
    let codes: Vec<_> = reports.iter().flat_map(|report| report["failed"].as_array().unwrap()).collect();
    assert!(codes.iter().any(|failed| failed["code"] == "Local.NoAnswer"), "{}", reports[0]);
}

#[test]
fn no_half_and_untrimmed_credentials_end_with_3_before_anything_is_sent() {
    let run = |variables: &[(&str, &str)]| {
        let mut program = Program::new(["run", "-"]).input(jobs(1));
        for (name, value) in variables {
            program = program.env(name, value);
        }
        let ended = program.run().check(3);
        assert_eq!(ended.stdout, "");
        assert!(!ended.stderr.contains("topsecret"), "{}", ended.stderr);
        ended.stderr
    };
    assert!(run(&[]).contains("found no credential; looked for TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY"));
    let said = run(&[("TENCENTCLOUD_SECRET_ID", "AKIDEXAMPLE")]);
    assert!(said.contains("found TENCENTCLOUD_SECRET_ID without TENCENTCLOUD_SECRET_KEY"), "{said}");
    let said = run(&[("TENCENTCLOUD_SECRET_ID", "AKIDEXAMPLE"), ("TENCENTCLOUD_SECRET_KEY", "topsecret\n")]);
    assert!(said.contains("TENCENTCLOUD_SECRET_KEY: the secret key begins or ends with white space"), "{said}");
}

#[test]
fn a_reader_that_goes_away_ends_quietly_with_1_and_the_work_is_done() {
    let sandbox = Sandbox::start(&["--latency", "50ms"]);
    let folder = Folder::new();
    let program = sandbox.program("run").arg(folder.file("jobs.ndjson", jobs(5))).arg("--quiet");
    let (running, stdout) = program.start();
    let mut first = String::new();
    BufReader::with_capacity(1, stdout).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"job_id\":"), "{first}");
    let (code, said) = running.end();
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(is_done(&sandbox, 5));
}

#[test]
fn a_full_disk_is_said_and_the_work_is_done_with_its_summary() {
    let sandbox = Sandbox::start(&[]);
    let program = sandbox.program("run").args(["-", "--report", "/dev/full"]);
    let ended = program.input(jobs(2)).run().check(1);
    assert_eq!(ended.json().len(), 2, "standard output still has the reports");
    assert!(ended.stderr.contains("/dev/full cannot be written: No space left on device"), "{}", ended.stderr);
    assert!(ended.stderr.contains("jobs      2    2 succeeded"), "{}", ended.stderr);
    assert!(is_done(&sandbox, 2));

    let folder = Folder::new();
    let again = sandbox.program("run").arg(folder.file("jobs.ndjson", jobs(2)));
    let ended = again.stdout_to(File::options().write(true).open("/dev/full").unwrap()).check(1);
    assert!(ended.stderr.contains("standard output cannot be written: No space left on device"), "{}", ended.stderr);
    // What cannot be written weighs less than a reason that would have ended the command anyway.
    let check = Program::new(["check"]).stdout_to(File::options().write(true).open("/dev/full").unwrap()).check(3);
    assert!(check.stderr.contains("standard output cannot be written: No space left on device"), "{}", check.stderr);
    let plan = sandbox.program_with_key("run", "AKIDNOBODY", "topsecret").arg("--dry-run");
    let plan = plan.arg(folder.file("jobs.ndjson", jobs(2)));
    let plan = plan.stdout_to(File::options().write(true).open("/dev/full").unwrap()).check(3);
    assert!(plan.stderr.contains("standard output cannot be written: No space left on device"), "{}", plan.stderr);
    let list = sandbox.program("list").args(["--image", "img-golden00", "--region", "ap-singapore"]);
    let ended = list.stdout_to(File::options().write(true).open("/dev/full").unwrap()).check(1);
    assert!(ended.stderr.contains("standard output cannot be written: No space left on device"), "{}", ended.stderr);
}
