//! The state of the process and its lanes: the driver and the broker write it, the admin server reads it.

use std::{
    fmt, mem,
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use imageshare_core::text::printable;
use imageshare_engine::io::{CloseReason, LaneId};
use parking_lot::{Mutex, MutexGuard};
use tracing::{debug, info, warn};

use crate::{
    metrics::{self, Metrics},
    wire::report::Status as LineStatus,
};

/// Characters of the last error of a lane that are kept.
const ERROR_CHARS_MAX: usize = 500;

/// Heartbeats that a lane may be without an ownership proof and without an acknowledgement.
const SILENT_HEARTBEATS_MAX: u32 = 2;

/// How long the driver's loop may be still before it counts as stuck. It turns at least twice per second.
const STILL_MAX: Duration = Duration::from_secs(10);

/// The state of the process and of all its lanes.
#[derive(Debug)]
pub struct Status {
    metrics: Metrics,
    lanes: Vec<LaneRecord>,
    started: Instant,
    /// Milliseconds from then to the last turn of the driver's loop.
    turned_at: AtomicU64,
    is_draining: AtomicBool,
    /// Reads the state of the publisher, with a broker.
    publisher: OnceLock<ReadPublisher>,
}

/// The state of one lane. Reading and writing never wait.
#[derive(Debug)]
pub struct LaneRecord {
    name: String,
    pub(crate) metrics: metrics::LaneMetrics,
    facts: Mutex<Facts>,
}

/// What the state of a lane is made of.
#[derive(Clone, Debug, Default)]
struct Facts {
    subscription: SubscriptionState,
    closed: Option<CloseReason>,
    is_blocked: bool,
    is_paused: bool,
    /// The state that was logged last.
    logged: LaneState,
    last_error: Option<LastError>,
    /// When the lane last had an ownership proof or an acknowledgement, and how long it may be without either.
    sign: Option<(Instant, Duration)>,
}

/// The state of the connection that publishes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherStatus {
    /// Whether it is connected to the broker.
    pub is_connected: bool,
    /// Whether it can publish.
    pub is_ready: bool,
    /// The state in one word.
    pub state: &'static str,
    /// What is wrong, if it is not ready.
    pub detail: Option<String>,
}

struct ReadPublisher(Box<dyn Fn() -> PublisherStatus + Send + Sync>);

impl fmt::Debug for ReadPublisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadPublisher")
    }
}

/// The last error of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// When it occurred.
    pub at: SystemTime,
    /// The error as one printable line.
    pub message: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SubscriptionState {
    #[default]
    None,
    Silent,
    Delivering,
}

/// The state of a lane in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LaneState {
    /// Closed for this reason: no calls are made, and jobs wait.
    Closed(CloseReason),
    /// Without a subscription.
    #[default]
    Disconnected,
    /// The operator paused it: jobs wait in its queue.
    Paused,
    /// All jobs of its window wait for images that are not ready.
    Blocked,
    /// Subscribed, without a delivery yet: another worker is the consumer of the lane, or it is empty. AMQP does not tell
    /// which.
    Subscribed,
    /// Receiving jobs.
    Serving,
}

