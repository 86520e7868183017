//! Measures a process under load by the broker's queues and the system's counters.

use std::{
    fmt, fs,
    process::ChildStdout,
    thread::sleep,
    time::{Duration, Instant},
};

use kit::{
    Program, Running,
    setup::{REPORTS, TestSetup},
};

use crate::mib;

/// How long a queue may remain unchanged before the bench fails.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// Pause between two declares. Each costs the broker a few microseconds.
const PAUSE: Duration = Duration::from_millis(5);

/// Linux's processor ticks per second, the same on every platform.
const TICKS: f64 = 100.0;

/// A running process.
pub(crate) struct MeasuredProcess {
    running: Option<Running>,
    /// Kept open while the process runs.
    _stdout: ChildStdout,
    started: Instant,
}

/// The figures of a run.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    jobs: usize,
    /// From the first delivery to the last report.
    time: Duration,
    /// Processor time of all threads since the start of the process.
    processor: Duration,
    peak_kib: u64,
}

impl MeasuredProcess {
    pub(crate) fn start(program: Program) -> Self {
        let started = Instant::now();
        let (running, stdout) = program.start();
        Self { running: Some(running), _stdout: stdout, started }
    }

    /// Waits until standard error contains some words, and returns the time since the start.
    pub(crate) fn wait_for_stderr(&self, words: &str) -> Duration {
        self.running().wait_for_stderr(words);
        self.started.elapsed()
    }

    /// Returns the peak resident memory in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.running().peak_kib().unwrap()
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("only `drop` takes it")
    }

    /// Returns user and system time.
    fn processor(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.running().id())).unwrap();
        // The name in parentheses may contain anything.
        let (_, after_name) = stat.rsplit_once(')').unwrap();
        let ticks: f64 =
            after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<f64>().unwrap()).sum();
        Duration::from_secs_f64(ticks / TICKS)
    }
}

impl Drop for MeasuredProcess {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            if std::thread::panicking() {
                eprintln!("standard error:\n{}", running.stderr());
            }
            running.kill();
        }
    }
}

/// Measures a process until it has finished all jobs, then kills it.
pub(crate) fn measure(setup: &TestSetup<'_>, process: MeasuredProcess, jobs: usize) -> Observed {
    let client = setup.client();
    let count = |queue: &str| client.ready(queue);
    let waiting = || setup.queues().map(|queue| count(&queue)).sum::<usize>();
    wait_until(|| (waiting() < jobs).then_some(()).ok_or(0));
    let begun = Instant::now();
    wait_until(|| Some(count(REPORTS)).filter(|reports| *reports < jobs).map_or(Ok(()), Err));
    let time = begun.elapsed();
    setup.wait_until_settled();
    let observed = Observed { jobs, time, processor: process.processor(), peak_kib: process.peak_kib() };
    drop(process);
    observed
}

/// Calls `probe` until it succeeds. Panics if its count stalls.
fn wait_until(mut probe: impl FnMut() -> Result<(), usize>) {
    let (mut last, mut moved) = (0, Instant::now());
    while let Err(count) = probe() {
        if count != last {
            (last, moved) = (count, Instant::now());
        }
        assert!(moved.elapsed() < STALL_TIMEOUT, "no progress for {} s at {count}", STALL_TIMEOUT.as_secs());
        sleep(PAUSE);
    }
}

impl Observed {
    /// Returns jobs per second.
    #[allow(clippy::cast_precision_loss, reason = "there are far fewer than 2^52 jobs")]
    pub(crate) fn rate(&self) -> f64 {
        self.jobs as f64 / self.time.as_secs_f64()
    }

    /// Returns the better one of each figure.
    pub(crate) fn better(self, other: &Self) -> Self {
        Self {
            jobs: self.jobs,
            time: self.time.min(other.time),
            processor: self.processor.min(other.processor),
            peak_kib: self.peak_kib.min(other.peak_kib),
        }
    }
}

impl fmt::Display for Observed {
    #[allow(clippy::cast_precision_loss, reason = "there are far fewer than 2^52 jobs")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.processor.as_secs_f64() * 1e6 / self.jobs as f64;
        let peak = mib(self.peak_kib);
        write!(f, "{:>6.0} jobs/s, {micros:.0} us of processor per job, {peak:.1} MiB peak", self.rate())
    }
}
