//! Where reports go: standard output, a file, and the sum of them.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use imageshare_worker::{tally::Tally, wire::Report};

use crate::{
    exit::{Exit, OrExit as _, Problem},
    output,
    voice::Voice,
};

/// Takes the reports of a run.
pub(crate) struct Reports {
    sinks: Vec<Sink>,
    voice: Voice,
    pub(crate) tally: Tally,
}

/// One place where reports are written.
struct Sink {
    name: String,
    out: BufWriter<Box<dyn Write + Send>>,
    /// Whether it has failed. What comes after that would have holes, so nothing more is written.
    is_broken: bool,
}

impl Reports {
    /// Reports go to the file, if there is one, and to standard output, if that is for programs.
    pub(crate) fn open(file: Option<&Path>, to_stdout: bool, voice: Voice) -> Result<Self, Problem> {
        let mut sinks = Vec::new();
        if let Some(path) = file {
            let created = File::create(path).with_context(|| format!("--report {}", path.display()));
            sinks.push(Sink::new(name(path), created.or_exit(Exit::Failed)?));
        }
        if to_stdout {
            sinks.push(Sink::new("standard output".to_owned(), io::stdout()));
        }
        Ok(Self { sinks, voice, tally: Tally::default() })
    }

    /// Takes a report. A place that cannot be written to is named once; the work goes on.
    pub(crate) fn take(&mut self, report: &Report) {
        self.tally.add(report);
        if self.sinks.is_empty() {
            return;
        }
        let line = output::json_line(report);
        self.on_each(|out| out.write_all(line.as_bytes()));
    }

    /// Brings what was taken to where it goes.
    pub(crate) fn flush(&mut self) {
        self.on_each(Write::flush);
    }

    /// Whether a place could not be written to.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.sinks.iter().any(|sink| sink.is_broken)
    }

    fn on_each(&mut self, write: impl Fn(&mut BufWriter<Box<dyn Write + Send>>) -> io::Result<()>) {
        for sink in self.sinks.iter_mut().filter(|sink| !sink.is_broken) {
            let Err(error) = write(&mut sink.out) else { continue };
            sink.is_broken = true;
            // A reader that went away, as `head` does, has seen what it wanted.
            if error.kind() != io::ErrorKind::BrokenPipe {
                let name = &sink.name;
                self.voice
                    .insist(&format!("imageshare: {name} cannot be written: {error}; the work goes on without it"));
            }
        }
    }
}

impl Sink {
    fn new(name: String, out: impl Write + Send + 'static) -> Self {
        Self { name, out: BufWriter::new(Box::new(out)), is_broken: false }
    }
}

fn name(path: &Path) -> String {
    PathBuf::from(path).display().to_string()
}
