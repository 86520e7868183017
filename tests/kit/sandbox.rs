//! A sandbox process.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    process::ChildStdout,
};

use serde_json::Value;

use crate::{Program, Running, http};

/// A sandbox process. It is killed on drop.
pub struct SandboxProcess {
    pub address: String,
    running: Running,
    /// Kept open, since a closed pipe would fail the sandbox's writes.
    _stdout: ChildStdout,
}

impl SandboxProcess {
    /// Starts a sandbox with flags.
    #[track_caller]
    pub fn start(flags: &[&str]) -> Self {
        let (running, stdout) = Program::new(["sandbox", "--listen", "127.0.0.1:0"]).args(flags).start();
        let mut lines = BufReader::with_capacity(1, stdout);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let address =
            line.strip_prefix("listening on ").unwrap_or_else(|| panic!("invalid line {line:?}")).trim().to_owned();
        Self { address, running, _stdout: lines.into_inner() }
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap()
    }

    /// Returns a command of the program with the sandbox's endpoint and key.
    pub fn program(&self, command: &str) -> Program {
        Program::new([command, "--endpoint", &format!("http://{}", self.address)])
            .key("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
    }

    /// Returns the counters.
    pub fn stats(&self) -> Value {
        self.admin("GET", "stats", "")
    }

    /// Requests that the sandbox keeps in its log.
    pub const REQUESTS_MAX: usize = 10_000;

    /// Returns the logged requests, oldest first.
    pub fn requests(&self) -> Vec<Value> {
        let mut log = self.admin("GET", &format!("requests?last={}", Self::REQUESTS_MAX), "");
        log["requests"].as_array_mut().map(std::mem::take).unwrap()
    }

    /// Returns the number of write requests.
    pub fn writes(&self) -> u64 {
        self.stats()["by_action"]["ModifyImageSharePermission"].as_u64().unwrap_or_default()
    }

    /// Returns the accounts of each image.
    pub fn state(&self) -> BTreeMap<String, BTreeSet<u64>> {
        let state = self.admin("GET", "state", "");
        let accounts = |image: &String| {
            let shares = state["shares"][image].as_object();
            shares.into_iter().flat_map(|shares| shares.keys()).map(|id| id.parse().unwrap()).collect()
        };
        state["images"].as_object().unwrap().keys().map(|image| (image.clone(), accounts(image))).collect()
    }

    /// Returns the accounts of an image.
    pub fn shared(&self, image: &str) -> BTreeSet<u64> {
        self.state().remove(image).unwrap_or_default()
    }

    /// Returns a temporary key for the sandbox's account, in the format of a worker's key file.
    pub fn temporary_key(&self, seconds: u64) -> Value {
        let body = serde_json::json!({"account": "100009999999", "seconds": seconds});
        self.admin("POST", "temporary_key", &body.to_string())
    }

    /// Replaces the faults.
    pub fn faults(&self, faults: &Value) {
        assert_eq!(self.admin("POST", "faults", &faults.to_string()), serde_json::json!({}));
    }

    /// Fails every request until the faults are replaced.
    pub fn fail_all(&self, fault: &str) {
        let fail = |action| serde_json::json!({"action": action, "times": 1_000_000, "do": fault});
        let actions = ["ModifyImageSharePermission", "DescribeImageSharePermission", "DescribeImages"];
        self.faults(&serde_json::json!({ "script": actions.map(fail) }));
    }

    /// Interrupts the sandbox and returns its exit code.
    pub fn interrupt(self) -> Option<i32> {
        self.running.signal("INT");
        self.running.wait().0
    }

    fn admin(&self, method: &str, path: &str, body: &str) -> Value {
        http::request(&self.address, method, &format!("/_sandbox/{path}"), body).unwrap().json()
    }
}
