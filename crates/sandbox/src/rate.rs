//! Rate limits, and the busiest second.
//!
//! Both count in ticks of the caller's clock: milliseconds in the simulation, microseconds in the server. The caller
//! passes the number of ticks in a second.

use alloc::{collections::VecDeque, format};

use serde::Deserialize;

use crate::ledger::Refusal;

/// Where a second begins. The cloud does not document it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// Seconds begin at whole seconds of the clock.
    Fixed,
    /// Any period of one second counts.
    #[default]
    Sliding,
}

/// The limit of one action for one key.
#[derive(Clone, Debug)]
pub struct Meter {
    /// The maximum number of requests in a second; 0 is unlimited.
    limit: u32,
    window: Window,
    second: u64,
    /// Arrival times of admitted requests, oldest first, at most `limit`.
    admitted: VecDeque<u64>,
    /// Requests refused since the last admitted one.
    refused: u32,
}

/// A request over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Requests in this second, including this one.
    pub seen: u32,
    /// The maximum number of requests in a second.
    pub limit: u32,
}

impl Meter {
    /// Returns a meter of `limit` requests (0 is unlimited) per `second` ticks.
    #[must_use]
    pub const fn new(limit: u32, window: Window, second: u64) -> Self {
        Self { limit, window, second, admitted: VecDeque::new(), refused: 0 }
    }

    /// Counts a request that arrives at `now`. Refused requests do not count against the limit.
    ///
    /// # Errors
    /// If its second has reached the limit.
    pub fn admit(&mut self, now: u64) -> Result<(), Exceeded> {
        if self.limit == 0 {
            return Ok(());
        }
        while self.admitted.front().is_some_and(|&then| !self.same_second(then, now)) {
            self.admitted.pop_front();
        }
        let used = u32::try_from(self.admitted.len()).unwrap_or(u32::MAX);
        if used < self.limit {
            self.admitted.push_back(now);
            self.refused = 0;
            return Ok(());
        }
        self.refused = self.refused.saturating_add(1);
        Err(Exceeded { seen: used.saturating_add(self.refused), limit: self.limit })
    }

    /// Whether no request was admitted in the second that ends now, so that a new meter is equivalent.
    #[must_use]
    pub fn is_idle(&self, now: u64) -> bool {
        self.admitted.back().is_none_or(|&then| !self.same_second(then, now))
    }

    fn same_second(&self, then: u64, now: u64) -> bool {
        match self.window {
            Window::Fixed => then / self.second == now / self.second,
            Window::Sliding => now.saturating_sub(then) < self.second,
        }
    }
}

impl From<Exceeded> for Refusal {
    /// Returns the documented message, with both numbers in backticks.
    fn from(Exceeded { seen, limit }: Exceeded) -> Self {
        Self::new(
            "RequestLimitExceeded",
            format!(
                "Your current request times equals to `{seen}` in a second, which exceeds the frequency limit \
                 `{limit}` for a second. Please reduce the frequency of calls."
            ),
        )
    }
}

/// The largest number of arrivals in any second.
#[derive(Clone, Debug)]
pub struct BusiestSecond {
    second: u64,
    /// Arrival times in the second that ends now, oldest first.
    recent: VecDeque<u64>,
    most: usize,
}

impl BusiestSecond {
    /// Returns a counter with seconds of `second` ticks.
    #[must_use]
    pub const fn new(second: u64) -> Self {
        Self { second, recent: VecDeque::new(), most: 0 }
    }

    /// Counts an arrival. `now` must not decrease.
    pub fn arrival(&mut self, now: u64) {
        while self.recent.front().is_some_and(|&then| now.saturating_sub(then) >= self.second) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        self.most = self.most.max(self.recent.len());
    }

    /// Whether no request arrived in the second that ends now.
    #[must_use]
    pub fn is_idle(&self, now: u64) -> bool {
        self.recent.back().is_none_or(|&then| now.saturating_sub(then) >= self.second)
    }

    /// Returns the largest number so far.
    #[must_use]
    pub const fn most(&self) -> usize {
        self.most
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString, vec::Vec};

    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(window: Window, limit: u32, arrivals: &[u64], expected: &[bool]) {
        let mut meter = Meter::new(limit, window, 1000);
        let admitted: Vec<bool> = arrivals.iter().map(|&now| meter.admit(now).is_ok()).collect();
        assert_eq!(admitted, expected);
    }

    #[test]
    fn sliding_and_fixed_windows_differ() {
        check(Window::Sliding, 2, &[900, 950, 1000, 1899, 1900], &[true, true, false, false, true]);
        check(Window::Fixed, 2, &[900, 950, 999, 1000, 1001, 1002], &[true, true, false, true, true, false]);
    }

    #[test]
    fn zero_limit_admits_everything() {
        check(Window::Sliding, 0, &[0; 5], &[true; 5]);
    }

    #[test]
    fn throttle_message_has_both_numbers() {
        let mut meter = Meter::new(1, Window::Sliding, 1000);
        assert_eq!(meter.admit(0), Ok(()));
        assert_eq!(meter.admit(1), Err(Exceeded { seen: 2, limit: 1 }));
        let refusal = Refusal::from(meter.admit(2).unwrap_err());
        assert_eq!(refusal.code, "RequestLimitExceeded");
        assert!(refusal.to_string().contains("equals to `3` in a second, which exceeds the frequency limit `1`"));
    }

    #[test]
    fn busiest_second_spans_whole_second_borders() {
        let mut busiest = BusiestSecond::new(1000);
        for now in [0, 600, 1100, 1599, 1600, 5000] {
            busiest.arrival(now);
        }
        assert_eq!(busiest.most(), 3);
        assert_eq!([busiest.is_idle(5999), busiest.is_idle(6000)], [false, true]);
    }

    #[test]
    fn meter_is_idle_after_its_second() {
        for (window, now) in [(Window::Sliding, 1900), (Window::Fixed, 1000)] {
            let mut meter = Meter::new(1, window, 1000);
            assert!(meter.is_idle(0));
            assert_eq!(meter.admit(900), Ok(()));
            assert_eq!([meter.is_idle(now - 1), meter.is_idle(now)], [false, true]);
        }
    }

    proptest! {
        #[test]
        fn sliding_window_never_exceeds_its_limit(
            gaps in prop::collection::vec(0_u64..400, 1..200), limit in 1_u32..12,
        ) {
            let mut meter = Meter::new(limit, Window::Sliding, 1000);
            let mut busiest = BusiestSecond::new(1000);
            let mut now = 0;
            for gap in gaps {
                now += gap;
                if meter.admit(now).is_ok() {
                    busiest.arrival(now);
                }
            }
            prop_assert!(busiest.most() <= limit as usize);
        }
    }
}
