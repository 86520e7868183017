//! Where reports go: standard output, a file, and the sum of them.

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
    inputs::{self, Inputs},
};
use crate::{
    exit::{Exit, OrExit as _, Problem},
    files, output,
    terminal::Terminal,
};

/// Takes the reports of a run. Taking never waits: every place has a writer of its own, so that one which is slow, dead
/// or blocked takes nothing from the other.
pub(crate) struct Reports {
    sinks: Vec<Sink>,
    backlog: Backlog,
    tally: Tally,
}

/// One place where reports are written.
struct Sink {
    name: String,
    lines: mpsc::Sender<Waiting>,
    /// The result, sent when every line is written or writing has failed.
    written: oneshot::Receiver<io::Result<()>>,
}

/// What the reports of a run came to.
pub(crate) struct Written {
    pub(crate) tally: Tally,
    /// Whether a place lacks reports.
    pub(crate) is_incomplete: bool,
}

impl Reports {
    /// Reports go to the file, if there is one, and to standard output, if that is for programs. A file that the
    /// command reads is not touched.
    pub(crate) fn open(
        file: Option<&Path>,
        inputs: &Inputs,
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

    /// What waits to be written.
    pub(super) fn backlog(&self) -> Backlog {
        self.backlog.clone()
    }

    /// Takes a report.
    pub(crate) fn take(&mut self, report: &Report) {
        self.tally.add(report);
        if self.sinks.is_empty() {
            return;
        }
        let line: Arc<str> = output::json_line(report).into();
        for sink in &self.sinks {
            // A place that can no longer be written to was named when that was found.
            drop(sink.lines.send(self.backlog.add(Arc::clone(&line))));
        }
    }

    /// Waits until every line is written. If `impatience` resolves to a deadline, waits until then at most: a stalled
    /// reader of the reports must not delay a requested shutdown.
    pub(crate) async fn finish(self, impatience: impl Future<Output = Instant>, terminal: Terminal) -> Written {
        let mut is_incomplete = false;
        let mut impatience = std::pin::pin!(impatience);
        let mut deadline = None;
        for Sink { name, lines, mut written } in self.sinks {
            drop(lines);
            let ended = loop {
                tokio::select! {
                    biased;
                    ended = &mut written => break Some(ended),
                    at = &mut impatience, if deadline.is_none() => deadline = Some(at),
                    () = until(deadline), if deadline.is_some() => break None,
                }
            };
            if ended.is_none() {
                terminal.error(&format!("{name}: not read; some reports are not written"));
            }
            // A writer that broke down has said so itself.
            is_incomplete |= !matches!(ended, Some(Ok(Ok(()))));
        }
        Written { tally: self.tally, is_incomplete }
    }
}

async fn until(deadline: Option<Instant>) {
    if let Some(deadline) = deadline {
        tokio::time::sleep_until(deadline).await;
    }
}

impl Sink {
    fn start(name: String, out: impl Write + Send + 'static, terminal: Terminal) -> Result<Self, Problem> {
        let (lines, waiting) = mpsc::channel();
        let (done, written) = oneshot::channel();
        let called = name.clone();
        let write = move || {
            let ended = write(&waiting, BufWriter::new(out));
            match &ended {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    terminal.error(&format!("{called}: closed by its reader; later reports are lost there"));
                }
                Err(error) => terminal.error(&format!("{called}: cannot write: {error}; continuing without it")),
                Ok(()) => {}
            }
            // If the result is late, the receiver is gone.
            drop(done.send(ended));
        };
        let thread = thread::Builder::new().name("writer".to_owned()).spawn(write);
        thread.context("the thread that writes reports cannot be started").or_exit(Exit::Failed)?;
        Ok(Self { name, lines, written })
    }
}

/// Writes lines as they come, and lets them be seen whenever no more are there. After an error what comes would have
/// holes, so nothing more is written.
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

/// Opens the file for reports and empties it, unless it is one that the command reads.
fn create(path: &Path, inputs: &Inputs, to_stdout: bool) -> Result<File, Problem> {
    let flag = || format!("--report {}", files::name(path));
    let opened = File::options().write(true).create(true).truncate(false).open(path);
    let file = opened.with_context(flag).or_exit(Exit::Failed)?;
    let taken = inputs.name_of(&file).or_else(|| inputs::of_stdout(&file).filter(|_| to_stdout));
    if let Some(taken) = taken {
        let words = format!("{}: same file as {taken} (expected another file: reports replace its contents)", flag());
        return Err(Problem::new(Exit::Usage, words));
    }
    // A device or a pipe has no length.
    if file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        file.set_len(0).with_context(flag).or_exit(Exit::Failed)?;
    }
    Ok(file)
}
