//! The state of the process and its lanes, as JSON.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, Unit};
use prometheus::IntCounter;
use serde::Serialize;

use super::Readiness;
use crate::{
    metrics::{Labelled, Outcomes, READ_IMAGE, READ_SHARES, WRITE},
    status::{LaneRecord, LaneState, PublisherStatus, Status, is_alive_after},
    wire::report::worker_name,
};

/// Why a lane that is consumed is not ready.
const STALLED: &str = "stalled";

/// Whether the loop of the driver turns.
#[derive(Debug, Serialize)]
pub(super) struct AliveJson {
    pub(super) alive: bool,
    still_for_seconds: f64,
}

/// Whether the process is ready, and which of its parts are not, and why.
#[derive(Debug, Serialize)]
pub(super) struct ReadyJson<'a> {
    pub(super) ready: bool,
    draining: bool,
    /// `None` without a broker.
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<PublisherJson>,
    lanes: BTreeMap<&'a str, LaneReadyJson>,
}

#[derive(Debug, Serialize)]
struct LaneReadyJson {
    ready: bool,
    state: &'static str,
    /// Why it is not ready, in one word.
    reason: Option<&'static str>,
    /// The last error, if it is not ready.
    detail: Option<String>,
}

#[derive(Debug, Serialize)]
struct PublisherJson {
    ready: bool,
    state: &'static str,
    detail: Option<String>,
}

/// The whole state.
#[derive(Debug, Serialize)]
pub(super) struct StatusJson<'a> {
    version: &'static str,
    worker: String,
    now: String,
    alive: bool,
    ready: bool,
    draining: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    publisher: Option<PublisherJson>,
    /// Dead letters that wait in the broker; `None` while unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letters_ready: Option<u64>,
    lanes: Vec<LaneJson<'a>>,
}

#[derive(Debug, Serialize)]
struct LaneJson<'a> {
    name: &'a str,
    state: &'static str,
    /// Why it is closed.
    reason: Option<&'static str>,
    ready: bool,
    consuming: bool,
    /// Jobs that wait in the broker; `None` while unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue_ready: Option<u64>,
    jobs_held: i64,
    operations_pending: i64,
    oldest_wait_seconds: f64,
    /// The current rate limit in requests per second, by action.
    rate: BTreeMap<&'static str, f64>,
    batch_limit: i64,
    requests_in_flight: i64,
    clock_offset_seconds: i64,
    jobs: BTreeMap<&'static str, u64>,
    shared: AccountsJson,
    cancelled: AccountsJson,
    last_delivery: Option<String>,
    last_progress: Option<String>,
    last_error: Option<ErrorJson>,
}

#[derive(Debug, Serialize)]
struct AccountsJson {
    changed: u64,
    unchanged: u64,
    failed: u64,
}

#[derive(Debug, Serialize)]
struct ErrorJson {
    at: String,
    message: String,
}

impl AliveJson {
    pub(super) fn new(status: &Status) -> Self {
        let still_for = status.still_for();
        Self { alive: is_alive_after(still_for), still_for_seconds: rounded(still_for.as_secs_f64()) }
    }
}

impl<'a> ReadyJson<'a> {
    pub(super) fn new(status: &'a Status, readiness: Readiness) -> Self {
        let draining = status.is_draining();
        let publisher = status.publisher();
        let is_connected = publisher.as_ref().is_none_or(|publisher| publisher.is_connected);
        let publisher = publisher.map(PublisherJson::from);
        let lanes: BTreeMap<_, _> = status.lanes().map(|lane| (lane.name(), LaneReadyJson::new(lane))).collect();
        let can_work = match readiness {
            Readiness::Broker => true,
            Readiness::Lanes => {
                publisher.as_ref().is_none_or(|publisher| publisher.ready) && lanes.values().all(|lane| lane.ready)
            }
        };
        let ready = !draining && status.is_alive() && is_connected && can_work;
        Self { ready, draining, publisher, lanes }
    }
}

