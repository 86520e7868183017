//! `imageshare schema`: the JSON Schemas of jobs, reports and the files of the sandbox.

use imageshare_sandbox::{faults, world};
use imageshare_worker::wire::schema;

use crate::{
    cli::Document,
    exit::{CommandResult, Exit},
    output,
};

pub(crate) fn run(of: Document) -> CommandResult {
    match of {
        Document::Job => output::print(schema::JOB)?,
        Document::Report => output::print(schema::REPORT)?,
        Document::World => output::print(&world::schema())?,
        Document::Faults => output::print(&faults::schema())?,
    }
    Ok(Exit::Done)
}
