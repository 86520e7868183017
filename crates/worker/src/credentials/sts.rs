//! The service for temporary keys: roles, and whose key it is.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use imageshare_core::{
    Class, Credential, UnixSeconds,
    actions::{Action, AssumeRole, AssumeRoleWithWebIdentity, AssumedRole, CallerIdentity, GetCallerIdentity},
    credential::Token,
    ids::Region,
    request::{Language, Prepared, Signer, Stamp, Target},
    response::{self, Answered, Failure},
};

use super::{CredentialsError, Loaded, Role, environment::variable, reading::read, shown};
use crate::{
    endpoint::Endpoint,
    environment::Environment,
    http::{Client, Sending, into_http},
    paths::path_problem,
};

/// The region that is named when nobody says otherwise, as the vendor's SDKs do. Roles belong to no region.
const USUAL_REGION: &str = "ap-guangzhou";

/// The variables that the cluster sets for a pod.
const REGION: &str = "TKE_REGION";
const PROVIDER_ID: &str = "TKE_PROVIDER_ID";
pub(super) const TOKEN_FILE: &str = "TKE_WEB_IDENTITY_TOKEN_FILE";
const ROLE_ARN: &str = "TKE_ROLE_ARN";

/// The service as one credential uses it.
#[derive(Clone, Debug)]
pub(super) struct Sts {
    pub(super) client: Client,
    pub(super) endpoint: Endpoint,
    pub(super) region: Option<Region>,
}

impl Sts {
    /// The credential of a role, assumed with another one.
    pub(super) async fn assume(
        &self,
        role: &Role,
        external_id: Option<&str>,
        base: Credential,
    ) -> Result<Loaded, CredentialsError> {
        let arn = role.arn.clone().unwrap_or_default();
        let action = AssumeRole {
            role_arn: arn.clone(),
            role_session_name: role.session.clone(),
            duration_seconds: Some(role.seconds),
            external_id: external_id.map(str::to_owned),
        };
        let (AssumedRole { credential, expires_at }, date) = self.call(&action, Some(base)).await?;
        Ok(Loaded::until(credential, format!("role {}", role.shown()), expires_at, date))
    }

    /// The credential of a role, assumed with the identity of a pod. Its token is read anew each time: it is renewed by
    /// whoever wrote it.
    pub(super) async fn assume_by_identity(&self, role: &Role, identity: Identity) -> Result<Loaded, CredentialsError> {
        let Identity { role_arn, provider_id, token, region } = identity;
        let action = AssumeRoleWithWebIdentity {
            provider_id,
            web_identity_token: token,
            role_arn: role_arn.clone(),
            role_session_name: role.session.clone(),
            duration_seconds: Some(role.seconds),
        };
        let sts = Self { region: self.region.or(region), ..self.clone() };
        let (AssumedRole { credential, expires_at }, date) = sts.call(&action, None).await?;
        let shown = Role { arn: Some(role_arn), ..role.clone() }.shown();
        Ok(Loaded::until(credential, format!("role {shown} by this pod's identity"), expires_at, date))
    }

    /// Whose credential it is.
    pub(super) async fn identify(&self, credential: Credential) -> Result<CallerIdentity, CredentialsError> {
        self.call(&GetCallerIdentity, Some(credential)).await.map(|(identity, _)| identity)
    }

    /// One call, signed if there is something to sign with, and once more by the server's clock if that differs. Beside
    /// the answer, what that clock showed.
    async fn call<A: Action>(
        &self,
        action: &A,
        credential: Option<Credential>,
    ) -> Result<(A::Answer, Option<SystemTime>), CredentialsError> {
        let region = self.region.or_else(|| USUAL_REGION.parse().ok());
        let target = Target { host: self.endpoint.authority(), region, language: Some(Language::English) };
        let prepared = Prepared::new(action, &target);
        let uri = format!("{}/", self.endpoint).parse().expect("an endpoint is a scheme, a checked host and a port");
        let mut signer = credential.map(Signer::new);
        let mut second = unix_seconds(SystemTime::now());
        let mut is_corrected = false;
        loop {
            let request = match &mut signer {
                Some(signer) => into_http(&signer.sign(&prepared, second), &uri),
                None => into_http(&prepared.unsigned(second, &mut Stamp::default()), &uri),
            };
            // Asking twice for a key, or for a name, does no harm: whether it was sent does not matter.
            let reply = self
                .client
                .call(request, &Sending::new(|| true))
                .await
                .map_err(|error| self.unreachable(error.reason.to_string()))?;
            match response::parse::<A>(reply.status, &reply.body) {
                Ok(Answered { answer, .. }) => return Ok((answer, reply.date)),
                Err(Failure::Api(error)) => match (error.class(), reply.date, is_corrected) {
                    (Class::Clock, Some(date), false) => (second, is_corrected) = (unix_seconds(date), true),
                    _ => return Err(CredentialsError::Refused { action: A::NAME, error: Box::new(error) }),
                },
                Err(Failure::NotAnAnswer(error)) => return Err(self.unreachable(error.to_string())),
            }
        }
    }

    fn unreachable(&self, reason: String) -> CredentialsError {
        CredentialsError::Unreachable { whom: self.endpoint.to_string(), reason }
    }
}

/// What a pod is known by.
pub(super) struct Identity {
    role_arn: String,
    provider_id: String,
    token: Token,
    region: Option<Region>,
}

impl Identity {
    /// Reads it. Blocks.
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
                looked: name.to_owned(),
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
        let text = read(&token_file)
            .map_err(|error| CredentialsError::Unreadable { path: token_file.clone(), problem: error.to_string() })?;
        let token = Token::new(text.trim_end_matches(['\n', '\r']))
            .map_err(|problem| CredentialsError::Part { place: shown(&token_file), problem })?;
        let region = variable(REGION)?.and_then(|text| text.parse().ok());
        Ok(Self { role_arn, provider_id, token, region })
    }
}

/// Whole seconds since 1970.
fn unix_seconds(time: SystemTime) -> UnixSeconds {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    UnixSeconds::new(seconds).unwrap_or(UnixSeconds::MAX)
}
