//! The lanes of a run, and which of them a job belongs to.

use std::collections::BTreeMap;

use http::Uri;
use imageshare_core::{
    ids::{AccountId, Region},
    text::excerpt,
};
use imageshare_engine::{io::LaneId, limits::LaneLimits};
use tokio::task::JoinHandle;

use crate::{
    credentials::{CredentialsError, IfMissing, Keeper, Provider},
    endpoint::Endpoint,
    environment::Environment,
    http::Client,
    lane::{LaneConfig, Regions},
};

/// A lane: one credential at one endpoint, and so one rate limit of the API.
#[derive(Clone, Debug)]
pub struct Lane {
    /// What jobs call it.
    pub name: String,
    /// Where its calls go.
    pub endpoint: Endpoint,
    /// The regions whose images it serves.
    pub regions: Regions,
    /// What its calls are signed with.
    pub keeper: Keeper,
    /// The account that its credential has to be of, if the settings say so.
    pub account: Option<AccountId>,
    /// How much it may do.
    pub limits: LaneLimits,
}

/// Why a lane cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("lane {lane}: {error}")]
pub struct NoCredential {
    /// Its name.
    pub lane: String,
    /// Why it has no credential.
    pub error: CredentialsError,
}

/// The lanes of the settings, each with its credential, which is kept once for all lanes that have it. All sources are
/// asked at the same time. Must be called on the runtime.
///
/// # Errors
/// If one has none, unless that [can pass](CredentialsError::can_pass) and may be waited for.
pub async fn open_lanes(
    lanes: &[LaneConfig],
    environment: &Environment,
    client: &Client,
    if_missing: IfMissing,
) -> Result<Vec<Lane>, NoCredential> {
    // Lanes of one credential at different sites ask different services for temporary keys.
    let key = |lane: &LaneConfig| (lane.credential.clone(), lane.endpoint.sts());
    let mut starting: BTreeMap<_, JoinHandle<_>> = BTreeMap::new();
    for lane in lanes {
        starting.entry(key(lane)).or_insert_with(|| {
            let provider = Provider::new(lane.source.clone(), environment.clone(), client.clone(), &lane.endpoint);
            tokio::spawn(Keeper::start(provider, if_missing))
        });
    }
    let mut keepers: BTreeMap<_, Keeper> = BTreeMap::new();
    let mut opened = Vec::with_capacity(lanes.len());
    for lane in lanes {
        if let Some(start) = starting.remove(&key(lane)) {
            let started = start.await.unwrap_or(Err(CredentialsError::BrokeDown));
            let keeper = started.map_err(|error| NoCredential { lane: lane.name.clone(), error })?;
            keepers.insert(key(lane), keeper);
        }
        let keeper = keepers.get(&key(lane)).expect("the first lane of a credential inserts its keeper");
        opened.push(Lane::new(lane, keeper.clone()));
    }
    Ok(opened)
}

impl Lane {
    /// A lane of the settings with its credential.
    #[must_use]
    pub fn new(of: &LaneConfig, keeper: Keeper) -> Self {
        Self {
            name: of.name.clone(),
            endpoint: of.endpoint.clone(),
            regions: of.regions.clone(),
            keeper,
            account: of.account,
            limits: of.limits,
        }
    }

    /// Where requests are posted to.
    pub(crate) fn uri(&self) -> Uri {
        format!("{}/", self.endpoint).parse().expect("an endpoint is a scheme, a checked host and a port")
    }
}

/// A lane as far as it decides which jobs are its own. Who sends jobs to a lane needs no credential of it.
pub trait Routed {
    /// What jobs call it.
    fn name(&self) -> &str;

    /// The regions whose images it serves.
    fn regions(&self) -> &Regions;
}

impl Routed for Lane {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> &Regions {
        &self.regions
    }
}

impl Routed for LaneConfig {
    fn name(&self) -> &str {
        &self.name
    }

    fn regions(&self) -> &Regions {
        &self.regions
    }
}

/// Why no lane takes a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There is no lane of that name.
    #[error("lane: found {found}, allowed are {lanes}")]
    NoSuchLane {
        /// The start of what was found, safe to print.
        found: String,
        /// The names of all lanes.
        lanes: String,
    },
    /// The lane of that name does not serve the region.
    #[error("region: found {region}, allowed in lane {lane} are {regions}")]
    NotInLane {
        /// The job's region.
        region: Region,
        /// The lane.
        lane: String,
        /// Its regions.
        regions: String,
    },
    /// No lane serves the region.
    #[error("region: found {region}, which no lane serves, allowed are {regions}")]
    NoLane {
        /// The job's region.
        region: Region,
        /// The regions of all lanes.
        regions: String,
    },
    /// More than one lane serves the region, with different accounts.
    #[error("lane: found none, and region {region} is served by the lanes {lanes}, allowed is the name of one of them")]
    Ambiguous {
        /// The job's region.
        region: Region,
        /// The names of the lanes that serve it.
        lanes: String,
    },
}

