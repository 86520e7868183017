//! Building blocks of the scenarios: the program, brokers, sandboxes, relays, temporary files. Every process ends when
//! the test process ends, even if that is killed.
#![allow(
    clippy::indexing_slicing,
    clippy::new_without_default,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    missing_docs,
    reason = "a helper of a test fails the test, as the test itself would"
)]

pub mod amqp;
pub mod broker;
pub mod certificates;
pub mod external_broker;
pub mod history;
pub mod http;
pub mod markdown;
pub mod process_group;
pub mod program;
pub mod relay;
pub mod sandbox;
pub mod setup;
pub mod shell;
pub mod worker;

pub use amqp::{AmqpClient, ReceivedMessage, TestConsumer, properties, text, with_headers};
pub use broker::{BrokerNode, COOKIE, QueueDepth, Vhost, free_port};
pub use certificates::{Certificate, CertificateAuthority};
pub use program::{Program, ProgramOutput, Running, json_lines};
pub use relay::Relay;
pub use sandbox::SandboxProcess;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long a condition may take to become true before the test fails. By design none takes more than a minute.
const TIMEOUT: Duration = Duration::from_secs(180);

/// A temporary folder.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// Returns the path of a file in the repository.
pub fn repository_path(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Returns the repository's files with a prefix and a suffix, sorted. Skips build output, and hidden folders other than
/// CI's.
pub fn repository_files(prefix: &str, suffix: &str) -> Vec<String> {
    fn visit(folder: &Path, parent: &str, files: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let is_foreign = matches!(&*name, "target" | "node_modules" | "__pycache__");
            let is_hidden = name.starts_with('.') && !matches!(&*name, ".ci" | ".github");
            if entry.file_type().unwrap().is_dir() {
                if !is_foreign && !is_hidden {
                    visit(&entry.path(), &format!("{parent}{name}/"), files);
                }
            } else {
                files.push(format!("{parent}{name}"));
            }
        }
    }
    let mut files = Vec::new();
    visit(&repository_path(""), "", &mut files);
    files.retain(|name| name.starts_with(prefix) && name.ends_with(suffix));
    files.sort();
    files
}

/// Asserts that a text has no control or formatting characters other than line feeds.
#[track_caller]
pub fn check_plain(what: &str, text: &str) {
    let is_raw = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0041}')
    };
    let raw = text.find(is_raw);
    assert_eq!(raw, None, "{what}: {:?}", raw.and_then(|at| text.get(at..text.len().min(at + 20))));
}

/// Returns a job as a line of NDJSON.
pub fn job(image: &str, permission: &str, accounts: impl IntoIterator<Item = u64>) -> String {
    let accounts: Vec<String> = accounts.into_iter().map(|account| format!("\"{account}\"")).collect();
    format!(
        "{{\"image_id\":\"{image}\",\"region\":\"ap-singapore\",\"permission\":\"{permission}\",\"account_ids\":[{}]}}\n",
        accounts.join(",")
    )
}

/// Calls `probe` until it returns a value, and returns that. Panics after `TIMEOUT`.
#[track_caller]
pub fn wait_until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(begun.elapsed() < TIMEOUT, "timed out waiting until {what}");
        // Without a pause, the probe would take processor time from what it observes.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns a dimension of a scenario: `ordinary`, or `full` if the variable `SIZE` is `full`, multiplied by `TIMES`.
/// `tests/chaos` sets these variables, and `SEED`.
pub fn size(ordinary: u64, full: u64) -> u64 {
    let size = match std::env::var("SIZE").as_deref() {
        Err(_) | Ok("ordinary") => ordinary,
        Ok("full") => full,
        Ok(other) => panic!("SIZE: invalid value {other:?} (expected ordinary or full)"),
    };
    size * env_number("TIMES").unwrap_or(1)
}

/// Returns the seed of the run, from which scenarios derive their random numbers.
pub fn seed() -> u64 {
    env_number("SEED").unwrap_or_default()
}

/// Returns a number from the environment. Panics if the variable holds anything else.
pub fn env_number(name: &str) -> Option<u64> {
    std::env::var(name)
        .ok()
        .map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: invalid value {text:?} (expected a number)")))
}
