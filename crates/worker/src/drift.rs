//! Drift: how far the shares of images are from the requested ones, as metrics for a text file.
//!
//! A cron job has no address that Prometheus could scrape. It writes a file, which the textfile collector of the node
//! exporter exports.

use std::time::SystemTime;

use imageshare_core::ids::{ImageId, Region};
use prometheus::{Encoder as _, Gauge, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::{metrics::unix_seconds_of, plan::PlannedChange};

const VALID: &str = "names and labels are constants that a test has seen registered";

const LABELS: [&str; 3] = ["image_id", "region", "lane"];

/// The metrics of one comparison of images with their requested shares.
#[derive(Debug)]
pub struct DriftMetrics {
    registry: Registry,
    missing: IntGaugeVec,
    extra: IntGaugeVec,
    listed: IntGaugeVec,
    compared_at: Gauge,
}

/// An image in the labels of a metric.
#[derive(Clone, Copy, Debug)]
pub struct ComparedImage<'a> {
    /// The image.
    pub image_id: ImageId,
    /// Its region.
    pub region: Region,
    /// The name of its lane.
    pub lane: &'a str,
}

impl Default for DriftMetrics {
    fn default() -> Self {
        let registry = Registry::new();
        let gauges = |name: &str, help: &str| {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &LABELS).expect(VALID);
            registry.register(Box::new(gauges.clone())).expect(VALID);
            gauges
        };
        let missing = gauges(
            "imageshare_drift_accounts_missing",
            "Accounts that the image should be shared with and is not. Absent if the image could not be listed.",
        );
        let extra = gauges(
            "imageshare_drift_accounts_extra",
            "Accounts that the image is shared with and should not be. Absent if the image could not be listed.",
        );
        let listed = gauges("imageshare_drift_listed", "1 if the shares of the image could be listed, 0 if not.");
        let compared_at =
            Gauge::new("imageshare_drift_timestamp_seconds", "Unix time of the comparison.").expect(VALID);
        registry.register(Box::new(compared_at.clone())).expect(VALID);
        Self { registry, missing, extra, listed, compared_at }
    }
}

impl DriftMetrics {
    /// Adds an image with the change that it needs; `None` if it could not be listed.
    pub fn add(&self, image: &ComparedImage<'_>, change: Option<&PlannedChange>) {
        let labels = [image.image_id.as_str(), image.region.as_str(), image.lane];
        let set = |gauges: &IntGaugeVec, value: usize| {
            let gauge = gauges.get_metric_with_label_values(&labels).expect("there is a value for each label");
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        };
        set(&self.listed, usize::from(change.is_some()));
        if let Some(change) = change {
            set(&self.missing, change.missing);
            set(&self.extra, change.cancel.len());
        }
    }

    /// Returns all metrics in the text format of Prometheus, as of a time.
    ///
    /// # Panics
    /// Never: a buffer in memory takes everything.
    #[must_use]
    pub fn to_text(&self, now: SystemTime) -> String {
        self.compared_at.set(unix_seconds_of(now));
        let mut text = Vec::new();
        // A family without images is not gathered.
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("a Vec takes everything");
        String::from_utf8(text).expect("the encoder writes UTF-8")
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use imageshare_core::ids::AccountId;

    use super::*;

    fn image(image_id: &str) -> ComparedImage<'static> {
        ComparedImage { image_id: image_id.parse().unwrap(), region: "ap-singapore".parse().unwrap(), lane: "default" }
    }

    #[test]
    fn unlisted_image_has_no_counts() {
        let metrics = DriftMetrics::default();
        let change =
            PlannedChange { missing: 5, cancel: vec![AccountId::new(10_000).unwrap()], ..PlannedChange::default() };
        metrics.add(&image("img-6pb6lrmy"), Some(&change));
        metrics.add(&image("img-gvbnzy6f"), None);
        let text = metrics.to_text(UNIX_EPOCH + Duration::from_secs(1_796_083_200));
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        let labels = |image: &str| format!("{{image_id=\"{image}\",lane=\"default\",region=\"ap-singapore\"}}");
        let (listed, unlisted) = (labels("img-6pb6lrmy"), labels("img-gvbnzy6f"));
        assert_eq!(
            samples,
            [
                format!("imageshare_drift_accounts_extra{listed} 1"),
                format!("imageshare_drift_accounts_missing{listed} 5"),
                format!("imageshare_drift_listed{listed} 1"),
                format!("imageshare_drift_listed{unlisted} 0"),
                "imageshare_drift_timestamp_seconds 1796083200".to_owned(),
            ]
        );
    }
}
