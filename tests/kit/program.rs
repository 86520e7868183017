//! Runs the program under test, and others.

use std::{
    env,
    ffi::OsStr,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, OnceLock},
    thread::{self, JoinHandle},
};

use serde_json::Value;

use crate::{process_group::ProcessGroup, repository_path, wait_until};

/// Returns the path of the program under test.
///
/// Cargo passes the path to tests of the same package. For other packages the program is built first if cargo runs the test,
/// and is in the parent of the test executable's folder.
pub fn path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(path) = env::var_os("CARGO_BIN_EXE_imageshare") {
            return path.into();
        }
        let test = env::current_exe().unwrap();
        let folder = test.parent().and_then(Path::parent).unwrap();
        if let Some(cargo) = env::var_os("CARGO") {
            let release = folder.ends_with("release").then_some("--release");
            let mut build = Command::new(cargo);
            build.args(["test", "--quiet", "--locked", "--workspace", "--no-run", "--test", "cli"]).args(release);
            // Cargo sets these for a test. The build script of ring depends on them, so half of all packages would be
            // compiled again, and once more by the next command.
            let is_of_test = |name: &String| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
            for name in env::vars().map(|(name, _)| name).filter(is_of_test) {
                build.env_remove(name);
            }
            assert!(build.current_dir(repository_path("")).status().unwrap().success(), "the program was not built");
        }
        folder.join("imageshare")
    })
}

/// Sends a signal to a process, such as `TERM`. (A minimal Debian has only the shell's `kill`.)
pub fn signal(process: u32, name: &str) {
    let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &process.to_string()]).status();
    assert!(status.unwrap().success(), "{name} was not sent to process {process}");
}

/// A program to run, with an empty environment.
pub struct Program {
    command: Command,
    /// Standard input.
    input: Vec<u8>,
}

/// A running program. It is killed on drop.
pub struct Running {
    child: Child,
    stderr: Arc<Mutex<String>>,
    stderr_reader: Option<JoinHandle<()>>,
}

