//! What a command prints and logs, and how it treats jobs. Not read from a file: part of it is needed before a file is
//! read.

use std::time::Duration;

use imageshare_core::ids::{KNOWN_REGIONS, Region};
use tracing::Level;

use super::{
    resolver::section,
    values::{Invalid, Parser, duration, name_of, region, switch, word},
};
use crate::lane::Regions;

const SECOND: Duration = Duration::from_secs(1);

section! {
    /// What a command prints and logs.
    OutputSettings from RawOutput () {
        /// JSON on standard output, on a terminal too
        json: bool = false, switch(), variables &["IMAGESHARE_JSON"], flag "--json";
        /// Errors only on standard error
        quiet: bool = false, switch(), variables &["IMAGESHARE_QUIET"], flag "--quiet";
        /// How much a worker logs: `debug` adds every job and refused requests, `trace` every delivery and request
        log: Level = Level::INFO, level(), variables &["IMAGESHARE_LOG"], flag "--log";
    }
}

section! {
    /// What holds for jobs that do not say otherwise, and how long a command waits.
    JobSettings from RawJobs (lanes: &[String], served: &[&Regions]) {
        /// The lane of jobs that name none
        lane: Option<String> = None, name_of("a lane of the settings", lanes, Invalid::Value).optional(), variables &["IMAGESHARE_LANE"], flag "--lane";
        /// The region of jobs that name none
        region: Option<Region> = None, region().known(regions(served)).optional(),
            variables &["TENCENTCLOUD_REGION"], flag "--region";
        /// How long a command waits for an endpoint or a broker that does not work, or while its credential is refused
        give_up_after: Duration = 60 * SECOND, duration(SECOND / 10..=7 * 86_400 * SECOND),
            variables &["IMAGESHARE_GIVE_UP_AFTER"], flag "--give-up-after";
        /// How long a worker may take to shut down before it abandons the requests in flight
        grace: Duration = 25 * SECOND, duration(SECOND..=3_600 * SECOND),
            variables &["IMAGESHARE_GRACE"], flag "--grace";
    }
}

/// What a command prints and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputOptions {
    /// JSON on standard output, on a terminal too.
    pub json: bool,
    /// Errors only on standard error.
    pub quiet: bool,
    /// How much a worker logs.
    pub log: Level,
}

impl From<&OutputSettings> for OutputOptions {
    fn from(settings: &OutputSettings) -> Self {
        Self { json: settings.json.value, quiet: settings.quiet.value, log: settings.log.value }
    }
}

fn level() -> Parser<Level> {
    let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
    word(levels.map(|level| (level.as_str().to_ascii_lowercase(), level)))
}

/// The regions that lanes name, and those of the vendor.
fn regions(served: &[&Regions]) -> Vec<String> {
    let named = served.iter().filter_map(|regions| match regions {
        Regions::All => None,
        Regions::These(regions) => Some(regions),
    });
    named.flatten().map(ToString::to_string).chain(KNOWN_REGIONS.map(str::to_owned)).collect()
}
