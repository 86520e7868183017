//! Counters of requests.

use std::collections::BTreeMap;

use imageshare_core::ids::ImageId;
use serde_json::{Value, json};

use crate::{actions::Action, rate::BusiestSecond};

/// Clock ticks per second: the counters use microseconds.
const SECOND: u64 = 1_000_000;

/// The number of pairs of action and key above which idle pairs are dropped.
const SECONDS_MAX: usize = 10_000;

/// A client that writes to an image. Clients are distinguished by their `Host` header.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writer {
    /// The image.
    pub image: ImageId,
    /// The `Host` header, or empty.
    pub host: String,
}

/// Counters since the start or the last reset. Every request counts on arrival, whether it succeeds or not.
#[derive(Debug, Default)]
pub struct Stats {
    requests: u64,
    by_action: BTreeMap<&'static str, u64>,
    by_code: BTreeMap<String, u64>,
    /// The second that ends now, for each action and key. Unknown keys share one entry, so that they cannot fill the
    /// memory.
    seconds: BTreeMap<(&'static str, String), BusiestSecond>,
    max_in_any_second: BTreeMap<&'static str, usize>,
    writes_in_flight: BTreeMap<Writer, u64>,
    max_writes_in_flight: u64,
}

impl Stats {
    /// Counts the arrival of a request at a time in microseconds.
    pub fn arrival(&mut self, now: u64, action: Option<Action>, key: &str) {
        let action = action.map_or("other", Action::as_str);
        self.requests += 1;
        *self.by_action.entry(action).or_default() += 1;
        if self.seconds.len() >= SECONDS_MAX {
            self.seconds.retain(|_, second| !second.is_idle(now));
        }
        let second = self.seconds.entry((action, key.to_owned())).or_insert_with(|| BusiestSecond::new(SECOND));
        second.arrival(now);
        let most = self.max_in_any_second.entry(action).or_default();
        *most = second.most().max(*most);
    }

    /// Counts the outcome of a request.
    pub fn outcome(&mut self, code: &str) {
        match self.by_code.get_mut(code) {
            Some(count) => *count += 1,
            None => {
                self.by_code.insert(code.to_owned(), 1);
            }
        }
    }

    /// Counts the start of a write.
    pub fn write_begins(&mut self, writer: Writer) {
        let writes = self.writes_in_flight.entry(writer).or_default();
        *writes += 1;
        self.max_writes_in_flight = self.max_writes_in_flight.max(*writes);
    }

    /// Whether a write on an image is in flight, of any client.
    #[must_use]
    pub fn is_written(&self, image: ImageId) -> bool {
        self.writes_in_flight.keys().any(|writer| writer.image == image)
    }

    /// Counts the end of a write: its response was sent, or its client disconnected.
    pub fn write_ends(&mut self, writer: &Writer) {
        if let Some(writes) = self.writes_in_flight.get_mut(writer) {
            *writes -= 1;
            if *writes == 0 {
                self.writes_in_flight.remove(writer);
            }
        }
    }

    /// Resets all counters except the writes in flight.
    pub fn reset(&mut self) {
        let writes_in_flight = std::mem::take(&mut self.writes_in_flight);
        let max_writes_in_flight = writes_in_flight.values().copied().max().unwrap_or_default();
        *self = Self { writes_in_flight, max_writes_in_flight, ..Self::default() };
    }

    /// Returns the counters as the admin interface shows them.
    #[must_use]
    pub fn report(&self, repeated_accounts: u64) -> Value {
        json!({
            "requests": self.requests,
            "by_action": self.by_action,
            "by_code": self.by_code,
            "max_in_any_second": self.max_in_any_second,
            "max_writes_in_flight": self.max_writes_in_flight,
            "repeated_accounts": repeated_accounts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busiest_second_is_counted_per_action_and_key() {
        let mut stats = Stats::default();
        let write = Some(Action::ModifyImageSharePermission);
        for (now, action, key) in
            [(0, write, "a"), (1, write, "b"), (999_999, write, "a"), (1_000_000, write, "a"), (1_000_001, None, "a")]
        {
            stats.arrival(now, action, key);
        }
        stats.outcome("ok");
        stats.outcome("ok");
        stats.outcome("OverQuota");
        let expected = json!({
            "requests": 5, "by_action": {"ModifyImageSharePermission": 4, "other": 1},
            "by_code": {"ok": 2, "OverQuota": 1},
            "max_in_any_second": {"ModifyImageSharePermission": 2, "other": 1},
            "max_writes_in_flight": 0, "repeated_accounts": 7,
        });
        assert_eq!(stats.report(7), expected);
    }

    #[test]
    fn idle_keys_are_dropped_and_maximum_stays() {
        let mut stats = Stats::default();
        let action = Some(Action::DescribeImages);
        stats.arrival(0, action, "busy");
        stats.arrival(0, action, "busy");
        for number in 0..3 * SECONDS_MAX {
            stats.arrival(SECOND * number as u64, action, &number.to_string());
        }
        assert!(stats.seconds.len() <= SECONDS_MAX);
        assert_eq!(stats.report(0)["max_in_any_second"]["DescribeImages"], 2);
    }

    #[test]
    fn writes_in_flight_count_per_image_and_client() {
        let mut stats = Stats::default();
        let writer = |image: &str, host: &str| Writer { image: image.parse().unwrap(), host: host.to_owned() };
        let one = writer("img-6pb6lrmy", "a");
        for other in [writer("img-gvbnzy6f", "a"), writer("img-6pb6lrmy", "b")] {
            stats.write_begins(other);
        }
        stats.write_begins(one.clone());
        assert_eq!(stats.report(0)["max_writes_in_flight"], 1);
        stats.write_begins(one.clone());
        assert_eq!(stats.report(0)["max_writes_in_flight"], 2);
        stats.write_ends(&one);
        stats.reset();
        assert_eq!(stats.report(0)["max_writes_in_flight"], 1, "writes in flight outlive a reset");
        stats.write_ends(&one);
        stats.write_begins(one);
        assert_eq!(stats.report(0)["max_writes_in_flight"], 1);
    }
}
