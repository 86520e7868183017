//! What state the process and its lanes are in: noted by whoever finds out, read by whoever is asked.

use std::{
    mem,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

use imageshare_core::text::printable;
use imageshare_engine::io::{CloseReason, LaneId};
use tokio::sync::watch;

use crate::{
    broker, events,
    metrics::{self, Metrics},
    wire::report::Status as LineStatus,
};

/// Characters of the last error of a lane that are kept.
const ERROR_CHARS_MAX: usize = 500;

/// How many heartbeats a lane may be without an ownership proof and without an acknowledgement.
const SILENT_HEARTBEATS_MAX: u32 = 2;

/// How long the loop may be still until it counts as stuck. It comes round twice a second.
const STILL_MAX: Duration = Duration::from_secs(10);

/// The state of the process and of all its lanes.
#[derive(Debug)]
pub struct Status {
    metrics: Metrics,
    lanes: Vec<OfLane>,
    started: Instant,
    /// Milliseconds from then to the last turn of the driver's loop.
    turned_at: AtomicU64,
    is_draining: AtomicBool,
    /// How it is with the publisher, where there is a broker.
    publisher: OnceLock<watch::Receiver<broker::State>>,
}

/// The state of one lane. Looking and noting never wait.
#[derive(Debug)]
pub struct OfLane {
    name: String,
    pub(crate) metrics: metrics::OfLane,
    facts: Mutex<Facts>,
}

/// What is known of a lane.
#[derive(Clone, Debug, Default)]
struct Facts {
    subscription: Subscription,
    closed: Option<CloseReason>,
    is_blocked: bool,
    /// What was said last.
    said: LaneState,
    last_error: Option<LastError>,
    /// When the lane last showed that it moves, by an ownership proof or an acknowledgement, and how long it may be without
    /// either.
    sign: Option<(Instant, Duration)>,
}

/// What went wrong last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastError {
    /// When.
    pub at: SystemTime,
    /// One printable line.
    pub message: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Subscription {
    #[default]
    None,
    Silent,
    Delivering,
}

/// The state of a lane in one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LaneState {
    /// No calls of the API, for this reason; jobs wait.
    Closed(CloseReason),
    /// There is no subscription.
    #[default]
    Disconnected,
    /// All that its window holds waits for images that are not ready.
    Blocked,
    /// There is a subscription on which nothing came yet: another worker has the lane, or it is empty. AMQP does not say
    /// which.
    Subscribed,
    /// Jobs come.
    Serving,
}

impl Status {
    /// Of lanes with these names, numbered in this order, none of them subscribed.
    #[must_use]
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let names: Vec<&str> = names.into_iter().collect();
        let (metrics, of_lanes) = Metrics::new(names.iter().copied());
        Self {
            metrics,
            lanes: names.into_iter().zip(of_lanes).map(|(name, metrics)| OfLane::new(name, metrics)).collect(),
            started: Instant::now(),
            turned_at: AtomicU64::new(0),
            is_draining: AtomicBool::new(false),
            publisher: OnceLock::new(),
        }
    }

    /// All lanes in their order.
    pub fn lanes(&self) -> impl Iterator<Item = &OfLane> {
        self.lanes.iter()
    }

    /// All metrics, as Prometheus reads them.
    #[must_use]
    pub fn metrics(&self) -> String {
        self.metrics.text(self.publisher.get().is_some())
    }

    /// How long ago the loop that does the work came round last. It does at least twice a second.
    #[must_use]
    pub fn still_for(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.turned_at.load(Relaxed)))
    }

    /// Whether the loop that does the work comes round.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        is_alive_after(self.still_for())
    }

    /// Whether the process is about to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.is_draining.load(Relaxed)
    }

    /// How it is with the connection that publishes; nothing if there is no broker.
    #[must_use]
    pub fn publisher(&self) -> Option<broker::State> {
        self.publisher.get().map(|state| state.borrow().clone())
    }

    /// What was read is no job, or none that a lane takes. It counts for the lane that it names, or the only one.
    pub fn rejected(&self, lane: Option<&str>) {
        let named = self.lanes.iter().find(|of| lane == Some(of.name.as_str()));
        let only = self.lanes.first().filter(|_| self.lanes.len() == 1);
        if let Some(lane) = named.or(only) {
            lane.metrics.jobs_finished.of(LineStatus::Rejected.as_str()).inc();
        }
    }

    /// The process works with a broker.
    pub(crate) fn has_broker(&self, publisher: watch::Receiver<broker::State>) {
        // There is one publisher.
        self.publisher.set(publisher).ok();
    }

    /// The loop came round.
    pub(crate) fn turned(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.turned_at.store(millis, Relaxed);
    }

    pub(crate) fn draining(&self) {
        self.is_draining.store(true, Relaxed);
    }

    /// One lane.
    pub(crate) fn lane(&self, lane: LaneId) -> &OfLane {
        self.lanes.get(lane.place()).expect("a lane is numbered by its place")
    }

    /// What counts for no lane.
    pub(crate) fn of_process(&self) -> &std::sync::Arc<metrics::OfProcess> {
        &self.metrics.of_process
    }
}

