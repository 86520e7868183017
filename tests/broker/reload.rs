//! A worker is told to read its settings again while it works: wrong ones change nothing, right ones count at once, and no
//! job is lost for either.

use std::{fs, process::Command};

use kit::{
    BrokerNode, Folder, Program, Running, free_port,
    history::{JobHistory, SECOND_REGION_START},
    setup::{TWO_LANES, TestSetup},
    wait_until,
    worker::Worker,
};

const JOBS_A_LANE: usize = 150;

/// Requests a second at first and later.
const SLOW: u32 = 4;
const FAST: u32 = 40;

/// How often it is told so in a row.
const TIMES: usize = 20;

/// What a worker says then.
const TAKEN_OVER: &str = "settings and credentials are read again";
const NOT_TAKEN_OVER: &str = "the settings are wrong and were not taken over";

/// Tells a worker to read its settings, and waits until it says that it did, or that they are wrong.
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
    // One account a request, so that there is something to do all the time.
    let of_lane = format!("{slow}\nbatch = 1");
    let setup = TestSetup::with_lanes(BrokerNode::shared(), &TWO_LANES, &[], &of_lane, "");
    let mut history = JobHistory::for_scenario(71);
    for first in [0, SECOND_REGION_START] {
        history.add_random(JOBS_A_LANE, first);
    }
    setup.publish(&history.jobs);
    let worker = setup.worker();
    wait_until("something is written", || (setup.sandbox.writes() > 0).then_some(()));

    for (wrong, problem) in [("rate = 0", "lanes.one.rate"), ("rate = [", "TOML"), ("rat = 40", "rat")] {
        setup.change_settings(setup.sandbox.port(), &slow, wrong);
        reload(&worker, &[NOT_TAKEN_OVER, problem]);
    }
    let written = setup.sandbox.writes();
    wait_until("it goes on", || (setup.sandbox.writes() > written + u64::from(SLOW)).then_some(()));
    setup.check_rate(SLOW);

    setup.change_settings(setup.sandbox.port(), &slow, &fast);
    reload(&worker, &[TAKEN_OVER]);
    wait_until("it is faster", || {
        let most = setup.sandbox.stats()["max_in_any_second"]["ModifyImageSharePermission"].as_u64();
        (most > Some(u64::from(4 * SLOW))).then_some(())
    });

    setup.change_keys(&["nobody", "two"]);
    reload(&worker, &["the lane is closed", r#""lane":"one""#, r#""reason":"credential""#]);
    setup.change_keys(&TWO_LANES);
    reload(&worker, &["the lane is open again", r#""lane":"one""#]);

    for time in 0..TIMES {
        let is_right = time % 2 == 1;
        setup.change_settings(setup.sandbox.port(), &slow, if is_right { &fast } else { "rate = 0" });
        reload(&worker, &[if is_right { TAKEN_OVER } else { NOT_TAKEN_OVER }]);
    }
    assert!(!worker.stderr().contains("needs a restart"), "{}", worker.stderr());
    assert!(setup.lane_depth(TWO_LANES[0]).held > 0, "there was something to do all the time");
    setup.check_all_succeeded(&history);
    setup.check_rate(FAST);
    worker.drain();
}

/// Threads of a process that read its settings.
fn readings(running: &Running) -> usize {
    let tasks = fs::read_dir(format!("/proc/{}/task", running.id())).unwrap();
    let name = |task: &fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    tasks.flatten().filter(|task| name(task) == "reading\n").count()
}

#[test]
fn hanging_settings_file_blocks_no_signal() {
    let folder = Folder::new();
    let address = format!("amqp://guest:guest@127.0.0.1:{}", free_port());
    let settings = folder.file("settings.toml", format!("[broker]\nurl = \"{address}\"\n"));
    // At SIGHUP, then at the start.
    for is_there_at_first in [true, false] {
        let worker = Program::new(["worker", "--config"]).arg(&settings).key("AKIDEXAMPLE", "topsecret");
        let (worker, _stdout) = worker.start();
        if is_there_at_first {
            worker.wait_for_stderr("starting");
            fs::remove_file(&settings).unwrap();
            assert!(Command::new("mkfifo").arg(&settings).status().unwrap().success());
            worker.signal("HUP");
        }
        wait_until("it reads", || (readings(&worker) == 1).then_some(()));
        worker.signal("TERM");
        let (code, log) = worker.wait();
        assert_eq!(code, Some(0), "{log}");
    }
}
