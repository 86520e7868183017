//! The closed sets of label values. Of each set that something from outside is looked up in, the last one stands for
//! whatever is not in it.

use imageshare_core::actions::{Action as _, DescribeImageSharePermission, DescribeImages, ModifyImageSharePermission};
use imageshare_engine::job::local;

/// The actions that are called.
pub(crate) const WRITE: &str = ModifyImageSharePermission::NAME;
pub(crate) const READ_SHARES: &str = DescribeImageSharePermission::NAME;
pub(crate) const READ_IMAGE: &str = DescribeImages::NAME;

/// How a request ended: the classes of error codes, and two more.
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

/// The same for a reading, of which the others make no sense.
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

/// Why a request has to be sent again.
pub(super) const RETRIES: [&str; 4] = ["throttle", "no_answer", "clock", "transient"];

/// Why a connection to the broker, or a subscription, ended against our will.
pub(super) const RECONNECTS: [&str; 9] =
    ["closed", "refused", "time_out", "unreachable", "cancelled", "no_consumer", "suspended", "topology", "lost"];

/// Codes that an account's failure is counted under: those that an account can fail with by the API's page, the
/// commonest of others, and our own.
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

/// What becomes of a job.
pub(super) const STATUSES: [&str; 4] = ["succeeded", "partial", "failed", "rejected"];

/// States of a lane.
pub(super) const STATES: [&str; 6] = ["serving", "subscribed", "blocked", "closed", "disconnected", "paused"];

/// Reasons for the requeue of a lane.
pub(super) const REQUEUES: [&str; 5] = ["closed", "drain", "lease", "operations", "paused"];

/// Why a message is no job.
pub(super) const REJECTIONS: [&str; 4] = ["member", "priority", "route", "text"];

/// Why something is a dead letter.
pub(super) const DEATHS: [&str; 2] = ["rejected", "failed"];
