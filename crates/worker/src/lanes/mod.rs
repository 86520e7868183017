//! The lanes of the settings, opened with their credentials, and the lane that serves a job.

mod route;

use std::{borrow::Borrow, collections::BTreeMap, ops::Deref};

use tokio::task::JoinHandle;

use crate::{
    credentials::{CredentialCache, CredentialsError, IfMissing, Provider},
    environment::Environment,
    http::Client,
    lane::LaneConfig,
};

pub use route::{RouteError, route};

/// A lane with its credential. Its configuration can be read as its own fields.
#[derive(Clone, Debug)]
pub struct OpenLane {
    /// Its configuration.
    pub config: LaneConfig,
    /// What its calls are signed with.
    pub credentials: CredentialCache,
}

/// A lane has no credential.
#[derive(Debug, thiserror::Error)]
#[error("lane {lane}: {error}")]
pub struct NoCredential {
    /// The lane.
    pub lane: String,
    /// Why.
    pub error: CredentialsError,
}

/// Opens the lanes of the settings. Lanes with the same credential share its cache. All sources are loaded at the same time.
/// Must be called on the runtime.
///
/// # Errors
/// If a lane has no credential, unless that [can pass](CredentialsError::can_pass) and may be waited for.
pub async fn open_lanes(
    lanes: &[LaneConfig],
    environment: &Environment,
    client: &Client,
    if_missing: IfMissing,
) -> Result<Vec<OpenLane>, NoCredential> {
    // Lanes of one credential at different sites use different STS endpoints.
    let key = |lane: &LaneConfig| (lane.credential.clone(), lane.endpoint.sts());
    let mut starting: BTreeMap<_, JoinHandle<_>> = BTreeMap::new();
    for lane in lanes {
        starting.entry(key(lane)).or_insert_with(|| {
            let provider = Provider::new(lane.source.clone(), environment.clone(), client.clone(), &lane.endpoint);
            tokio::spawn(CredentialCache::start(provider, if_missing))
        });
    }
    let mut caches: BTreeMap<_, CredentialCache> = BTreeMap::new();
    let mut opened = Vec::with_capacity(lanes.len());
    for lane in lanes {
        if let Some(start) = starting.remove(&key(lane)) {
            let started = start.await.unwrap_or(Err(CredentialsError::BrokeDown));
            let cache = started.map_err(|error| NoCredential { lane: lane.name.clone(), error })?;
            caches.insert(key(lane), cache);
        }
        let cache = caches.get(&key(lane)).expect("the first lane of a credential inserts its cache");
        opened.push(OpenLane { config: lane.clone(), credentials: cache.clone() });
    }
    Ok(opened)
}

impl Deref for OpenLane {
    type Target = LaneConfig;

    fn deref(&self) -> &LaneConfig {
        &self.config
    }
}

impl Borrow<LaneConfig> for OpenLane {
    fn borrow(&self) -> &LaneConfig {
        &self.config
    }
}

#[cfg(test)]
mod tests;
