//! What happens between us and the broker.

use std::{fmt, time::Duration};

use tracing::{error, info, warn};

use crate::{
    broker::{Error, State, topology::Difference},
    driver::GiveBack,
    metrics,
    status::OfLane,
};

/// A lane was given back to the broker.
pub(crate) struct GivenBack<'a> {
    pub(crate) lane: &'a OfLane,
    pub(crate) why: GiveBack,
}

/// The subscription of a lane ended or did not come about, and the next one follows after a pause.
pub(crate) struct Reconnects<'a> {
    pub(crate) lane: &'a OfLane,
    /// One of a closed set of words.
    pub(crate) reason: &'static str,
    /// Printable.
    pub(crate) detail: &'a dyn fmt::Display,
    pub(crate) pause: Duration,
}

/// What there has to be at the broker is missing or different: it was looked at, and found for the first time or once
/// more.
pub(crate) struct TopologyDiffers<'a> {
    pub(crate) lane: &'a OfLane,
    pub(crate) differences: &'a [Difference],
    /// Whether it was the same the last time.
    pub(crate) is_known: bool,
}

/// The connection that publishes is in another state than before.
pub(crate) struct PublisherChanged<'a> {
    pub(crate) metrics: &'a metrics::OfProcess,
    pub(crate) before: &'a State,
    pub(crate) now: &'a State,
}

/// A message that was published is confirmed.
pub(crate) struct Confirmed<'a> {
    pub(crate) metrics: &'a metrics::OfProcess,
    pub(crate) took: Duration,
}

impl GivenBack<'_> {
    pub(crate) fn record(&self) {
        let reason = self.why.as_str();
        self.lane.metrics.given_back.of(reason).inc();
        info!(lane = self.lane.name(), reason, "the lane is given back to the broker");
    }
}

impl Reconnects<'_> {
    pub(crate) fn record(&self) {
        let Self { lane, reason, detail, pause } = self;
        lane.metrics.of_process.reconnects.of(reason).inc();
        lane.went_wrong(&format!("broker: {detail}"));
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        warn!(lane = lane.name(), reason, %detail, pause_ms, "no subscription; trying again");
    }
}

impl TopologyDiffers<'_> {
    pub(crate) fn record(&self) {
        let Self { lane, differences, is_known } = *self;
        lane.metrics.of_process.reconnects.of("topology").inc();
        for difference in differences {
            lane.went_wrong(&format!("broker: {difference}"));
            if !is_known {
                error!(lane = lane.name(), %difference, "the lane cannot be consumed until this is mended");
            }
        }
    }
}

impl PublisherChanged<'_> {
    pub(crate) fn record(&self) {
        let Self { metrics, before, now } = *self;
        let is_connected = !matches!(now, State::Connecting | State::Down(_));
        metrics.publisher_connected.set(is_connected.into());
        metrics.publisher_blocked.set(matches!(now, State::Blocked).into());
        if let State::Down(error) = now {
            metrics.reconnects.of(error.label()).inc();
        }
        if before == now {
            return;
        }
        match (before, now) {
            (_, State::Down(error)) => Self::say_down(error),
            (_, State::Blocked) => warn!("the broker takes nothing for lack of memory or disk; reports wait"),
            (_, State::Unroutable(to)) => error!(%to, "no queue takes a message; it is published again and again"),
            (State::Unroutable(_), State::Connected) | (_, State::Connecting) => {}
            (_, State::Connected) => info!("the publisher is connected"),
        }
    }

    fn say_down(detail: &Error) {
        warn!(reason = detail.label(), %detail, "the publisher is not connected; trying again");
    }
}

impl Confirmed<'_> {
    pub(crate) fn record(&self) {
        self.metrics.publish_duration.observe(self.took.as_secs_f64());
    }
}
