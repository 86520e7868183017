//! `imageshare`: the command line. Each command has a file; what it does is in the libraries.

mod cli;
mod completions;
mod exit;
mod length;
mod output;
mod runtime;
mod sandbox;
mod sign;

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::Parser as _;

use crate::{
    cli::{Cli, Command},
    exit::{Ended, Exit},
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return asked_or_wrong(&error).into(),
    };
    run(cli).unwrap_or_else(|problem| problem.show(&mut io::stderr())).into()
}

fn run(cli: Cli) -> Ended {
    let Cli { command, .. } = cli;
    match command {
        Command::Completions { shell } => completions::run(shell),
        Command::Sandbox(arguments) => sandbox::run(arguments),
        Command::Sign(arguments) => sign::run(*arguments),
        _ => unreachable!(),
    }
}

/// Help and version, which were asked for, go to standard output; anything else is a usage error.
fn asked_or_wrong(error: &clap::Error) -> Exit {
    let is_printed = error.print().and_then(|()| io::stdout().flush()).is_ok();
    match (error.use_stderr(), is_printed) {
        (true, _) => Exit::Usage,
        (false, true) => Exit::Done,
        (false, false) => Exit::Failed,
    }
}
