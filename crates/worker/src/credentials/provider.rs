//! Loads a credential from its source, once.

use std::{sync::Arc, time::Duration};

use imageshare_core::{Credential, actions::CallerIdentity};
use tokio::{sync::Semaphore, task::spawn_blocking};

use super::{
    CredentialsError, Loaded, Source, metadata,
    sts::{PodIdentity, Sts},
};
use crate::{endpoint::Endpoint, environment::Environment, http::Client};

/// Loads the current credential of a source. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Provider {
    source: Arc<Source>,
    environment: Environment,
    client: Client,
    sts: Sts,
    /// One read of files at a time: a read that hangs keeps its thread, and must not keep more.
    file_read: Arc<Semaphore>,
}

impl Provider {
    /// Returns the provider of a source for lanes with this endpoint. It uses the STS of the endpoint's site unless the
    /// source names another one.
    #[must_use]
    pub fn new(source: Source, environment: Environment, client: Client, endpoint: &Endpoint) -> Self {
        let role = match &source {
            Source::AssumeRole { role, .. } | Source::TkeOidc { role, .. } => Some(role),
            _ => None,
        };
        let sts_endpoint = role.and_then(|role| role.endpoint.clone()).unwrap_or_else(|| endpoint.sts());
        let sts = Sts::new(client.clone(), sts_endpoint, role.and_then(|role| role.region));
        Self { source: Arc::new(source), environment, client, sts, file_read: Arc::new(Semaphore::new(1)) }
    }

    /// Loads the current credential. Each call over the network ends within the client's time-outs.
    ///
    /// # Errors
    /// If the source has none, or it is not usable.
    pub async fn load(&self) -> Result<Loaded, CredentialsError> {
        match &*self.source {
            Source::CvmRole { role, endpoint } => {
                metadata::load(&self.client, endpoint.as_ref(), role.as_deref()).await
            }
            Source::AssumeRole { role, external_id, base, .. } => {
                let base = self.read(base).await?;
                let assumed = self.sts.assume(role, external_id.as_deref(), base.credential).await?;
                Ok(Loaded { origin: format!("{} by {}", assumed.origin, base.origin), ..assumed })
            }
            Source::TkeOidc { role, provider_id, token_file } => {
                let (environment, of) = (self.environment.clone(), role.clone());
                let (provider_id, token_file) = (provider_id.clone(), token_file.clone());
                let read = move || PodIdentity::read(&of, provider_id.as_deref(), token_file.as_deref(), &environment);
                self.sts.assume_by_identity(role, self.blocking(read).await?).await
            }
            _ => self.read(&self.source).await,
        }
    }

    /// Returns the account and user that a credential belongs to, by STS.
    ///
    /// # Errors
    /// If STS refuses, or gives no usable response.
    pub async fn identify(&self, credential: Credential) -> Result<CallerIdentity, CredentialsError> {
        self.sts.identify(credential).await
    }

    /// Returns how long a load may take: two calls, each with its own time-out.
    pub(super) fn patience(&self) -> Duration {
        self.sts.time_outs().call.saturating_mul(2)
    }

    pub(super) fn is_on_disk(&self) -> bool {
        self.source.is_on_disk()
    }

    /// Loads from a source that needs no STS. The source behind an assumed role may be the instance's role.
    async fn read(&self, source: &Source) -> Result<Loaded, CredentialsError> {
        if let Source::CvmRole { role, endpoint } = source {
            return metadata::load(&self.client, endpoint.as_ref(), role.as_deref()).await;
        }
        let (of, environment) = (source.clone(), self.environment.clone());
        match self.blocking(move || of.read(&environment)).await? {
            Some(loaded) => Ok(loaded),
            None => {
                let places = source.places(&self.environment)?;
                Err(CredentialsError::Nowhere { places, remedy: source.remedy() })
            }
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, CredentialsError> + Send + 'static,
    ) -> Result<T, CredentialsError> {
        let alone = Arc::clone(&self.file_read).try_acquire_owned().map_err(|_| CredentialsError::StillReading)?;
        let read = spawn_blocking(move || {
            let read = read();
            drop(alone);
            read
        });
        read.await.unwrap_or(Err(CredentialsError::BrokeDown))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::environment, *};
    use crate::http::TimeOuts;

    const ID: &str = environment::SECRET_ID;
    const KEY: &str = environment::SECRET_KEY;

    fn profile(folder: &tempfile::TempDir, key: &str) -> String {
        let path = folder.path().join("credentials");
        fs::write(&path, format!("[default]\nsecret_id = AKIDfile\nsecret_key = {key}\n")).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn provider(source: Source, environment: Environment) -> Provider {
        let endpoint = "cvm.intl.tencentcloudapi.com".parse().unwrap();
        Provider::new(source, environment, Client::new(TimeOuts::default()).unwrap(), &endpoint)
    }

    #[tokio::test]
    async fn environment_comes_before_the_profile() {
        let folder = tempfile::tempdir().unwrap();
        let file = ("TENCENTCLOUD_CREDENTIALS_FILE", &*profile(&folder, "k"));
        let id = async |environment| {
            provider(Source::Chain, environment).load().await.unwrap().credential.secret_id.to_string()
        };
        assert_eq!(id(Environment::of([file])).await, "AKIDfile");
        assert_eq!(id(Environment::of([file, (ID, "AKIDenv"), (KEY, "k")])).await, "AKIDenv");
    }

    #[tokio::test]
    async fn half_a_credential_stops_the_chain() {
        let folder = tempfile::tempdir().unwrap();
        let file = ("TENCENTCLOUD_CREDENTIALS_FILE", &*profile(&folder, "k"));
        let loaded = provider(Source::Chain, Environment::of([file, (ID, "AKIDenv")])).load().await;
        assert!(matches!(loaded, Err(CredentialsError::HalfSet { .. })));
    }

    #[tokio::test]
    async fn missing_credential_names_places_and_remedy() {
        let error = provider(Source::Environment, Environment::of([])).load().await.unwrap_err().to_string();
        assert_eq!(
            error,
            "no credential (expected TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY; \
             set TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY, and TENCENTCLOUD_TOKEN for a temporary key)"
        );
        let quoted = Environment::of([("TENCENTCLOUD_CREDENTIALS_FILE", "'/run/keys'")]);
        assert_eq!(
            provider(Source::Chain, quoted).load().await.unwrap_err().to_string(),
            "TENCENTCLOUD_CREDENTIALS_FILE: path is in quotation marks (expected the path of a file)"
        );
        assert!(Source::Chain.remedy().ends_with(", or write secret_id and secret_key into a profile file"));
        let looked = Source::Chain.places(&Environment::of([("HOME", "/home/ada")])).unwrap();
        assert_eq!(
            looked,
            "TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY, then section [default] of \
             /home/ada/.tencentcloud/credentials or /etc/tencentcloud/credentials"
        );
    }
}
