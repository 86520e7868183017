//! Building blocks of the scenarios: the program, brokers, sandboxes, relays, temporary files. All processes end with the
//! tests, however those end.
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
pub mod existing;
pub mod history;
pub mod http;
pub mod keeper;
pub mod pages;
pub mod program;
pub mod relay;
pub mod sandbox;
pub mod shell;
pub mod stage;
pub mod worker;

pub use amqp::{Amqp, Held, Message, properties, text, with_headers};
pub use broker::{COOKIE, Depth, Node, Vhost, free_port};
pub use certificates::{Authority, Certificate};
pub use program::{Ended, Program, Running, json_lines};
pub use relay::Relay;
pub use sandbox::Sandbox;

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long anything that is waited for may take before the test fails. When it works, nothing takes more than a minute by
/// design.
const PATIENCE: Duration = Duration::from_secs(180);

/// A folder for one test.
pub struct Folder(TempDir);

impl Folder {
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and gives its path.
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// A file of the repository.
pub fn of_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Returns the paths of the repository's files with this beginning and end. Build output and hidden folders other than
/// CI's are no part of it.
pub fn files_of_repository(beginning: &str, end: &str) -> Vec<String> {
    fn visit(folder: &Path, prefix: &str, files: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let name = entry.file_name().into_string().unwrap();
            let is_foreign = matches!(&*name, "target" | "node_modules" | "__pycache__");
            let is_hidden = name.starts_with('.') && !matches!(&*name, ".ci" | ".github");
            if entry.file_type().unwrap().is_dir() {
                if !is_foreign && !is_hidden {
                    visit(&entry.path(), &format!("{prefix}{name}/"), files);
                }
            } else {
                files.push(format!("{prefix}{name}"));
            }
        }
    }
    let mut files = Vec::new();
    visit(&of_repository(""), "", &mut files);
    files.retain(|name| name.starts_with(beginning) && name.ends_with(end));
    files.sort();
    files
}

/// Nothing in a text moves a cursor, paints, or changes what a reader sees.
#[track_caller]
pub fn check_plain(what: &str, text: &str) {
    let is_raw = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0041}')
    };
    let found = text.find(is_raw);
    assert_eq!(found, None, "{what}: {:?}", found.and_then(|at| text.get(at..text.len().min(at + 20))));
}

/// One job as a line.
pub fn job(image: &str, permission: &str, accounts: impl IntoIterator<Item = u64>) -> String {
    let accounts: Vec<String> = accounts.into_iter().map(|account| format!("\"{account}\"")).collect();
    format!(
        "{{\"image_id\":\"{image}\",\"region\":\"ap-singapore\",\"permission\":\"{permission}\",\"account_ids\":[{}]}}\n",
        accounts.join(",")
    )
}

/// Looks until it sees something, again and again.
#[track_caller]
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        // Between two looks, so that looking does not take the processor from what is looked at.
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns how large something in a scenario is: the first number in an ordinary run, the second if `SIZE` is `full`, and
/// `TIMES` as much. `tests/chaos` sets these, and `SEED`.
pub fn size(ordinary: u64, full: u64) -> u64 {
    let size = match std::env::var("SIZE").as_deref() {
        Err(_) | Ok("ordinary") => ordinary,
        Ok("full") => full,
        Ok(other) => panic!("SIZE: invalid value {other:?} (expected ordinary or full)"),
    };
    size * number("TIMES").unwrap_or(1)
}

/// What makes the numbers of this run others than those of the next one.
pub fn seed() -> u64 {
    number("SEED").unwrap_or_default()
}

/// A number of the environment.
pub fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}: {text:?} is not a number")))
}
