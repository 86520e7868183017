//! Reads which accounts have an image, without the engine: for `list`, `--dry-run` and `check --connect`, which change
//! nothing.

use std::time::Duration;

use imageshare_core::{
    Class,
    actions::{Action, DescribeImageSharePermission, DescribeImages, SharedAccount},
    ids::{ImageId, Region},
    response::ApiError,
};
use tokio::time::Instant;

use crate::{
    api::{ApiClient, ApiFailure, ApiSender, RetryPolicy, SharedClock},
    credentials::CredentialCache,
    endpoint::Endpoint,
    http::Client,
    lanes::OpenLane,
};

/// Returns the time between two requests at a rate, in requests per second. Like the pace of the engine it is 5 % longer
/// than the limit asks, so that no second has more requests than the limit.
#[must_use]
pub fn interval(rate: f64) -> Duration {
    Duration::from_millis(1050).div_f64(rate)
}

/// Reads the shares of images.
#[derive(Debug)]
pub struct ImageReader {
    reader: PacedReader,
    /// The time of one call.
    call_max: Duration,
    /// Whether the last listing got no usable response, in all the time that it had. The next one gets the time of one call.
    is_unanswered: bool,
}

/// Reads with one lane's credential, one call after the other, at the lane's pace.
#[derive(Debug)]
pub(crate) struct PacedReader {
    api: ApiClient,
    credentials: CredentialCache,
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub enum ReadFailure {
    /// The API refused it.
    #[error("{}: {}", .0.code, .0.message)]
    Refused(ApiError),
    /// The API gave no usable response: its host, and why.
    #[error("{0}")]
    Unanswered(String),
    /// The responses do not fit together.
    #[error("{0}")]
    Inconsistent(String),
}

impl ImageReader {
    /// Returns a reader for a lane.
    #[must_use]
    pub fn new(client: &Client, lane: &OpenLane) -> Self {
        let reader = PacedReader::new(client, lane, lane.endpoint.clone());
        Self { reader, call_max: client.time_outs().call, is_unanswered: false }
    }

    /// Returns the accounts that an image is shared with. Throttled calls and those without a usable response are repeated
    /// for `give_up_after`, and once after the credential was refused if its source has another one. After a listing without
    /// a usable response the next one has only the time of one call.
    ///
    /// # Errors
    /// If the API refuses, or gives no usable response in that time.
    pub async fn shares(
        &mut self,
        region: Region,
        image_id: ImageId,
        give_up_after: Duration,
    ) -> Result<Vec<SharedAccount>, ReadFailure> {
        let time = if self.is_unanswered { self.call_max.min(give_up_after) } else { give_up_after };
        let shares = self.reader.read(&DescribeImageSharePermission { image_id }, Some(region), time).await;
        self.is_unanswered = matches!(shares, Err(ReadFailure::Unanswered(_)));
        shares
    }

    /// Calls each reading action for an image once, to see whether the credential may. Returns the actions' names with the
    /// results.
    pub async fn probe(&mut self, region: Region, image_id: ImageId) -> [(&'static str, Result<(), ReadFailure>); 2] {
        let (region, once) = (Some(region), RetryPolicy::ClockOnly);
        let shares = self.reader.call(&DescribeImageSharePermission { image_id }, region, once).await;
        let images = self.reader.call(&DescribeImages { image_ids: vec![image_id] }, region, once).await;
        [(DescribeImageSharePermission::NAME, shares.map(drop)), (DescribeImages::NAME, images.map(drop))]
    }
}

impl PacedReader {
    /// Returns a reader for a lane that calls this endpoint.
    pub(crate) fn new(client: &Client, lane: &OpenLane, endpoint: Endpoint) -> Self {
        let credentials = lane.credentials.clone();
        let sender = ApiSender::new(client.clone(), endpoint, SharedClock::default(), credentials.credential());
        Self { api: ApiClient::new(sender, interval(lane.limits.rate)), credentials }
    }

    /// Returns the answer of an action. Throttled calls and those without a usable response are repeated for
    /// `give_up_after`, and once after the credential was refused if its source has another one.
    pub(crate) async fn read<A: Action>(
        &mut self,
        action: &A,
        region: Option<Region>,
        give_up_after: Duration,
    ) -> Result<A::Answer, ReadFailure> {
        let give_up_at = Instant::now() + give_up_after;
        let mut result = self.call(action, region, RetryPolicy::For(give_up_after)).await;
        let is_credential_refused = result.as_ref().is_err_and(|failure| failure.class() == Some(Class::Credential));
        if is_credential_refused && self.renew_credential().await {
            let left = give_up_at.saturating_duration_since(Instant::now());
            result = self.call(action, region, RetryPolicy::For(left)).await;
        }
        result
    }

    async fn call<A: Action>(
        &mut self,
        action: &A,
        region: Option<Region>,
        policy: RetryPolicy,
    ) -> Result<A::Answer, ReadFailure> {
        let outcome = self.api.call(action, region, policy).await;
        outcome.result.map_err(|failure| match failure {
            ApiFailure::Refused(error) => ReadFailure::Refused(error),
            other => ReadFailure::Unanswered(format!("{}: {other}", self.api.sender().host())),
        })
    }

    /// Returns whether the credential's source has another credential by now.
    async fn renew_credential(&self) -> bool {
        let refreshed = self.credentials.refresh().await;
        refreshed.is_ok_and(|credential| self.api.sender().replace_credential(credential))
    }
}

impl ReadFailure {
    /// Returns whose fault a refusal is; `None` if the API gave no usable response.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Refused(error) => Some(error.class()),
            Self::Inconsistent(_) => Some(Class::Unknown),
            Self::Unanswered(_) => None,
        }
    }
}
