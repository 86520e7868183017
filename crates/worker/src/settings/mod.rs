//! Settings: one file, the environment and flags become checked values that remember where they came from.

mod admin;
mod broker;
mod choices;
mod credentials;
mod environment;
mod file;
mod lanes;
mod limits;
mod origin;
mod values;

use std::{fmt, net::SocketAddr, path::PathBuf};

use imageshare_core::{credential::SecretId, disclosure::disclosed, ids::Region};
use imageshare_engine::limits::LimitValues;

use self::{choices::Choices, file::Section, lanes::Overrides, values::region};
use crate::{
    credentials::Source,
    http::{NetworkSettings, TimeOuts},
    tls::{self, ClientFiles, Trust},
};

pub use broker::{Broker, NoBroker, NoManagement, UrlSource};
pub use environment::{Environment, VariableError};
pub(crate) use lanes::Shared;
pub use lanes::{DEFAULT_ENDPOINT, Lane, Regions};
pub use origin::{Origin, Setting};
pub use values::duration;
pub(crate) use values::{path_problem, shown_path};

/// The name of the lane that there is without a settings file, and of the credential of a lane that names none.
pub const DEFAULT_NAME: &str = "default";

const CONFIG: &str = "IMAGESHARE_CONFIG";

/// What the command line gave, unchecked: no part of it may be shown as it is.
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
    /// `--region`: the region of jobs without one.
    pub region: Option<String>,
    /// `--admin`: where to listen for status and metrics.
    pub admin: Option<String>,
}

/// Everything that can be set, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// At least one, no two of a name.
    pub lanes: Vec<Lane>,
    /// The lane of jobs that name none; one of [`Settings::lanes`]. `None` if the region decides.
    pub lane: Option<String>,
    /// The region of jobs without one.
    pub region: Option<Region>,
    /// The engine's limits. How jobs end and the pauses between tries are not settings and stand at their defaults.
    pub limits: LimitValues,
    /// How long the HTTP client waits.
    pub http: TimeOuts,
    /// Whom it trusts, and by which proxy it goes.
    pub outside: NetworkSettings,
    /// The broker.
    pub broker: Broker,
    /// Where a daemon listens for status and metrics; `None` for nowhere.
    pub admin: Option<SocketAddr>,
    described: Vec<Setting>,
}

/// Everything that is wrong with the settings, each with where, what was found, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// At least one.
    pub problems: Vec<String>,
}

impl Settings {
    /// Reads the file that `--config` or `IMAGESHARE_CONFIG` names, the variables `IMAGESHARE_*` and the flags; each
    /// goes before those before it.
    ///
    /// # Errors
    /// If anything is not allowed: all problems at once.
    pub fn load(flags: &Flags, environment: &Environment) -> Result<Self, SettingsError> {
        let of_flag = flags.config.clone().map(|path| (path, Origin::Flag("--config")));
        let path = of_flag.or_else(|| Some((environment.path(CONFIG)?, Origin::Variable(CONFIG))));
        let file = match path {
            None => Section::parse("", ""),
            Some((path, origin)) => match path_problem(&path) {
                None => Section::read(&path),
                Some(problem) => Err(format!("{origin}: {problem}, allowed is the path of a settings file")),
            },
        };
        let file = file.map_err(|problem| SettingsError { problems: vec![problem] })?;
        Self::read(file, flags, environment)
    }

    /// The same with the text of a settings file, which messages call `file`, in place of the one that is named.
    ///
    /// # Errors
    /// If anything is not allowed: all problems at once.
    pub fn parse(file: &str, text: &str, flags: &Flags, environment: &Environment) -> Result<Self, SettingsError> {
        let file = Section::parse(file, text).map_err(|problem| SettingsError { problems: vec![problem] })?;
        Self::read(file, flags, environment)
    }

