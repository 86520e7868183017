//! How many deliveries a lane holds at once: the prefetch, which is the window in which jobs are coalesced.
//!
//! It is the same for every subscription of a lane, since the broker keeps the order of what comes back only then: of
//! messages that had come back, those that a smaller window left behind go before those that come back again. So a
//! message that may have killed whoever held it does not make the window small either; each is parsed within bounds, a
//! panic is caught, and the limit of deliveries is explicit and far away.

/// The window of one lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window(u16);

impl Window {
    /// At least 1, since AMQP's 0 means no limit.
    pub(super) fn new(deliveries: u16) -> Self {
        Self(deliveries.max(1))
    }

    /// The prefetch to consume with.
    pub(super) const fn now(self) -> u16 {
        self.0
    }

    /// Half as many, for good: with more the process holds more operations than it may. It is the one time that the
    /// order of what comes back is at risk, namely if this process is killed before what it gave back is worked off.
    pub(super) fn halve(&mut self) {
        self.0 = (self.0 / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_that_holds_too_much_is_halved_and_never_empty() {
        let mut window = Window::new(5);
        for now in [2, 1, 1] {
            window.halve();
            assert_eq!(window.now(), now);
        }
        assert_eq!(Window::new(0).now(), 1);
    }
}
