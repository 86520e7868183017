//! `imageshare`: the command line. Each command has a file; the work is done in the libraries.

mod account_source;
mod accounts;
mod broker;
mod check;
mod cli;
mod completions;
mod dead;
mod exit;
mod files;
mod help;
mod images;
mod list;
mod log;
mod man;
mod memory;
mod output;
mod publish;
mod reports;
mod run;
mod runtime;
mod sandbox;
mod schema;
mod settings_reader;
mod share;
mod sign;
mod site;
mod terminal;
mod topology;
mod usage_error;
mod work;
mod worker;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::FromArgMatches as _;
use imageshare_worker::wire::Permission;

use crate::{
    cli::{Cli, Command, OutputFormat, SyncArguments, SyncOptions},
    exit::{CommandResult, Exit, Problem},
};

fn main() -> ExitCode {
    let matches = help::command().try_get_matches();
    let used = matches.and_then(|matches| help::refuse_unused(&matches).map(|()| matches));
    let cli = match used.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return print_clap_error(&usage_error::reword(error)).into(),
    };
    memory::protect().and_then(|()| run(cli)).unwrap_or_else(Problem::show).into()
}

fn run(cli: Cli) -> CommandResult {
    let Cli { common, command } = cli;
    match common.output {
        Some(OutputFormat::Ids) if !matches!(command, Command::Accounts(_) | Command::List(_)) => {
            return Err(Problem::new(
                Exit::Usage,
                "--output ids: only valid with list and accounts (expected json or table)",
            ));
        }
        Some(OutputFormat::Table) if common.json => {
            return Err(Problem::new(Exit::Usage, "--output table: conflicts with --json (expected one of them)"));
        }
        Some(format) => output::set_format(format),
        None => {}
    }
    // A worker logs its requests itself.
    if common.verbose && !matches!(command, Command::Worker(_)) {
        log::show_requests();
    }
    match &command {
        Command::Accounts(arguments) => accounts::run(&common, arguments),
        Command::Cancel(arguments) => share::run(&common, arguments, Permission::Cancel, &SyncOptions::default()),
        Command::Check(arguments) => check::run(&common, arguments),
        Command::Completions { shell } => completions::run(&common, *shell),
        Command::Dead(command) => dead::run(&common, command),
        Command::List(arguments) => list::run(&common, arguments),
        Command::Man { folder } => man::run(folder),
        Command::Publish(arguments) => publish::run(&common, arguments),
        Command::Reports(arguments) => reports::run(&common, arguments),
        Command::Run(arguments) => run::run(&common, arguments),
        Command::Sandbox(arguments) => sandbox::run(arguments),
        Command::Schema { of } => schema::run(*of),
        Command::Share(arguments) => share::run(&common, arguments, Permission::Share, &SyncOptions::default()),
        Command::Sign(arguments) => sign::run(arguments),
        Command::Sync(SyncArguments { image, options }) => share::run(&common, image, Permission::Sync, options),
        Command::Topology(arguments) => topology::run(&common, arguments),
        Command::Worker(arguments) => worker::run(&common, arguments),
    }
}

/// Prints a help text or version to standard output, or a usage error to standard error, and returns the exit code.
fn print_clap_error(error: &clap::Error) -> Exit {
    let is_printed = error.print().and_then(|()| io::stdout().flush()).is_ok();
    match (error.use_stderr(), is_printed) {
        (true, _) => Exit::Usage,
        (false, true) => Exit::Done,
        (false, false) => Exit::Failed,
    }
}
