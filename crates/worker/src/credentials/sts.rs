//! STS, the service for temporary keys: roles, and the account of a key.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use imageshare_core::{
    Credential,
    actions::{Action, AssumeRole, AssumeRoleWithWebIdentity, AssumedRole, CallerIdentity, GetCallerIdentity},
    credential::Token,
    ids::Region,
};

use super::{
    CredentialsError, Loaded, Role,
    environment::variable,
    reading::{read, unreadable},
    shown,
};
use crate::{
    api::{ApiClient, ApiFailure, ApiSender, CallOutcome, RetryPolicy, SharedClock},
    endpoint::Endpoint,
    environment::Environment,
    http::{Client, TimeOuts},
    paths::path_problem,
};

/// The region that calls name unless the settings set one, as in the vendor's SDKs. Roles belong to no region.
const USUAL_REGION: &str = "ap-guangzhou";

/// The variables that the cluster sets for a pod.
const REGION: &str = "TKE_REGION";
const PROVIDER_ID: &str = "TKE_PROVIDER_ID";
pub(super) const TOKEN_FILE: &str = "TKE_WEB_IDENTITY_TOKEN_FILE";
const ROLE_ARN: &str = "TKE_ROLE_ARN";

/// STS for one credential source, before it has a credential.
#[derive(Clone, Debug)]
pub(super) struct Sts {
    /// Without a credential. Calls share its clock.
    sender: ApiSender,
    region: Option<Region>,
}

impl Sts {
    pub(super) fn new(client: Client, endpoint: Endpoint, region: Option<Region>) -> Self {
        Self { sender: ApiSender::new(client, endpoint, SharedClock::default(), None), region }
    }

    pub(super) fn time_outs(&self) -> TimeOuts {
        self.sender.time_outs()
    }

    /// Returns the credential of a role, assumed with another credential.
    pub(super) async fn assume(
        &self,
        role: &Role,
        external_id: Option<&str>,
        base: Credential,
    ) -> Result<Loaded, CredentialsError> {
        let action = AssumeRole {
            role_arn: role.arn.clone().unwrap_or_default(),
            role_session_name: role.session.clone(),
            duration_seconds: Some(role.seconds),
            external_id: external_id.map(str::to_owned),
        };
        let (AssumedRole { credential, expires_at }, date) = self.call(&action, self.region, Some(base)).await?;
        Ok(Loaded::until(credential, format!("role {}", role.shown()), expires_at, date))
    }

    /// Returns the credential of a role, assumed with the identity of a pod.
    pub(super) async fn assume_by_identity(
        &self,
        role: &Role,
        identity: PodIdentity,
    ) -> Result<Loaded, CredentialsError> {
        let PodIdentity { role_arn, provider_id, token, region } = identity;
        let action = AssumeRoleWithWebIdentity {
            provider_id,
            web_identity_token: token,
            role_arn: role_arn.clone(),
            role_session_name: role.session.clone(),
            duration_seconds: Some(role.seconds),
        };
        let (AssumedRole { credential, expires_at }, date) = self.call(&action, self.region.or(region), None).await?;
        let shown = Role { arn: Some(role_arn), ..role.clone() }.shown();
        Ok(Loaded::until(credential, format!("role {shown} by this pod's identity"), expires_at, date))
    }

    /// Returns the account and user that a credential belongs to.
    pub(super) async fn identify(&self, credential: Credential) -> Result<CallerIdentity, CredentialsError> {
        self.call(&GetCallerIdentity, self.region, Some(credential)).await.map(|(identity, _)| identity)
    }

    /// Makes one call, signed if there is a credential. Returns the answer and the time of the server's clock.
    async fn call<A: Action>(
        &self,
        action: &A,
        region: Option<Region>,
        credential: Option<Credential>,
    ) -> Result<(A::Answer, Option<SystemTime>), CredentialsError> {
        let region = region.or_else(|| USUAL_REGION.parse().ok());
        let mut api = ApiClient::new(self.sender.with_credential(credential), Duration::ZERO);
        // The cache of the credential repeats what failed, with pauses.
        let CallOutcome { result, date, .. } = api.call(action, region, RetryPolicy::ClockOnly).await;
        let answer = result.map_err(|failure| match failure {
            ApiFailure::Refused(error) => CredentialsError::Refused { action: A::NAME, error: Box::new(error) },
            other => {
                CredentialsError::Unreachable { subject: self.sender.endpoint().to_string(), reason: other.to_string() }
            }
        })?;
        Ok((answer, date))
    }
}

/// The identity of a pod, as the cluster gives it.
pub(super) struct PodIdentity {
    role_arn: String,
    provider_id: String,
    token: Token,
    region: Option<Region>,
}

impl PodIdentity {
    /// Reads it. Blocks. The token is read each time, since the cluster renews it.
    pub(super) fn read(
        role: &Role,
        provider_id: Option<&str>,
        token_file: Option<&Path>,
        environment: &Environment,
    ) -> Result<Self, CredentialsError> {
        let variable = |name| variable(environment, name);
        let needed = |given: Option<String>, name: &'static str| match given {
            Some(text) => Ok(text),
            None => variable(name)?.ok_or_else(|| CredentialsError::Nowhere {
                places: name.to_owned(),
                remedy: format!("give the pod an identity, which sets {name}, or name it in the settings"),
            }),
        };
        let role_arn = needed(role.arn.clone(), ROLE_ARN)?;
        let provider_id = needed(provider_id.map(str::to_owned), PROVIDER_ID)?;
        let token_file = match token_file {
            Some(path) => path.to_owned(),
            None => needed(None, TOKEN_FILE)?.into(),
        };
        if let Some(problem) = path_problem(&token_file) {
            return Err(CredentialsError::NoPath { name: TOKEN_FILE, problem });
        }
        let text = read(&token_file).map_err(|error| unreadable(&token_file, &error))?;
        let token = Token::new(text.trim_end_matches(['\n', '\r']))
            .map_err(|problem| CredentialsError::Part { place: shown(&token_file), problem })?;
        let region = variable(REGION)?.and_then(|text| text.parse().ok());
        Ok(Self { role_arn, provider_id, token, region })
    }
}
