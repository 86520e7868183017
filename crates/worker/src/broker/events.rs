//! Events of the broker, beside those of [`crate::events`].

use std::{
    fmt,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use imageshare_core::text::printable;
use tracing::{debug, error, info, warn};

use super::{
    BrokerVersion, Error, JobEnvelope, Message, State,
    management::{PolicyLimit, Uninspected},
    topology::Difference,
};
pub(super) use crate::events::{Delivered, Finished, Rejected, Settled};
use crate::{
    events::QueuedJob,
    lane_messages::{Requeue, SettledJob},
    metrics,
    status::LaneRecord,
};

/// Characters of a job's name that are logged.
const JOB_ID_CHARS_MAX: usize = 128;

/// A lane was requeued.
pub(crate) struct Requeued<'a> {
    pub(crate) lane: &'a LaneRecord,
    pub(crate) why: Requeue,
}

/// The subscription of a lane ended or did not come about, and the next one follows after a pause.
pub(crate) struct Reconnects<'a> {
    pub(crate) lane: &'a LaneRecord,
    /// One of a closed set of words.
    pub(crate) reason: &'static str,
    /// Printable.
    pub(crate) detail: &'a dyn fmt::Display,
    pub(crate) pause: Duration,
}

/// What there has to be at the broker is missing or different: it was looked at, and found for the first time or once
/// more.
pub(crate) struct TopologyDiffers<'a> {
    pub(crate) lane: &'a LaneRecord,
    pub(crate) differences: &'a [Difference],
    /// Whether it was the same the last time.
    pub(crate) is_known: bool,
}

/// A job has a priority, on a broker that does not act on it.
pub(crate) struct PriorityIgnored<'a> {
    pub(crate) lane: &'a LaneRecord,
    pub(crate) priority: u8,
    pub(crate) broker: &'a BrokerVersion,
    /// Whether this process logged it before.
    pub(crate) is_logged: &'a AtomicBool,
}

/// The policies of the broker were inspected, for the first time or with another result.
pub(crate) struct LimitsInspected<'a> {
    pub(crate) limits: &'a [PolicyLimit],
    pub(crate) unknown: &'a [Uninspected],
}

/// The connection that publishes is in another state than before.
pub(crate) struct PublisherChanged<'a> {
    pub(crate) metrics: &'a metrics::ProcessMetrics,
    pub(crate) before: &'a State,
    pub(crate) now: &'a State,
}

/// The broker refused a message for its length.
pub(crate) struct TooLong<'a> {
    /// Bytes that are published at most from now on.
    pub(crate) len_max: usize,
    /// The broker's words, printable.
    pub(crate) detail: &'a str,
}

/// A message is published in a shorter form.
pub(crate) struct Shortened<'a> {
    /// The whole one.
    pub(crate) message: &'a Message,
    pub(crate) len_max: usize,
}

/// Copies of reports for `reply_to` did not arrive: their connection ended early.
pub(crate) struct ReplyCopiesLost<'a> {
    pub(crate) detail: &'a Error,
    /// All that were lost since the process started.
    pub(crate) lost: u64,
    /// How long none is sent.
    pub(crate) pause: Duration,
}

/// The depths of queues could not be read, and are asked for again after a pause.
pub(crate) struct DepthsUnknown<'a> {
    pub(crate) detail: &'a Error,
    pub(crate) pause: Duration,
}

/// A message that was published is confirmed.
pub(crate) struct Confirmed<'a> {
    pub(crate) metrics: &'a metrics::ProcessMetrics,
    pub(crate) took: Duration,
}

impl Requeued<'_> {
    pub(crate) fn record(&self) {
        let reason = self.why.as_str();
        self.lane.metrics.requeues.of(reason).inc();
        info!(lane = self.lane.name(), reason, "lane requeued");
    }
}

impl Reconnects<'_> {
    pub(crate) fn record(&self) {
        let Self { lane, reason, detail, pause } = self;
        lane.metrics.of_process.reconnects.of(reason).inc();
        lane.record_error(&format!("broker: {detail}"));
        let pause_ms = crate::millis(*pause);
        warn!(lane = lane.name(), reason, %detail, pause_ms, "no subscription; trying again");
    }
}

