//! The engine's limits.

use std::time::Duration;

use imageshare_engine::{
    limits::{LimitValues, Limits, LimitsError},
    time::Millis,
};

use super::{
    error::{SettingsFault, SettingsProblem},
    resolver::{SettingsResolver, section},
    setting::SettingOrigin,
    values::{duration, whole},
};

const SECOND: Duration = Duration::from_secs(1);

// The second variable of a lag is its former name, which scripts set.
section! {
    /// How the engine tries and waits.
    EngineSettings from RawEngine () {
        /// Tries of an operation for reasons that may pass
        attempts: u32 = LimitValues::default().attempts, whole(1..=100, "tries");
        /// Accounts that an image may be shared with, until the API reports another limit
        cap: u32 = LimitValues::default().cap, whole(1..=100_000, "accounts per image");
        /// How long after it was sent a write without a response may still take effect
        write_lag: Duration = from_millis(LimitValues::default().write_lag), duration(Duration::ZERO..=3_600 * SECOND),
            variables &["IMAGESHARE_WRITE_LAG", "IMAGESHARE_LANDING"];
        /// How long after a write a listing may still show the state before it
        read_lag: Duration = from_millis(LimitValues::default().read_lag), duration(Duration::ZERO..=600 * SECOND),
            variables &["IMAGESHARE_READ_LAG", "IMAGESHARE_READ_DELAY"];
        /// How long a job waits for an image that is not ready
        image_wait: Duration = from_millis(LimitValues::default().image_wait), duration(SECOND..=7 * 86_400 * SECOND);
    }
}

impl EngineSettings {
    /// Returns the engine's limits, and records one that the engine refuses. How jobs end and the pauses between tries are
    /// not settings.
    pub(super) fn limits(&self, resolver: &mut SettingsResolver<'_>) -> LimitValues {
        let default = LimitValues::default();
        let image_wait = to_millis(self.image_wait.value);
        let limits = LimitValues {
            attempts: self.attempts.value,
            cap: self.cap.value,
            write_lag: to_millis(self.write_lag.value),
            read_lag: to_millis(self.read_lag.value),
            image_wait,
            image_wait_blocked: default.image_wait_blocked.min(image_wait),
            ..default
        };
        if let Err(error) = Limits::new(limits.clone()) {
            resolver.report(refused("engine", &error));
        }
        limits
    }
}

/// Returns a limit that the engine refuses as a problem. The error begins with the name of the limit.
pub(super) fn refused(section: &str, error: &LimitsError) -> SettingsProblem {
    let fault = SettingsFault::Other(format!("{section}.{error}"));
    SettingsProblem { origin: SettingOrigin::Default, key: None, fault, expected: None, hint: None }
}

const fn from_millis(length: Millis) -> Duration {
    Duration::from_millis(length.0)
}

fn to_millis(duration: Duration) -> Millis {
    Millis(crate::millis(duration))
}
