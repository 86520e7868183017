//! Registers families, and looks handles up by a closed set of label values.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
    core::{Collector, MetricVec, MetricVecBuilder},
    proto::MetricFamily,
};

const VALID: &str = "names and labels are constants that a test has seen registered";
const LABELS: &str = "a label value is given for each label of the family";

/// Two registries: one of them is exported only with a broker.
#[derive(Debug, Default)]
pub(super) struct Register {
    always: Registry,
    with_broker: Registry,
}

/// A family of metrics.
#[derive(Clone, Copy)]
pub(super) struct Family<'a> {
    pub(super) name: &'a str,
    /// What it counts or measures.
    pub(super) help: &'a str,
    pub(super) labels: &'a [&'a str],
    /// Whether it is exported only with a broker.
    pub(super) of_broker: bool,
}

/// One handle for each value of a label.
#[derive(Debug)]
pub(crate) struct Labelled<M>(Vec<(&'static str, M)>);

/// Holds a gauge at 1 until it is dropped.
#[derive(Debug)]
pub(crate) struct Up(IntGauge);

/// A family that is always exported.
pub(super) const fn family<'a>(name: &'a str, help: &'a str, labels: &'a [&'a str]) -> Family<'a> {
    Family { name, help, labels, of_broker: false }
}

/// A family that is exported only with a broker.
pub(super) const fn of_broker<'a>(name: &'a str, help: &'a str, labels: &'a [&'a str]) -> Family<'a> {
    Family { name, help, labels, of_broker: true }
}

impl Register {
    pub(super) fn counters(&self, family: Family<'_>) -> IntCounterVec {
        self.add(&family, IntCounterVec::new(Opts::new(family.name, family.help), family.labels))
    }

    pub(super) fn counter(&self, family: Family<'_>) -> IntCounter {
        self.add(&family, IntCounter::with_opts(Opts::new(family.name, family.help)))
    }

    pub(super) fn int_gauges(&self, family: Family<'_>) -> IntGaugeVec {
        self.add(&family, IntGaugeVec::new(Opts::new(family.name, family.help), family.labels))
    }

    pub(super) fn gauges(&self, family: Family<'_>) -> GaugeVec {
        self.add(&family, GaugeVec::new(Opts::new(family.name, family.help), family.labels))
    }

    pub(super) fn gauge(&self, family: Family<'_>) -> Gauge {
        self.add(&family, Gauge::with_opts(Opts::new(family.name, family.help)))
    }

    pub(super) fn histograms(&self, family: Family<'_>, buckets: &[f64]) -> HistogramVec {
        let options = HistogramOpts::new(family.name, family.help).buckets(buckets.to_vec());
        self.add(&family, HistogramVec::new(options, family.labels))
    }

    pub(super) fn histogram(&self, family: Family<'_>, buckets: &[f64]) -> Histogram {
        let options = HistogramOpts::new(family.name, family.help).buckets(buckets.to_vec());
        self.add(&family, Histogram::with_opts(options))
    }

    pub(super) fn collector(&self, collector: impl Collector + 'static) {
        self.always.register(Box::new(collector)).expect(VALID);
    }

    pub(super) fn gather(&self, has_broker: bool) -> Vec<MetricFamily> {
        let mut families = self.always.gather();
        if has_broker {
            families.extend(self.with_broker.gather());
        }
        families
    }

    fn add<C: Collector + Clone + 'static>(&self, family: &Family<'_>, made: prometheus::Result<C>) -> C {
        let made = made.expect(VALID);
        let registry = if family.of_broker { &self.with_broker } else { &self.always };
        registry.register(Box::new(made.clone())).expect(VALID);
        made
    }
}

/// Returns the handle of these label values.
pub(super) fn at<T: MetricVecBuilder>(family: &MetricVec<T>, values: &[&str]) -> T::M {
    family.get_metric_with_label_values(values).expect(LABELS)
}

impl<M> Labelled<M> {
    /// Creates a handle for each of the values. The last one stands for all values that are not listed.
    pub(super) fn new(values: &[&'static str], handle: impl Fn(&'static str) -> M) -> Self {
        Self(values.iter().map(|&value| (value, handle(value))).collect())
    }

    /// Returns the handle of a value.
    pub(crate) fn of(&self, value: &str) -> &M {
        let handle = self.0.iter().find(|(known, _)| *known == value).or_else(|| self.0.last());
        &handle.expect("there is a handle for at least one value").1
    }

    /// Returns all handles with their values.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'static str, &M)> {
        self.0.iter().map(|(value, handle)| (*value, handle))
    }
}

impl Up {
    pub(crate) fn of(gauge: &IntGauge) -> Self {
        gauge.set(1);
        Self(gauge.clone())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        self.0.set(0);
    }
}
