//! The closed sets of label values. If an external value is looked up in a set, the last element stands for all values that
//! are not in it.

use imageshare_core::actions::{Action as _, DescribeImageSharePermission, DescribeImages, ModifyImageSharePermission};
use imageshare_engine::job::local;

/// The actions that requests call.
pub(crate) const WRITE: &str = ModifyImageSharePermission::NAME;
pub(crate) const READ_SHARES: &str = DescribeImageSharePermission::NAME;
pub(crate) const READ_IMAGE: &str = DescribeImages::NAME;

/// Results of a write: the classes of error codes, `ok`, and `no_answer`.
pub(super) const RESULTS_OF_WRITES: [&str; 16] = [
    "ok",
    "account",
    "account-or-other",
    "already-done",
    "batch-too-large",
    "busy",
    "clock",
    "credential",
    "deployment",
    "image",
    "no_answer",
    "permission",
    "quota",
    "throttle",
    "transient",
    "unknown",
];

/// Results of a listing or a query. They cannot have the others.
pub(super) const RESULTS_OF_READINGS: [&str; 11] = [
    "ok",
    "busy",
    "clock",
    "credential",
    "deployment",
    "image",
    "no_answer",
    "permission",
    "throttle",
    "transient",
    "unknown",
];

/// Reasons for sending a request again.
pub(super) const RETRIES: [&str; 4] = ["throttle", "no_answer", "clock", "transient"];

/// Reasons for the unexpected end of a connection to the broker or a subscription.
pub(super) const RECONNECTS: [&str; 9] =
    ["closed", "refused", "time_out", "unreachable", "cancelled", "no_consumer", "suspended", "topology", "lost"];

/// Codes of failed accounts that are counted separately: those that the API documents for an account, frequent others, and
/// our own.
pub(super) const CODES: [&str; 35] = [
    "InvalidAccountId.NotFound",
    "FailedOperation.AccountIsYourSelf",
    "FailedOperation.BYOLImageShareFailed",
    "FailedOperation.NotMasterAccount",
    "FailedOperation.QImageShareFailed",
    "FailedOperation.RImageShareFailed",
    "InternalError",
    "InvalidAccountId",
    "InvalidAccountIs.YourSelf",
    "InvalidImageId.Malformed",
    "InvalidImageId.NotFound",
    "InvalidParameter",
    "InvalidParameter.InstanceImageNotSupport",
    "InvalidParameterValue",
    "InvalidParameterValue.InvalidAppIdFormat",
    "InvalidParameterValue.InvalidImageId",
    "InvalidParameterValue.InvalidImageState",
    "InvalidParameterValue.LimitExceeded",
    local::CANCEL_LIMIT,
    local::EXPIRED,
    local::IMAGE_BUSY,
    local::NO_ANSWER,
    local::NOT_ATTEMPTED,
    local::NOT_SHOWN,
    local::OVER_QUOTA,
    local::OWN_ACCOUNT,
    "OverQuota",
    "UnauthorizedOperation",
    "UnauthorizedOperation.ImageNotBelongToAccount",
    "UnauthorizedOperation.PermissionDenied",
    "UnsupportedOperation.EncryptedImagesNotSupported",
    "UnsupportedOperation.LocationImageNotSupported",
    "UnsupportedOperation.SharedImageModifyUnsupported",
    "UnsupportedRegion",
    "other",
];

/// Statuses of a report.
pub(super) const STATUSES: [&str; 4] = ["succeeded", "partial", "failed", "rejected"];

/// States of a lane.
pub(super) const STATES: [&str; 6] = ["serving", "subscribed", "blocked", "closed", "disconnected", "paused"];

/// Reasons for the requeue of a lane.
pub(super) const REQUEUES: [&str; 5] = ["closed", "drain", "lease", "operations", "paused"];

/// Reasons for rejecting a message.
pub(super) const REJECTIONS: [&str; 4] = ["member", "priority", "route", "text"];

/// Reasons for a dead letter.
pub(super) const DEATHS: [&str; 2] = ["rejected", "failed"];
