//! Jobs and reports, typed. Their wire formats belong to the driver.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId, Region, RequestId},
};

use crate::time::Instant;

/// A request to change the shares of one image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The region of the image.
    pub region: Region,
    /// The image.
    pub image_id: ImageId,
    /// The requested change.
    pub mode: Mode,
    /// The accounts, in the order of the job. Repetitions are counted and otherwise ignored.
    pub account_ids: Box<[AccountId]>,
    /// From this moment on no write of the job begins.
    pub deadline: Option<Instant>,
    /// For SYNC: ignore the cancel limit.
    pub force: bool,
    /// Whether a worker may have worked on the job before.
    pub redelivered: bool,
}

/// The change that a job requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Stop sharing the image with these accounts.
    Cancel,
    /// Share the image with these accounts.
    Share,
    /// Share the image with exactly these accounts.
    Sync,
}

impl Mode {
    /// The permission that the accounts of the job get.
    #[must_use]
    pub const fn permission(self) -> Permission {
        match self {
            Self::Cancel => Permission::Cancel,
            Self::Share | Self::Sync => Permission::Share,
        }
    }
}

/// The outcome of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One outcome for each different account of the job, in the job's order.
    pub outcomes: Vec<(AccountId, AccountOutcome)>,
    /// For SYNC: the outcomes of the accounts that were listed and are not in the job.
    pub cancelled: Vec<(AccountId, AccountOutcome)>,
    /// How many accounts of the job repeat an earlier one.
    pub duplicates: u32,
    /// Write requests that contained an account of this job.
    pub requests: u32,
}

/// The outcome of one account of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountOutcome {
    /// A write was sent for it, and it is in the requested state. Has the write if the API accepted it, and `None` if a
    /// listing, or a refusal as already shared, showed the state.
    Changed(Option<Arc<AcceptedWrite>>),
    /// It was in the requested state already. A write may have been sent, and refused as already shared.
    Unchanged,
    /// It is not known to be in the requested state, for this reason.
    Failed(Arc<Failure>),
}

/// A write that the API accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcceptedWrite {
    /// The RequestId of the response, if it had one.
    pub request_id: Option<RequestId>,
    /// When the response arrived.
    pub at: Instant,
}

/// The reason why an account is not known to be in the requested state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// An error code of the API, or one of [`local`].
    pub code: Box<str>,
    /// One printable line.
    pub message: Box<str>,
    /// The RequestId of the refused request, if there is one.
    pub request_id: Option<RequestId>,
}

impl Failure {
    /// Returns this failure for a job that the request did not contain.
    pub(crate) fn without_request(&self) -> Arc<Self> {
        Arc::new(Self { request_id: None, ..self.clone() })
    }
}

/// Error codes of the engine, which begin with `Local.`.
pub mod local {
    /// A SYNC without `force` would have cancelled more of the list than the cancel limit.
    pub const CANCEL_LIMIT: &str = "Local.CancelLimit";
    /// The job's deadline passed before the account was done.
    pub const EXPIRED: &str = "Local.Expired";
    /// The image did not become NORMAL in time.
    pub const IMAGE_BUSY: &str = "Local.ImageBusy";
    /// A write was sent, and it is unknown whether it was applied: there was no usable response, or its list was refused for
    /// another account.
    pub const NO_ANSWER: &str = "Local.NoAnswer";
    /// No write was sent for the account: the command ended, it gave up a closed lane, or a SYNC could not list the shares.
    pub const NOT_ATTEMPTED: &str = "Local.NotAttempted";
    /// The API accepted a write and the last listing does not show it, or the last listing of a SYNC shows an account that no
    /// job requested.
    pub const NOT_SHOWN: &str = "Local.NotShown";
    /// The key's own account, which owns the image.
    pub const OWN_ACCOUNT: &str = "Local.OwnAccount";
    /// The image has no room for the account, or a SYNC requests more accounts than the image may be shared with.
    pub const OVER_QUOTA: &str = "Local.OverQuota";
    /// All of them.
    pub const CODES: [&str; 8] =
        [CANCEL_LIMIT, EXPIRED, IMAGE_BUSY, NO_ANSWER, NOT_ATTEMPTED, NOT_SHOWN, OWN_ACCOUNT, OVER_QUOTA];
}