impl LaneReadyJson {
    fn new(lane: &LaneRecord) -> Self {
        let state = lane.state();
        let reason = match state {
            LaneState::Closed(reason) => Some(reason.as_str()),
            LaneState::Blocked | LaneState::Disconnected => Some(state.as_str()),
            // The operator wants it so.
            LaneState::Paused => None,
            LaneState::Serving | LaneState::Subscribed => lane.is_stalled().then_some(STALLED),
        };
        let detail = match reason {
            None => None,
            Some(STALLED) => Some("no ownership proof and no acknowledgement for two heartbeats".to_owned()),
            Some(_) => lane.last_error().map(|error| error.message),
        };
        Self { ready: reason.is_none(), state: state.as_str(), reason, detail }
    }
}

impl From<PublisherStatus> for PublisherJson {
    fn from(status: PublisherStatus) -> Self {
        let PublisherStatus { is_ready, state, detail, .. } = status;
        Self { ready: is_ready, state, detail }
    }
}

impl<'a> StatusJson<'a> {
    pub(super) fn new(status: &'a Status, readiness: Readiness) -> Self {
        let ReadyJson { ready, draining, publisher, .. } = ReadyJson::new(status, readiness);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            worker: worker_name(),
            now: time(SystemTime::now()),
            alive: AliveJson::new(status).alive,
            ready,
            draining,
            publisher,
            dead_letters_ready: depth(status.of_process().dead_letters_ready.get()),
            lanes: status.lanes().map(LaneJson::new).collect(),
        }
    }
}

impl<'a> LaneJson<'a> {
    fn new(lane: &'a LaneRecord) -> Self {
        let LaneReadyJson { ready, state, reason, .. } = LaneReadyJson::new(lane);
        let metrics = &lane.metrics;
        let rates =
            [(WRITE, &metrics.writes), (READ_SHARES, &metrics.share_readings), (READ_IMAGE, &metrics.image_readings)];
        Self {
            name: lane.name(),
            state,
            reason: reason.filter(|reason| *reason != state),
            ready,
            consuming: lane.is_consuming(),
            queue_ready: depth(metrics.queue_ready.get()),
            jobs_held: metrics.jobs_held.get(),
            operations_pending: metrics.operations_pending.get(),
            oldest_wait_seconds: rounded(metrics.oldest_wait.get()),
            rate: rates.into_iter().map(|(action, requests)| (action, rounded(requests.rate_limit.get()))).collect(),
            batch_limit: metrics.batch_limit.get(),
            requests_in_flight: metrics.requests_in_flight.get(),
            clock_offset_seconds: metrics.clock_offset.get(),
            jobs: counts(&metrics.jobs_finished),
            shared: AccountsJson::from(&metrics.shared),
            cancelled: AccountsJson::from(&metrics.cancelled),
            last_delivery: at(metrics.last_delivery.get()),
            last_progress: at(metrics.last_progress.get()),
            last_error: lane.last_error().map(|error| ErrorJson { at: time(error.at), message: error.message }),
        }
    }
}

impl From<&Outcomes> for AccountsJson {
    fn from(outcomes: &Outcomes) -> Self {
        Self { changed: outcomes.changed.get(), unchanged: outcomes.unchanged.get(), failed: outcomes.failed.get() }
    }
}

fn counts(counters: &Labelled<IntCounter>) -> BTreeMap<&'static str, u64> {
    counters.all().map(|(value, counter)| (value, counter.get())).collect()
}

/// Returns the depth of a queue; `None` for NaN, which means unknown.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a depth is a u32 in a float")]
fn depth(depth: f64) -> Option<u64> {
    (!depth.is_nan()).then_some(depth as u64)
}

/// Returns a moment in seconds since 1970 as text; `None` for 0.
fn at(seconds: f64) -> Option<String> {
    let since = Duration::try_from_secs_f64(seconds).ok().filter(|since| !since.is_zero())?;
    SystemTime::UNIX_EPOCH.checked_add(since).map(time)
}

fn time(time: SystemTime) -> String {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::MAX);
    time.round(Unit::Millisecond).unwrap_or(time).to_string()
}

/// Rounds to three decimals.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
