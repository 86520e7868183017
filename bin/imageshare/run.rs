//! `imageshare run`: runs the jobs of a file or of standard input.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::Path,
};

use anyhow::Context as _;
use imageshare_worker::wire::{Format, JobReader};

use crate::{
    cli::{Common, RunArguments},
    exit::{CommandResult, Exit, OrExit as _, Problem},
    files, runtime,
    terminal::Terminal,
    work::{
        self,
        drift::Drift,
        input_files::InputFiles,
        plan,
        run_jobs::{Target, run_jobs},
    },
};

/// Bytes per read.
const BUFFER_LEN: usize = 64 * 1024;

pub(crate) fn run(common: &Common, arguments: &RunArguments) -> CommandResult {
    let settings = work::settings(common, &arguments.change.api, &arguments.region)?;
    let (input, name) = open(&arguments.file)?;
    let format = if name == STDIN { None } else { Format::of_name(&name) };
    let terminal = Terminal::new(settings.output.quiet);
    let jobs = JobReader::new(input, &name, format, settings.region).with_notices(move |line| terminal.note(line));
    let mut inputs = InputFiles::new(common, &arguments.change.api, &settings);
    inputs.add("the input", Some(&arguments.file));
    runtime::run(async {
        let session = work::prepare(settings, &arguments.change.api).await?;
        if arguments.change.dry_run {
            plan::show(session, jobs, Drift::default()).await
        } else {
            let target = Target { report: arguments.report.as_deref(), metrics: arguments.metrics, inputs: &inputs };
            run_jobs(session, jobs, target).await
        }
    })
}

/// The name of standard input in messages.
pub(crate) const STDIN: &str = "standard input";

/// Opens a file, or standard input for `-`. Also returns its name for messages.
pub(crate) fn open(path: &Path) -> Result<(Box<dyn BufRead + Send>, String), Problem> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(BufReader::with_capacity(BUFFER_LEN, io::stdin())), STDIN.to_owned()));
    }
    let name = files::name(path);
    let file = File::open(path).with_context(|| format!("{name}: cannot open the file")).or_exit(Exit::Usage)?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Problem::new(
            Exit::Usage,
            format!("{name}: is a directory (expected a file, or - for standard input)"),
        ));
    }
    Ok((Box::new(BufReader::with_capacity(BUFFER_LEN, file)), name))
}
