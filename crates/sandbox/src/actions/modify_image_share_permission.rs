//! ModifyImageSharePermission: shares an image with accounts, or cancels its shares.

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId},
    text::excerpt,
};

use super::{Context, Members, Parameters, Request, parameters::invalid};
use crate::ledger::{Refusal, SimultaneousWrite};

#[derive(Debug)]
pub(super) struct ModifyImageSharePermission {
    image: ImageId,
    accounts: Vec<AccountId>,
    permission: Permission,
}

impl Request for ModifyImageSharePermission {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let image = from.required_image("ImageId")?;
        let accounts = from.required_texts("AccountIds")?;
        Ok(Self {
            image,
            accounts: accounts.iter().map(|text| account(text)).collect::<Result<_, _>>()?,
            permission: permission(&from.required_text("Permission")?)?,
        })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let Self { image, accounts, permission } = self;
        let caller = context.account()?;
        if context.is_simultaneous && context.ledger.dials.simultaneous_write == SimultaneousWrite::Refused {
            return Err(Refusal::image_busy(*image, "NORMAL"));
        }
        let now = context.now.millis();
        context.ledger.modify(now, caller, context.region, *image, accounts, *permission)?;
        Ok(Members::new())
    }
}

fn account(text: &str) -> Result<AccountId, Refusal> {
    // The API does not trim.
    text.parse().ok().filter(|_| text.trim().len() == text.len()).ok_or_else(|| {
        let message = format!("The account id {} is invalid or does not exist.", excerpt(text));
        Refusal::new("InvalidAccountId.NotFound", message)
    })
}

fn permission(text: &str) -> Result<Permission, Refusal> {
    let is_invalid = |_| invalid("InvalidParameterValue", "Permission", text, "expected SHARE or CANCEL");
    text.parse().map_err(is_invalid)
}
