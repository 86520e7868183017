//! The exit code and the metrics file of `sync --dry-run`.

use std::{path::Path, time::SystemTime};

use imageshare_worker::{
    drift::{ComparedImage, DriftMetrics},
    plan::PlannedChange,
};

use super::input_files::InputFiles;
use crate::{
    cli::DriftArguments,
    exit::{Exit, Problem},
    files,
};

const FLAG: &str = "--metrics-file";

/// Collects the differences of a dry run for the exit code and the metrics file, if requested.
#[derive(Default)]
pub(crate) struct Drift<'a> {
    /// Whether a difference sets the exit code.
    in_exit_code: bool,
    file: Option<&'a Path>,
    metrics: DriftMetrics,
}

impl<'a> Drift<'a> {
    /// Checks the flags. The file must not be one that the command reads.
    pub(crate) fn new(arguments: &'a DriftArguments, inputs: &InputFiles) -> Result<Self, Problem> {
        let file = arguments.metrics_file.as_deref();
        if let Some((path, input)) = file.and_then(|path| Some((path, inputs.name_at(path)?))) {
            let name = files::name(path);
            let message =
                format!("{FLAG} {name}: same file as {input} (expected another file: metrics replace its contents)");
            return Err(Problem::new(Exit::Usage, message));
        }
        Ok(Self { in_exit_code: arguments.exit_code, file, metrics: DriftMetrics::default() })
    }

    /// Adds an image with the change that it needs; `None` if it could not be listed.
    pub(super) fn add(&self, image: &ComparedImage<'_>, change: Option<&PlannedChange>) {
        self.metrics.add(image, change);
    }

    /// Returns the exit code of a change.
    pub(super) fn exit(&self, change: &PlannedChange) -> Exit {
        if self.in_exit_code && !change.is_empty() { Exit::Differs } else { Exit::Done }
    }

    /// Returns the exit code if a job would fail. With `--exit-code` that counts as a difference.
    pub(super) const fn exit_of_failure(&self) -> Exit {
        if self.in_exit_code { Exit::Differs } else { Exit::Failed }
    }

    /// Writes the file.
    pub(super) fn write(&self) -> Result<(), Problem> {
        let Some(path) = self.file else { return Ok(()) };
        files::replace(FLAG, path, &self.metrics.to_text(SystemTime::now()))
    }
}