/// The lane that serves a job: the one that it names, else the only one that serves its region. Lanes are numbered in
/// the order of the slice, as the driver numbers them.
///
/// # Errors
/// If there is none or more than one, or the one that is named does not serve the region.
pub fn route(lanes: &[impl Routed], lane: Option<&str>, region: &Region) -> Result<LaneId, RouteError> {
    let numbered = || (0..).map(LaneId).zip(lanes);
    if let Some(name) = lane {
        let Some((id, lane)) = numbered().find(|(_, lane)| lane.name() == name) else {
            let lanes = list(lanes.iter().map(Routed::name));
            return Err(RouteError::NoSuchLane { found: excerpt(name), lanes });
        };
        if !lane.regions().contains(*region) {
            let (lane, regions) = (lane.name().to_owned(), lane.regions().to_string());
            return Err(RouteError::NotInLane { region: *region, lane, regions });
        }
        return Ok(id);
    }
    let serving: Vec<_> = numbered().filter(|(_, lane)| lane.regions().contains(*region)).collect();
    match serving.as_slice() {
        [(id, _)] => Ok(*id),
        [] => {
            let regions = list(lanes.iter().map(|lane| lane.regions().to_string()));
            Err(RouteError::NoLane { region: *region, regions })
        }
        several => {
            let lanes = list(several.iter().map(|(_, lane)| lane.name()));
            Err(RouteError::Ambiguous { region: *region, lanes })
        }
    }
}

fn list(names: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let mut list = String::new();
    for name in names {
        if !list.is_empty() {
            list.push_str(", ");
        }
        list.push_str(name.as_ref());
    }
    list
}

#[cfg(test)]
mod tests {
    use std::fs;

    use imageshare_core::Credential;

    use super::*;
    use crate::{
        http::TimeOuts,
        settings::{Flags, Settings},
    };

    fn lane(name: &str, regions: &[&str]) -> Lane {
        let credential =
            Credential { secret_id: "AKIDEXAMPLE".parse().unwrap(), secret_key: "key".parse().unwrap(), token: None };
        let regions = match regions {
            [] => Regions::All,
            some => Regions::These(some.iter().map(|region| region.parse().unwrap()).collect()),
        };
        Lane {
            name: name.into(),
            endpoint: "cvm.intl.tencentcloudapi.com".parse().unwrap(),
            regions,
            keeper: Keeper::fixed(credential, "100009999999".parse().unwrap()),
            account: None,
            limits: LaneLimits::default(),
        }
    }

    #[track_caller]
    fn check(lanes: &[Lane], named: Option<&str>, region: &str, expected: Result<u32, &str>) {
        let routed = route(lanes, named, &region.parse().unwrap()).map_err(|error| error.to_string());
        assert_eq!(routed, expected.map(LaneId).map_err(str::to_owned));
    }

    #[test]
    fn one_lane_with_all_regions_takes_everything() {
        let lanes = [lane("default", &[])];
        check(&lanes, None, "ap-singapore", Ok(0));
        check(&lanes, Some("default"), "ap-singapore", Ok(0));
        let other = "lane: found \"other\\u{1b}\", allowed are default";
        check(&lanes, Some("other\u{1b}"), "ap-singapore", Err(other));
    }

    #[test]
    fn a_job_goes_to_the_lane_that_serves_its_region() {
        let lanes = [lane("asia", &["ap-singapore", "ap-jakarta"]), lane("europe", &["eu-frankfurt"])];
        check(&lanes, None, "eu-frankfurt", Ok(1));
        check(&lanes, Some("asia"), "ap-jakarta", Ok(0));
        let wrong = "region: found eu-frankfurt, allowed in lane asia are ap-jakarta, ap-singapore";
        check(&lanes, Some("asia"), "eu-frankfurt", Err(wrong));
        let none = "region: found na-siliconvalley, which no lane serves, \
                    allowed are ap-jakarta, ap-singapore, eu-frankfurt";
        check(&lanes, None, "na-siliconvalley", Err(none));
    }

    #[test]
    fn a_region_of_several_lanes_needs_the_lanes_name() {
        let lanes = [lane("red", &["ap-singapore"]), lane("blue", &[])];
        let ambiguous = "lane: found none, and region ap-singapore is served by the lanes red, blue, \
                         allowed is the name of one of them";
        check(&lanes, None, "ap-singapore", Err(ambiguous));
        check(&lanes, Some("blue"), "ap-singapore", Ok(1));
        check(&lanes, None, "eu-frankfurt", Ok(1));
    }

    #[tokio::test]
    async fn missing_settings_are_an_error_even_if_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("settings.toml");
        fs::write(&path, "[credentials.default]\nsource = \"environment\"\n").unwrap();
        let settings = Settings::load(&Flags { config: Some(path), ..Flags::default() }, &Environment::of([])).unwrap();
        let client = Client::new(TimeOuts::default()).unwrap();
        for variables in [[("A", "")], [("TENCENTCLOUD_SECRET_ID", "AKIDx")], [("TENCENTCLOUD_SECRET_ID", "'x'")]] {
            let environment = Environment::of(variables);
            assert!(open_lanes(&settings.lanes, &environment, &client, IfMissing::Wait).await.is_err());
        }
    }

    #[test]
    fn the_key_of_a_lane_is_not_shown() {
        let shown = format!("{:?}", lane("default", &[]));
        assert!(shown.contains("AKIDEXAMPLE") && shown.contains("secret_key: [secret]"), "{shown}");
    }
}
