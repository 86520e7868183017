//! The log of the worker, and the lines of `--verbose`. Both go to standard error: text on a terminal, otherwise JSON.

use std::{
    io::{self, IsTerminal as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

use imageshare_worker::{api::REQUESTS, settings::OutputOptions};
use jiff::Timestamp;
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    fmt::{self, MakeWriter, format::Writer, time::FormatTime},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::terminal;

/// The most lines that wait to be written. Further lines are dropped, so that a stalled reader does not stop the worker.
const LINES_MAX: usize = 1024;

/// How long writing the last lines may delay the exit.
const LAST_LINES: Duration = Duration::from_millis(500);

/// The log. Dropping it writes all pending events.
pub(crate) struct Log(SyncSender<Entry>);

enum Entry {
    Line(Vec<u8>),
    /// A request to write everything before it and then to confirm.
    End(mpsc::Sender<()>),
}

/// Starts to print a line about each request. Must be called at most once.
pub(crate) fn show_requests() {
    let layer = fmt::layer()
        .with_ansi(false)
        .with_level(false)
        .with_target(false)
        .with_timer(TimeOfDay)
        .with_writer(|| AboveProgress)
        .with_filter(Targets::new().with_target(REQUESTS, LevelFilter::DEBUG));
    tracing_subscriber::registry().with(layer).init();
}

/// The time of day in UTC, to the millisecond.
struct TimeOfDay;

impl FormatTime for TimeOfDay {
    fn format_time(&self, to: &mut Writer<'_>) -> std::fmt::Result {
        write!(to, "{}", Timestamp::now().strftime("%H:%M:%S%.3f"))
    }
}

/// Writes lines to standard error, above a progress bar.
struct AboveProgress;

impl io::Write for AboveProgress {
    /// Gets one whole line per call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        terminal::write_error_stream(String::from_utf8_lossy(line).trim_end());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends each line to the thread that writes.
#[derive(Clone)]
struct Lines {
    entries: SyncSender<Entry>,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Starts the log. Must be called at most once.
    pub(crate) fn start(output: OutputOptions) -> io::Result<Self> {
        let (entries, entries_in) = sync_channel(LINES_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        let lines = Lines { entries: entries.clone(), lost: Arc::clone(&lost) };
        thread::Builder::new().name("log".to_owned()).spawn(move || write(&entries_in, &lost))?;
        let level = if output.quiet { LevelFilter::ERROR } else { LevelFilter::from_level(output.log) };
        // Events of libraries are left out: they may contain the password of the broker.
        let own_events = Targets::new().with_target("imageshare", level).with_target("imageshare_worker", level);
        let is_for_people = !output.json && io::stderr().is_terminal();
        let layer = if is_for_people {
            fmt::layer().with_target(false).with_writer(lines).boxed()
        } else {
            fmt::layer()
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false)
                .with_writer(lines)
                .boxed()
        };
        tracing_subscriber::registry().with(layer.with_filter(own_events)).init();
        Ok(Self(entries))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let (end, ended) = mpsc::channel();
        if self.0.try_send(Entry::End(end)).is_ok() {
            // A stalled reader must not delay the exit.
            ended.recv_timeout(LAST_LINES).ok();
        }
    }
}

fn write(entries: &Receiver<Entry>, lost: &AtomicU64) {
    let mut out = io::stderr();
    while let Ok(entry) = entries.recv() {
        let dropped = lost.swap(0, Relaxed);
        if dropped > 0 {
            drop(writeln!(out, "{{\"level\":\"WARN\",\"message\":\"log lines dropped\",\"lines\":{dropped}}}"));
        }
        match entry {
            // The worker continues without a log.
            Entry::Line(line) => drop(out.write_all(&line)),
            Entry::End(ended) => drop(ended.send(())),
        }
    }
}

impl io::Write for Lines {
    /// Gets one whole line per call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.entries.try_send(Entry::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
