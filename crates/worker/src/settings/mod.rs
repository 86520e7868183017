//! Settings: a file, the environment and flags become resolved values that remember their origin.
//!
//! Each section has a file, which lists its settings: description, type, default, parser, variable, flag. From this list
//! come the raw struct that the file is read into, the resolved struct, what `imageshare check` prints, and the table in
//! the manual. `resolver` decides which value counts. The resolved structs build the configuration of other modules, and none of them
//! imports this one.

mod accounts;
mod admin;
mod broker;
mod credentials;
mod engine;
mod error;
mod file;
mod http;
mod lanes;
mod process;
mod resolver;
mod setting;
mod table;
mod values;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use imageshare_core::{
    credential::SecretId,
    ids::{KNOWN_REGIONS, Region},
};
use imageshare_engine::limits::LimitValues;
use serde::Serialize;
use serde_json::Value;

use self::{
    accounts::AccountFiles,
    admin::AdminSettings,
    broker::BrokerSettings,
    credentials::CredentialEntry,
    engine::EngineSettings,
    file::{FileLines, RawFile},
    http::HttpSettings,
    lanes::LaneSettings,
    process::{JobSettings, OutputSettings, RawJobs, RawOutput},
    resolver::{CONFIG, SettingsResolver},
};
use crate::{
    admin::Readiness,
    environment::Environment,
    http::{NetworkSettings, TimeOuts},
    lane::{LaneConfig, Regions},
    spelling::did_you_mean,
    tls::{self, ClientFiles, Trust},
};

pub use broker::{Broker, NoBroker, UrlSource};
pub use error::{SettingsError, SettingsFault, SettingsProblem};
pub use lanes::DEFAULT_ENDPOINT;
pub use process::OutputOptions;
pub use setting::{Setting, SettingOrigin};
pub use values::{DurationError, duration_of_flag};

/// The name of the lane that exists without a settings file, and of the credential of a lane that names none.
pub const DEFAULT_NAME: &str = "default";

/// The flags of the command line as they were given. No part of them may be shown as it is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--config`: the settings file.
    pub config: Option<PathBuf>,
    /// `--endpoint`: replaces the lanes by one lane `default` with all regions.
    pub endpoint: Option<String>,
    /// `--rate`: of every lane.
    pub rate: Option<String>,
    /// `--batch`: of every lane.
    pub batch: Option<String>,
    /// `--lane`: the lane of jobs that name none.
    pub lane: Option<String>,
    /// `--region`: the region of jobs that name none.
    pub region: Option<String>,
    /// `--admin`: where to listen for requests of status and metrics.
    pub admin: Option<String>,
    /// `--give-up-after`: how long a command waits.
    pub give_up_after: Option<String>,
    /// `--grace`: how long a worker may take to shut down.
    pub grace: Option<String>,
    /// `--log`: how much a worker logs.
    pub log: Option<String>,
    /// `--json`.
    pub json: bool,
    /// `--quiet`.
    pub quiet: bool,
}

/// All settings, resolved and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// At least one, with different names.
    pub lanes: Vec<LaneConfig>,
    /// The lane of jobs that name none; one of [`Settings::lanes`]. `None` if the region decides.
    pub lane: Option<String>,
    /// The region of jobs that name none.
    pub region: Option<Region>,
    /// The files of the named lists of accounts.
    pub account_lists: BTreeMap<String, PathBuf>,
    /// The engine's limits. How jobs end and the pauses between tries are not settings.
    pub limits: LimitValues,
    /// The time-outs of the HTTP client.
    pub http: TimeOuts,
    /// The authorities that it trusts, and its proxy.
    pub outside: NetworkSettings,
    /// The broker.
    pub broker: Broker,
    /// Where a daemon listens for requests of status and metrics; `None` for nowhere.
    pub admin: Option<SocketAddr>,
    /// What `/readyz` requires there.
    pub readiness: Readiness,
    /// How long a command waits for what does not work.
    pub give_up_after: Duration,
    /// How long a worker may take to shut down.
    pub grace: Duration,
    /// What a command prints and logs.
    pub output: OutputOptions,
    resolved: Resolved,
}

/// All settings with their origins.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Resolved {
    lanes: BTreeMap<String, LaneSettings>,
    credentials: BTreeMap<String, CredentialEntry>,
    accounts: AccountFiles,
    engine: EngineSettings,
    http: HttpSettings,
    broker: BrokerSettings,
    admin: AdminSettings,
    #[serde(flatten)]
    output: OutputSettings,
    #[serde(flatten)]
    jobs: JobSettings,
}

/// A setting in effect, for `imageshare check`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EffectiveSetting {
    /// Its key, as a settings file would have it.
    pub key: String,
    /// Its value, safe to print; `None` if it is not set.
    pub value: Option<String>,
    /// Where it was set.
    pub origin: String,
}

