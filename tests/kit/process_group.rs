//! Kills child processes when this process ends, even if it panics or is killed.

use std::{
    io::pipe,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::OnceLock,
};

/// Waits until its standard input is closed, by a drop or the end of the test process. Then kills a process group and
/// removes a folder.
const SCRIPT: &str = r#"cat >/dev/null; kill -s KILL -- "-$1" 2>/dev/null; if [ -n "$2" ]; then rm -rf -- "$2"; fi"#;

/// A group of processes that is killed on drop.
pub struct ProcessGroup {
    id: i32,
    /// Keeps the group's id valid until the script has killed the group.
    leader: Child,
    script: Child,
    /// Closed to start the script.
    trigger: Option<ChildStdin>,
}

impl ProcessGroup {
    /// Returns the group of all processes that may run until the test process ends.
    pub fn shared() -> &'static Self {
        static GROUP: OnceLock<ProcessGroup> = OnceLock::new();
        GROUP.get_or_init(|| Self::new(None))
    }

    /// Creates a group. The folder is removed after the group was killed.
    pub fn new(folder: Option<&Path>) -> Self {
        // The leader waits for the end of a pipe whose other side the script keeps open.
        let (leader_stdin, script_stdout) = pipe().unwrap();
        let mut leader = Command::new("cat");
        let leader = leader.stdin(leader_stdin).stdout(Stdio::null()).process_group(0).spawn().unwrap();
        let id = i32::try_from(leader.id()).unwrap();
        let mut script = Command::new("sh");
        script.args(["-c", SCRIPT, "process-group", &id.to_string()]);
        // In its own group, so that Ctrl-C in a terminal does not kill it.
        script
            .arg(folder.unwrap_or_else(|| Path::new("")))
            .stdin(Stdio::piped())
            .stdout(script_stdout)
            .process_group(0);
        let mut script = script.spawn().unwrap();
        let trigger = script.stdin.take();
        Self { id, leader, script, trigger }
    }

    /// Starts the command in the group.
    pub fn add(&self, command: &mut Command) {
        command.process_group(self.id);
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        drop(self.trigger.take());
        // A failure here must not hide the failure of the test.
        drop((self.script.wait(), self.leader.wait()));
    }
}
