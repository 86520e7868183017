//! Events of lanes.

use std::time::{Duration, SystemTime};

use imageshare_core::ids::AccountId;
use imageshare_engine::io::Notice;
use tracing::{error, info, warn};

use crate::status::LaneRecord;

/// The engine gave a notice.
pub(crate) struct Noticed<'a> {
    pub(crate) lane: &'a LaneRecord,
    pub(crate) notice: &'a Notice,
}

/// A lane has its first credential, or another one than before.
pub(crate) struct CredentialRenewed<'a> {
    pub(crate) lane: &'a LaneRecord,
    pub(crate) expires_at: Option<SystemTime>,
}

/// The account of a credential was identified, or cannot be.
pub(crate) struct OwnerIdentified<'a> {
    pub(crate) lane: &'a LaneRecord,
    pub(crate) owner: &'a Result<AccountId, String>,
}

/// A source that failed has the same credential again.
pub(crate) struct SourceWorks<'a> {
    pub(crate) lane: &'a LaneRecord,
}

/// The source of a credential has none. The last one is kept; a lane that has had none waits.
pub(crate) struct CredentialFailed<'a> {
    pub(crate) lane: &'a LaneRecord,
    /// One printable line.
    pub(crate) reason: &'a str,
}

/// The process was suspended for so long that other workers may have taken over its lanes.
pub(crate) struct Suspended {
    pub(crate) length: Duration,
}

impl Noticed<'_> {
    pub(crate) fn record(&self) {
        let lane = self.lane.name();
        match self.notice {
            Notice::BatchReduced(batch) => info!(lane, batch, "API refused a longer list; trying shorter ones"),
            Notice::CannotList { image_id, code } => {
                warn!(lane, %image_id, %code, "cannot list the image's shares; continuing without");
            }
            Notice::CapReduced { image_id, cap } => {
                info!(lane, %image_id, cap, "image cannot be shared with more accounts");
            }
            Notice::Closed { reason, detail } => {
                self.lane.record_error(detail);
                error!(lane, reason = reason.as_str(), %detail, "lane closed; its jobs wait");
            }
            Notice::ImageBusy { image_id, code } => {
                info!(lane, %image_id, %code, "image not ready; its jobs wait");
            }
            Notice::Opened => info!(lane, "lane opened"),
        }
    }
}

impl OwnerIdentified<'_> {
    pub(crate) fn record(&self) {
        let lane = self.lane.name();
        match self.owner {
            Ok(account) => info!(lane, %account, "account of the key identified"),
            Err(reason) => {
                warn!(lane, %reason, "account of the key not identified; the API refuses jobs that name it");
            }
        }
    }
}

impl CredentialRenewed<'_> {
    pub(crate) fn record(&self) {
        let expires_at = self.expires_at.and_then(|at| jiff::Timestamp::try_from(at).ok());
        let expires_at = expires_at.map_or_else(|| "unknown".to_owned(), |at| format!("{at:.0}"));
        info!(lane = self.lane.name(), expires_at, "credential refreshed");
    }
}

impl SourceWorks<'_> {
    pub(crate) fn record(&self) {
        info!(lane = self.lane.name(), "credential source works again");
    }
}

impl CredentialFailed<'_> {
    pub(crate) fn record(&self) {
        self.lane.record_error(self.reason);
        let (lane, reason) = (self.lane.name(), self.reason);
        error!(lane, reason, "credential source failed; keeping the last credential, if any");
    }
}

impl Suspended {
    pub(crate) fn record(&self) {
        let milliseconds = crate::millis(self.length);
        warn!(milliseconds, "process was suspended; releasing all lanes");
    }
}