impl TopologyDiffers<'_> {
    pub(crate) fn record(&self) {
        let Self { lane, differences, is_known } = *self;
        lane.metrics.of_process.reconnects.of("topology").inc();
        for difference in differences {
            lane.record_error(&format!("broker: {difference}"));
            if !is_known {
                error!(lane = lane.name(), %difference, "the lane cannot be consumed until this is mended");
            }
        }
    }
}

impl PriorityIgnored<'_> {
    pub(crate) fn record(&self) {
        let Self { lane, priority, broker, is_logged } = *self;
        if !is_logged.swap(true, Relaxed) {
            warn!(
                lane = lane.name(),
                priority,
                %broker,
                "job with a priority; RabbitMQ 4 would deliver it out of order, so it will be rejected there"
            );
        }
    }
}

impl LimitsInspected<'_> {
    pub(crate) fn record(&self) {
        let Self { limits, unknown } = *self;
        for limit in limits {
            warn!(%limit, "a policy of the broker may lose jobs");
        }
        for problem in unknown {
            warn!(%problem, "policies of the broker not inspected; trying again");
        }
        if limits.is_empty() && unknown.is_empty() {
            info!("no policy of the broker limits the queues");
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
            (State::Refused { to: before, .. }, State::Refused { to, .. }) if before == to => {}
            (_, State::Refused { to, .. }) => error!(%to, "queue refuses messages; retrying"),
            (_, State::TooLong(to)) => error!(%to, "message too long for the broker in its shortest form"),
            (_, State::Blocked) => warn!("the broker takes nothing for lack of memory or disk; reports wait"),
            (_, State::Unroutable(to)) => error!(%to, "no queue takes a message; it is published again and again"),
            (State::Refused { to, .. } | State::TooLong(to), State::Connected) => {
                info!(%to, "queue accepts messages again");
            }
            (State::Unroutable(_), State::Connected) | (_, State::Connecting) => {}
            (_, State::Connected) => info!("the publisher is connected"),
        }
    }

    fn say_down(detail: &Error) {
        warn!(reason = detail.label(), %detail, "the publisher is not connected; trying again");
    }
}

impl TooLong<'_> {
    pub(crate) fn record(&self) {
        let Self { len_max, detail } = *self;
        warn!(len_max, detail, "broker refused a message for its length; publishing shorter ones");
    }
}

impl Shortened<'_> {
    pub(crate) fn record(&self) {
        let Self { message, len_max } = *self;
        let job_id = message.properties.message_id().as_ref().map(|id| printable(id.as_str(), JOB_ID_CHARS_MAX));
        warn!(to = message.destination(), job_id, len = message.body.len(), len_max, "message shortened");
    }
}

impl ReplyCopiesLost<'_> {
    pub(crate) fn record(&self) {
        let Self { detail, lost, pause } = *self;
        let pause_ms = crate::millis(pause);
        warn!(reason = detail.label(), %detail, lost, pause_ms, "connection for reply_to lost; dropping copies of reports");
    }
}

impl DepthsUnknown<'_> {
    pub(crate) fn record(&self) {
        let Self { detail, pause } = *self;
        let pause_ms = crate::millis(pause);
        debug!(reason = detail.label(), %detail, pause_ms, "depths of queues unknown; trying again");
    }
}

impl Confirmed<'_> {
    pub(crate) fn record(&self) {
        self.metrics.publish_duration.observe(self.took.as_secs_f64());
    }
}

impl<'a> Settled<'a> {
    /// Returns the event of a job from a queue, which is logged.
    pub(crate) fn of_queue(lane: &'a LaneRecord, settled: &'a SettledJob<Box<JobEnvelope>>) -> Self {
        let JobEnvelope { identity, redelivered, traceparent, .. } = &*settled.identity;
        let (job_id, image_id) = (identity.job_id.as_str(), identity.images.single().map(|image| image.image_id));
        let job = QueuedJob { job_id, image_id, is_redelivered: *redelivered, traceparent: traceparent.as_deref() };
        Self::of(lane, settled).with_queued_job(job)
    }
}
