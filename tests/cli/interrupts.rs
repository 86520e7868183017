//! Commands that are interrupted or killed, or whose input or output is a pipe. `transcripts/endings.md` shows other exits.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead as _, BufReader, Read as _},
    net::TcpListener,
    process::ChildStdout,
};

use serde_json::{Value, json};

use kit::{Folder, Program, Running, SandboxProcess, job, json_lines, wait_until};

use crate::run_concurrently;

const ACCOUNTS: std::ops::Range<u64> = 100_000_000_000..100_000_000_060;

/// Returns one job for each image, so that there are as many writes as images.
fn jobs(images: u64) -> String {
    (0..images).map(|image| job(&format!("img-golden{image:02}"), "SHARE", ACCOUNTS)).collect()
}

fn is_done(sandbox: &SandboxProcess, images: u64) -> bool {
    let state = sandbox.state();
    (0..images)
        .all(|image| state.get(&format!("img-golden{image:02}")).is_some_and(|set| set.iter().copied().eq(ACCOUNTS)))
}

/// Returns `run` with a file of jobs.
fn run(sandbox: &SandboxProcess, folder: &Folder, jobs: &str) -> Program {
    sandbox.program("run").arg(folder.file("jobs.ndjson", jobs))
}

/// Waits for the exit of an interrupted run, and returns its reports and standard error.
#[track_caller]
fn wait_interrupted(running: Running, mut stdout: ChildStdout) -> (Vec<Value>, String) {
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    let (code, errors) = running.wait();
    assert_eq!(code, Some(130), "{errors}");
    (json_lines(&text), errors)
}

fn failed_codes(reports: &[Value]) -> Vec<&Value> {
    reports.iter().flat_map(|report| report["failed"].as_array().unwrap()).map(|failed| &failed["code"]).collect()
}

#[test]
fn next_run_finishes_killed_one_once() {
    let (sandbox, folder) = (SandboxProcess::start(&["--latency", "150ms"]), Folder::new());
    let (running, _stdout) = run(&sandbox, &folder, &jobs(8)).start();
    wait_until("some writes were made", || (sandbox.writes() >= 4).then_some(()));
    running.kill();
    assert!(!is_done(&sandbox, 8), "the run is incomplete");
    run(&sandbox, &folder, &jobs(8)).run().check(0);
    assert!(is_done(&sandbox, 8));
    assert_eq!(sandbox.stats()["repeated_accounts"], 0);
}

#[test]
fn interrupt_reports_what_was_and_was_not_done() {
    let (sandbox, folder) = (SandboxProcess::start(&["--latency", "150ms"]), Folder::new());
    let file = folder.path("reports.ndjson");
    let (running, stdout) = run(&sandbox, &folder, &jobs(12)).arg("--report").arg(&file).start();
    wait_until("some writes were made", || (sandbox.writes() >= 3).then_some(()));
    running.signal("INT");
    let (reports, errors) = wait_interrupted(running, stdout);
    assert_eq!(json_lines(&fs::read_to_string(file).unwrap()), reports);
    assert_eq!(reports.len(), 12);
    let state = sandbox.state();
    let mut changed = 0;
    for report in &reports {
        let image = report["image_id"].as_str().unwrap();
        for account in report["changed"].as_array().unwrap() {
            changed += 1;
            let id: u64 = account.as_str().unwrap().parse().unwrap();
            assert!(state[image].contains(&id), "{image} is not shared with {id}");
        }
    }
    assert!(failed_codes(&reports).iter().all(|code| *code == "Local.NotAttempted"));
    assert!(changed > 0 && changed < 12 * 60, "{changed}");
    assert!(errors.contains("interrupted: finishing requests in flight"), "{errors}");
    assert!(errors.contains("run the file again to continue"), "{errors}");
}

#[test]
fn jobs_of_endless_input_start_at_once() {
    let sandbox = SandboxProcess::start(&[]);
    let (running, stdout, _stdin) = sandbox.program("run").arg("-").input(jobs(2)).start_with_open_input();
    let mut reports = BufReader::new(stdout).lines();
    for _ in 0..2 {
        assert!(reports.next().unwrap().unwrap().contains("\"succeeded\""));
    }
    assert!(is_done(&sandbox, 2));
    running.signal("INT");
    let (code, errors) = running.wait();
    assert_eq!(code, Some(130), "{errors}");
    assert!(reports.next().is_none());
}

#[test]
fn unread_reports_block_neither_file_nor_end() {
    let (sandbox, folder) = (SandboxProcess::start(&["--rps", "0"]), Folder::new());
    // More reports than fit into a pipe.
    let many: String = (0..2000).map(|number| job("img-golden00", "SHARE", [100_000_000_000 + number % 400])).collect();
    let file = folder.path("reports.ndjson");
    let (running, _stdout) = run(&sandbox, &folder, &many).arg("--report").arg(&file).start();
    wait_until("the file has every report", || {
        let written = fs::read_to_string(&file).unwrap_or_default();
        (written.lines().count() == 2000).then_some(())
    });
    running.signal("INT");
    let (code, errors) = running.wait();
    assert_eq!(code, Some(130), "{errors}");
    assert!(errors.contains("standard output: its reader is stalled; some reports are not written"), "{errors}");
    assert!(errors.contains("jobs      2,000  2,000 succeeded"), "{errors}");
    assert_eq!(json_lines(&fs::read_to_string(&file).unwrap()).len(), 2000);
}

