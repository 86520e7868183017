//! A worker is told to read its settings again while it works: wrong ones change nothing, right ones count at once, and no
//! job is lost for either.

use std::{fs, process::Command};

use kit::{
    Folder, Node, Program, Running, free_port,
    history::{History, OF_SECOND_REGION},
    stage::{Stage, TWO_LANES},
    until,
    worker::Worker,
};

const JOBS_A_LANE: usize = 150;

/// Requests a second at first and later.
const SLOW: u32 = 4;
const FAST: u32 = 40;

/// How often it is told so in a row.
const TIMES: usize = 20;

/// What a worker says then.
const TAKEN_OVER: &str = "settings and credentials reloaded";
const NOT_TAKEN_OVER: &str = "settings invalid; keeping the old ones";

/// Tells a worker to read its settings, and waits until it says that it did, or that they are wrong.
#[track_caller]
fn reload(worker: &Worker, expected: &[&str]) {
    let mark = worker.mark();
    worker.signal("HUP");
    worker.until_logged_after(mark, expected);
}

#[test]
fn changed_settings_and_keys_lose_no_job() {
    let slow = format!("rate = {SLOW}");
    let fast = format!("rate = {FAST}");
    // One account a request, so that there is something to do all the time.
    let of_lane = format!("{slow}\nbatch = 1");
    let stage = Stage::of_lanes(Node::shared(), &TWO_LANES, &[], &of_lane, "");
    let mut history = History::of(71);
    for first in [0, OF_SECOND_REGION] {
        history.add_random(JOBS_A_LANE, first);
    }
    stage.publish(&history.jobs);
    let worker = stage.worker();
    until("something is written", || (stage.sandbox.writes() > 0).then_some(()));

    for (wrong, problem) in [("rate = 0", "lanes.one.rate"), ("rate = [", "TOML"), ("rat = 40", "rat")] {
        stage.change_settings(stage.sandbox.port(), &slow, wrong);
        reload(&worker, &[NOT_TAKEN_OVER, problem]);
    }
    let written = stage.sandbox.writes();
    until("it goes on", || (stage.sandbox.writes() > written + u64::from(SLOW)).then_some(()));
    stage.check_rate(SLOW);

    stage.change_settings(stage.sandbox.port(), &slow, &fast);
    reload(&worker, &[TAKEN_OVER]);
    until("it is faster", || {
        let most = stage.sandbox.stats()["max_in_any_second"]["ModifyImageSharePermission"].as_u64();
        (most > Some(u64::from(4 * SLOW))).then_some(())
    });

    stage.change_keys(&["nobody", "two"]);
    reload(&worker, &["lane closed", r#""lane":"one""#, r#""reason":"credential""#]);
    stage.change_keys(&TWO_LANES);
    reload(&worker, &["lane opened", r#""lane":"one""#]);

    for time in 0..TIMES {
        let is_right = time % 2 == 1;
        stage.change_settings(stage.sandbox.port(), &slow, if is_right { &fast } else { "rate = 0" });
        reload(&worker, &[if is_right { TAKEN_OVER } else { NOT_TAKEN_OVER }]);
    }
    assert!(!worker.said().contains("needs a restart"), "{}", worker.said());
    assert!(stage.depth_of(TWO_LANES[0]).held > 0, "there was something to do all the time");
    stage.check_done(&history);
    stage.check_rate(FAST);
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
            worker.until_said("starting");
            fs::remove_file(&settings).unwrap();
            assert!(Command::new("mkfifo").arg(&settings).status().unwrap().success());
            worker.signal("HUP");
        }
        until("it reads", || (readings(&worker) == 1).then_some(()));
        worker.signal("TERM");
        let (code, log) = worker.end();
        assert_eq!(code, Some(0), "{log}");
    }
}
