//! What happens to lanes.

use std::time::{Duration, SystemTime};

use imageshare_core::ids::AccountId;
use imageshare_engine::io::Notice;
use tracing::{error, info, warn};

use crate::status::{LaneState, OfLane};

/// A lane is in another state than before. (The metric of its state is set whether that is new or not.)
pub(crate) struct LaneChanged<'a> {
    pub(crate) lane: &'a str,
    pub(crate) state: LaneState,
}

/// The engine found something out.
pub(crate) struct Noticed<'a> {
    pub(crate) lane: &'a OfLane,
    pub(crate) notice: &'a Notice,
}

/// A source gave a credential: the first one of a lane that waited for it, or one in the place of another.
pub(crate) struct CredentialRenewed<'a> {
    pub(crate) lane: &'a OfLane,
    pub(crate) expires_at: Option<SystemTime>,
}

/// It is known whose the credential of a lane is, or why not.
pub(crate) struct OwnerLearned<'a> {
    pub(crate) lane: &'a OfLane,
    pub(crate) owner: &'a Result<AccountId, String>,
}

/// The source of a credential gives again what it gave before.
pub(crate) struct SourceWorks<'a> {
    pub(crate) lane: &'a OfLane,
}

/// The source of a credential gives none: it was looked at, or asked. The last one is kept, and a lane that has had none
/// waits.
pub(crate) struct RefreshFailed<'a> {
    pub(crate) lane: &'a OfLane,
    /// One printable line.
    pub(crate) reason: &'a str,
}

/// The process did not run for so long that others may have taken over its lanes.
pub(crate) struct StoodStill {
    pub(crate) length: Duration,
}

impl LaneChanged<'_> {
    pub(crate) fn record(&self) {
        let (lane, state) = (self.lane, self.state.as_str());
        match self.state {
            LaneState::Closed(reason) => warn!(lane, state, reason = reason.as_str(), "lane state"),
            LaneState::Blocked | LaneState::Disconnected => warn!(lane, state, "lane state"),
            LaneState::Serving | LaneState::Subscribed => info!(lane, state, "lane state"),
        }
    }
}

impl Noticed<'_> {
    pub(crate) fn record(&self) {
        let lane = self.lane.name();
        match self.notice {
            Notice::BatchReduced(batch) => info!(lane, batch, "the API takes no more accounts a request than this"),
            Notice::CannotList { image_id, code } => {
                warn!(lane, %image_id, %code, "who has the image cannot be read; going on without");
            }
            Notice::CapReduced { image_id, cap } => {
                info!(lane, %image_id, cap, "the image can be shared with no more accounts than this");
            }
            Notice::Closed { reason, detail } => {
                self.lane.went_wrong(detail);
                error!(lane, reason = reason.as_str(), %detail, "the lane is closed; its jobs wait");
            }
            Notice::ImageBusy { image_id, code } => {
                info!(lane, %image_id, %code, "the image is not ready; its jobs wait");
            }
            Notice::Opened => info!(lane, "the lane is open again"),
        }
    }
}

impl OwnerLearned<'_> {
    pub(crate) fn record(&self) {
        let lane = self.lane.name();
        match self.owner {
            Ok(account) => info!(lane, %account, "the account of the key"),
            Err(reason) => {
                warn!(lane, %reason, "whose key it is cannot be learned; the API refuses jobs that name its own account");
            }
        }
    }
}

impl CredentialRenewed<'_> {
    pub(crate) fn record(&self) {
        let expires_at = self.expires_at.and_then(|at| jiff::Timestamp::try_from(at).ok());
        let expires_at = expires_at.map_or_else(|| "not known".to_owned(), |at| format!("{at:.0}"));
        info!(lane = self.lane.name(), expires_at, "a new credential is there");
    }
}

impl SourceWorks<'_> {
    pub(crate) fn record(&self) {
        info!(lane = self.lane.name(), "the source of the credential gives one again");
    }
}

impl RefreshFailed<'_> {
    pub(crate) fn record(&self) {
        self.lane.went_wrong(self.reason);
        let (lane, reason) = (self.lane.name(), self.reason);
        error!(lane, reason, "the source of the credential gives none; the last one is kept if there was one");
    }
}

impl StoodStill {
    pub(crate) fn record(&self) {
        let milliseconds = u64::try_from(self.length.as_millis()).unwrap_or(u64::MAX);
        warn!(milliseconds, "this process stood still; its lanes are given up, since others may have taken them over");
    }
}
