//! Lanes: which credential, which endpoint, which regions, how fast.

use std::{collections::BTreeSet, fmt};

use imageshare_core::{
    credential::SecretId,
    ids::{AccountId, Region},
};
use imageshare_engine::limits::{LaneLimitValues, LaneLimits};

use super::{
    DEFAULT_NAME,
    choices::Choices,
    credentials::Sources,
    file::Section,
    origin::{Given, Origin, Setting},
    values,
};
use crate::{credentials::Source, endpoint::Endpoint, wire::job::is_lane_name};

/// Where the API is reached if nobody says otherwise: the international site.
pub const DEFAULT_ENDPOINT: &str = "cvm.intl.tencentcloudapi.com";

/// Calls in flight that a lane may be set to.
const CONCURRENCIES: std::ops::RangeInclusive<u32> = 1..=1000;

/// One rate-limit bucket of the API: a credential and an endpoint's host.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// Its name, which a job may give.
    pub name: String,
    /// Where its calls go.
    pub endpoint: Endpoint,
    /// The regions whose images it serves.
    pub regions: Regions,
    /// The name of its credential.
    pub credential: String,
    /// Where that credential is looked for.
    pub source: Source,
    /// The account that its credential has to be of.
    pub account: Option<AccountId>,
    /// How fast it goes.
    pub limits: LaneLimits,
}

/// Regions that a lane serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Regions {
    /// All there are.
    All,
    /// Just these, at least one.
    These(BTreeSet<Region>),
}

/// What is given for all lanes at once, by variable or flag.
pub(super) struct Overrides {
    pub(super) endpoint: Vec<Given>,
    pub(super) rate: Vec<Given>,
    pub(super) batch: Vec<Given>,
}

/// A lane, its settings, and where it is defined.
pub(super) struct Found {
    pub(super) lane: Lane,
    pub(super) settings: Vec<Setting>,
    origin: Origin,
}

impl Lane {
    /// Its host and its regions.
    fn place(&self) -> (String, &Regions) {
        (self.endpoint.host(), &self.regions)
    }
}

impl Regions {
    /// Whether a region is among them.
    #[must_use]
    pub fn contains(&self, region: Region) -> bool {
        match self {
            Self::All => true,
            Self::These(regions) => regions.contains(&region),
        }
    }

