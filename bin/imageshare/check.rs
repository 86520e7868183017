//! `imageshare check`: the settings in effect, where each comes from, and whether the credentials are there. Speaks to
//! nobody.

use std::{
    collections::BTreeSet,
    io::{self, Write as _},
};

use imageshare_worker::{
    credentials::Provider,
    settings::{Environment, Setting},
};
use serde::Serialize;

use crate::{
    cli::Common,
    exit::{Ended, Exit},
    output::{self, Table},
    work,
};

/// One setting as it is shown.
#[derive(Serialize)]
struct Line {
    key: String,
    value: String,
    origin: String,
}

pub(crate) fn run(common: &Common) -> Ended {
    let settings = work::settings(common, None, false)?;
    let line = |Setting { key, value, origin }: &Setting| Line {
        key: key.clone(),
        value: value.clone(),
        origin: origin.to_string(),
    };
    let mut lines: Vec<Line> = settings.describe().iter().map(line).collect();
    let mut exit = Exit::Done;
    let mut seen = BTreeSet::new();
    for lane in settings.lanes.iter().filter(|lane| seen.insert(&lane.credential)) {
        let mut provider = Provider::new(lane.source.clone(), Environment::of_process());
        let (value, origin) = match provider.credential() {
            Ok(loaded) => (format!("found, id {}", loaded.credential.secret_id), loaded.origin.clone()),
            Err(error) => {
                exit = Exit::Refused;
                drop(writeln!(io::stderr(), "imageshare: credential {}: {error}", lane.credential));
                ("not usable".to_owned(), lane.source.to_string())
            }
        };
        lines.push(Line { key: format!("credentials.{}.key", lane.credential), value, origin });
    }
    let text = if output::is_for_people(common.json) {
        let mut table = Table::new(["SETTING", "VALUE", "FROM"]);
        lines.into_iter().for_each(|Line { key, value, origin }| table.row([key, value, origin]));
        table.to_text("")
    } else {
        lines.iter().map(output::json_line).collect()
    };
    Ok(exit.after(output::print(&text)))
}
