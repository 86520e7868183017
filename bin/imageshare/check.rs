//! `imageshare check`: the settings in effect, where each comes from, and whether the credentials are there. Speaks to
//! nobody.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    io::{self, Write as _},
};

use imageshare_worker::{
    credentials::Provider,
    http::Client,
    settings::{Environment, Setting, UrlSource},
};
use serde::Serialize;

use crate::{
    cli::Common,
    exit::{Ended, Exit, OrExit as _},
    output::{self, Table},
    runtime, work,
};

/// How the ids of the vendor's keys begin.
const ID_BEGINS: &str = "AKID";

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
    let client = Client::new(settings.http).or_exit(Exit::Failed)?;
    let mut ids = BTreeMap::new();
    for lane in &settings.lanes {
        let Entry::Vacant(id) = ids.entry(&lane.credential) else { continue };
        let key = format!("credentials.{}.key", lane.credential);
        if lane.source.needs_network() {
            id.insert(None);
            let value = "not asked for: that needs the network".to_owned();
            lines.push(Line { key, value, origin: lane.source.to_string() });
            continue;
        }
        let provider = Provider::new(lane.source.clone(), Environment::of_process(), client.clone(), &lane.endpoint);
        let (value, origin) = match runtime::run(async { Ok(provider.load().await) })? {
            Ok(loaded) => {
                let secret_id = loaded.credential.secret_id.clone();
                // Any other text may be the key in the place of the id.
                let shown = match secret_id.as_str().starts_with(ID_BEGINS) {
                    true => format!("found, id {secret_id}"),
                    false => format!("found, with an id that does not begin with {ID_BEGINS}, so it is not shown"),
                };
                id.insert(Some(secret_id));
                (shown, loaded.origin.clone())
            }
            Err(error) => {
                id.insert(None);
                exit = Exit::Refused;
                drop(writeln!(io::stderr(), "imageshare: credential {}: {error}", lane.credential));
                ("not usable".to_owned(), lane.source.to_string())
            }
        };
        lines.push(Line { key, value, origin });
    }
    let of_lanes = settings.lanes.iter().map(|lane| ids.get(&lane.credential).and_then(Option::as_ref));
    if let Err(error) = settings.check_keys(of_lanes) {
        exit = exit.worse(Exit::Usage);
        drop(writeln!(io::stderr(), "imageshare: {error}"));
    }
    if let Some(file @ UrlSource::File(_)) = &settings.broker.url {
        let value = match settings.broker.url() {
            Ok(url) => url.to_string(),
            Err(error) => {
                exit = exit.worse(Exit::Refused);
                drop(writeln!(io::stderr(), "imageshare: {error}"));
                "not usable".to_owned()
            }
        };
        lines.push(Line { key: "broker.url".to_owned(), value, origin: file.to_string() });
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
