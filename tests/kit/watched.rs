//! A worker that is watched by its admin server.

use serde_json::Value;

use crate::{Program, http, until, worker::Worker};

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