#[test]
fn interrupt_names_last_line_with_report() {
    // More than a run keeps in memory.
    const JOBS: u64 = 12_000;

    let (sandbox, folder) = (SandboxProcess::start(&[]), Folder::new());
    sandbox.faults(&json!({"script": [{"action": "DescribeImageSharePermission", "times": 1000, "do": "hang"}]}));
    let settings = folder.file("settings.toml", "[http]\ncall_timeout = \"1s\"\nconnect_timeout = \"1s\"\n");
    let many: String = (0..JOBS).map(|number| job("img-golden00", "SHARE", [100_000_000_000 + number])).collect();
    let (running, stdout) = run(&sandbox, &folder, &many).arg("--config").arg(settings).start();
    wait_until("a request was sent", || (sandbox.stats()["requests"] != 0).then_some(()));
    running.signal("INT");
    let (reports, errors) = wait_interrupted(running, stdout);
    let (_, rest) = errors.split_once("jobs up to the one that begins on line ").unwrap_or_else(|| panic!("{errors}"));
    let last: u64 = rest.split_once(" of the input were read; later jobs").unwrap().0.parse().unwrap();
    assert!((1..JOBS).contains(&last), "{errors}");
    let reported: BTreeSet<_> = reports.iter().map(|report| report["job_id"].to_string()).collect();
    assert_eq!(reported, (1..=last).map(|line| format!("\"line-{line}\"")).collect());
    assert_eq!(reports.len() as u64, last, "one report each");
}

#[test]
fn open_input_ends_with_last_lane() {
    let run = Program::new(["run", "-", "--endpoint", "http://127.0.0.1:1", "--give-up-after", "1"]);
    let (running, mut stdout, _stdin) = run.key("AKIDEXAMPLE", "topsecret").input(jobs(3)).start_with_open_input();
    // Wait first: reading the output of a run that does not exit would never end.
    let (code, errors) = running.wait();
    assert_eq!(code, Some(4), "{errors}");
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    let reports = json_lines(&text);
    assert_eq!(failed_codes(&reports), ["Local.NotAttempted"; 3]);
    assert!(reports.iter().all(|report| report["failed"][0]["account_ids"].as_array().unwrap().len() == 60));
    assert!(errors.contains("jobs up to the one that begins on line 3 of the input were read"), "{errors}");
}

#[test]
fn commands_name_host_they_wait_for() {
    // Accepts connections and never responds.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap().to_string();
    let refused = "waiting for 127.0.0.1:1: no connection to the endpoint (Connection refused";
    let image = "--image img-6pb6lrmy --region ap-singapore";
    let cases = [
        (format!("list {image}"), "127.0.0.1:1", refused.to_owned()),
        (format!("share {image} --account 1038493875"), "127.0.0.1:1", refused.to_owned()),
        (format!("sync {image} --account 1038493875 --dry-run"), "127.0.0.1:1", refused.to_owned()),
        ("check --connect".to_owned(), &silent, format!("waiting for {silent}: no usable answer yet")),
    ];
    run_concurrently(&cases, |(command, host, line)| {
        let program = Program::new(command.split(' ')).args(["--endpoint", &format!("http://{host}")]);
        let (running, _stdout) = program.key("AKIDEXAMPLE", "topsecret").start();
        running.wait_for_stderr(line);
        running.kill();
    });
}

#[test]
fn second_interrupt_ends_at_once() {
    let (sandbox, folder) = (SandboxProcess::start(&[]), Folder::new());
    sandbox.faults(&json!({"script": [{"action": "ModifyImageSharePermission", "times": 1000, "do": "hang"}]}));
    let settings = folder.file("settings.toml", "[http]\ncall_timeout = \"10m\"\n");
    let (running, stdout) = run(&sandbox, &folder, &jobs(2)).arg("--config").arg(settings).start();
    wait_until("a write hangs", || (sandbox.writes() >= 1).then_some(()));
    running.signal("INT");
    // Two signals at once could be merged.
    running.wait_for_stderr("interrupt again to stop now");
    running.signal("INT");
    let (reports, _) = wait_interrupted(running, stdout);
    assert_eq!(reports.len(), 2);
    assert!(failed_codes(&reports).iter().any(|code| *code == "Local.NoAnswer"), "{}", reports[0]);
}

#[test]
fn closed_reader_ends_run_with_1() {
    let (sandbox, folder) = (SandboxProcess::start(&["--latency", "50ms"]), Folder::new());
    let (running, stdout) = run(&sandbox, &folder, &jobs(5)).arg("--quiet").start();
    let mut first = String::new();
    BufReader::with_capacity(1, stdout).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"job_id\":"), "{first}");
    let (code, errors) = running.wait();
    assert_eq!(
        (code, errors.as_str()),
        (Some(1), "error: standard output: closed by its reader; later reports are not written there\n")
    );
    assert!(is_done(&sandbox, 5));
}