/// Whether a loop that was still for so long may be alive.
pub(crate) const fn is_alive_after(still_for: Duration) -> bool {
    still_for.as_millis() < STILL_MAX.as_millis()
}

impl OfLane {
    fn new(name: &str, metrics: metrics::OfLane) -> Self {
        let lane = Self { name: name.to_owned(), metrics, facts: Mutex::default() };
        lane.metrics.shows_state(LaneState::default().as_str(), false);
        lane
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its state now.
    #[must_use]
    pub fn state(&self) -> LaneState {
        self.lock().state()
    }

    /// Whether there is a subscription.
    #[must_use]
    pub fn is_consuming(&self) -> bool {
        self.lock().subscription != Subscription::None
    }

    /// What went wrong last, if anything did.
    #[must_use]
    pub fn last_error(&self) -> Option<LastError> {
        self.lock().last_error.clone()
    }

    /// Whether the lane is consumed, and has had neither an ownership proof nor an acknowledgement for longer than two
    /// heartbeats.
    #[must_use]
    pub fn is_stalled(&self) -> bool {
        let facts = self.lock();
        let is_late = facts.sign.is_some_and(|(at, silence_max)| at.elapsed() > silence_max);
        is_late && facts.subscription != Subscription::None
    }

    /// There is a subscription whose connection has this heartbeat.
    pub(crate) fn subscribed(&self, heartbeat: Duration) {
        self.note(|facts| {
            facts.subscription = Subscription::Silent;
            facts.sign = Some((Instant::now(), heartbeat * SILENT_HEARTBEATS_MAX));
        });
    }

    /// The broker proved that the lane is ours, or deliveries were acknowledged.
    pub(crate) fn moves(&self) {
        if let Some((at, _)) = &mut self.lock().sign {
            *at = Instant::now();
        }
    }

    pub(crate) fn delivered(&self) {
        if self.lock().subscription != Subscription::Delivering {
            self.note(|facts| facts.subscription = Subscription::Delivering);
        }
    }

    pub(crate) fn disconnected(&self) {
        self.note(|facts| (facts.subscription, facts.is_blocked) = (Subscription::None, false));
        let jobs = self.metrics.lost_all();
        if jobs > 0 {
            events::AckLost { lane: self, job_id: None, jobs }.record();
        }
    }

    pub(crate) fn close(&self, reason: CloseReason) {
        self.note(|facts| facts.closed = Some(reason));
    }

    pub(crate) fn open(&self) {
        self.note(|facts| facts.closed = None);
    }

    pub(crate) fn block(&self, is_blocked: bool) {
        self.note(|facts| facts.is_blocked = is_blocked);
    }

    /// Something went wrong, in words for people.
    pub(crate) fn went_wrong(&self, message: &str) {
        let message = printable(message, ERROR_CHARS_MAX);
        self.lock().last_error = Some(LastError { at: SystemTime::now(), message });
    }

    /// Notes something, and says what it makes of the lane if that is something new. In one step, so that what is said
    /// last is so.
    fn note(&self, what: impl FnOnce(&mut Facts)) {
        let mut facts = self.lock();
        what(&mut facts);
        let state = facts.state();
        self.metrics.shows_state(state.as_str(), facts.subscription != Subscription::None);
        if mem::replace(&mut facts.said, state) != state {
            events::LaneChanged { lane: &self.name, state }.record();
        }
    }

    /// What a panic left behind is whole: everything in here is set in one step.
    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    const fn state(&self) -> LaneState {
        match (self.closed, self.subscription) {
            (Some(reason), _) => LaneState::Closed(reason),
            (None, Subscription::None) => LaneState::Disconnected,
            (None, _) if self.is_blocked => LaneState::Blocked,
            (None, Subscription::Silent) => LaneState::Subscribed,
            (None, Subscription::Delivering) => LaneState::Serving,
        }
    }
}

impl LaneState {
    /// The word for it in logs, metrics and documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Closed(_) => "closed",
            Self::Disconnected => "disconnected",
            Self::Serving => "serving",
            Self::Subscribed => "subscribed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stood_still_for_long_is_not_alive() {
        assert!(is_alive_after(STILL_MAX.saturating_sub(Duration::from_millis(1))));
        assert!(!is_alive_after(STILL_MAX));
    }

    #[test]
    fn a_lane_is_in_the_state_that_explains_most() {
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
        lane.open();
        assert_eq!(lane.state(), LaneState::Disconnected);
        lane.subscribed(Duration::MAX / 2);
        assert_eq!(lane.state(), LaneState::Subscribed);
    }

    #[test]
    fn a_lane_without_proof_and_ack_is_stalled() {
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
