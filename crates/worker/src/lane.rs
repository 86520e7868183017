//! A lane as the settings describe it, and the rule for lanes that have one key.

use std::{collections::BTreeSet, fmt};

use imageshare_core::ids::{AccountId, Region};
use imageshare_engine::limits::LaneLimits;

use crate::{credentials::Source, endpoint::Endpoint};

/// One rate-limit bucket of the API: a credential and an endpoint's host.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneConfig {
    /// Its name, which a job may give.
    pub name: String,
    /// Where its calls go.
    pub endpoint: Endpoint,
    /// The regions whose images it serves.
    pub regions: Regions,
    /// The name of its credential.
    pub credential: String,
    /// The source of that credential.
    pub source: Source,
    /// The account that its credential must belong to.
    pub account: Option<AccountId>,
    /// Its rate limits.
    pub limits: LaneLimits,
    /// Whether a worker leaves its jobs in the queue. Commands other than a worker ignore this.
    pub is_paused: bool,
}

/// Regions that a lane serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Regions {
    /// All regions.
    All,
    /// Only these, at least one.
    These(BTreeSet<Region>),
}

impl LaneConfig {
    /// Returns a lane for tests.
    #[cfg(test)]
    pub(crate) fn example(name: &str, endpoint: &str) -> Self {
        Self {
            name: name.to_owned(),
            endpoint: endpoint.parse().unwrap(),
            regions: Regions::All,
            credential: "default".to_owned(),
            source: Source::Chain,
            account: None,
            limits: LaneLimits::default(),
            is_paused: false,
        }
    }

    /// Its host and its regions.
    pub(crate) fn place(&self) -> (String, &Regions) {
        (self.endpoint.host(), &self.regions)
    }
}

impl Regions {
    /// Returns whether a region is among them.
    #[must_use]
    pub fn contains(&self, region: Region) -> bool {
        match self {
            Self::All => true,
            Self::These(regions) => regions.contains(&region),
        }
    }

    /// Returns a region that both hold, as text.
    fn shared(&self, other: &Self) -> Option<String> {
        match (self, other) {
            (Self::All, Self::All) => Some("all of them".to_owned()),
            (Self::These(regions), Self::All) | (Self::All, Self::These(regions)) => {
                regions.first().map(ToString::to_string)
            }
            (Self::These(a), Self::These(b)) => a.intersection(b).next().map(ToString::to_string),
        }
    }
}

impl fmt::Display for Regions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::These(regions) => {
                let regions: Vec<&str> = regions.iter().map(Region::as_str).collect();
                f.write_str(&regions.join(", "))
            }
        }
    }
}

/// What two lanes of one key share and must not.
pub(crate) struct LaneConflict {
    pub(crate) what: String,
    pub(crate) expected: &'static str,
}

impl LaneConflict {
    /// Two lanes with one key would count against one limit without knowing of each other if their hosts were the
    /// same, and would write to one image at once if they shared a region.
    pub(crate) fn by(first: &(String, &Regions), second: &(String, &Regions)) -> Option<Self> {
        let host = &second.0;
        if first.0 == *host {
            let expected = "one lane per credential and host, since they have one rate limit";
            return Some(Self { what: format!("host {host}"), expected });
        }
        let region = first.1.shared(second.1)?;
        let expected = "other regions, since two lanes of one account would write to one image at once";
        Some(Self { what: format!("region {region}"), expected })
    }
}
