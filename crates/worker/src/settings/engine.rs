//! The engine's limits.

use std::time::Duration;

use imageshare_engine::{limits::Limits, time::Millis};

use super::{
    resolver::section,
    values::{duration, whole},
};

const SECOND: Duration = Duration::from_secs(1);

section! {
    /// How the engine tries and waits.
    EngineSettings from RawEngine () {
        /// Tries of an operation for reasons that may pass
        attempts: u32 = Limits::default().attempts, whole(1..=100, "tries");
        /// Accounts that an image may be shared with, until the API reports another limit
        cap: u32 = Limits::default().cap, whole(1..=100_000, "accounts per image");
        /// How long after it was sent a write without a response may still take effect
        write_lag: Duration = from_millis(Limits::default().write_lag), duration(Duration::ZERO..=3_600 * SECOND),
            variables &["IMAGESHARE_WRITE_LAG"];
        /// How long after a write a listing may still show the state before it
        read_lag: Duration = from_millis(Limits::default().read_lag), duration(Duration::ZERO..=600 * SECOND),
            variables &["IMAGESHARE_READ_LAG"];
        /// How long a job waits for an image that is not ready
        image_wait: Duration = from_millis(Limits::default().image_wait), duration(SECOND..=7 * 86_400 * SECOND);
    }
}

impl EngineSettings {
    /// Returns the engine's limits. How jobs end and the pauses between tries are not settings.
    pub(super) fn limits(&self) -> Limits {
        let default = Limits::default();
        let image_wait = to_millis(self.image_wait.value);
        Limits {
            attempts: self.attempts.value,
            cap: self.cap.value,
            write_lag: to_millis(self.write_lag.value),
            read_lag: to_millis(self.read_lag.value),
            image_wait,
            image_wait_blocked: default.image_wait_blocked.min(image_wait),
            ..default
        }
    }
}

const fn from_millis(length: Millis) -> Duration {
    Duration::from_millis(length.0)
}

fn to_millis(duration: Duration) -> Millis {
    Millis(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
