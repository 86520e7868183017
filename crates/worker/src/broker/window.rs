//! How many deliveries a lane holds at once: the prefetch, which is the window in which jobs are coalesced.

/// Jobs that have to be settled before a window that was made small grows.
const SETTLED_TO_GROW: u32 = 100;

/// A first delivery that came back more often makes a small window: something in the queue may kill whoever holds it,
/// and then as little as possible is held with it.
const RETURNS_MAX: u64 = 20;

/// The window of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// What it grows to.
    whole: u16,
    now: u16,
}

impl Window {
    /// At least 1, since AMQP's 0 means no limit.
    pub(super) fn new(whole: u16) -> Self {
        Self { whole: whole.max(1), now: whole.max(1) }
    }

    /// The prefetch to consume with.
    pub(super) const fn now(self) -> u16 {
        self.now
    }

    /// Whether a first delivery that came back so often makes it small.
    pub(super) const fn is_too_large_for(self, returns: u64) -> bool {
        returns > RETURNS_MAX && self.now > 1 && self.now == self.whole
    }

    /// One delivery at a time.
    pub(super) const fn shrink(&mut self) {
        self.now = 1;
    }

    /// Whether so many settled jobs make it grow.
    pub(super) const fn grows_after(self, settled: u32) -> bool {
        settled >= SETTLED_TO_GROW && self.now < self.whole
    }

    /// Twice as many, but no more than there are to be.
    pub(super) fn grow(&mut self) {
        self.now = self.now.saturating_mul(2).min(self.whole);
    }

    /// Half as many, for good: with more the process holds more operations than it may.
    pub(super) fn halve(&mut self) {
        self.now = (self.now / 2).max(1);
        self.whole = self.now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_was_made_small_doubles_until_it_is_whole() {
        let mut window = Window::new(10_000);
        assert!(!window.is_too_large_for(20) && window.is_too_large_for(21) && !window.grows_after(100));
        window.shrink();
        assert_eq!(window.now(), 1);
        let mut seen = Vec::new();
        while window.grows_after(100) {
            assert!(!window.is_too_large_for(21), "it is growing, and would never be whole again");
            assert!(!window.grows_after(99));
            window.grow();
            seen.push(window.now());
        }
        assert_eq!(seen, [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 10_000]);
        assert!(window.is_too_large_for(21));
    }

    #[test]
    fn a_window_that_holds_too_much_is_halved_for_good_and_never_empty() {
        let mut window = Window::new(5);
        for now in [2, 1, 1] {
            window.halve();
            assert_eq!(window.now(), now);
            assert!(!window.grows_after(100));
        }
        assert_eq!(Window::new(0).now(), 1);
    }
}
