//! The program under test as a process.

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

use crate::{keeper::Keeper, of_repository, until};

/// Returns the path of the program under test.
///
/// Cargo names it to the tests of its package. For other packages it is beside the folder of the test executable, and is
/// built first where cargo runs the test.
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
            assert!(build.current_dir(of_repository("")).status().unwrap().success(), "the program was not built");
        }
        folder.join("imageshare")
    })
}

/// Sends a signal to a process by its name, such as `TERM`. (A bare Debian has no other `kill` than the shell's.)
pub fn signal(process: u32, name: &str) {
    let status = Command::new("sh").args(["-c", "kill -s \"$0\" \"$1\"", name, &process.to_string()]).status();
    assert!(status.unwrap().success(), "{name} was not sent to process {process}");
}

/// A call of the program with nothing of this process's environment.
pub struct Program {
    command: Command,
    /// What it has on standard input.
    input: Vec<u8>,
}

/// The program while it runs.
pub struct Running {
    child: Child,
    said: Arc<Mutex<String>>,
    listener: JoinHandle<()>,
}

/// The program after it ended.
pub struct Ended {
    /// `None` if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    pub fn new<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Self {
        Self::of(path(), arguments)
    }

    /// A call of another program.
    pub fn of<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = S>) -> Self {
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

    /// With this key.
    pub fn key(self, id: &str, key: &str) -> Self {
        self.env("TENCENTCLOUD_SECRET_ID", id).env("TENCENTCLOUD_SECRET_KEY", key)
    }

    /// With this on standard input.
    pub fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// The same, asked to end after so many seconds.
    pub fn ended_after(self, seconds: u32) -> Self {
        let seconds = seconds.to_string();
        let words = [OsStr::new("-s"), OsStr::new("TERM"), OsStr::new(&seconds), self.command.get_program()];
        let timeout = Self::of("timeout", words.into_iter().chain(self.command.get_args()));
        timeout.with_environment_of(&self.command)
    }

    /// The same on a terminal of its own, without colours; all that it says is on standard output.
    pub fn on_a_terminal(self) -> Self {
        let quoted = |word: &OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', "'\\''"));
        let words: Vec<_> =
            [self.command.get_program()].into_iter().chain(self.command.get_args()).map(quoted).collect();
        let script = Self::of("script", ["-qefc", &words.join(" "), "/dev/null"]);
        script.with_environment_of(&self.command).env("NO_COLOR", "1")
    }

    fn with_environment_of(mut self, other: &Command) -> Self {
        self.command.envs(other.get_envs().filter_map(|(name, value)| Some((name, value?))));
        self
    }

    /// Runs it to its end.
    pub fn run(mut self) -> Ended {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A program that ends without having read everything is not a failure of the one who writes.
        let writer = thread::spawn(move || drop(stdin.write_all(&self.input)));
        let output = child.wait_with_output().unwrap();
        writer.join().unwrap();
        let [stdout, stderr] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        Ended { code: output.status.code(), stdout, stderr }
    }

    /// Starts it, with standard output for the caller and nothing on standard input.
    pub fn start(mut self) -> (Running, ChildStdout) {
        self.command.stdin(Stdio::null());
        self.spawn()
    }

    /// Starts it with its input on a standard input that does not end before the result is dropped.
    pub fn start_with_open_input(mut self) -> (Running, ChildStdout, ChildStdin) {
        self.command.stdin(Stdio::piped());
        let input = std::mem::take(&mut self.input);
        let (mut running, stdout) = self.spawn();
        let mut stdin = running.child.stdin.take().unwrap();
        stdin.write_all(&input).unwrap();
        (running, stdout, stdin)
    }

    /// Starts it with standard error somewhere else, so that it is heard to say nothing.
    pub fn start_with_log_to(mut self, log: impl Into<Stdio>) -> Running {
        self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        Keeper::of_all_tests().keep(&mut self.command);
        let child = self.command.spawn().unwrap();
        Running { child, said: Arc::default(), listener: thread::spawn(|| ()) }
    }

    fn spawn(mut self) -> (Running, ChildStdout) {
        self.command.stdout(Stdio::piped()).stderr(Stdio::piped());
        Keeper::of_all_tests().keep(&mut self.command);
        let mut child = self.command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let said = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&said);
        let listener = thread::spawn(move || {
            for line in errors.lines() {
                let mut heard = heard.lock().unwrap();
                heard.push_str(&line.unwrap());
                heard.push('\n');
            }
        });
        (Running { child, said, listener }, stdout)
    }
}

impl Running {
    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// The process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Memory that it has in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.kib("VmRSS:").unwrap()
    }

    /// Memory that it had in KiB at its most; nothing when it has ended.
    pub fn peak_kib(&self) -> Option<u64> {
        self.kib("VmHWM:")
    }

    fn kib(&self, what: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(what))?;
        line.split_whitespace().next()?.parse().ok()
    }

    /// What it said on standard error so far.
    pub fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Waits until it said something on standard error, and gives the rest of that line.
    #[track_caller]
    pub fn until_said(&self, words: &str) -> String {
        until("it said so", || {
            let said = self.said.lock().unwrap();
            said.lines().find_map(|line| line.split_once(words)).map(|(_, rest)| rest.to_owned())
        })
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, String) {
        let status = until("the program ended", || self.child.try_wait().unwrap());
        self.listener.join().unwrap();
        (status.code(), self.said.lock().unwrap().clone())
    }

    /// Waits for its end by a signal, and says whether the system made a core dump of it.
    #[track_caller]
    pub fn dumped_core(mut self) -> bool {
        use std::os::unix::process::ExitStatusExt as _;

        let status = until("the program ended", || self.child.try_wait().unwrap());
        assert!(status.signal().is_some(), "{status}");
        status.core_dumped()
    }

    /// Ends it with all that it holds, and waits.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Ended {
    /// Fails with everything that it said, unless it ended with this code, and never with a panic.
    #[track_caller]
    pub fn check(self, code: i32) -> Self {
        let Self { stdout, stderr, .. } = &self;
        assert_eq!(self.code, Some(code), "stdout:\n{stdout}\nstderr:\n{stderr}");
        assert!(!stderr.contains("panicked"), "{stderr}");
        self
    }

    /// Standard output as lines of JSON.
    #[track_caller]
    pub fn json(&self) -> Vec<Value> {
        json_lines(&self.stdout)
    }

    /// The report of a job.
    #[track_caller]
    pub fn report(&self, job_id: &str) -> Value {
        let found = self.json().into_iter().find(|report| report["job_id"] == job_id);
        found.unwrap_or_else(|| panic!("no report of {job_id} in\n{}", self.stdout))
    }
}

/// A text as lines of JSON.
#[track_caller]
pub fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
