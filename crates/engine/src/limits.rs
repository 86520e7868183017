//! Every number that bounds the engine. The defaults are the project's defaults.

use alloc::vec::Vec;

use crate::time::Millis;

/// Limits of the whole process.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Tries of an operation that fails for no named reason, alone or in its smallest batch. At least 1.
    pub attempts: u32,
    /// The pause before each next try, of which a random fraction is waited (full jitter); the last one repeats.
    pub pauses: Vec<Millis>,
    /// Accounts an image may be shared with, until the cloud teaches otherwise.
    pub cap: u32,
    /// How long after it was sent a write without an answer may still be applied.
    pub write_lag: Millis,
    /// How long after a write a reading may still show the state before it. None at all counts as a millisecond: a
    /// reading of the millisecond of the write may have begun before it.
    pub read_lag: Millis,
    /// How long an operation waits for a busy image.
    pub image_wait: Millis,
    /// The same while everything that the lane's window holds waits for busy images. A copy to another region takes 10 to 30
    /// minutes, so a shorter wait would fail jobs that are about to be possible.
    pub image_wait_blocked: Millis,
    /// The jobs a lane can hold at once (the prefetch); `None` if its source has no such window.
    pub window: Option<u32>,
    /// The longest time a delivery is held before the whole lane is given back; `None` for a source without a lease.
    pub lease: Option<Millis>,
    /// How long a lane may be closed before it leaves in the way that `ending` names.
    pub closed_for: Millis,
    /// What becomes of deliveries that cannot be finished.
    pub ending: Ending,
    /// Whether another worker may have sent calls just before a lane came up, so that what is found then has to be
    /// read once more when those can no longer land. One-shot commands leave this out.
    pub guard: bool,
    /// The largest part of an image's list, in hundredths, that a SYNC without force may cancel.
    pub cancel_limit_percent: u32,
    /// Wishes that expire, begin or are settled in one call of the engine, and accounts of an image that are looked at
    /// together, up to the end of the delivery that reaches this number. The rest follows in the next call, so that no call
    /// takes long. At least 1.
    pub work: usize,
}

/// What becomes of deliveries that cannot be finished: at drain, at the lease, when a lane stays closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The lane is given back; its source delivers the jobs again.
    Requeue,
    /// There is nobody to give them back to: each is settled, what was not tried as `Local.NotAttempted`.
    Report,
}

/// Limits of one lane.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LaneLimits {
    /// Requests a second, for each action by itself, but for DescribeImages.
    pub rate: f64,
    /// DescribeImages requests a second.
    pub image_rate: f64,
    /// Accounts a request, 1 to 500.
    pub batch: u32,
    /// Calls in flight at once.
    pub concurrency: u32,
}

impl Limits {
    /// How old a listing may be to call an account unchanged.
    pub(crate) const LISTING_AGE_MAX: Millis = Millis::from_secs(30);

    /// The pause before the next try after `failed` ones: full jitter, a part of the longest pause as `draw` says, which
    /// is evenly distributed. Never zero, so that time passes between two tries.
    pub(crate) fn pause(&self, failed: u32, draw: u64) -> Millis {
        Millis(1 + draw % self.longest_pause(failed).0.max(1))
    }

    /// The longest that this pause can be.
    pub(crate) fn longest_pause(&self, failed: u32) -> Millis {
        let nth = failed.saturating_sub(1) as usize;
        self.pauses.get(nth).or_else(|| self.pauses.last()).copied().unwrap_or_default()
    }

    /// The same for a clock that knows nothing finer than milliseconds.
    pub(crate) fn in_milliseconds(self) -> Self {
        Self { read_lag: self.read_lag.max(Millis(1)), ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            attempts: 5,
            pauses: [500, 1000, 2000, 4000, 8000, 16_000, 30_000].map(Millis).to_vec(),
            cap: 500,
            write_lag: Millis::from_secs(30),
            read_lag: Millis::from_secs(5),
            image_wait: Millis::from_secs(2 * 60 * 60),
            image_wait_blocked: Millis::from_secs(40 * 60),
            window: None,
            lease: None,
            closed_for: Millis::from_secs(60),
            ending: Ending::Requeue,
            guard: true,
            cancel_limit_percent: 50,
            work: 20_000,
        }
    }
}

impl Default for LaneLimits {
    fn default() -> Self {
        Self { rate: 10.0, image_rate: 40.0, batch: 50, concurrency: 16 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::time::Instant;

    proptest! {
        #[test]
        fn pause_stays_within_its_place_in_the_list(
            failed in proptest::num::u32::ANY,
            draw in proptest::num::u64::ANY,
            pauses in proptest::collection::vec(0_u64.., 0..10),
        ) {
            let limits = Limits { pauses: pauses.iter().copied().map(Millis).collect(), ..Limits::default() };
            let nth = (failed as usize).saturating_sub(1).min(pauses.len().saturating_sub(1));
            let longest = pauses.get(nth).copied().unwrap_or_default().max(1);
            let pause = limits.pause(failed, draw).0;
            prop_assert!((1..=longest).contains(&pause), "{} of at most {}", pause, longest);
            // However late it is, time does not overflow.
            prop_assert!(Instant(u64::MAX - 1) + Millis(pause) <= Instant::NEVER);
        }
    }
}
