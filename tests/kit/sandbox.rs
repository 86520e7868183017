//! A sandbox in a process of its own, and what it counted.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader},
    process::ChildStdout,
};

use serde_json::Value;

use crate::{Program, Running, http};

/// A sandbox. It ends with its handle.
pub struct Sandbox {
    pub address: String,
    running: Running,
    /// Open, since a process whose standard output is closed could not write.
    _stdout: ChildStdout,
}

impl Sandbox {
    /// A sandbox with these flags.
    #[track_caller]
    pub fn start(flags: &[&str]) -> Self {
        let (running, stdout) = Program::new(["sandbox", "--listen", "127.0.0.1:0"]).args(flags).start();
        let mut lines = BufReader::with_capacity(1, stdout);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let address = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("found {line:?}")).trim().to_owned();
        Self { address, running, _stdout: lines.into_inner() }
    }

    /// Its port on this machine.
    pub fn port(&self) -> u16 {
        self.address.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap()
    }

    /// The program, pointed at this sandbox with the key that it knows.
    pub fn program(&self, command: &str) -> Program {
        Program::new([command, "--endpoint", &format!("http://{}", self.address)])
            .key("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
    }

    /// What it counted.
    pub fn stats(&self) -> Value {
        self.admin("GET", "stats", "")
    }

    /// How many requests it remembers.
    pub const REMEMBERED: usize = 10_000;

    /// The requests that it remembers, oldest first.
    pub fn requests(&self) -> Vec<Value> {
        let mut answer = self.admin("GET", &format!("requests?last={}", Self::REMEMBERED), "");
        answer["requests"].as_array_mut().map(std::mem::take).unwrap()
    }

    /// Write requests that it counted.
    pub fn writes(&self) -> u64 {
        self.stats()["by_action"]["ModifyImageSharePermission"].as_u64().unwrap_or_default()
    }

    /// Who has each image, by its id.
    pub fn state(&self) -> BTreeMap<String, BTreeSet<u64>> {
        let state = self.admin("GET", "state", "");
        let accounts = |set: &Value| {
            set.as_array().unwrap().iter().map(|id| id.as_str().unwrap().parse().unwrap()).collect::<BTreeSet<u64>>()
        };
        state["images"].as_object().unwrap().iter().map(|(image, set)| (image.clone(), accounts(set))).collect()
    }

    /// Who has this image.
    pub fn shared(&self, image: &str) -> BTreeSet<u64> {
        self.state().remove(image).unwrap_or_default()
    }

    /// A key of the account that its own key has, which lives for so many seconds, as a file of the worker's has it.
    pub fn temporary_key(&self, seconds: u64) -> Value {
        let wanted = serde_json::json!({"account": "100009999999", "seconds": seconds});
        self.admin("POST", "temporary_key", &wanted.to_string())
    }

    /// Replaces the script of faults.
    pub fn faults(&self, faults: &Value) {
        let answer = self.admin("POST", "faults", &faults.to_string());
        assert_eq!(answer, serde_json::json!({}), "{answer}");
    }

    /// Answers everything with a fault until the script is replaced.
    pub fn fail_all(&self, fault: &str) {
        let fail = |action| serde_json::json!({"action": action, "times": 1_000_000, "do": fault});
        let actions = ["ModifyImageSharePermission", "DescribeImageSharePermission", "DescribeImages"];
        self.faults(&serde_json::json!({ "script": actions.map(fail) }));
    }

    /// Ends it as Ctrl-C does.
    pub fn interrupt(self) -> Option<i32> {
        self.running.signal("INT");
        self.running.end().0
    }

    fn admin(&self, method: &str, what: &str, body: &str) -> Value {
        http::call(&self.address, method, &format!("/_sandbox/{what}"), body).unwrap().json()
    }
}
