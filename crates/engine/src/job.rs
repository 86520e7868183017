//! What goes in and what comes out of it: jobs and reports, typed. Their wire formats are somebody else's.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId, Region, RequestId},
};

use crate::time::Instant;

/// One job: what one image's accounts should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The region the image lives in.
    pub region: Region,
    /// The image.
    pub image_id: ImageId,
    /// What is wished.
    pub mode: Mode,
    /// The accounts, in the order of the job. Repeated ones are counted and otherwise ignored.
    pub account_ids: Box<[AccountId]>,
    /// After this moment nothing of the job is begun any more.
    pub deadline: Option<Instant>,
    /// For SYNC: cancel however many it takes.
    pub force: bool,
    /// Whether the job may have been worked on before, by whomever.
    pub redelivered: bool,
}

/// What a job asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Take the image back from these accounts.
    Cancel,
    /// Share the image with these accounts.
    Share,
    /// Make the image's list exactly these accounts.
    Sync,
}

impl Mode {
    /// What each account of the job is wished to be.
    #[must_use]
    pub const fn permission(self) -> Permission {
        match self {
            Self::Cancel => Permission::Cancel,
            Self::Share | Self::Sync => Permission::Share,
        }
    }
}

/// What became of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// One outcome for each different account of the job, in the job's order.
    pub outcomes: Vec<(AccountId, AccountOutcome)>,
    /// For SYNC: the accounts that were listed and had to go, with what became of each.
    pub cancelled: Vec<(AccountId, AccountOutcome)>,
    /// Accounts that the job named more than once, counted each further time.
    pub duplicates: u32,
    /// Write requests that carried an account of this job.
    pub requests: u32,
}

/// What became of one account of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccountOutcome {
    /// A write of ours for it was sent and it is now as wished.
    Changed,
    /// It was as wished when this delivery first looked.
    Unchanged,
    /// It is not known to be as wished, for this reason.
    Failed(Arc<Failure>),
}

/// Why an account is not as wished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// An error code of the API, or one of our own, which begin with `Local.`.
    pub code: Box<str>,
    /// For people, in one line.
    pub message: Box<str>,
    /// The request that was refused, where there is one.
    pub request_id: Option<RequestId>,
}

impl Failure {
    /// The same for a job that the request was not made for.
    pub(crate) fn without_request(&self) -> Arc<Self> {
        Arc::new(Self { request_id: None, ..self.clone() })
    }
}

/// The codes of our own.
pub mod local {
    /// A SYNC would have cancelled more of the list than the cancel limit allows.
    pub const CANCEL_LIMIT: &str = "Local.CancelLimit";
    /// The job's deadline passed before the account was done.
    pub const EXPIRED: &str = "Local.Expired";
    /// The image did not become NORMAL in the time that an operation waits for it.
    pub const IMAGE_BUSY: &str = "Local.ImageBusy";
    /// A write was sent, and it is not known whether it was applied: no usable response came, or the list that carried it was
    /// refused for another account.
    pub const NO_ANSWER: &str = "Local.NoAnswer";
    /// Nothing was sent for the account: the command ended before.
    pub const NOT_ATTEMPTED: &str = "Local.NotAttempted";
    /// The API accepted a request and the list of the image does not show it in the end, or the list shows an account that
    /// no job asked for.
    pub const NOT_SHOWN: &str = "Local.NotShown";
    /// The key's own account, which has its image anyway.
    pub const OWN_ACCOUNT: &str = "Local.OwnAccount";
    /// The image is shared with as many accounts as it may be.
    pub const OVER_QUOTA: &str = "Local.OverQuota";
}
