//! What state the lanes are in: noted by whoever finds out, read by whoever is asked.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use imageshare_engine::io::{CloseReason, LaneId};

use crate::events;

/// The states of all lanes of the process.
#[derive(Debug)]
pub struct Status {
    lanes: Vec<OfLane>,
}

/// The state of one lane. Looking and noting never wait.
#[derive(Debug)]
pub struct OfLane {
    name: String,
    facts: Mutex<Facts>,
}

/// What is known of a lane.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    subscription: Subscription,
    closed: Option<CloseReason>,
    is_blocked: bool,
    /// What was said last.
    said: LaneState,
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
    pub fn new(names: impl IntoIterator<Item = String>) -> Self {
        let lane = |name| OfLane { name, facts: Mutex::default() };
        Self { lanes: names.into_iter().map(lane).collect() }
    }

    /// All lanes in their order.
    pub fn lanes(&self) -> impl Iterator<Item = &OfLane> {
        self.lanes.iter()
    }

    /// One lane.
    pub(crate) fn lane(&self, lane: LaneId) -> &OfLane {
        let lane = usize::try_from(lane.0).ok().and_then(|place| self.lanes.get(place));
        lane.expect("a lane is numbered by its place")
    }
}

impl OfLane {
    /// The lane's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its state now.
    #[must_use]
    pub fn state(&self) -> LaneState {
        self.lock().state()
    }

    pub(crate) fn subscribed(&self) {
        self.note(|facts| facts.subscription = Subscription::Silent);
    }

    pub(crate) fn delivered(&self) {
        if self.lock().subscription != Subscription::Delivering {
            self.note(|facts| facts.subscription = Subscription::Delivering);
        }
    }

    pub(crate) fn disconnected(&self) {
        self.note(|facts| (facts.subscription, facts.is_blocked) = (Subscription::None, false));
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

    /// Notes something, and says what it makes of the lane if that is something new.
    fn note(&self, what: impl FnOnce(&mut Facts)) {
        let said = {
            let mut facts = self.lock();
            what(&mut facts);
            let state = facts.state();
            (mem::replace(&mut facts.said, state) != state).then_some(state)
        };
        if let Some(state) = said {
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
    fn a_lane_is_in_the_state_that_explains_most() {
        let status = Status::new(["eu".to_owned()]);
        let lane = status.lane(LaneId(0));
        assert_eq!((lane.name(), lane.state()), ("eu", LaneState::Disconnected));
        lane.subscribed();
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
        lane.subscribed();
        assert_eq!(lane.state(), LaneState::Subscribed);
    }
}
