//! A worker process.

use std::{ops::Deref, process::ChildStdout};

use serde_json::Value;

use crate::{Program, Running, http, wait_until};

/// A worker. It is killed on drop.
pub struct Worker {
    running: Running,
    /// Kept open while the worker runs.
    _stdout: ChildStdout,
}

impl Worker {
    pub fn start(program: Program) -> Self {
        let (running, stdout) = program.start();
        Self { running, _stdout: stdout }
    }

    /// Returns the current end of the log, for [`Self::wait_for_log_after`].
    pub fn mark(&self) -> usize {
        self.stderr().len()
    }

    /// Waits until a line of the log after a mark contains all parts, and returns the line.
    #[track_caller]
    pub fn wait_for_log_after(&self, mark: usize, parts: &[&str]) -> String {
        wait_until(&format!("the worker logs {parts:?}"), || {
            let log = self.stderr();
            let mut lines = log.get(mark..).unwrap().lines();
            lines.find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
    }

    /// Waits until the worker consumes its lane.
    #[track_caller]
    pub fn wait_until_subscribed(&self) {
        self.wait_until_subscribed_after(0);
    }

    /// Waits until the worker consumes its lane again.
    #[track_caller]
    pub fn wait_until_subscribed_after(&self, mark: usize) {
        self.wait_for_log_after(mark, &[r#""state":"subscribed""#]);
    }

    /// Waits until the worker receives deliveries.
    #[track_caller]
    pub fn wait_until_serving(&self) {
        self.wait_for_log_after(0, &[r#""state":"serving""#]);
    }

    /// Whether the worker receives the deliveries of a lane, by the last state in its log.
    pub fn serves(&self, lane: &str) -> bool {
        let log = self.stderr();
        let of_lane = format!(r#""lane":"{lane}","state":"#);
        let last = log.lines().rfind(|line| line.contains(&of_lane)).unwrap_or_default();
        // A lane is blocked if all its jobs are for busy images.
        ["serving", "blocked"].iter().any(|state| last.contains(&format!(r#""state":"{state}""#)))
    }

    /// Returns the number of open files, including sockets, and of threads.
    pub fn files_and_threads(&self) -> (usize, usize) {
        let count = |what: &str| std::fs::read_dir(format!("/proc/{}/{what}", self.id())).unwrap().count();
        (count("fd"), count("task"))
    }

    /// Kills the worker.
    pub fn kill(self) {
        self.running.kill();
    }

    /// Waits for the exit, and returns the exit code and the log.
    #[track_caller]
    pub fn wait(self) -> (Option<i32>, String) {
        self.running.wait()
    }

    /// Sends SIGTERM, asserts that the worker exits with 0, and returns its log.
    #[track_caller]
    pub fn drain(self) -> String {
        // Until then the process has no signal handler.
        self.wait_for_log_after(0, &["starting"]);
        self.signal("TERM");
        let (code, log) = self.wait();
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

/// A worker with an admin server.
pub struct MonitoredWorker {
    pub worker: Worker,
    /// The address of the admin server.
    pub admin: String,
}

impl MonitoredWorker {
    pub fn start(program: Program) -> Self {
        let worker = Worker::start(program.args(["--admin", "127.0.0.1:0"]));
        let line = worker.wait_for_log_after(0, &["status and metrics"]);
        let line: Value = serde_json::from_str(&line).unwrap();
        Self { admin: line["address"].as_str().unwrap().to_owned(), worker }
    }

    /// Returns the metrics.
    pub fn metrics(&self) -> String {
        http::get(&self.admin, "/metrics").body
    }

    /// Returns the sum of all series whose name and labels contain all parts.
    pub fn sum(&self, parts: &[&str]) -> f64 {
        sum(&self.metrics(), parts)
    }

    /// As [`Self::sum`], for counters.
    pub fn count(&self, parts: &[&str]) -> u64 {
        count(&self.metrics(), parts)
    }

    /// Waits until lanes and publisher are ready. The publisher reconnects independently of the lanes.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        wait_until("lanes and publisher are ready", || {
            let ready = http::get(&self.admin, "/readyz").json();
            let mut parts = ready["lanes"].as_object().unwrap().values().chain([&ready["publisher"]]);
            parts.all(|part| part["ready"] == true).then_some(())
        });
    }

    /// Waits until the lane is in a state, and returns its part of `/readyz` and the status code.
    #[track_caller]
    pub fn wait_for_state(&self, state: &str) -> (u16, Value) {
        wait_until(&format!("the lane is {state}"), || {
            let response = http::get(&self.admin, "/readyz");
            let lane = response.json()["lanes"]["default"].clone();
            (lane["state"] == state).then_some((response.code, lane))
        })
    }
}

/// As [`sum`], for counters, which are small whole numbers.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub fn count(metrics: &str, parts: &[&str]) -> u64 {
    sum(metrics, parts) as u64
}

/// Returns the sum of all series whose name and labels contain all parts.
pub fn sum(metrics: &str, parts: &[&str]) -> f64 {
    let lines = metrics.lines().filter(|line| parts.iter().all(|part| line.contains(part)) && !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).map(|(_, value)| value.parse::<f64>().unwrap()).sum()
}