    /// Checks the lanes once their keys are there, since two sources may hold one key: lanes of one key share neither
    /// host nor region. `ids` are those of the keys, in the order of [`Settings::lanes`]; `None` where there is none.
    ///
    /// # Errors
    /// If any do: all problems at once.
    pub fn check_keys<'a>(&self, ids: impl IntoIterator<Item = Option<&'a SecretId>>) -> Result<(), SettingsError> {
        let problems = lanes::refuse_shared_keys(&self.lanes, ids);
        if problems.is_empty() { Ok(()) } else { Err(SettingsError { problems }) }
    }

    /// Every setting in effect and where it came from.
    #[must_use]
    pub fn describe(&self) -> &[Setting] {
        &self.described
    }

    /// Returns the files that are read for these settings, each with what names it: nothing may be written there.
    #[must_use]
    pub fn files(&self, environment: &Environment) -> Vec<(String, PathBuf)> {
        let named = |name: &str, path: &PathBuf| (name.to_owned(), path.clone());
        let of_api = self.outside.trust.ca_file.iter().map(|path| named("http.ca_file", path));
        let Trust { ca_file, client } = &self.broker.trust;
        let of_broker = ca_file.iter().map(|path| named("broker.ca_file", path));
        let of_client = client.iter().flat_map(|ClientFiles { certificate, key }| {
            [named("broker.client_certificate", certificate), named("broker.client_key", key)]
        });
        let of_url = self.broker.url.iter().filter_map(|url| match url {
            UrlSource::File(path) => Some(named("broker.url_file", path)),
            UrlSource::Given(_) => None,
        });
        let of_management = self.broker.management.iter().filter_map(|url| match url {
            UrlSource::File(path) => Some(named("broker.management_url_file", path)),
            UrlSource::Given(_) => None,
        });
        let of_lanes = self.lanes.iter().flat_map(|lane| {
            let name = format!("a file of credential {}", lane.credential);
            lane.source.files(environment).into_iter().map(move |path| (name.clone(), path))
        });
        let of_system = tls::system_files(environment).into_iter();
        let of_system = of_system.map(|path| ("a root certificate of this machine".to_owned(), path));
        let of_broker = of_broker.chain(of_client).chain(of_url).chain(of_management);
        of_api.chain(of_broker).chain(of_lanes).chain(of_system).collect()
    }

    fn read(mut file: Section, flags: &Flags, environment: &Environment) -> Result<Self, SettingsError> {
        let mut choices = Choices { environment, problems: Vec::new() };
        let mut described = Vec::new();

        let overrides = Overrides {
            endpoint: choices.outside("IMAGESHARE_ENDPOINT", "--endpoint", flags.endpoint.as_deref()),
            rate: choices.outside("IMAGESHARE_RATE", "--rate", flags.rate.as_deref()),
            batch: choices.outside("IMAGESHARE_BATCH", "--batch", flags.batch.as_deref()),
        };
        let credentials = credentials::read(file.section("credentials", &mut choices.problems), &mut choices);
        let lanes = file.section("lanes", &mut choices.problems);
        let lanes = lanes::read(lanes, &overrides, &credentials, &mut choices);
        let (lanes, of_lanes): (Vec<_>, Vec<_>) = lanes.into_iter().map(|found| (found.lane, found.settings)).unzip();
        described.extend(of_lanes.into_iter().flatten());
        // Those of the lanes, and those that are behind them.
        let is_used = |name: &str| {
            let is_behind =
                |source: &Source| matches!(source, Source::AssumeRole { credential, .. } if credential == name);
            lanes.iter().any(|lane| lane.credential == name || is_behind(&lane.source))
        };
        described
            .extend(credentials.into_iter().filter(|(name, _)| is_used(name)).flat_map(|(_, found)| found.settings));

        let given = choices.outside("IMAGESHARE_LANE", "--lane", flags.lane.as_deref());
        let lane = choices.choose_any("lane", given, |text| lane_named(text, &lanes));
        let given = choices.outside("TENCENTCLOUD_REGION", "--region", flags.region.as_deref());
        let region = choices.choose_any("region", given, |text| region(text, flags.region.as_deref() == Some(text)));
        let (limits, of_engine) = limits::read_engine(file.section("engine", &mut choices.problems), &mut choices);
        let (http, outside, of_http) = limits::read_http(file.section("http", &mut choices.problems), &mut choices);
        let (broker, of_broker) = broker::read(file.section("broker", &mut choices.problems), &mut choices);
        let given = choices.outside("IMAGESHARE_ADMIN", "--admin", flags.admin.as_deref());
        let (admin, of_admin) = admin::read(file.section("admin", &mut choices.problems), given, &mut choices);
        described.extend(lane.iter().map(|lane| lane.1.clone()));
        described.extend(region.iter().map(|region| region.1.clone()));
        described.extend(of_engine.into_iter().chain(of_http).chain(of_broker).chain(of_admin));
        file.finish("lanes, credentials, engine, http, broker, admin", &mut choices.problems);

        let (lane, region) = (lane.map(|lane| lane.0), region.map(|region| region.0));
        if choices.problems.is_empty() {
            Ok(Self { lanes, lane, region, limits, http, outside, broker, admin, described })
        } else {
            Err(SettingsError { problems: choices.problems })
        }
    }
}

impl std::error::Error for SettingsError {}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

fn lane_named(text: &str, lanes: &[Lane]) -> Result<String, String> {
    let names = || lanes.iter().map(|lane| lane.name.as_str()).collect::<Vec<_>>().join(", ");
    match lanes.iter().any(|lane| lane.name == text) {
        true => Ok(text.to_owned()),
        false => Err(format!("found {}, allowed is a lane of the settings: {}", disclosed(text), names())),
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
