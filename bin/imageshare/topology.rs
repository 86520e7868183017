//! `imageshare topology`: prints the exchanges and queues as definitions.json, or declares them.

use imageshare_worker::{
    broker::{
        Retention,
        topology::{self, Declared, Difference},
    },
    settings::{NoBroker, Settings},
};
use serde::Serialize;

use crate::{
    broker,
    cli::{Common, TopologyArguments},
    exit::{CommandResult, Exit, OrExit as _},
    output::{self, Table},
    runtime, work,
};

/// The virtual host in the definitions if no broker address is set.
const DEFAULT_VHOST: &str = "/";

/// The result for one exchange or queue.
#[derive(Serialize)]
struct Line {
    what: String,
    state: &'static str,
    problem: Option<String>,
}

pub(crate) fn run(common: &Common, arguments: &TopologyArguments) -> CommandResult {
    let settings = work::load(&work::flags(common))?;
    let history = arguments.history.clone().map(|age| Retention::new(age, arguments.history_size));
    if arguments.declare {
        runtime::run(declare(&settings, history.as_ref()))
    } else {
        print(&settings, history.as_ref())
    }
}

fn print(settings: &Settings, history: Option<&Retention>) -> CommandResult {
    let vhost = match settings.broker.url() {
        Ok(url) => url.vhost().to_owned(),
        Err(NoBroker::Missing) => DEFAULT_VHOST.to_owned(),
        Err(error) => return Err(error).or_exit(Exit::Usage),
    };
    output::print(&format!("{:#}\n", topology::definitions(&vhost, lanes(settings), history)))?;
    Ok(Exit::Done)
}

async fn declare(settings: &Settings, history: Option<&Retention>) -> CommandResult {
    let connection = broker::connect(settings, "imageshare topology").await?;
    let declared = topology::declare(&connection, lanes(settings), history).await;
    let url = broker::url(settings)?;
    let Declared { made, existing, different } = declared.map_err(|error| broker::problem(&url, &error))?;
    // The declarations are done, so an error while closing has no effect.
    drop(connection.close().await);
    let exit = if different.is_empty() { Exit::Done } else { Exit::Failed };
    let made = made.into_iter().map(|what| Line { what, state: "created", problem: None });
    let existing = existing.into_iter().map(|what| Line { what, state: "exists", problem: None });
    let different = different.into_iter().map(|difference| {
        let problem = Some(difference.to_string());
        let (Difference::Different { what, .. } | Difference::Missing { what }) = difference;
        Line { what, state: "differs", problem }
    });
    let lines = made.chain(existing).chain(different);
    let printed = if output::is_for_people(settings.output.json) {
        let mut table = Table::new(["WHAT", "STATE", ""]);
        lines.for_each(|line| table.row([line.what, line.state.to_owned(), line.problem.unwrap_or_default()]));
        table.print()
    } else {
        output::print(&lines.map(|line| output::json_line(&line)).collect::<String>())
    };
    Ok(exit.after(printed))
}

fn lanes(settings: &Settings) -> impl Iterator<Item = &str> {
    settings.lanes.iter().map(|lane| lane.name.as_str())
}
