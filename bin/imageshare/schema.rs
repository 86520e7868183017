//! `imageshare schema`: what jobs and reports look like, as JSON Schemas.

use imageshare_worker::wire::schema;

use crate::{
    cli::Document,
    exit::{Ended, Exit},
    output,
};

pub(crate) fn run(of: Document) -> Ended {
    output::print(match of {
        Document::Job => schema::JOB,
        Document::Report => schema::REPORT,
    })?;
    Ok(Exit::Done)
}
