//! `imageshare check`: prints the settings in effect with their origins, and loads the credentials. Sends no request without
//! `--connect`.

mod connect;
mod policy;

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use imageshare_core::credential::SecretId;
use imageshare_worker::{
    credentials::Provider,
    environment::Environment,
    http::Client,
    settings::{EffectiveSetting, Flags, Settings, UrlSource},
};

use crate::{
    cli::{CheckArguments, Common},
    exit::{CommandResult, Exit, OrExit as _, Problem},
    output::{self, Table},
    runtime,
    terminal::{self, Terminal},
    work,
};

/// The prefix of the ids of the vendor's keys.
const ID_PREFIX: &str = "AKID";

/// The output and the exit code.
struct Findings {
    /// The settings and the results of the checks.
    lines: Vec<EffectiveSetting>,
    problems: usize,
    exit: Exit,
    /// Credentials that cannot be loaded.
    unusable: BTreeSet<String>,
}

pub(crate) fn run(common: &Common, arguments: &CheckArguments) -> CommandResult {
    let settings = work::load(&Flags { region: arguments.region.clone(), ..work::flags(common) })?;
    let client = Client::with(settings.outside.clone(), settings.http).or_exit(Exit::Usage)?;
    if arguments.policy {
        return policy::print(&settings, &client, arguments);
    }
    let mut findings =
        Findings { lines: settings.describe(), problems: 0, exit: Exit::Done, unusable: BTreeSet::new() };
    runtime::run(async {
        let _announcer = Terminal::new(settings.output.quiet).announce(client.waits());
        findings.check_credentials(&settings, &client, arguments.connect).await;
        findings.check_broker_files(&settings);
        if arguments.connect {
            connect::run(&settings, &client, &mut findings).await;
        }
        Ok(())
    })?;
    findings.print(settings.output.json)
}

impl Findings {
    fn add(&mut self, key: String, value: impl Into<String>, origin: &impl ToString) {
        self.lines.push(EffectiveSetting { key, value: Some(value.into()), origin: origin.to_string() });
    }

    /// Prints a problem and counts it.
    fn problem(&mut self, exit: Exit, message: &str) {
        self.problems += 1;
        self.exit = self.exit.worse(exit);
        terminal::error(message);
    }

    /// Prints the problem of a check that could not run, and counts it.
    fn fail(&mut self, problem: Problem) {
        self.problems += 1;
        self.exit = self.exit.worse(problem.show());
    }

    /// Checks that every credential is available, and that no two lanes share a key that they must not share.
    async fn check_credentials(&mut self, settings: &Settings, client: &Client, connects: bool) {
        let mut ids = BTreeMap::new();
        for lane in &settings.lanes {
            let Entry::Vacant(id) = ids.entry(&lane.credential) else { continue };
            let key = format!("credentials.{}.key", lane.credential);
            if lane.source.needs_network() && !connects {
                id.insert(None);
                self.add(key, "not requested (needs --connect)", &lane.source);
                continue;
            }
            let environment = Environment::of_process();
            match Provider::new(lane.source.clone(), environment, client.clone(), &lane.endpoint).load().await {
                Ok(loaded) => {
                    self.add(key, displayed_id(&loaded.credential.secret_id), &loaded.origin);
                    id.insert(Some(loaded.credential.secret_id));
                }
                Err(error) => {
                    id.insert(None);
                    self.unusable.insert(lane.credential.clone());
                    self.add(key, "unusable", &lane.source);
                    self.problem(work::credential_exit(&error), &format!("credential {}: {error}", lane.credential));
                }
            }
        }
        let of_lanes = settings.lanes.iter().map(|lane| ids.get(&lane.credential).and_then(Option::as_ref));
        if let Err(error) = settings.check_keys(of_lanes) {
            self.problem(Exit::Usage, &error.to_string());
        }
    }

    /// Checks the files with the broker's address and its authorities.
    fn check_broker_files(&mut self, settings: &Settings) {
        if let Some(file @ UrlSource::File(_)) = &settings.broker.url {
            match settings.broker.url() {
                Ok(url) => self.add("broker.url".to_owned(), url.to_string(), file),
                Err(error) => {
                    self.add("broker.url".to_owned(), "unusable", file);
                    self.problem(Exit::Refused, &error.to_string());
                }
            }
        }
        if let Err(error) = settings.broker.management_url() {
            self.problem(Exit::Refused, &error.to_string());
        }
        if settings.broker.trust != Default::default()
            && let Err(error) = settings.broker.trust.check()
        {
            self.problem(Exit::Refused, &error.to_string());
        }
    }

    fn print(self, json: bool) -> CommandResult {
        let printed = if output::is_for_people(json) {
            let mut table = Table::new(["SETTING", "VALUE", "FROM"]);
            for EffectiveSetting { key, value, origin } in self.lines {
                table.row([key, value.unwrap_or_else(|| "-".to_owned()), origin]);
            }
            table.print()
        } else {
            output::print(&self.lines.iter().map(output::json_line).collect::<String>())
        };
        Ok(self.exit.after(printed))
    }
}

/// Returns the id of a key for the output. A text without the prefix may be the key itself in the wrong place.
fn displayed_id(secret_id: &SecretId) -> String {
    match secret_id.as_str().starts_with(ID_PREFIX) {
        true => format!("available, id {secret_id}"),
        false => format!("available; id not shown, since it does not begin with {ID_PREFIX}"),
    }
}
