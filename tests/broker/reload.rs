//! Reloads of the settings under load: invalid settings change nothing, valid ones apply at once, and no job is lost.

use std::{fs, process::Command};

use kit::{
    BrokerNode, Folder, Program, Running, free_port,
    history::{JobHistory, SECOND_REGION_START},
    setup::{TWO_LANES, TestSetup},
    wait_until,
    worker::Worker,
};

const JOBS_PER_LANE: usize = 250;

/// Requests per second before and after the reload.
const SLOW: u32 = 4;
const FAST: u32 = 40;

/// Reloads in a row.
const RELOADS: usize = 20;

/// Log messages of a reload.
const RELOADED: &str = "settings and credentials reloaded";
const REJECTED: &str = "settings invalid; keeping the old ones";

/// Sends SIGHUP and waits for the expected log line.
#[track_caller]
fn reload(worker: &Worker, expected: &[&str]) {
    let mark = worker.mark();
    worker.signal("HUP");
    worker.wait_for_log_after(mark, expected);
}

#[test]
fn changed_settings_and_keys_lose_no_job() {
    let slow = format!("rate = {SLOW}");
    let fast = format!("rate = {FAST}");
    // One account per request, so that work remains during the whole test.
    let of_lane = format!("{slow}\nbatch = 1");
    let setup = TestSetup::with_lanes(BrokerNode::shared(), &TWO_LANES, &[], &of_lane, "");
    let mut history = JobHistory::for_scenario(71);
    for first in [0, SECOND_REGION_START] {
        history.add_random(JOBS_PER_LANE, first);
    }
    setup.publish(&history.jobs);
    let worker = setup.worker();
    wait_until("the worker writes", || (setup.sandbox.writes() > 0).then_some(()));

    for (invalid, problem) in [("rate = 0", "lanes.one.rate"), ("rate = [", "in array"), ("rat = 40", "rat")] {
        setup.change_settings(setup.sandbox.port(), &slow, invalid);
        reload(&worker, &[REJECTED, problem]);
    }
    let written = setup.sandbox.writes();
    wait_until("the worker continues", || (setup.sandbox.writes() > written + u64::from(SLOW)).then_some(()));
    setup.check_rate(SLOW);

    setup.change_settings(setup.sandbox.port(), &slow, &fast);
    reload(&worker, &[RELOADED]);
    wait_until("the new rate is used", || {
        let most = setup.sandbox.stats()["max_in_any_second"]["ModifyImageSharePermission"].as_u64();
        (most > Some(u64::from(4 * SLOW))).then_some(())
    });

    setup.change_keys(&["unknown", "two"]);
    reload(&worker, &["lane closed", r#""lane":"one""#, r#""reason":"credential""#]);
    setup.change_keys(&TWO_LANES);
    reload(&worker, &["lane opened", r#""lane":"one""#]);

    for number in 0..RELOADS {
        let is_valid = number % 2 == 1;
        setup.change_settings(setup.sandbox.port(), &slow, if is_valid { &fast } else { "rate = 0" });
        reload(&worker, &[if is_valid { RELOADED } else { REJECTED }]);
    }
    assert!(!worker.stderr().contains("need a restart"), "{}", worker.stderr());
    assert!(setup.lane_depth(TWO_LANES[0]).held > 0, "work remains");
    setup.check_all_succeeded(&history);
    setup.check_rate(FAST);
    worker.drain();
}

/// Returns the number of threads that read settings.
fn reader_threads(running: &Running) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", running.id())).unwrap();
    let name = |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.flatten().filter(|task| name(task) == "settings\n").count()
}

#[test]
fn hanging_settings_file_blocks_no_signal() {
    let folder = Folder::new();
    let address = format!("amqp://guest:guest@127.0.0.1:{}", free_port());
    let settings = folder.file("settings.toml", format!("[broker]\nurl = \"{address}\"\n"));
    // On SIGHUP, then at the start.
    for exists_at_start in [true, false] {
        let worker = Program::new(["worker", "--config"]).arg(&settings).key("AKIDEXAMPLE", "topsecret");
        let (worker, _stdout) = worker.start();
        if exists_at_start {
            worker.wait_for_stderr("starting");
            fs::remove_file(&settings).unwrap();
            assert!(Command::new("mkfifo").arg(&settings).status().unwrap().success());
            worker.signal("HUP");
        }
        wait_until("the worker reads the file", || (reader_threads(&worker) == 1).then_some(()));
        worker.signal("TERM");
        let (code, log) = worker.wait();
        assert_eq!(code, Some(0), "{log}");
    }
}