impl Status {
    /// Returns the state of lanes with these names, numbered in this order, none of them subscribed.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = names.into_iter().collect();
        let (metrics, of_lanes) = Metrics::new(names.iter().copied());
        Self {
            metrics,
            lanes: names.into_iter().zip(of_lanes).map(|(name, metrics)| LaneRecord::new(name, metrics)).collect(),
            started: Instant::now(),
            turned_at: AtomicU64::new(0),
            is_draining: AtomicBool::new(false),
            publisher: OnceLock::new(),
        }
    }

    /// Returns the lanes in their order.
    pub fn lanes(&self) -> impl Iterator<Item = &LaneRecord> {
        self.lanes.iter()
    }

    /// Returns all metrics in the text format of Prometheus.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.metrics.text(self.publisher.get().is_some())
    }

    /// Returns how long ago the driver's loop turned. It does at least twice per second.
    #[must_use]
    pub fn still_for(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.turned_at.load(Relaxed)))
    }

    /// Returns whether the driver's loop turns.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        is_alive_after(self.still_for())
    }

    /// Returns whether the process is shutting down.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }

    /// Returns the state of the publisher; `None` without a broker.
    #[must_use]
    pub fn publisher(&self) -> Option<PublisherStatus> {
        self.publisher.get().map(|ReadPublisher(read)| read())
    }

    /// Counts an invalid job for the lane that it names, or for the only lane.
    pub fn rejected(&self, lane: Option<&str>) {
        let named = self.lanes.iter().find(|of| lane == Some(of.name.as_str()));
        let only = self.lanes.first().filter(|_| self.lanes.len() == 1);
        if let Some(lane) = named.or(only) {
            lane.metrics.jobs_finished.of(LineStatus::Rejected.as_str()).inc();
        }
    }

    /// Sets how the state of the publisher is read, of a process with a broker.
    pub(crate) fn has_broker(&self, publisher: impl Fn() -> PublisherStatus + Send + Sync + 'static) {
        // There is one publisher.
        self.publisher.set(ReadPublisher(Box::new(publisher))).ok();
    }

    /// Records that the driver's loop turned.
    pub(crate) fn turned(&self) {
        self.turned_at.store(crate::millis(self.started.elapsed()), Relaxed);
    }

    pub(crate) fn draining(&self) {
        self.is_draining.store(true, Relaxed);
    }

    /// Returns a lane.
    pub(crate) fn lane(&self, lane: LaneId) -> &LaneRecord {
        self.lanes.get(lane.place()).expect("a lane is numbered by its place")
    }

    /// Returns the metrics that belong to no lane.
    pub(crate) fn of_process(&self) -> &std::sync::Arc<metrics::ProcessMetrics> {
        &self.metrics.of_process
    }
}

/// Returns whether a loop that was still for this long may be alive.
pub(crate) const fn is_alive_after(still_for: Duration) -> bool {
    still_for.as_millis() < STILL_MAX.as_millis()
}

impl LaneRecord {
    fn new(name: &str, metrics: metrics::LaneMetrics) -> Self {
        let lane = Self { name: name.to_owned(), metrics, facts: Mutex::default() };
        lane.metrics.shows_state(LaneState::default().as_str(), false);
        lane
    }

    /// Returns its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its state now.
    #[must_use]
    pub fn state(&self) -> LaneState {
        self.lock().state()
    }

    /// Returns whether it has a subscription.
    #[must_use]
    pub fn is_consuming(&self) -> bool {
        self.lock().subscription != SubscriptionState::None
    }

    /// Returns its last error.
    #[must_use]
    pub fn last_error(&self) -> Option<LastError> {
        self.lock().last_error.clone()
    }

    /// Returns whether the lane is consumed and has had neither an ownership proof nor an acknowledgement for longer than
    /// two heartbeats.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        let facts = self.lock();
        let is_late = facts.sign.is_some_and(|(at, silence_max)| at.elapsed() > silence_max);
        is_late && facts.subscription != SubscriptionState::None
    }

    /// Records a subscription, whose connection has this heartbeat.
    pub(crate) fn subscribed(&self, heartbeat: Duration) {
        self.update(|facts| {
            facts.subscription = SubscriptionState::Silent;
            facts.sign = Some((Instant::now(), heartbeat * SILENT_HEARTBEATS_MAX));
        });
    }

    /// Records an ownership proof, or an acknowledgement.
    pub(crate) fn moves(&self) {
        if let Some((at, _)) = &mut self.lock().sign {
            *at = Instant::now();
        }
    }

    pub(crate) fn delivered(&self) {
        if self.lock().subscription != SubscriptionState::Delivering {
            self.update(|facts| facts.subscription = SubscriptionState::Delivering);
        }
    }

    pub(crate) fn disconnected(&self) {
        self.update(|facts| (facts.subscription, facts.is_blocked) = (SubscriptionState::None, false));
        let jobs = self.metrics.lost_all();
        if jobs > 0 {
            self.acks_lost(None, jobs);
        }
    }

    pub(crate) fn close(&self, reason: CloseReason) {
        self.update(|facts| facts.closed = Some(reason));
    }

    pub(crate) fn open(&self) {
        self.update(|facts| facts.closed = None);
    }

    pub(crate) fn block(&self, is_blocked: bool) {
        self.update(|facts| facts.is_blocked = is_blocked);
    }

    pub(crate) fn set_paused(&self, is_paused: bool) {
        self.update(|facts| facts.is_paused = is_paused);
    }

    /// Records an error.
    pub(crate) fn record_error(&self, message: &str) {
        let message = printable(message, ERROR_CHARS_MAX);
        self.lock().last_error = Some(LastError { at: SystemTime::now(), message });
    }

    /// Counts and logs settled deliveries that can no longer be acknowledged, so they are redelivered. `job_id` is the job if
    /// it is one whose id is still known.
    pub(crate) fn acks_lost(&self, job_id: Option<&str>, jobs: u64) {
        self.metrics.of_process.acks_lost.inc_by(jobs);
        debug!(lane = self.name, job_id, jobs, "not acknowledged; will be redelivered");
    }

    fn log(&self, state: LaneState) {
        let (lane, name) = (&self.name, state.as_str());
        match state {
            LaneState::Closed(reason) => warn!(lane, state = name, reason = reason.as_str(), "lane state"),
            LaneState::Blocked | LaneState::Disconnected => warn!(lane, state = name, "lane state"),
            LaneState::Paused | LaneState::Serving | LaneState::Subscribed => info!(lane, state = name, "lane state"),
        }
    }

    /// Changes a fact, and logs the state if it changed. All under one lock, so that the last state in the log is the
    /// current one.
    fn update(&self, what: impl FnOnce(&mut Facts)) {
        let mut facts = self.lock();
        what(&mut facts);
        let state = facts.state();
        self.metrics.shows_state(state.as_str(), facts.subscription != SubscriptionState::None);
        if mem::replace(&mut facts.logged, state) != state {
            self.log(state);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock()
    }
}

