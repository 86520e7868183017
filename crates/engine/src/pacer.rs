//! Spaces calls evenly, so that no second, wherever it begins, has more than the limit.

use alloc::collections::VecDeque;

use crate::{
    limits::{
        PACE_LATENESS_US, PACE_SECOND_US, RATE_RECOVERY, THROTTLE_MEMORY, THROTTLE_RESPONSES_MAX, THROTTLED_RATE_MIN,
    },
    time::Instant,
};

/// The pace of one action of one lane.
///
/// With a limit of N a second, slots are (1 s + 50 ms) / N apart. A slot is used when its request is written. A late request
/// shifts the next slot only by its lateness beyond 25 ms, so that small delays of the process do not reduce the rate. The
/// limit still holds: N intervals are 1,050 ms, and the first of N + 1 requests is at most 25 ms late, which leaves 25 ms for
/// the network.
#[derive(Clone, Debug)]
pub(crate) struct Pacer {
    /// Requests a second by the settings.
    limit: f64,
    /// Requests a second now: less than the limit after a call was throttled.
    rate: f64,
    /// When `rate` was last updated.
    rate_at: Instant,
    /// The next slot in microseconds: a rate of 40 has slots 26.25 ms apart.
    next_us: u64,
    /// The calls of the last two seconds that ended.
    ended: VecDeque<(Instant, Throttled)>,
    /// When the rate was last halved: the refusals of one burst halve it once.
    halved: Option<Instant>,
}

/// Whether the API refused a call for the number of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Throttled {
    No,
    Yes,
}

impl Pacer {
    /// A pace whose first slot is one interval from now: an earlier worker may have sent a call a moment ago.
    pub(crate) fn new(limit: f64, now: Instant) -> Self {
        let mut pacer = Self { limit, rate: limit, rate_at: now, next_us: 0, ended: VecDeque::new(), halved: None };
        pacer.next_us = now.0.saturating_mul(1000).saturating_add(pacer.interval_us());
        pacer
    }

    /// Requests a second now.
    pub(crate) fn rate(&self, now: Instant) -> f64 {
        (self.rate + self.gained(now)).min(self.limit)
    }

    /// Another limit from now on.
    pub(crate) fn set_limit(&mut self, limit: f64) {
        // A rate that no refusal had lowered is the new limit at once.
        self.rate = if self.rate < self.limit { self.rate.min(limit) } else { limit };
        self.limit = limit;
    }

    /// The next slot.
    pub(crate) const fn next(&self) -> Instant {
        Instant(self.next_us.div_ceil(1000))
    }

