//! The typed request of each action, after the checks of the gateway.

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId, Region},
    text::excerpt,
};

use super::{
    describe_images::ImagesQuery,
    parameters::{Parameters, invalid},
    sts::{Role, WebIdentity},
};
use crate::{action::Action, ledger::Refusal};

/// A call with its account and region.
#[derive(Debug)]
pub(super) struct Call {
    /// `None` for a request that needs no signature.
    pub(super) account: Option<AccountId>,
    pub(super) region: Region,
    pub(super) request: Request,
    /// Whether another write on the image was in flight when it arrived.
    pub(super) is_simultaneous: bool,
}

/// The parameters of an action.
#[derive(Debug)]
pub(super) enum Request {
    AssumeRole(Role),
    AssumeRoleWithWebIdentity(Role, WebIdentity),
    CallerIdentity,
    Images(ImagesQuery),
    Modify { image: ImageId, accounts: Vec<AccountId>, permission: Permission },
    Shares { image: ImageId },
}

impl Request {
    pub(super) const fn is_of_cvm(&self) -> bool {
        matches!(self, Self::Images(_) | Self::Modify { .. } | Self::Shares { .. })
    }

    pub(super) fn read(action: Action, mut from: Parameters) -> Result<Self, Refusal> {
        let request = match action {
            Action::AssumeRole => Self::AssumeRole(Role::read(&mut from)?),
            Action::AssumeRoleWithWebIdentity => {
                let identity = WebIdentity::read(&mut from)?;
                Self::AssumeRoleWithWebIdentity(Role::read(&mut from)?, identity)
            }
            Action::DescribeImageSharePermission => Self::Shares { image: image(&from.required_text("ImageId")?)? },
            Action::DescribeImages => Self::Images(ImagesQuery::read(&mut from)?),
            Action::GetCallerIdentity => Self::CallerIdentity,
            Action::InstanceRole => {
                return Err(Refusal::new("InvalidAction", "The action does not exist for this product."));
            }
            Action::ModifyImageSharePermission => Self::Modify {
                image: image(&from.required_text("ImageId")?)?,
                accounts: accounts(
                    &from.texts("AccountIds")?.ok_or_else(|| Refusal::missing_parameter("AccountIds"))?,
                )?,
                permission: permission(&from.required_text("Permission")?)?,
            },
        };
        from.finish()?;
        Ok(request)
    }
}

pub(super) fn image(text: &str) -> Result<ImageId, Refusal> {
    text.parse()
        .map_err(|_| Refusal::new("InvalidImageId.Malformed", format!("The image id {} is malformed.", excerpt(text))))
}

fn accounts(texts: &[String]) -> Result<Vec<AccountId>, Refusal> {
    let account = |text: &String| {
        // The API does not trim.
        text.parse().ok().filter(|_| text.trim().len() == text.len()).ok_or_else(|| {
            let message = format!("The account id {} is invalid or does not exist.", excerpt(text));
            Refusal::new("InvalidAccountId.NotFound", message)
        })
    };
    texts.iter().map(account).collect()
}

fn permission(text: &str) -> Result<Permission, Refusal> {
    let is_invalid = |_| invalid("InvalidParameterValue", "Permission", text, "expected SHARE or CANCEL");
    text.parse().map_err(is_invalid)
}