impl Facts {
    const fn state(&self) -> LaneState {
        match (self.closed, self.subscription) {
            _ if self.is_paused => LaneState::Paused,
            (Some(reason), _) => LaneState::Closed(reason),
            (None, SubscriptionState::None) => LaneState::Disconnected,
            (None, _) if self.is_blocked => LaneState::Blocked,
            (None, SubscriptionState::Silent) => LaneState::Subscribed,
            (None, SubscriptionState::Delivering) => LaneState::Serving,
        }
    }
}

impl LaneState {
    /// Returns the word for it in logs, metrics and documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Closed(_) => "closed",
            Self::Disconnected => "disconnected",
            Self::Paused => "paused",
            Self::Serving => "serving",
            Self::Subscribed => "subscribed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stalled_loop_is_not_alive() {
        assert!(is_alive_after(STILL_MAX.saturating_sub(Duration::from_millis(1))));
        assert!(!is_alive_after(STILL_MAX));
    }

    #[test]
    fn lane_has_state_that_explains_most() {
        let status = Status::new(["eu"]);
        let lane = status.lane(LaneId(0));
        assert_eq!((lane.name(), lane.state()), ("eu", LaneState::Disconnected));
        lane.subscribed(Duration::MAX / 2);
        assert_eq!(lane.state(), LaneState::Subscribed);
        lane.delivered();
        assert_eq!(lane.state(), LaneState::Serving);
        lane.block(true);
        assert_eq!(lane.state(), LaneState::Blocked);
        lane.close(CloseReason::Credential);
        lane.disconnected();
        assert_eq!(lane.state(), LaneState::Closed(CloseReason::Credential));
        lane.set_paused(true);
        assert_eq!(lane.state(), LaneState::Paused);
        lane.set_paused(false);
        assert_eq!(lane.state(), LaneState::Closed(CloseReason::Credential));
        lane.open();
        assert_eq!(lane.state(), LaneState::Disconnected);
        lane.subscribed(Duration::MAX / 2);
        assert_eq!(lane.state(), LaneState::Subscribed);
    }

    #[test]
    fn lane_without_proof_and_ack_is_stalled() {
        let status = Status::new(["eu"]);
        let lane = status.lane(LaneId(0));
        assert!(!lane.is_stalled(), "it is not consumed");
        lane.subscribed(Duration::MAX / 2);
        assert!(!lane.is_stalled());
        lane.subscribed(Duration::ZERO);
        while !lane.is_stalled() {
            std::thread::yield_now();
        }
        lane.disconnected();
        assert!(!lane.is_stalled(), "it is not consumed any more");
    }
}
