//! Ends processes when this one ends, however it ends: a test that panics, a run that is killed.

use std::{
    io::pipe,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::OnceLock,
};

/// Waits for the end of its standard input, which comes when the tests' process is gone or lets go, then kills a group
/// of processes and removes a folder. The group has a number as long as one of its members is there.
const SCRIPT: &str = r#"cat >/dev/null; kill -s KILL -- "-$1" 2>/dev/null; if [ -n "$2" ]; then rm -rf -- "$2"; fi"#;

/// A group of processes that ends with this handle.
pub struct Keeper {
    group: i32,
    /// First of its group, which is named for it. It ends when the keeper's script lets go of its standard input.
    first: Child,
    script: Child,
    let_go: Option<ChildStdin>,
}

impl Keeper {
    /// The group of all processes that may stay until the last test has ended.
    pub fn of_all_tests() -> &'static Self {
        static KEEPER: OnceLock<Keeper> = OnceLock::new();
        KEEPER.get_or_init(|| Self::new(None))
    }

    /// A new group. The folder is removed after it.
    pub fn new(folder: Option<&Path>) -> Self {
        // The script holds the end of the pipe that the first of the group waits for.
        let (for_first, held_by_script) = pipe().unwrap();
        let mut first = Command::new("cat");
        let first = first.stdin(for_first).stdout(Stdio::null()).process_group(0).spawn().unwrap();
        let group = i32::try_from(first.id()).unwrap();
        let mut script = Command::new("sh");
        script.args(["-c", SCRIPT, "keeper", &group.to_string()]);
        // In a group of its own: what ends the tests from a terminal does not end what cleans up after them.
        script
            .arg(folder.unwrap_or_else(|| Path::new("")))
            .stdin(Stdio::piped())
            .stdout(held_by_script)
            .process_group(0);
        let mut script = script.spawn().unwrap();
        let let_go = script.stdin.take();
        Self { group, first, script, let_go }
    }

    /// Puts a process that is to be started into the group.
    pub fn keep(&self, command: &mut Command) {
        command.process_group(self.group);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.let_go.take());
        // A failure here must not hide the one that ends the test.
        drop(self.script.wait());
        drop(self.first.wait());
    }
}
