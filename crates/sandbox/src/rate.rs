//! Rate windows: how many requests a second are let through, and which second was the busiest.
//!
//! Both work in ticks of the caller's clock (milliseconds in the simulation, microseconds in the server), given with
//! the number of ticks in a second.

use alloc::{collections::VecDeque, format};

use serde::Deserialize;

use crate::ledger::Refusal;

/// Where a second begins. Which of the two the cloud uses is not documented, so it is a dial.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    /// Seconds begin at whole seconds of the clock.
    Fixed,
    /// Any second, wherever it begins.
    #[default]
    Sliding,
}

/// The limit of one action for one key.
#[derive(Clone, Debug)]
pub struct Meter {
    /// Requests let through in a second; 0 for no limit.
    limit: u32,
    window: Window,
    second: u64,
    /// Arrivals of requests that were let through, oldest first, at most `limit`.
    admitted: VecDeque<u64>,
    /// Requests refused since the window was last empty enough.
    refused: u32,
}

/// A request over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Requests of this second, this one included.
    pub seen: u32,
    /// Requests allowed in a second.
    pub limit: u32,
}

impl Meter {
    /// A meter of `limit` requests (0 for no limit) in every `second` ticks.
    #[must_use]
    pub const fn new(limit: u32, window: Window, second: u64) -> Self {
        Self { limit, window, second, admitted: VecDeque::new(), refused: 0 }
    }

    /// Counts a request that arrives at `now`. Refused requests do not use up the limit.
    ///
    /// # Errors
    /// If the second it falls in has had its limit already.
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

    /// Whether nothing was let through in the second that ends now, so that a new meter would do as well.
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
    /// The documented form of the message, with its two numbers in backticks.
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

/// The most arrivals in any one second, wherever it begins.
#[derive(Clone, Debug)]
pub struct BusiestSecond {
    second: u64,
    /// Arrivals of the second that ends now, oldest first.
    recent: VecDeque<u64>,
    most: usize,
}

impl BusiestSecond {
    /// Counts in seconds of `second` ticks.
    #[must_use]
    pub const fn new(second: u64) -> Self {
        Self { second, recent: VecDeque::new(), most: 0 }
    }

    /// Counts an arrival; `now` does not run backwards.
    pub fn arrival(&mut self, now: u64) {
        while self.recent.front().is_some_and(|&then| now.saturating_sub(then) >= self.second) {
            self.recent.pop_front();
        }
        self.recent.push_back(now);
        self.most = self.most.max(self.recent.len());
    }

    /// Whether nothing arrived in the second that ends now.
    #[must_use]
    pub fn is_idle(&self, now: u64) -> bool {
        self.recent.back().is_none_or(|&then| now.saturating_sub(then) >= self.second)
    }

    /// The most so far.
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
    fn check(window: Window, limit: u32, arrivals: &[u64], let_through: &[bool]) {
        let mut meter = Meter::new(limit, window, 1000);
        let found: Vec<bool> = arrivals.iter().map(|&now| meter.admit(now).is_ok()).collect();
        assert_eq!(found, let_through);
    }

    #[test]
    fn a_sliding_second_begins_anywhere_and_a_fixed_one_at_a_whole_second() {
        check(Window::Sliding, 2, &[900, 950, 1000, 1899, 1900], &[true, true, false, false, true]);
        check(Window::Fixed, 2, &[900, 950, 999, 1000, 1001, 1002], &[true, true, false, true, true, false]);
    }

    #[test]
    fn no_limit_lets_everything_through() {
        check(Window::Sliding, 0, &[0; 5], &[true; 5]);
    }

    #[test]
    fn the_message_names_both_numbers_in_backticks() {
        let mut meter = Meter::new(1, Window::Sliding, 1000);
        assert_eq!(meter.admit(0), Ok(()));
        assert_eq!(meter.admit(1), Err(Exceeded { seen: 2, limit: 1 }));
        let refusal = Refusal::from(meter.admit(2).unwrap_err());
        assert_eq!(refusal.code, "RequestLimitExceeded");
        assert!(refusal.to_string().contains("equals to `3` in a second, which exceeds the frequency limit `1`"));
    }

    #[test]
    fn the_busiest_second_is_found_over_whole_second_borders() {
        let mut busiest = BusiestSecond::new(1000);
        for now in [0, 600, 1100, 1599, 1600, 5000] {
            busiest.arrival(now);
        }
        assert_eq!(busiest.most(), 3);
        assert_eq!([busiest.is_idle(5999), busiest.is_idle(6000)], [false, true]);
    }

    #[test]
    fn a_meter_is_idle_when_its_second_is_over() {
        for (window, now) in [(Window::Sliding, 1900), (Window::Fixed, 1000)] {
            let mut meter = Meter::new(1, window, 1000);
            assert!(meter.is_idle(0));
            assert_eq!(meter.admit(900), Ok(()));
            assert_eq!([meter.is_idle(now - 1), meter.is_idle(now)], [false, true]);
        }
    }

    proptest! {
        #[test]
        fn no_sliding_second_lets_more_than_the_limit_through(
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
