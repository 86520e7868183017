//! `imageshare check`: the settings in effect, the origin of each, and whether the credentials are available. Sends no
//! request without `--connect`.

mod connect;
mod policy;

use std::collections::{BTreeMap, btree_map::Entry};

use imageshare_core::credential::SecretId;
use imageshare_worker::{
    credentials::Provider,
    environment::Environment,
    http::Client,
    settings::{EffectiveSetting, Flags, Settings, UrlSource},
};

use crate::{
    cli::{CheckArguments, Common},
    exit::{Ended, Exit, OrExit as _, Problem},
    output::{self, Table},
    runtime,
    terminal::{self, Terminal},
    work,
};

/// How the ids of the vendor's keys begin.
const ID_BEGINS: &str = "AKID";

/// What is shown, and how it ends.
struct Findings {
    /// The settings, and what was found out.
    lines: Vec<EffectiveSetting>,
    problems: usize,
    exit: Exit,
}

pub(crate) fn run(common: &Common, arguments: &CheckArguments) -> Ended {
    let settings = work::load(&Flags { region: arguments.region.clone(), ..work::flags(common) })?;
    let client = Client::with(settings.outside.clone(), settings.http).or_exit(Exit::Usage)?;
    if arguments.policy {
        return policy::print(&settings, &client, arguments);
    }
    let mut findings = Findings { lines: settings.describe(), problems: 0, exit: Exit::Done };
    runtime::run(async {
        let _announcing = Terminal::new(settings.output.quiet).announce(client.waits());
        findings.look_for_keys(&settings, &client, arguments.connect).await;
        findings.look_for_broker(&settings);
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

    /// Something is not as it should be.
    fn problem(&mut self, exit: Exit, words: &str) {
        self.problems += 1;
        self.exit = self.exit.worse(exit);
        terminal::error(words);
    }

    /// Something ended before it could be looked at.
    fn fail(&mut self, problem: Problem) {
        self.problems += 1;
        self.exit = self.exit.worse(problem.show());
    }

    /// Whether every credential is there, and whether two of them are one.
    async fn look_for_keys(&mut self, settings: &Settings, client: &Client, connects: bool) {
        let mut ids = BTreeMap::new();
        for lane in &settings.lanes {
            let Entry::Vacant(id) = ids.entry(&lane.credential) else { continue };
            let key = format!("credentials.{}.key", lane.credential);
            if lane.source.needs_network() && !connects {
                id.insert(None);
                self.add(key, "not asked for: that takes --connect", &lane.source);
                continue;
            }
            let environment = Environment::of_process();
            match Provider::new(lane.source.clone(), environment, client.clone(), &lane.endpoint).load().await {
                Ok(loaded) => {
                    self.add(key, shown(&loaded.credential.secret_id), &loaded.origin);
                    id.insert(Some(loaded.credential.secret_id));
                }
                Err(error) => {
                    id.insert(None);
                    self.add(key, "not usable", &lane.source);
                    let exit = if error.is_out_of_reach() { Exit::OutOfReach } else { Exit::Refused };
                    self.problem(exit, &format!("credential {}: {error}", lane.credential));
                }
            }
        }
        let of_lanes = settings.lanes.iter().map(|lane| ids.get(&lane.credential).and_then(Option::as_ref));
        if let Err(error) = settings.check_keys(of_lanes) {
            self.problem(Exit::Usage, &error.to_string());
        }
    }

    /// Checks the files with the broker's address and with the authorities to trust.
    fn look_for_broker(&mut self, settings: &Settings) {
        if let Some(file @ UrlSource::File(_)) = &settings.broker.url {
            match settings.broker.url() {
                Ok(url) => self.add("broker.url".to_owned(), url.to_string(), file),
                Err(error) => {
                    self.add("broker.url".to_owned(), "not usable", file);
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

    fn print(self, json: bool) -> Ended {
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

/// An id as it may be shown: any other text may be the key in its place.
fn shown(secret_id: &SecretId) -> String {
    match secret_id.as_str().starts_with(ID_BEGINS) {
        true => format!("found, id {secret_id}"),
        false => format!("found, with an id that does not begin with {ID_BEGINS}, so it is not shown"),
    }
}
