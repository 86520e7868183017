//! The whole interface, two enums: [`Input`] is what happened, [`Command`] is what the driver must do.

use alloc::{boxed::Box, vec::Vec};

use imageshare_core::{
    Class, Permission,
    ids::{AccountId, ImageId, Region, RequestId},
};

use crate::{
    job::{Job, Report},
    limits::{LaneLimits, Limits},
    time::Instant,
};

/// One rate-limit bucket: a credential and an endpoint host. The driver numbers its lanes from 0, without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u32);

impl LaneId {
    /// The index of the lane among the driver's lanes.
    #[must_use]
    pub const fn place(self) -> usize {
        // A usize has at least 32 bits wherever this runs.
        self.0 as usize
    }
}

/// One delivery of one job. The driver uses each number once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub u64);

/// One call. The engine uses each number once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Something that happened. Inputs that name an unknown lane or call are ignored.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The lane delivers jobs from now on, or its limits changed.
    LaneUp(LaneId, LaneLimits),
    /// The lane belongs to another worker: its jobs are dropped without a report, since they are redelivered. The state of
    /// images is kept, except for missing permissions, which are tried again.
    LaneLost(LaneId),
    /// Ends the lane: no new calls. When the last call in flight has ended, unfinished jobs are requeued or reported, as
    /// [`Policy::unfinished`](crate::policy::Policy::unfinished) decides.
    Leave(LaneId),
    /// The lane receives no more jobs until it is up again: its window is the number of jobs that it holds.
    Full(LaneId),
    /// A job was delivered.
    Job {
        /// The delivery.
        delivery: DeliveryId,
        /// The lane that delivered it.
        lane: LaneId,
        /// The job.
        job: Job,
    },
    /// The request of a call was written to an open connection. Its slot of the pace is used from this moment.
    Sent(CallId),
    /// A call ended. The driver sends this exactly once for each call.
    Answer {
        /// The call.
        call: CallId,
        /// Its outcome.
        outcome: Outcome,
    },
    /// Another credential is in use from now on, in response to [`Command::RefreshCredential`] or not. If it must belong to a
    /// known account, calls wait a few seconds for [`Input::OwnAccount`] or [`Input::OwnerUnknown`].
    CredentialRefreshed(LaneId),
    /// A refresh returned no other credential.
    RefreshFailed(LaneId),
    /// The account that the lane's credential belongs to, which may be known late or never. It owns the images, and the API
    /// refuses a list that names it.
    OwnAccount(LaneId, AccountId),
    /// The account of the credential in use cannot be determined.
    OwnerUnknown(LaneId),
    /// The account that the lane's credentials must belong to, from the operator. `None` requires the account of the first
    /// credential whose account became known.
    ExpectAccount(LaneId, Option<AccountId>),
    /// Replaces the limits of the process.
    Limits(Limits),
    /// Ends all lanes, as [`Input::Leave`] does for one.
    Drain,
}

/// Something that the driver must do. Commands are carried out in their order.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Sign this request and send it now. The driver answers with [`Input::Sent`] and [`Input::Answer`].
    Call {
        /// The number to use in these inputs.
        call: CallId,
        /// The lane whose credential and endpoint to use.
        lane: LaneId,
        /// The request.
        action: Action,
    },
    /// Publish the report, wait for the confirm, then acknowledge the delivery. Acknowledgements are sent in the order of these
    /// commands.
    Settle {
        /// The delivery.
        delivery: DeliveryId,
        /// The outcome of its job.
        report: Box<Report>,
    },
    /// Requeue all unacknowledged deliveries of the lane. The engine has dropped them.
    Requeue(LaneId),
    /// Get another credential for this lane. The driver answers with [`Input::CredentialRefreshed`] or
    /// [`Input::RefreshFailed`].
    RefreshCredential(LaneId),
    /// Tell the operator, once.
    Notice(LaneId, Notice),
    /// Nothing to do before this moment, unless there is an input.
    WaitUntil(Instant),
    /// Nothing to do until there is an input.
    Idle,
}

/// A request, not yet signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// ModifyImageSharePermission.
    Modify {
        /// The image's region.
        region: Region,
        /// The image.
        image_id: ImageId,
        /// The change for all of the accounts.
        permission: Permission,
        /// At least one account, none twice.
        account_ids: Vec<AccountId>,
    },
    /// DescribeImageSharePermission.
    ReadShares {
        /// The image's region.
        region: Region,
        /// The image.
        image_id: ImageId,
    },
    /// DescribeImages for one image.
    ReadImage {
        /// The image's region.
        region: Region,
        /// The image.
        image_id: ImageId,
    },
}

/// The outcome of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The API accepted it.
    Accepted(Answer),
    /// The API returned an error.
    Refused {
        /// The error code.
        code: Box<str>,
        /// The class of the code.
        class: Class,
        /// The message of the API, one printable line.
        message: Box<str>,
        /// The RequestId of the response.
        request_id: Option<RequestId>,
    },
    /// No usable response. If any byte was sent, the request may have been applied, or may still be.
    Unanswered {
        /// Whether any byte of the request may have left.
        sent: bool,
        /// The reason, one printable line.
        reason: Box<str>,
    },
    /// The API refused the timestamp. The driver has corrected its clock by the response.
    Skewed,
}

/// The result of an accepted call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// ModifyImageSharePermission: nothing but the RequestId.
    Modified(Option<RequestId>),
    /// DescribeImageSharePermission: the accounts that the image is shared with.
    Shares(Vec<AccountId>),
    /// DescribeImages: the state of the image.
    Image(ImageReadiness),
}

/// Whether an image can be shared, by the state that DescribeImages returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageReadiness {
    /// It can be shared.
    Normal,
    /// It is being created or copied, and may become NORMAL.
    Pending(Box<str>),
    /// It can never become NORMAL.
    Broken(Box<str>),
    /// The response lists no image.
    Missing,
}

/// Something that an operator should see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The image's shares cannot be listed. Work continues without.
    CannotList {
        /// The image.
        image_id: ImageId,
        /// The error code.
        code: Box<str>,
    },
    /// The API refused a longer list. The next list has at most this many accounts; later ones may be longer again.
    BatchReduced(u32),
    /// Two refusals in a row showed how many accounts the image may be shared with.
    CapReduced {
        /// The image.
        image_id: ImageId,
        /// The number of accounts.
        cap: u32,
    },
    /// The image is not ready; its jobs wait.
    ImageBusy {
        /// The image.
        image_id: ImageId,
        /// The error code.
        code: Box<str>,
    },
    /// The lane makes no calls for now, except probes.
    Closed {
        /// The reason.
        reason: CloseReason,
        /// The last error of the API or the connection.
        detail: Box<str>,
    },
    /// The lane makes calls again.
    Opened,
}

/// Why a lane is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseReason {
    /// The key belongs to another account than the earlier ones, or than the operator expects.
    Account,
    /// The API refuses the timestamp, and correcting the clock did not help.
    Clock,
    /// The key or token is refused, and there is no other one.
    Credential,
    /// The endpoint sends no usable responses.
    Endpoint,
    /// The key is not permitted any of the pending writes.
    Permission,
}

impl CloseReason {
    /// The word for the reason in logs, metrics and documentation.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Account => "account",
            Self::Clock => "clock",
            Self::Credential => "credential",
            Self::Endpoint => "endpoint",
            Self::Permission => "permission",
        }
    }
}
