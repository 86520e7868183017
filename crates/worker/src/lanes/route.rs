//! The lane that serves a job.

use std::{borrow::Borrow, collections::BTreeSet};

use imageshare_core::{ids::Region, text::excerpt};
use imageshare_engine::io::LaneId;

use crate::lane::LaneConfig;

/// Why no lane serves a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There is no lane of that name.
    #[error("lane: unknown lane {found} (expected {lanes})")]
    NoSuchLane {
        /// The start of the name, safe to print.
        found: String,
        /// The names of all lanes.
        lanes: String,
    },
    /// The lane of that name does not serve the region.
    #[error("region: {region} is not served by lane {lane} (expected {regions})")]
    NotInLane {
        /// The job's region.
        region: Region,
        /// The lane.
        lane: String,
        /// Its regions.
        regions: String,
    },
    /// No lane serves the region.
    #[error("region: no lane serves {region} (expected {regions})")]
    NoLane {
        /// The job's region.
        region: Region,
        /// The regions of all lanes.
        regions: String,
    },
    /// Each region is served, but not by one lane.
    #[error("images: no lane serves {regions} together (expected images of one lane; use a job for each lane)")]
    Apart {
        /// The regions of the job's images.
        regions: String,
    },
    /// More than one lane serves the region, with different accounts.
    #[error("lane: missing, and region {region} is served by the lanes {lanes} (expected one of them)")]
    Ambiguous {
        /// The job's region, or the first of them.
        region: Region,
        /// The names of the lanes that serve all of the job's images.
        lanes: String,
    },
}

/// Returns the lane that serves a job: the lane that it names, else the only one that serves the regions of all its images.
/// Lanes are numbered in the order of the slice, as the driver numbers them.
///
/// # Errors
/// If no lane serves it, or more than one, or the named lane does not serve a region.
///
/// # Panics
/// If there is no region.
pub fn route(
    lanes: &[impl Borrow<LaneConfig>],
    lane: Option<&str>,
    regions: impl IntoIterator<Item = Region>,
) -> Result<LaneId, RouteError> {
    let regions: BTreeSet<Region> = regions.into_iter().collect();
    let first = *regions.first().expect("a job has an image");
    let lanes = || lanes.iter().map(Borrow::<LaneConfig>::borrow);
    let numbered = || (0..).map(LaneId).zip(lanes());
    if let Some(name) = lane {
        let Some((id, lane)) = numbered().find(|(_, lane)| lane.name == name) else {
            let lanes = list(lanes().map(|lane| &lane.name));
            return Err(RouteError::NoSuchLane { found: excerpt(name), lanes });
        };
        if let Some(&region) = regions.iter().find(|region| !lane.regions.contains(**region)) {
            let (lane, regions) = (lane.name.clone(), lane.regions.to_string());
            return Err(RouteError::NotInLane { region, lane, regions });
        }
        return Ok(id);
    }
    let serves_all = |lane: &LaneConfig| regions.iter().all(|region| lane.regions.contains(*region));
    let serving: Vec<_> = numbered().filter(|(_, lane)| serves_all(lane)).collect();
    match serving.as_slice() {
        [(id, _)] => Ok(*id),
        [] => Err(match regions.iter().find(|region| !lanes().any(|lane| lane.regions.contains(**region))) {
            Some(&region) => RouteError::NoLane { region, regions: list(lanes().map(|lane| lane.regions.to_string())) },
            None => RouteError::Apart { regions: list(regions.iter().map(ToString::to_string)) },
        }),
        several => {
            let lanes = list(several.iter().map(|(_, lane)| &lane.name));
            Err(RouteError::Ambiguous { region: first, lanes })
        }
    }
}

fn list(names: impl Iterator<Item = impl ToString>) -> String {
    names.map(|name| name.to_string()).collect::<Vec<_>>().join(", ")
}
