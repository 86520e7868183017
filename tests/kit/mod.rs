//! What the scenarios are made of: the program, a sandbox in a process of its own, files in a folder that goes away.

mod amqp;
mod broker;
pub(crate) mod browser;
mod certificates;
mod commands;
pub(crate) mod history;
pub(crate) mod http;
mod keeper;
pub(crate) mod pages;
mod program;
pub(crate) mod prometheus;
mod relay;
mod sandbox;
pub(crate) mod sizes;
pub(crate) mod stage;
pub(crate) mod watched;
pub(crate) mod worker;

pub(crate) use amqp::{Amqp, Message, properties};
pub(crate) use broker::{COOKIE, Depth, Node, PASSWORD, TICK_SECONDS, Vhost, free_port};
pub(crate) use certificates::{Authority, Certificate};
pub(crate) use commands::{flags, helps};
pub(crate) use program::{Ended, Program, Running, json_lines};
pub(crate) use relay::Relay;
pub(crate) use sandbox::Sandbox;
pub(crate) use sizes::{Sizes, figures};

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// How long anything that is waited for may take before the test fails. Nothing takes nearly so long when it works.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder for one test.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file and gives its path.
    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }
}

/// A file of the repository.
pub(crate) fn of_repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The names of the repository's files that begin and end so.
pub(crate) fn files_of_repository(beginning: &str, end: &str) -> Vec<String> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(of_repository("")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let names = String::from_utf8(output.stdout).unwrap();
    let is_wanted = |name: &&str| name.starts_with(beginning) && name.ends_with(end);
    // A file that was deleted and not committed yet is no file.
    let files = names.split_terminator('\0').filter(is_wanted).filter(|name| of_repository(name).exists());
    files.map(str::to_owned).collect()
}

/// Nothing in a text moves a cursor, paints, or changes what a reader sees.
#[track_caller]
pub(crate) fn check_plain(what: &str, text: &str) {
    let is_raw = |c: char| {
        c.is_control() && c != '\n'
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{e0041}')
    };
    let found = text.find(is_raw);
    assert_eq!(found, None, "{what}: {:?}", found.and_then(|at| text.get(at..text.len().min(at + 20))));
}

/// One job as a line.
pub(crate) fn job(image: &str, permission: &str, accounts: impl IntoIterator<Item = u64>) -> String {
    let accounts: Vec<String> = accounts.into_iter().map(|account| format!("\"{account}\"")).collect();
    format!(
        "{{\"image_id\":\"{image}\",\"region\":\"ap-singapore\",\"permission\":\"{permission}\",\"account_ids\":[{}]}}\n",
        accounts.join(",")
    )
}

/// Looks until it sees something, again and again.
#[track_caller]
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, look)
}

/// The same with more patience, or less.
#[track_caller]
fn until_within<T>(patience: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(begun.elapsed() < patience, "waited in vain until {what}");
        std::thread::yield_now();
        // Between two looks, so that looking does not take the processor from what is looked at.
        std::thread::sleep(Duration::from_millis(5));
    }
}
