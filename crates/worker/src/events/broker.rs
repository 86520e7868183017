//! What happens between us and the broker.

use std::{fmt, time::Duration};

use tracing::{error, info, warn};

use crate::{broker::topology::Difference, driver::GiveBack};

/// A lane was given back to the broker.
pub(crate) struct GivenBack<'a> {
    pub(crate) lane: &'a str,
    pub(crate) why: GiveBack,
}

/// The subscription of a lane ended or did not come about, and the next one follows after a pause.
pub(crate) struct Reconnects<'a> {
    pub(crate) lane: &'a str,
    /// One of a closed set of words.
    pub(crate) reason: &'static str,
    /// Printable.
    pub(crate) detail: &'a dyn fmt::Display,
    pub(crate) pause: Duration,
}

/// The first message of a lane came back so often that it may kill whoever works on it.
pub(crate) struct Suspicious<'a> {
    pub(crate) lane: &'a str,
    pub(crate) returns: u64,
}

/// What there has to be at the broker is missing or different.
pub(crate) struct TopologyDiffers<'a> {
    pub(crate) lane: &'a str,
    pub(crate) difference: &'a Difference,
}

impl GivenBack<'_> {
    pub(crate) fn record(&self) {
        info!(lane = self.lane, reason = self.why.as_str(), "the lane is given back to the broker");
    }
}

impl Reconnects<'_> {
    pub(crate) fn record(&self) {
        let Self { lane, reason, detail, pause } = self;
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        warn!(lane, reason, %detail, pause_ms, "no subscription; trying again");
    }
}

impl Suspicious<'_> {
    pub(crate) fn record(&self) {
        let Self { lane, returns } = *self;
        warn!(lane, returns, "the first message came back so often that jobs are taken one by one for now");
    }
}

impl TopologyDiffers<'_> {
    pub(crate) fn record(&self) {
        error!(lane = self.lane, difference = %self.difference, "the lane cannot be consumed until this is mended");
    }
}
