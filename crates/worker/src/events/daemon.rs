//! Events of the process as a whole.

use tracing::{error, info, warn};

/// Settings were reloaded.
pub(crate) struct Reloaded {
    /// Whether a setting differs that is only read at the start.
    pub(crate) needs_restart: bool,
}

/// Reloaded settings are invalid.
pub(crate) struct ReloadFailed<'a> {
    /// What is wrong: printable, without secrets.
    pub(crate) problem: &'a str,
}

impl Reloaded {
    pub(crate) fn record(&self) {
        info!("settings and credentials reloaded");
        if self.needs_restart {
            warn!("some changed settings need a restart: lanes, broker, or time-outs");
        }
    }
}

impl ReloadFailed<'_> {
    pub(crate) fn record(&self) {
        error!(problem = self.problem, "settings invalid; keeping the old ones");
    }
}