    /// A request was written: its slot is taken.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.recover(now);
        let written_us = now.0.saturating_mul(1000);
        // A request that is a little late does not shift the next slot, or the lateness of each would lower the rate. Otherwise
        // unused slots would add up to a burst.
        self.next_us = self.next_us.max(written_us.saturating_sub(PACE_LATENESS_US)).saturating_add(self.interval_us());
    }

    /// A call ended.
    pub(crate) fn call_ended(&mut self, now: Instant, throttled: Throttled) {
        self.recover(now);
        let oldest = now - THROTTLE_MEMORY;
        while self.ended.front().is_some_and(|&(at, _)| at < oldest) || self.ended.len() >= THROTTLE_RESPONSES_MAX {
            self.ended.pop_front();
        }
        // Both kinds are kept: what lowers the rate is the share of refusals, not their number.
        self.ended.push_back((now, throttled));
        if throttled == Throttled::No {
            return;
        }
        let refused = self.ended.iter().filter(|&&(_, throttled)| throttled == Throttled::Yes).count();
        // A single refusal lowers the rate a little. More than one in ten shows that the limit is far below it.
        let many = refused * 10 > self.ended.len() && refused > 1;
        if !many {
            self.rate *= 0.95;
        } else if self.halved.is_none_or(|at| at < oldest) {
            self.rate *= 0.5;
            self.halved = Some(now);
        }
        // Never zero: without calls no response could show that the limit is higher again.
        self.rate = self.rate.max(THROTTLED_RATE_MIN.min(self.limit));
    }

    fn recover(&mut self, now: Instant) {
        self.rate = self.rate(now);
        self.rate_at = now;
    }

    /// What has returned since the rate was last updated.
    fn gained(&self, now: Instant) -> f64 {
        let passed = now.since(self.rate_at).0;
        // The milliseconds of a process's life fit an f64 exactly.
        #[allow(clippy::cast_precision_loss)]
        let seconds = passed as f64 / 1000.0;
        seconds * RATE_RECOVERY
    }

    fn interval_us(&self) -> u64 {
        // Between 1,050 (rate 1,000) and 105,000,000 (rate 0.01).
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let interval = (PACE_SECOND_US / self.rate) as u64;
        interval
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// The most instants of `times` that any window of one second holds.
    fn busiest_second(times: &[u64]) -> usize {
        times.iter().map(|&from| times.iter().filter(|&&at| at >= from && at < from + 1000).count()).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn late_requests_never_exceed_the_limit(
            limit in 1_u32..60,
            idle in proptest::collection::vec(prop_oneof![9 => 0_u64..30, 1 => 0_u64..3000], 1..200),
        ) {
            let mut pacer = Pacer::new(f64::from(limit), Instant(0));
            let mut now = 0;
            let mut written = Vec::new();
            for late in idle {
                now = pacer.next().0.max(now) + late;
                written.push(now);
                pacer.sent(Instant(now));
            }
            prop_assert!(busiest_second(&written) <= limit as usize);
        }
    }

    #[test]
    fn backlog_uses_95_percent_of_limit() {
        for limit in [1.0_f64, 10.0, 40.0, 100.0] {
            let mut pacer = Pacer::new(limit, Instant(0));
            let mut sent = 0;
            loop {
                // Written 3 ms late, as processes do.
                let at = Instant(pacer.next().0 + 3);
                if at.0 > 1_000_000 {
                    break;
                }
                pacer.sent(at);
                sent += 1;
            }
            assert!(f64::from(sent) >= 0.95 * limit * 1000.0, "{limit}: {sent}");
        }
    }

    #[test]
    fn first_slot_is_one_interval_later() {
        assert_eq!(Pacer::new(10.0, Instant(5000)).next(), Instant(5105));
    }

    #[test]
    fn throttling_lowers_the_rate_which_recovers() {
        let mut pacer = Pacer::new(10.0, Instant(0));
        for n in 0..20 {
            pacer.call_ended(Instant(n * 100), Throttled::No);
        }
        pacer.call_ended(Instant(2000), Throttled::Yes);
        assert!((pacer.rate - 9.5).abs() < 1e-9, "{}", pacer.rate);
        pacer.call_ended(Instant(2001), Throttled::Yes);
        pacer.call_ended(Instant(2002), Throttled::Yes);
        assert!(pacer.rate < 5.0, "{}", pacer.rate);
        let foreseen = pacer.rate(Instant(12_002));
        pacer.sent(Instant(12_002));
        assert!((5.0..6.0).contains(&pacer.rate), "{}", pacer.rate);
        assert!((foreseen - pacer.rate).abs() < 1e-9, "looking changes nothing");
        pacer.sent(Instant(200_000));
        assert!((pacer.rate - 10.0).abs() < 1e-9);
    }

    #[test]
    fn burst_of_refusals_halves_rate_once() {
        let mut pacer = Pacer::new(10.0, Instant(0));
        for _ in 0..11 {
            pacer.call_ended(Instant(1000), Throttled::Yes);
        }
        assert!((4.0..5.0).contains(&pacer.rate), "{}", pacer.rate);
    }

    #[test]
    fn new_limit_holds_unless_rate_was_lowered() {
        let mut pacer = Pacer::new(10.0, Instant(0));
        pacer.set_limit(100.0);
        assert!((pacer.rate - 100.0).abs() < 1e-9);
        pacer.call_ended(Instant(0), Throttled::Yes);
        pacer.set_limit(200.0);
        assert!((pacer.rate - 95.0).abs() < 1e-9);
    }

    #[test]
    fn lowest_limit_holds_and_throttling_keeps_it() {
        let mut pacer = Pacer::new(0.01, Instant(0));
        assert_eq!(pacer.next(), Instant(105_000));
        pacer.call_ended(Instant(0), Throttled::Yes);
        assert!((pacer.rate(Instant(60_000)) - 0.01).abs() < 1e-9);
    }

    #[test]
    fn endless_throttling_leaves_a_minimum_rate() {
        let mut pacer = Pacer::new(10.0, Instant(0));
        for n in 0..1000 {
            pacer.call_ended(Instant(n), Throttled::Yes);
        }
        assert!(pacer.rate >= 0.1);
        assert!(pacer.next() < Instant(20_000));
    }
}
