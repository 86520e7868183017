//! A process under load, seen from outside: by the broker's queues and by what the system counts.

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

/// How long a queue may stay as it is before the bench fails.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Between two looks at the broker's queues, each of which costs the broker some microseconds.
const LOOK: Duration = Duration::from_millis(5);

/// Ticks of the processor's time a second, as Linux has them on every platform.
const TICKS: f64 = 100.0;

/// A process that runs.
pub(crate) struct MeasuredProcess {
    running: Option<Running>,
    /// Open as long as it runs.
    _stdout: ChildStdout,
    started: Instant,
}

/// What was seen.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    jobs: usize,
    /// From the first delivery to the last report, after which only its job's acknowledgement comes.
    time: Duration,
    /// Of the processor, of all threads, from the start of the process.
    processor: Duration,
    peak_kib: u64,
}

impl MeasuredProcess {
    pub(crate) fn start(program: Program) -> Self {
        let started = Instant::now();
        let (running, stdout) = program.start();
        Self { running: Some(running), _stdout: stdout, started }
    }

    /// Waits until it said this. Gives the time since its start.
    pub(crate) fn wait_for_stderr(&self, words: &str) -> Duration {
        self.running().wait_for_stderr(words);
        self.started.elapsed()
    }

    /// The most memory that it ever had, in KiB.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.running().peak_kib().unwrap()
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("it is taken at its end")
    }

    /// The processor's time that it took, its own and the system's for it.
    fn processor(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.running().id())).unwrap();
        // The name, which stands in parentheses, may hold anything.
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
                eprintln!("the process said:\n{}", running.stderr());
            }
            running.kill();
        }
    }
}

/// Watches a process work off all jobs of the setup's lanes, and ends it.
pub(crate) fn work_off(setup: &TestSetup<'_>, process: MeasuredProcess, jobs: usize) -> Observed {
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

/// Looks until all is well, as long as there is progress.
fn wait_until(mut look: impl FnMut() -> Result<(), usize>) {
    let (mut last, mut moved) = (0, Instant::now());
    while let Err(count) = look() {
        if count != last {
            (last, moved) = (count, Instant::now());
        }
        assert!(moved.elapsed() < TIMEOUT, "nothing moved for {} s at {count}", TIMEOUT.as_secs());
        sleep(LOOK);
    }
}

impl Observed {
    /// Jobs a second.
    #[allow(clippy::cast_precision_loss, reason = "there are not so many jobs")]
    pub(crate) fn rate(&self) -> f64 {
        self.jobs as f64 / self.time.as_secs_f64()
    }

    /// The better figure of each.
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
    #[allow(clippy::cast_precision_loss, reason = "there are not so many jobs")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.processor.as_secs_f64() * 1e6 / self.jobs as f64;
        let peak = mib(self.peak_kib);
        write!(f, "{:>6.0} jobs/s, {micros:.0} microseconds of processor a job, {peak:.1} MiB at most", self.rate())
    }
}
