//! The two enums that are the whole interface: what the world did, and what the engine wants done.

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

/// One rate-limit bucket: a credential and an endpoint host. The driver numbers them, densely from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub u32);

impl LaneId {
    /// Its place among the driver's lanes.
    #[must_use]
    pub const fn place(self) -> usize {
        // A usize has at least 32 bits wherever this runs.
        self.0 as usize
    }
}

/// One delivery of one job. The driver numbers them, each number once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(pub u64);

/// One call. The engine numbers them, each number once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallId(pub u64);

/// Something that happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// A lane can be used from now on, or its limits changed.
    LaneUp(LaneId, LaneLimits),
    /// The lane's jobs are no longer ours: they come again, to whomever. What was learnt about images stays, but
    /// for a permission that was missing: that is tried anew.
    LaneLost(LaneId),
    /// Give the lane's jobs back as at its lease: no new calls, and [`Command::Requeue`] when the last one in flight has
    /// ended. What [`Limits::ending`] says decides for this too.
    Leave(LaneId),
    /// The lane takes no more jobs until it is up again: its window is what it holds.
    Full(LaneId),
    /// A job was delivered.
    Job {
        /// The delivery.
        delivery: DeliveryId,
        /// Where it came from.
        lane: LaneId,
        /// The job.
        job: Job,
    },
    /// The request of a call was written to an open connection: its slot of the pace is taken now.
    Sent(CallId),
    /// A call ended. Every call ends exactly once.
    Answer {
        /// The call.
        call: CallId,
        /// How it ended.
        outcome: Outcome,
    },
    /// Another credential is in use from now on, whether [`Command::RefreshCredential`] asked for it or not. Calls wait
    /// a few seconds for [`Input::OwnAccount`] or [`Input::OwnerUnknown`] where it has to be of a known account.
    CredentialRefreshed(LaneId),
    /// A refresh brought nothing new.
    RefreshFailed(LaneId),
    /// Whose the lane's credential is, which may be known late or never. The account has its images anyway, and the API
    /// refuses a list that names it.
    OwnAccount(LaneId, AccountId),
    /// The account of the credential in use cannot be learned.
    OwnerUnknown(LaneId),
    /// The account that the lane's credentials have to be of, as an operator says. Without one it is the account of the
    /// first credential whose account was learned.
    ExpectAccount(LaneId, Option<AccountId>),
    /// Other limits from now on.
    Limits(Limits),
    /// No new calls; finish what is in flight, settle what is finished, end the rest as [`Limits::ending`] says.
    Drain,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Sign this and send it, now. Answer with [`Input::Sent`] and [`Input::Answer`].
    Call {
        /// The number to answer with.
        call: CallId,
        /// Whose credential and endpoint.
        lane: LaneId,
        /// What to ask.
        action: Action,
    },
    /// Publish the report, wait for the confirm, then acknowledge; acknowledgements in the order of these commands.
    Settle {
        /// The delivery.
        delivery: DeliveryId,
        /// What became of its job.
        report: Box<Report>,
    },
    /// Give the lane's jobs back to where they came from: the engine has forgotten them.
    Requeue(LaneId),
    /// Get another credential for this lane; answer with `CredentialRefreshed` or `RefreshFailed`.
    RefreshCredential(LaneId),
    /// Say this to people, once.
    Notice(LaneId, Notice),
    /// Nothing to do before this moment, unless something happens.
    WaitUntil(Instant),
    /// Nothing to do unless something happens.
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
        /// What is wished of all the accounts.
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
    /// DescribeImages, one image.
    ReadImage {
        /// The image's region.
        region: Region,
        /// The image.
        image_id: ImageId,
    },
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The API did it.
    Accepted(Answer),
    /// The API said no.
    Refused {
        /// The error code.
        code: Box<str>,
        /// Whose fault it is.
        class: Class,
        /// For people, one printable line.
        message: Box<str>,
        /// The handle for the vendor's support.
        request_id: Option<RequestId>,
    },
    /// No usable answer. If anything was sent, it may have been applied or may still be.
    Unanswered {
        /// Whether any byte of the request may have left.
        sent: bool,
        /// Why, for people, one printable line.
        reason: Box<str>,
    },
    /// The API said that the clocks differ; the driver has corrected its own by what the answer showed.
    Skewed,
}

/// What an accepted call brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// ModifyImageSharePermission: nothing.
    Modified,
    /// DescribeImageSharePermission: who has the image.
    Shares(Vec<AccountId>),
    /// DescribeImages: the state of the image.
    Image(ImageState),
}

/// What DescribeImages says of an image, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageState {
    /// It can be shared.
    Normal,
    /// It is being made or moved, and may become NORMAL.
    Pending(Box<str>),
    /// It can never become NORMAL.
    Broken(Box<str>),
    /// The list was empty.
    Missing,
}

/// Something that people should hear of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Who has the image cannot be read; work goes on without.
    CannotRead {
        /// The image.
        image_id: ImageId,
        /// What the API said.
        code: Box<str>,
    },
    /// The API takes no longer lists than this.
    BatchLearned(u32),
    /// The image may be shared with this many accounts, as two refusals in a row showed.
    CapLearned {
        /// The image.
        image_id: ImageId,
        /// Accounts.
        cap: u32,
    },
    /// The image is not ready; its jobs wait.
    ImageBusy {
        /// The image.
        image_id: ImageId,
        /// What the API said.
        code: Box<str>,
    },
    /// No calls on this lane for now.
    Closed {
        /// Why.
        reason: CloseReason,
        /// What the API, or the connection, said last.
        detail: Box<str>,
    },
    /// Calls go on.
    Opened,
}

/// Why a lane is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseReason {
    /// The key belongs to another account than the ones before, or than the operator expects.
    Account,
    /// The clocks differ and correcting ours did not help.
    Clock,
    /// The key or token is refused and there is no better one.
    Credential,
    /// Nothing usable comes from the endpoint.
    Endpoint,
    /// The key may do none of the writes in hand.
    Permission,
}

impl CloseReason {
    /// The word for it in logs, metrics and documentation.
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
