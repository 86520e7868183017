//! What happens to the process as a whole.

use tracing::{error, info, warn};

/// Settings were read again and taken over.
pub(crate) struct Reloaded {
    /// Whether some of what differs is looked at only when the process starts.
    pub(crate) needs_restart: bool,
}

/// Settings were read again and are wrong.
pub(crate) struct ReloadFailed<'a> {
    /// Printable, without secrets.
    pub(crate) problem: &'a str,
}

impl Reloaded {
    pub(crate) fn record(&self) {
        info!("settings and credentials are read again");
        if self.needs_restart {
            warn!("some of what changed in the settings needs a restart: lanes, the broker, or time-outs");
        }
    }
}

impl ReloadFailed<'_> {
    pub(crate) fn record(&self) {
        error!(problem = self.problem, "the settings are wrong and were not taken over");
    }
}