impl Flags {
    /// Returns what was given for a flag.
    fn get(&self, flag: &str) -> Option<&str> {
        let text = match flag {
            "--endpoint" => &self.endpoint,
            "--rate" => &self.rate,
            "--batch" => &self.batch,
            "--lane" => &self.lane,
            "--region" => &self.region,
            "--admin" => &self.admin,
            "--give-up-after" => &self.give_up_after,
            "--grace" => &self.grace,
            "--log" => &self.log,
            "--json" => return self.json.then_some("true"),
            "--quiet" => return self.quiet.then_some("true"),
            _ => &None,
        };
        text.as_deref()
    }
}

impl Settings {
    /// Returns what is odd about the region of the settings, if neither a lane names it nor the vendor's documentation: it
    /// may be misspelled, or new.
    #[must_use]
    pub fn unknown_region(&self) -> Option<String> {
        let region = self.region?;
        let served = self.lanes.iter().filter_map(|lane| match &lane.regions {
            Regions::All => None,
            Regions::These(regions) => Some(regions),
        });
        if KNOWN_REGIONS.contains(&region.as_str()) || served.flatten().any(|served| *served == region) {
            return None;
        }
        let hint = did_you_mean(region.as_str(), KNOWN_REGIONS).map_or_else(String::new, |hint| format!(" ({hint})"));
        Some(format!("region \"{region}\" is not known{hint}"))
    }

    /// Reads the flags, the variables, and the file that `--config` or `IMAGESHARE_CONFIG` names. Of the values of one
    /// setting the first in this order counts, and the others are not read.
    ///
    /// # Errors
    /// If anything is not allowed: all problems at once.
    pub fn load(flags: &Flags, environment: &Environment) -> Result<Self, SettingsError> {
        let of_flag = flags.config.clone().map(|path| (path, SettingOrigin::Flag("--config")));
        let path = of_flag.or_else(|| Some((environment.path(CONFIG)?, SettingOrigin::Variable(CONFIG))));
        let file = path.map_or_else(|| file::parse("", ""), |(path, origin)| file::read(&path, origin));
        let (raw, lines) = file?;
        Self::resolve(raw, lines, flags, environment)
    }

    /// Does the same with the text of a settings file, which messages call `file`.
    ///
    /// # Errors
    /// If anything is not allowed: all problems at once.
    pub fn parse(file: &str, text: &str, flags: &Flags, environment: &Environment) -> Result<Self, SettingsError> {
        let (raw, lines) = file::parse(file, text)?;
        Self::resolve(raw, lines, flags, environment)
    }

    /// Reads only what a process needs before it reads a file: what it prints and logs.
    ///
    /// # Errors
    /// If a value of these is not allowed.
    pub fn output(flags: &Flags, environment: &Environment) -> Result<OutputOptions, SettingsError> {
        let mut resolver = SettingsResolver::new(flags, environment, FileLines::default());
        let output = OutputSettings::resolve(RawOutput::default(), &[], &mut resolver);
        if resolver.problems.is_empty() {
            Ok(OutputOptions::from(&output))
        } else {
            Err(SettingsError { problems: resolver.problems })
        }
    }

