//! Errors of the API.

use alloc::{borrow::Cow, format, string::String};

use imageshare_core::{
    ids::{AccountId, ImageId, Region},
    text::excerpt,
};

use super::ImageState;

/// An error of the API: a code for programs, and a message for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// The error code, such as `InvalidImageId.NotFound`.
    pub code: Cow<'static, str>,
    /// The message.
    pub message: String,
}

impl Refusal {
    /// Returns a refusal with a code and a message.
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into() }
    }

    pub(crate) fn missing_parameter(name: &str) -> Self {
        Self::new("MissingParameter", format!("The request is missing a required parameter `{name}`."))
    }

    pub(super) fn too_many_ids(count: usize, limit: usize) -> Self {
        Self::new(
            "InvalidParameterValue.LimitExceeded",
            format!("The number of `AccountIds` is {count}, which exceeds the limit {limit} of a request."),
        )
    }

    pub(super) fn image_unknown(image: ImageId, region: Region) -> Self {
        Self::new("InvalidImageId.NotFound", format!("The image id `{image}` does not exist in region `{region}`."))
    }

    pub(super) fn image_of_another(image: ImageId) -> Self {
        Self::new(
            "UnauthorizedOperation.ImageNotBelongToAccount",
            format!("The image `{image}` belongs to another user."),
        )
    }

    pub(super) fn not_authorized(action: &str, region: Region, caller: AccountId, image: ImageId) -> Self {
        Self::new(
            "UnauthorizedOperation",
            format!(
                "you are not authorized to perform operation (cvm:{action})\nresource \
                 (qcs::cvm:{region}:uin/{caller}:image/{image}) has no permission\n"
            ),
        )
    }

    pub(super) fn image_not_shareable(image: ImageId, kind: &str) -> Self {
        Self::new(
            "InvalidParameterValue.InvalidImageId",
            format!("The image `{image}` is a {kind}, which does not allow this operation."),
        )
    }

    pub(super) fn instance_image(image: ImageId) -> Self {
        Self::new("InvalidParameter.InstanceImageNotSupport", format!("The instance image `{image}` is not supported."))
    }

    pub(super) fn encrypted(image: ImageId) -> Self {
        Self::new(
            "UnsupportedOperation.EncryptedImagesNotSupported",
            format!("The encrypted image `{image}` does not support this operation."),
        )
    }

    pub(super) fn byol(image: ImageId) -> Self {
        Self::new("FailedOperation.BYOLImageShareFailed", format!("The BYOL image `{image}` cannot be shared for now."))
    }

    pub(crate) fn image_busy(image: ImageId, state: &str) -> Self {
        Self::new(
            "InvalidParameterValue.InvalidImageState",
            format!("The image `{image}` is in the state {state}, occupied by another operation. Try again later."),
        )
    }

    pub(super) fn incorrect_state(image: ImageId, state: ImageState) -> Self {
        let state = state.as_str();
        Self::new("InvalidImageId.IncorrectState", format!("The image `{image}` is in the state {state}."))
    }

    pub(super) fn name_taken(name: &str, region: Region) -> Self {
        let message = format!("An image with the name {} exists in region `{region}`.", excerpt(name));
        Self::new("InvalidImageName.Duplicate", message)
    }

    pub(super) fn own_account(account: AccountId) -> Self {
        Self::new("FailedOperation.AccountIsYourSelf", format!("The account `{account}` is the calling one."))
    }

    pub(super) fn account_unknown(account: AccountId) -> Self {
        Self::new("InvalidAccountId.NotFound", format!("The account id `{account}` is invalid or does not exist."))
    }

    pub(super) fn sub_account(account: AccountId) -> Self {
        Self::new(
            "FailedOperation.NotMasterAccount",
            format!("The account `{account}` is a collaborator; a root account is needed."),
        )
    }

    pub(super) fn already_shared(image: ImageId, account: AccountId) -> Self {
        Self::new(
            "FailedOperation.AccountAlreadyExists",
            format!("The image `{image}` is already shared with the account `{account}`."),
        )
    }

    pub(super) fn not_shared(image: ImageId, account: AccountId) -> Self {
        Self::new(
            "InvalidAccountId.NotFound",
            format!("The image `{image}` is not shared with the account id `{account}`."),
        )
    }

    pub(super) fn over_quota(image: ImageId, shared: usize, more: usize, cap: usize) -> Self {
        Self::new(
            "OverQuota",
            format!("The image `{image}` is shared with {shared} accounts; {more} more exceed the quota of {cap}."),
        )
    }

    pub(super) fn account_fault(code: String, account: AccountId) -> Self {
        Self::new(code, format!("The operation failed for the account `{account}`."))
    }

    pub(super) fn no_room(images: usize) -> Self {
        Self::new(
            "ResourceInsufficient",
            format!("The sandbox holds {images} images already, deleted ones included, which is its limit."),
        )
    }
}