    /// A region that both hold, as text.
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

/// The lanes of the file, or the one lane that there is without any; with an endpoint from outside the file, that one
/// lane alone.
pub(super) fn read(
    mut sections: Section,
    overrides: &Overrides,
    sources: &Sources,
    choices: &mut Choices<'_>,
) -> Vec<Found> {
    let mut found = Vec::new();
    for name in sections.names() {
        let origin = sections.origin(&name);
        let section = sections.section(&name, &mut choices.problems);
        if is_lane_name(&name) {
            found.extend(read_one(&name, section, origin, overrides, sources, choices));
        } else {
            choices.problems.push(format!(
                "{origin}: found it as the name of a lane, allowed are 1 to 63 lower-case letters, digits and hyphens"
            ));
        }
    }
    if found.is_empty() || !overrides.endpoint.is_empty() {
        let nothing = sections.section(DEFAULT_NAME, &mut choices.problems);
        return read_one(DEFAULT_NAME, nothing, Origin::Default, overrides, sources, choices).into_iter().collect();
    }
    refuse_shared(&found, &mut choices.problems);
    found
}

fn read_one(
    name: &str,
    mut section: Section,
    origin: Origin,
    overrides: &Overrides,
    sources: &Sources,
    choices: &mut Choices<'_>,
) -> Option<Found> {
    let problems = &mut choices.problems;
    let mut take = |key: &str| section.take(key, problems);
    let (endpoint, rate, batch) = (take("endpoint"), take("rate"), take("batch"));
    let (concurrency, credential, account) = (take("concurrency"), take("credential"), take("account"));
    let regions = section.take_list("regions", problems).map(|list| (list, section.origin("regions")));
    section.finish("endpoint, regions, credential, account, rate, batch, concurrency", problems);

    let key = |key: &str| format!("lanes.{name}.{key}");
    let LaneLimitValues { rate: default_rate, image_rate, batch: default_batch, concurrency: default_concurrency } =
        LaneLimitValues::default();
    let outside = |given: &[Given], of_file: Option<Given>| of_file.into_iter().chain(given.iter().cloned()).collect();
    let default_endpoint = DEFAULT_ENDPOINT.parse().expect("the default endpoint is a host");

    let endpoint = choices.choose(
        key("endpoint"),
        default_endpoint,
        outside(&overrides.endpoint, endpoint),
        values::parsed::<Endpoint>,
    );
    let regions = read_regions(key("regions"), regions, choices);
    let credential =
        choices.choose(key("credential"), DEFAULT_NAME.to_owned(), credential.into_iter().collect(), |text| {
            // A text that is no name is not shown: it may be a key in the wrong place.
            match sources.contains_key(text) {
                true => Ok(text.to_owned()),
                false => {
                    let names = sources.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
                    Err(format!("found another text, allowed is the name of a credential: {names}"))
                }
            }
        });
    let rate = choices.choose(key("rate"), default_rate, outside(&overrides.rate, rate), values::rate);
    let batch = choices.choose(key("batch"), default_batch, outside(&overrides.batch, batch), values::batch);
    let concurrency =
        choices.choose(key("concurrency"), default_concurrency, concurrency.into_iter().collect(), |text| {
            values::whole(text, CONCURRENCIES, "calls in flight")
        });

    let account = choices.choose_any(&key("account"), account.into_iter().collect(), |text| {
        // A text that is no account is not shown: it may be a key in the wrong place.
        text.parse::<AccountId>().map_err(|_| "invalid account id (expected 5 to 19 digits)".to_owned())
    });

    let mut settings = vec![endpoint.1, regions.1, credential.1, rate.1, batch.1, concurrency.1];
    let account = account.map(|(account, setting)| {
        settings.push(setting);
        account
    });
    let limits = LaneLimitValues { rate: rate.0, image_rate, batch: batch.0, concurrency: concurrency.0 };
    let limits =
        LaneLimits::new(limits).map_err(|error| choices.problems.push(format!("lanes.{name}.{error}"))).ok()?;
    let source = sources.get(&credential.0)?.source.clone();
    let (endpoint, regions, credential) = (endpoint.0, regions.0, credential.0);
    let lane = Lane { name: name.to_owned(), endpoint, regions, credential, source, account, limits };
    Some(Found { lane, settings, origin })
}

fn read_regions(key: String, given: Option<(Vec<Given>, Origin)>, choices: &mut Choices<'_>) -> (Regions, Setting) {
    let (regions, origin) = match given {
        None => (Regions::All, Origin::Default),
        Some((list, origin)) => {
            if list.is_empty() {
                choices.problems.push(format!("{origin}: found an empty list, allowed is at least one region"));
            }
            let mut regions = BTreeSet::new();
            for given in list {
                match values::region(&given.text, false) {
                    Ok(region) => drop(regions.insert(region)),
                    Err(problem) => choices.problems.push(format!("{}: {problem}", given.origin)),
                }
            }
            (Regions::These(regions), origin)
        }
    };
    let setting = Setting { key, value: regions.to_string(), origin };
    (regions, setting)
}

/// Lanes with one source have one key.
fn refuse_shared(found: &[Found], problems: &mut Vec<String>) {
    for (index, Found { lane: second, origin, .. }) in found.iter().enumerate() {
        for Found { lane: first, .. } in found.iter().take(index).filter(|first| first.lane.source == second.source) {
            if let Some(Shared { what, allowed }) = Shared::by(&first.place(), &second.place()) {
                let (name, credential) = (&first.name, &second.credential);
                problems.push(format!(
                    "{origin}: found credential {credential} and {what} as in lane {name}, allowed {allowed}"
                ));
            }
        }
    }
}

/// Different sources may hold one key: what [`refuse_shared`] says, by the ids of the lanes' keys.
pub(super) fn refuse_shared_keys<'a>(
    lanes: &[Lane],
    ids: impl IntoIterator<Item = Option<&'a SecretId>>,
) -> Vec<String> {
    let with_ids: Vec<_> = lanes.iter().zip(ids).filter_map(|(lane, id)| Some((lane, id?))).collect();
    let mut problems = Vec::new();
    for (index, (second, id)) in with_ids.iter().enumerate() {
        for (first, _) in with_ids.iter().take(index).filter(|(_, other)| other == id) {
            if let Some(Shared { what, allowed }) = Shared::by(&first.place(), &second.place()) {
                problems.push(format!(
                    "lanes.{}: found credential {}, which has the key of credential {}, and {what} as in lane {}, \
                     allowed {allowed}",
                    second.name, second.credential, first.credential, first.name
                ));
            }
        }
    }
    problems
}

/// What two lanes of one key share and may not.
pub(crate) struct Shared {
    pub(crate) what: String,
    allowed: &'static str,
}

impl Shared {
    /// Two lanes with one key would count against one limit without knowing of each other if their hosts were the
    /// same, and would write to one image at once if they shared a region.
    pub(crate) fn by<S: AsRef<str>>(first: &(S, &Regions), second: &(S, &Regions)) -> Option<Self> {
        let host = second.0.as_ref();
        if first.0.as_ref() == host {
            let allowed = "is one lane for a credential and a host: they have one limit together";
            return Some(Self { what: format!("host {host}"), allowed });
        }
        let region = first.1.shared(second.1)?;
        let allowed = "are regions of its own: lanes of one account never share a region";
        Some(Self { what: format!("region {region}"), allowed })
    }
}
