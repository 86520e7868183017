//! The metrics for Prometheus. Each name, its labels and its meaning are defined once.
//!
//! The code that logs an event also counts it: [`crate::events`]. All label values are known when the process starts, and
//! are exported from then on, at zero: a missing series could also mean a missing metric. Handles are looked up once, so
//! that counting is one atomic addition.

mod families;
mod handles;
mod labels;
mod register;

#[cfg(test)]
mod tests;

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus::{Encoder as _, TextEncoder, process_collector::ProcessCollector, proto::MetricFamily};

use self::{families::Families, register::Register};
pub(crate) use self::{
    handles::{LaneMetrics, Outcomes, ProcessMetrics},
    labels::{READ_IMAGE, READ_SHARES, WRITE},
    register::{Labelled, Up},
};

/// The `Content-Type` of the metrics text.
pub(crate) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// All metrics of a process, with a registry of their own.
#[derive(Debug)]
pub(crate) struct Metrics {
    register: Register,
    pub(crate) of_process: Arc<ProcessMetrics>,
}

impl Metrics {
    /// Returns the metrics of a process with these lanes, and those of each lane in their order.
    pub(crate) fn new<'a>(lanes: impl IntoIterator<Item = &'a str>) -> (Self, Vec<LaneMetrics>) {
        let register = Register::default();
        let families = Families::new(&register);
        let of_process = Arc::new(ProcessMetrics::new(&families));
        let lanes = lanes.into_iter().map(|lane| LaneMetrics::new(&families, lane, &of_process)).collect();
        register.collector(ProcessCollector::for_self());
        (Self { register, of_process }, lanes)
    }

    /// Returns all metrics in the text format of Prometheus, those of the broker only if `has_broker`.
    pub(crate) fn text(&self, has_broker: bool) -> String {
        let mut text = Vec::with_capacity(64 * 1024);
        let encoded = TextEncoder::new().encode(&self.families(has_broker), &mut text);
        encoded.expect("a Vec takes everything, and no family is empty");
        String::from_utf8(text).expect("the encoder writes UTF-8")
    }

    fn families(&self, has_broker: bool) -> Vec<MetricFamily> {
        let mut families = self.register.gather(has_broker);
        families.retain(|family| !family.get_metric().is_empty());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        families
    }
}

/// Seconds since 1970, as Prometheus has times.
pub(crate) fn unix_seconds() -> f64 {
    unix_seconds_of(SystemTime::now())
}

/// Returns a time as Prometheus has it; 0 before 1970.
pub(crate) fn unix_seconds_of(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