    /// Checks the lanes once their keys are known, since two sources may hold one key: lanes of one key share neither
    /// host nor region. `ids` are those of the keys, in the order of [`Settings::lanes`]; `None` where one is missing.
    ///
    /// # Errors
    /// If any do: all problems at once.
    pub fn check_keys<'a>(&self, ids: impl IntoIterator<Item = Option<&'a SecretId>>) -> Result<(), SettingsError> {
        let problems = lanes::shared_keys(&self.lanes, ids);
        if problems.is_empty() { Ok(()) } else { Err(SettingsError { problems }) }
    }

    /// Returns every setting in effect, in the order of the keys.
    ///
    /// It walks the serialized settings, so that it cannot omit one.
    #[must_use]
    pub fn describe(&self) -> Vec<EffectiveSetting> {
        let mut described = Vec::new();
        if let Ok(settings) = serde_json::to_value(&self.resolved) {
            describe(String::new(), &settings, &mut described);
        }
        described
    }

    /// Returns all settings that exist, as a table of Markdown.
    #[must_use]
    pub fn table() -> String {
        let (flags, environment) = (Flags::default(), Environment::of([]));
        let mut resolver = SettingsResolver::new(&flags, &environment, FileLines::default());
        let accounts = [("name".to_owned(), toml::Value::from("accounts.txt"))].into();
        Resolved::resolve(RawFile { accounts, ..RawFile::default() }, &mut resolver);
        table::markdown(&resolver.rows)
    }

    /// Returns the files that are read for these settings, each with the setting that names it: nothing may be written
    /// there.
    #[must_use]
    pub fn files(&self, environment: &Environment) -> Vec<(String, PathBuf)> {
        let named = |name: &str, path: &PathBuf| (name.to_owned(), path.clone());
        let of_api = self.outside.trust.ca_file.iter().map(|path| named("http.ca_file", path));
        let Trust { ca_file, client } = &self.broker.trust;
        let of_broker = ca_file.iter().map(|path| named("broker.ca_file", path));
        let of_client = client.iter().flat_map(|ClientFiles { certificate, key }| {
            [named("broker.client_certificate", certificate), named("broker.client_key", key)]
        });
        let of_url = self.broker.url.iter().filter_map(UrlSource::file).map(|path| named("broker.url_file", path));
        let of_management = self.broker.management.iter().filter_map(UrlSource::file);
        let of_management = of_management.map(|path| named("broker.management_url_file", path));
        let of_lanes = self.lanes.iter().flat_map(|lane| {
            let name = format!("a file of credential {}", lane.credential);
            lane.source.files(environment).into_iter().map(move |path| (name.clone(), path))
        });
        let of_lists = self.account_lists.iter().map(|(name, path)| (format!("accounts.{name}"), path.clone()));
        let of_system = tls::system_files(environment).into_iter();
        let of_system = of_system.map(|path| ("a root certificate of this machine".to_owned(), path));
        let of_broker = of_broker.chain(of_client).chain(of_url).chain(of_management);
        of_api.chain(of_broker).chain(of_lanes).chain(of_lists).chain(of_system).collect()
    }

    fn resolve(
        raw: RawFile,
        lines: FileLines,
        flags: &Flags,
        environment: &Environment,
    ) -> Result<Self, SettingsError> {
        let mut resolver = SettingsResolver::new(flags, environment, lines);
        let resolved = Resolved::resolve(raw, &mut resolver);
        let lane = |(name, settings): (&String, &LaneSettings)| {
            let credential = resolved.credentials.get(&settings.credential.value)?;
            settings.lane(name, credential.0.source(&resolved.credentials), &mut resolver)
        };
        let lanes: Vec<LaneConfig> = resolved.lanes.iter().filter_map(lane).collect();
        let limits = resolved.engine.limits(&mut resolver);
        // The default that stands in for an invalid value may be that of another lane.
        if resolver.problems.is_empty() {
            lanes::refuse_shared(&lanes, &mut resolver);
        }
        let broker = resolved.broker.broker(&mut resolver);
        resolver.refuse_unknown_variables();
        if !resolver.problems.is_empty() {
            return Err(SettingsError { problems: resolver.problems });
        }
        Ok(Self {
            lanes,
            lane: resolved.jobs.lane.value.clone(),
            region: resolved.jobs.region.value,
            account_lists: resolved
                .accounts
                .iter()
                .filter_map(|(name, file)| Some((name.clone(), file.value.clone()?)))
                .collect(),
            limits,
            http: resolved.http.time_outs(),
            outside: resolved.http.outside(),
            broker,
            admin: resolved.admin.listen.value,
            readiness: resolved.admin.readiness.value,
            give_up_after: resolved.jobs.give_up_after.value,
            grace: resolved.jobs.grace.value,
            output: OutputOptions::from(&resolved.output),
            resolved,
        })
    }
}

impl Resolved {
    fn resolve(raw: RawFile, resolver: &mut SettingsResolver<'_>) -> Self {
        let RawFile { lanes, credentials, accounts, engine, http, broker, admin, unknown } = raw;
        resolver.refuse_unknown(&[], &unknown, &RawFile::KEYS);
        let mut names: Vec<String> = credentials.keys().cloned().collect();
        if !names.iter().any(|name| name == DEFAULT_NAME) {
            names.push(DEFAULT_NAME.to_owned());
        }
        let credentials = credentials::resolve(credentials, resolver);
        let lanes = lanes::resolve(lanes, &names, resolver);
        let accounts = accounts::resolve(accounts, resolver);
        let engine = EngineSettings::resolve(engine, &["engine"], resolver);
        let http = HttpSettings::resolve(http, &["http"], resolver);
        http.check(resolver);
        let broker = broker.without_replaced(resolver);
        let broker = BrokerSettings::resolve(broker, &["broker"], resolver);
        let admin = AdminSettings::resolve(admin, &["admin"], resolver);
        let output = OutputSettings::resolve(RawOutput::default(), &[], resolver);
        let names: Vec<String> = lanes.keys().cloned().collect();
        let served: Vec<_> = lanes.values().map(|lane| &lane.regions.value).collect();
        let jobs = JobSettings::resolve(RawJobs::default(), &[], resolver, &names, &served);
        Self { lanes, credentials, accounts, engine, http, broker, admin, output, jobs }
    }
}

/// Adds the settings in a serialized section. A setting is an object with a value and an origin.
fn describe(key: String, section: &Value, described: &mut Vec<EffectiveSetting>) {
    let Some(members) = section.as_object() else { return };
    if let (Some(value), Some(origin)) = (members.get("value"), members.get("origin").and_then(Value::as_str)) {
        let value = value.as_str().map(str::to_owned);
        described.push(EffectiveSetting { key, value, origin: origin.to_owned() });
        return;
    }
    for (name, member) in members {
        let separator = if key.is_empty() { "" } else { "." };
        describe(format!("{key}{separator}{name}"), member, described);
    }
}

#[cfg(test)]
mod tests;
