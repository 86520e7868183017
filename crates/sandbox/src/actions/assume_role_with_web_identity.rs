//! AssumeRoleWithWebIdentity: a temporary key in exchange for the token of an identity provider.

use imageshare_core::text::excerpt;

use super::{Context, Members, Parameters, Request, assume_role::AssumeRole};
use crate::ledger::Refusal;

#[derive(Debug)]
pub(super) struct AssumeRoleWithWebIdentity {
    provider_id: String,
    token: String,
    role: AssumeRole,
}

impl Request for AssumeRoleWithWebIdentity {
    fn read(from: &mut Parameters) -> Result<Self, Refusal> {
        let (provider_id, token) = (from.required_text("ProviderId")?, from.required_text("WebIdentityToken")?);
        // A JWT is three nonempty strings separated by dots.
        let parts: Vec<_> = token.split('.').collect();
        if parts.len() != 3 || parts.contains(&"") {
            return Err(refused(&provider_id));
        }
        Ok(Self { provider_id, token, role: AssumeRole::read(from)? })
    }

    fn perform(&self, context: &mut Context<'_>) -> Result<Members, Refusal> {
        let Self { provider_id, token, role } = self;
        // A world without identities accepts every token.
        let known = &context.world.web_identities;
        if !known.is_empty() && !known.iter().any(|identity| (&identity.0, &identity.1) == (provider_id, token)) {
            return Err(refused(provider_id));
        }
        role.perform(context)
    }
}

fn refused(provider_id: &str) -> Refusal {
    let message = format!("The identity token is not valid for the provider {}.", excerpt(provider_id));
    Refusal::new("InvalidParameter.WebIdentityTokenError", message)
}