/// The exit code and output of a program.
pub struct ProgramOutput {
    /// `None` if a signal killed it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    /// Returns the program under test with arguments.
    pub fn new<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self::external(path(), arguments)
    }

    /// Returns another program with arguments.
    pub fn external<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = S>) -> Self {
        let mut command = Command::new(program);
        command.env_clear().args(arguments);
        Self { command, input: Vec::new() }
    }

    pub fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.command.args(arguments);
        self
    }

    pub fn arg(self, argument: impl AsRef<OsStr>) -> Self {
        self.args([argument])
    }

    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sets the API credential.
    pub fn key(self, id: &str, key: &str) -> Self {
        self.env("TENCENTCLOUD_SECRET_ID", id).env("TENCENTCLOUD_SECRET_KEY", key)
    }

    /// Sets standard input.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Sends SIGTERM after some seconds.
    pub fn terminated_after(self, seconds: u32) -> Self {
        let seconds = seconds.to_string();
        let words = [OsStr::new("-s"), OsStr::new("TERM"), OsStr::new(&seconds), self.command.get_program()];
        let timeout = Self::external("timeout", words.into_iter().chain(self.command.get_args()));
        timeout.with_environment_of(&self.command)
    }

    /// Runs in a pseudoterminal without colors. Standard output then contains standard error.
    pub fn on_terminal(self) -> Self {
        let quoted = |word: &OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''"));
        let words: Vec<_> =
            [self.command.get_program()].into_iter().chain(self.command.get_args()).map(quoted).collect();
        let script = Self::external("script", ["-qefc", &words.join(" "), "/dev/null"]);
        script.with_environment_of(&self.command).env("NO_COLOR", "1")
    }

    fn with_environment_of(mut self, other: &Command) -> Self {
        self.command.envs(other.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self
    }

    /// Runs the program and waits until it exits.
    pub fn run(mut self) -> ProgramOutput {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // The program may exit before it has read everything.
        let writer = thread::spawn(move || drop(stdin.write_all(&self.input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        ProgramOutput { code: output.status.code(), stdout, stderr }
    }

    /// Starts the program without standard input. The caller reads standard output.
    pub fn start(mut self) -> (Running, ChildStdout) {
        self.command.stdin(Stdio::null());
        self.spawn()
    }

    /// As [`Self::start`], with a standard input that stays open after the input until it is dropped.
    pub fn start_with_open_input(mut self) -> (Running, ChildStdout, ChildStdin) {
        self.command.stdin(Stdio::piped());
        let input = std::mem::take(&mut self.input);
        let (mut running, stdout) = self.spawn();
        let mut stdin = running.child.stdin.take().unwrap();
        stdin.write_all(&input).unwrap();
        (running, stdout, stdin)
    }

    /// Starts the program with another standard error, which [`Running::stderr`] then lacks.
    pub fn start_with_stderr(mut self, stderr: impl Into<Stdio>) -> Running {
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        ProcessGroup::shared().add(&mut self.command);
        let child = self.command.spawn().unwrap();
        Running { child, stderr: Arc::default(), stderr_reader: None }
    }

    fn spawn(mut self) -> (Running, ChildStdout) {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        ProcessGroup::shared().add(&mut self.command);
        let mut child = self.command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let pipe = BufReader::new(child.stderr.take().unwrap());
        let stderr = Arc::new(Mutex::new(String::new()));
        let text = Arc::clone(&stderr);
        let stderr_reader = thread::spawn(move || {
            for line in pipe.lines() {
                let mut text = text.lock().unwrap();
                text.push_str(&line.unwrap());
                text.push('\n');
            }
        });
        (Running { child, stderr, stderr_reader: Some(stderr_reader) }, stdout)
    }
}

impl Running {
    /// Sends a signal, such as `TERM`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Returns the resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.kib("VmRSS:").unwrap()
    }

    /// Returns the peak resident memory in KiB; `None` after the exit.
    pub fn peak_kib(&self) -> Option<u64> {
        self.kib("VmHWM:")
    }

    fn kib(&self, field: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// Returns standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until standard error contains some words, and returns the rest of their line.
    #[track_caller]
    pub fn wait_for_stderr(&self, words: &str) -> String {
        wait_until(&format!("standard error has {words:?}"), || {
            let stderr = self.stderr.lock().unwrap();
            stderr.lines().find_map(|line| line.split_once(words)).map(|(_, rest)| rest.to_owned())
        })
    }

    /// Waits for the exit, and returns the exit code and standard error.
    #[track_caller]
    pub fn wait(mut self) -> (Option<i32>, String) {
        let status = wait_until("the program exits", || self.child.try_wait().unwrap());
        self.stderr_reader.take().map(JoinHandle::join).transpose().unwrap();
        (status.code(), self.stderr())
    }

    /// Waits for the end by a signal, and returns whether the system dumped core.
    #[track_caller]
    pub fn dumped_core(mut self) -> bool {
        use std::os::unix::process::ExitStatusExt as _;

        let status = wait_until("the program exits", || self.child.try_wait().unwrap());
        assert!(status.signal().is_some(), "{status}");
        status.core_dumped()
    }

    /// Kills the process.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("standard error:\n{}", self.stderr());
        }
        // It may have exited by itself.
        drop((self.child.kill(), self.child.wait()));
    }
}

impl ProgramOutput {
    /// Asserts the exit code, and that nothing panicked.
    #[track_caller]
    pub fn check(self, code: i32) -> Self {
        let Self { stdout, stderr, .. } = &self;
        assert_eq!(self.code, Some(code), "stdout:\n{stdout}\nstderr:\n{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        self
    }

    /// Parses standard output as lines of JSON.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        json_lines(&self.stdout)
    }

    /// Returns the report of a job.
    #[track_caller]
    pub fn report(&self, job_id: &str) -> Value {
        let report = self.json().into_iter().find(|report| report["job_id"] == job_id);
        report.unwrap_or_else(|| panic!("no report of {job_id} in\n{}", self.stdout))
    }
}

/// Parses a text as lines of JSON.
#[track_caller]
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
