//! Lanes: credential, endpoint, regions and limits of each.

use std::collections::BTreeMap;

use imageshare_core::{credential::SecretId, ids::AccountId};
use imageshare_engine::limits::{LaneLimitValues, LaneLimits};

use super::{
    DEFAULT_NAME,
    engine::refused,
    error::SettingsProblem,
    resolver::{SettingsResolver, section},
    setting::SettingOrigin,
    values::{Invalid, Parser, boolean, decimal_within, name_of, parsed, region, whole},
};
use crate::{
    credentials::Source,
    endpoint::Endpoint,
    lane::{LaneConfig, LaneConflict, Regions},
    wire::job::is_lane_name,
};

/// The API's endpoint by default: that of the international site.
pub const DEFAULT_ENDPOINT: &str = "cvm.intl.tencentcloudapi.com";

/// What the name of a lane, or of a list of accounts, looks like.
pub(super) const LANE_NAME_EXPECTED: &str = "1 to 63 lowercase letters, digits and hyphens";

/// Variable and flag of the endpoint, which replace all lanes by one.
const ENDPOINT: (&str, &str) = ("IMAGESHARE_ENDPOINT", "--endpoint");

section! {
    /// A lane of the settings.
    LaneSettings from RawLane (credentials: &[String]) {
        /// The API endpoint. The variable and the flag replace all lanes by one
        endpoint: Endpoint = DEFAULT_ENDPOINT.parse().expect("the default endpoint is a host"), parsed(Endpoint::EXPECTED),
            variables &[ENDPOINT.0], flag "--endpoint";
        /// The regions whose images the lane serves, as a list
        regions: Regions = Regions::All, regions();
        /// The credential of the lane
        credential: String = DEFAULT_NAME.to_owned(), name_of("the name of a credential", credentials, Invalid::Hidden);
        /// The account (UIN) that the lane's key must belong to; [below](#the-account-of-a-key)
        account: Option<AccountId> = None, account().optional();
        /// For each action but DescribeImages, which has 40 requests a second. The API allows 10
        rate: f64 = LaneLimitValues::default().rate, decimal_within(0.01..=1000.0, "requests a second"),
            variables &["IMAGESHARE_RATE"], flag "--rate";
        /// The most accounts in one request
        batch: u32 = LaneLimitValues::default().batch, whole(1..=500, "accounts per request"),
            variables &["IMAGESHARE_BATCH"], flag "--batch";
        /// Requests in flight
        concurrency: u32 = LaneLimitValues::default().concurrency, whole(1..=1000, "requests in flight");
        /// Whether a worker leaves the lane's jobs in the queue; [pausing a lane](operations.md#paused)
        paused: bool = false, boolean();
    }
}

impl LaneSettings {
    /// Returns the lane of these settings; `None` if the engine refuses its limits, which is recorded.
    pub(super) fn lane(&self, name: &str, source: Source, resolver: &mut SettingsResolver<'_>) -> Option<LaneConfig> {
        let limits = LaneLimits::new(LaneLimitValues {
            rate: self.rate.value,
            batch: self.batch.value,
            concurrency: self.concurrency.value,
            ..LaneLimitValues::default()
        });
        let limits = limits.map_err(|error| resolver.report(refused(&format!("lanes.{name}"), &error))).ok()?;
        Some(LaneConfig {
            name: name.to_owned(),
            endpoint: self.endpoint.value.clone(),
            regions: self.regions.value.clone(),
            credential: self.credential.value.clone(),
            source,
            account: self.account.value,
            limits,
            is_paused: self.paused.value,
        })
    }
}

/// Resolves the lanes of the file, or the one lane that exists without any. An endpoint from outside the file replaces all
/// lanes by that one, and they are not read.
pub(super) fn resolve(
    mut raw: BTreeMap<String, RawLane>,
    credentials: &[String],
    resolver: &mut SettingsResolver<'_>,
) -> BTreeMap<String, LaneSettings> {
    let (variable, flag) = ENDPOINT;
    let is_replaced = resolver.flags.get(flag).is_some() || resolver.environment.text(variable) != Ok(None);
    if is_replaced {
        raw.clear();
    }
    if raw.is_empty() {
        raw.insert(DEFAULT_NAME.to_owned(), RawLane::default());
    }
    let mut lanes = BTreeMap::new();
    for (name, raw) in raw {
        if !is_lane_name(&name) {
            resolver.refuse(&["lanes".to_owned(), name], "invalid name of a lane", LANE_NAME_EXPECTED);
            continue;
        }
        let settings = LaneSettings::resolve(raw, &["lanes", &name], resolver, credentials);
        lanes.insert(name, settings);
    }
    lanes
}

/// Records lanes that have one source, and so one key, and share a host or a region.
pub(super) fn refuse_shared(lanes: &[LaneConfig], resolver: &mut SettingsResolver<'_>) {
    for (second, first, what) in conflicts(lanes.iter().map(|lane| (lane, &lane.source))) {
        let LaneConflict { what, expected } = what;
        let fault = format!("credential {} and {what} as in lane {}", second.credential, first.name);
        resolver.refuse(&["lanes".to_owned(), second.name.clone()], fault, expected);
    }
}

/// Returns the same for lanes whose different sources have one key, by the ids of the keys.
pub(super) fn shared_keys<'a>(
    lanes: &[LaneConfig],
    ids: impl IntoIterator<Item = Option<&'a SecretId>>,
) -> Vec<SettingsProblem> {
    let with_ids = lanes.iter().zip(ids).filter_map(|(lane, id)| Some((lane, id?)));
    let problem = |(second, first, LaneConflict { what, expected }): (&LaneConfig, &LaneConfig, LaneConflict)| {
        let fault = format!(
            "credential {} has the key of credential {}, and {what} as in lane {}",
            second.credential, first.credential, first.name
        );
        SettingsProblem::of_key(SettingOrigin::Default, format!("lanes.{}", second.name), fault, expected)
    };
    conflicts(with_ids).into_iter().map(problem).collect()
}

/// Returns the pairs of lanes that have one key and share a host or a region, the later lane first.
fn conflicts<'a, K: PartialEq>(
    lanes: impl Iterator<Item = (&'a LaneConfig, K)>,
) -> Vec<(&'a LaneConfig, &'a LaneConfig, LaneConflict)> {
    let lanes: Vec<_> = lanes.collect();
    let mut conflicts = Vec::new();
    for (index, (second, key)) in lanes.iter().enumerate() {
        for (first, _) in lanes.iter().take(index).filter(|(_, other)| other == key) {
            let shared = LaneConflict::by(&first.place(), &second.place());
            conflicts.extend(shared.map(|shared| (*second, *first, shared)));
        }
    }
    conflicts
}

fn regions() -> Parser<Regions> {
    region().list().map(|regions| Regions::These(regions.into_iter().collect()))
}

fn account() -> Parser<AccountId> {
    // A text that is not an account is not shown: it may be a key in the wrong place.
    Parser::of_text("an account id of 5 to 19 digits", |text| text.parse().map_err(|_| Invalid::Hidden))
}
