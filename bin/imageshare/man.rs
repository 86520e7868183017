//! `imageshare man`: the manual pages.

use std::path::Path;

use anyhow::Context as _;
use clap::CommandFactory as _;

use crate::{
    cli::Cli,
    exit::{Ended, Exit, OrExit as _},
    files,
};

pub(crate) fn run(folder: &Path) -> Ended {
    clap_mangen::generate_to(Cli::command(), folder)
        .with_context(|| format!("manual pages cannot be written to {}", files::name(folder)))
        .or_exit(Exit::Failed)?;
    Ok(Exit::Done)
}
