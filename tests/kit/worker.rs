//! `imageshare worker` as a process.

use std::{ops::Deref, process::ChildStdout};

use serde_json::Value;

use crate::{Program, Running, http, until};

/// A worker. It is killed with its handle.
pub struct Worker {
    running: Running,
    /// Open as long as it runs.
    _stdout: ChildStdout,
}

impl Worker {
    pub fn start(program: Program) -> Self {
        let (running, stdout) = program.start();
        Self { running, _stdout: stdout }
    }

    /// Where its log is now. What is waited for comes after it.
    pub fn mark(&self) -> usize {
        self.said().len()
    }

    /// Waits until a line of its log after a mark holds all of this, and gives the line.
    #[track_caller]
    pub fn until_logged_after(&self, mark: usize, parts: &[&str]) -> String {
        until(&format!("the worker logged {parts:?}"), || {
            let said = self.said();
            let mut lines = said.get(mark..).unwrap().lines();
            lines.find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
    }

    /// Waits until it consumes its lane.
    #[track_caller]
    pub fn until_subscribed(&self) {
        self.until_subscribed_after(0);
    }

    /// Waits until it consumes its lane anew.
    #[track_caller]
    pub fn until_subscribed_after(&self, mark: usize) {
        self.until_logged_after(mark, &[r#""state":"subscribed""#]);
    }

    /// Waits until deliveries come to it.
    #[track_caller]
    pub fn until_serving(&self) {
        self.until_logged_after(0, &[r#""state":"serving""#]);
    }

    /// Whether a lane's deliveries came to it, by the last that it said of this lane.
    pub fn serves(&self, lane: &str) -> bool {
        let said = self.said();
        let of_lane = format!(r#""lane":"{lane}","state":"#);
        let last = said.lines().rfind(|line| line.contains(&of_lane)).unwrap_or_default();
        // Its window may be full of jobs whose images are busy.
        ["serving", "blocked"].iter().any(|state| last.contains(&format!(r#""state":"{state}""#)))
    }

    /// Open files, sockets among them, and threads that it has.
    pub fn files_and_threads(&self) -> (usize, usize) {
        let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", self.id())).unwrap().count();
        (count("fd"), count("task"))
    }

    /// Kills it.
    pub fn kill(self) {
        self.running.kill();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(self) -> (Option<i32>, String) {
        self.running.end()
    }

    /// Asks it to end and waits until it did, which has to be well.
    #[track_caller]
    pub fn drain(self) -> String {
        // A process that has only just begun listens to no signal, and dies of one.
        self.until_logged_after(0, &["starting"]);
        self.signal("TERM");
        let (code, log) = self.end();
        assert!(code == Some(0) && !log.contains("panicked"), "{code:?}: {log}");
        log
    }
}

impl Deref for Worker {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

/// A worker of a stage that answers what is asked about it.
pub struct Watched {
    pub worker: Worker,
    /// The address of its admin server.
    pub admin: String,
}

impl Watched {
    pub fn start(program: Program) -> Self {
        let worker = Worker::start(program.args(["--admin", "127.0.0.1:0"]));
        let line = worker.until_logged_after(0, &["status and metrics"]);
        let line: Value = serde_json::from_str(&line).unwrap();
        Self { admin: line["address"].as_str().unwrap().to_owned(), worker }
    }

    /// Its metrics.
    pub fn metrics(&self) -> String {
        http::get(&self.admin, "/metrics").body
    }

    /// The sum of all series whose name and labels hold all of this.
    pub fn sum(&self, parts: &[&str]) -> f64 {
        sum(&self.metrics(), parts)
    }

    /// The same of what is counted.
    pub fn count(&self, parts: &[&str]) -> u64 {
        count(&self.metrics(), parts)
    }

    /// Waits until all of the worker is ready: its publisher comes back by itself, before or after its lanes.
    #[track_caller]
    pub fn until_ready(&self) {
        until("the worker is ready", || (http::get(&self.admin, "/readyz").code == 200).then_some(()));
    }

    /// Waits until the lane is in a state, and gives what `/readyz` says of it then.
    #[track_caller]
    pub fn until_state(&self, state: &str) -> (u16, Value) {
        until(&format!("the lane is {state}"), || {
            let answer = http::get(&self.admin, "/readyz");
            let lane = answer.json()["lanes"]["default"].clone();
            (lane["state"] == state).then_some((answer.code, lane))
        })
    }
}

/// The same of what is counted: Prometheus knows only floats, and these are small whole numbers.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn count(metrics: &str, parts: &[&str]) -> u64 {
    sum(metrics, parts) as u64
}

/// The sum of all series of a text whose name and labels hold all of this.
pub fn sum(metrics: &str, parts: &[&str]) -> f64 {
    let lines = metrics.lines().filter(|line| parts.iter().all(|part| line.contains(part)) && !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(_, value)| value.parse::<f64>().unwrap()).sum()
}
