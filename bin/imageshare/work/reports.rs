//! Writes reports to standard output and a file, and counts them.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    sync::{Arc, mpsc},
    thread,
};

use anyhow::Context as _;
use imageshare_worker::{tally::Tally, wire::Report};
use tokio::{sync::oneshot, time::Instant};

use super::{
    backlog::{Backlog, Waiting},
    input_files::{self, InputFiles},
};
use crate::{
    exit::{Exit, OrExit as _, Problem},
    files, output,
    terminal::Terminal,
};

/// Writes the reports of a run. Adding a report never blocks: each destination has its own thread, so that a slow or closed
/// one does not affect the other.
pub(crate) struct Reports {
    sinks: Vec<Sink>,
    backlog: Backlog,
    tally: Tally,
}

/// One destination of reports.
struct Sink {
    name: String,
    lines: mpsc::Sender<Waiting>,
    /// The result, sent when every line is written or writing has failed.
    written: oneshot::Receiver<io::Result<()>>,
}

/// The result of writing all reports.
pub(crate) struct Written {
    pub(crate) tally: Tally,
    /// Whether a destination lacks reports.
    pub(crate) is_incomplete: bool,
}

impl Reports {
    /// Opens the destinations: the file, if there is one, and standard output, if `to_stdout`. Refuses a file that the
    /// command reads.
    pub(crate) fn open(
        file: Option<&Path>,
        inputs: &InputFiles,
        to_stdout: bool,
        terminal: Terminal,
    ) -> Result<Self, Problem> {
        let mut sinks = Vec::new();
        if let Some(path) = file {
            sinks.push(Sink::start(files::name(path), create(path, inputs, to_stdout)?, terminal)?);
        }
        if to_stdout {
            if file.is_none() && output::is_lost() {
                terminal.warn(
                    "standard output: closed or discarded; the reports are lost (expected an open standard output, or \
                     --report FILE)",
                );
            }
            sinks.push(Sink::start("standard output".to_owned(), io::stdout(), terminal)?);
        }
        Ok(Self { sinks, backlog: Backlog::default(), tally: Tally::default() })
    }

    /// Returns the counter of the reports that wait to be written.
    pub(super) fn backlog(&self) -> Backlog {
        self.backlog.clone()
    }

    /// Counts a report and sends it to the destinations.
    pub(crate) fn take(&mut self, report: &Report) {
        self.tally.add(report);
        if self.sinks.is_empty() {
            return;
        }
        let line: Arc<str> = output::json_line(report).into();
        for sink in &self.sinks {
            // The writer has ended after an error, which it has printed.
            drop(sink.lines.send(self.backlog.add(Arc::clone(&line))));
        }
    }

    /// Waits until every line is written. Once `deadline` resolves, waits at most until then: a stalled reader must not
    /// delay a shutdown that the user requested.
    pub(crate) async fn finish(self, deadline: impl Future<Output = Instant>, terminal: Terminal) -> Written {
        let mut is_incomplete = false;
        let mut deadline = std::pin::pin!(deadline);
        let mut ends_at = None;
        for Sink { name, lines, mut written } in self.sinks {
            drop(lines);
            let result = loop {
                tokio::select! {
                    biased;
                    result = &mut written => break Some(result),
                    at = &mut deadline, if ends_at.is_none() => ends_at = Some(at),
                    () = until(ends_at), if ends_at.is_some() => break None,
                }
            };
            if result.is_none() {
                terminal.error(&format!("{name}: its reader is stalled; some reports are not written"));
            }
            // The writer has printed its own error.
            is_incomplete |= !matches!(result, Some(Ok(Ok(()))));
        }
        Written { tally: self.tally, is_incomplete }
    }
}

async fn until(ends_at: Option<Instant>) {
    if let Some(ends_at) = ends_at {
        tokio::time::sleep_until(ends_at).await;
    }
}

impl Sink {
    fn start(name: String, out: impl Write + Send + 'static, terminal: Terminal) -> Result<Self, Problem> {
        let (lines, waiting) = mpsc::channel();
        let (done, written) = oneshot::channel();
        let sink_name = name.clone();
        let write = move || {
            let result = write(&waiting, BufWriter::new(out));
            match &result {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    terminal.error(&format!("{sink_name}: closed by its reader; later reports are not written there"));
                }
                Err(error) => terminal.error(&format!("{sink_name}: cannot write: {error}; continuing without it")),
                Ok(()) => {}
            }
            // After the deadline the receiver is gone.
            drop(done.send(result));
        };
        let thread = thread::Builder::new().name("writer".to_owned()).spawn(write);
        thread.context("cannot start the thread that writes reports").or_exit(Exit::Failed)?;
        Ok(Self { name, lines, written })
    }
}

/// Writes lines as they arrive, and flushes when none waits. Ends at the first error: later lines would follow a gap.
fn write(waiting: &mpsc::Receiver<Waiting>, mut out: BufWriter<impl Write>) -> io::Result<()> {
    while let Ok(mut next) = waiting.recv() {
        loop {
            out.write_all(next.line.as_bytes())?;
            match waiting.try_recv() {
                Ok(another) => next = another,
                Err(_) => break,
            }
        }
        out.flush()?;
    }
    Ok(())
}

/// Opens and truncates the file for reports. Refuses a file that the command reads.
fn create(path: &Path, inputs: &InputFiles, to_stdout: bool) -> Result<File, Problem> {
    let flag = || format!("--report {}", files::name(path));
    let opened = File::options().write(true).create(true).truncate(false).open(path);
    let file = opened.with_context(flag).or_exit(Exit::Failed)?;
    let input = inputs.name_of(&file).or_else(|| input_files::of_stdout(&file).filter(|_| to_stdout));
    if let Some(input) = input {
        let message = format!("{}: same file as {input} (expected another file: reports replace its contents)", flag());
        return Err(Problem::new(Exit::Usage, message));
    }
    // Only a regular file can be truncated.
    if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        file.set_len(0).with_context(flag).or_exit(Exit::Failed)?;
    }
    Ok(file)
}
