//! The sending half: one request, signed by the server's clock when it is sent, and its typed outcome.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Uri, header};
use imageshare_core::{
    Class, Credential, UnixSeconds,
    actions::Action,
    ids::{Region, RequestId},
    request::{Language, Prepared, SignedRequest, Signer, Stamp, Target},
    response::{self, Answered, ApiError, Failure, NotAnAnswer},
};
use parking_lot::Mutex;

use super::{SharedClock, request_log};
use crate::{
    endpoint::Endpoint,
    http::{CallError, CallStage, Client, FailureReason, Sending, TimeOuts, WaitGuard},
};

/// The name of this client in the header `X-TC-RequestClient`.
const CLIENT_TAG: &str = concat!("imageshare_", env!("CARGO_PKG_VERSION"));

/// Sends calls to one endpoint. Clones share the credential and the clock.
#[derive(Clone, Debug)]
pub struct ApiSender(Arc<SenderState>);

#[derive(Debug)]
struct SenderState {
    http: Client,
    endpoint: Endpoint,
    uri: Uri,
    clock: SharedClock,
    key: Mutex<CurrentKey>,
}

/// What requests are signed with.
#[derive(Debug)]
struct CurrentKey {
    /// `None` for requests that carry no signature.
    signer: Option<Signer>,
    /// How many credentials came before this one.
    generation: u64,
}

/// The result of one call.
#[derive(Debug)]
pub struct CallOutcome<T> {
    /// The response, or the reason for its absence.
    pub result: Result<T, ApiFailure>,
    /// The request id of an answer. A refusal has its own.
    pub request_id: Option<RequestId>,
    /// The time in the response, by the server's clock.
    pub date: Option<SystemTime>,
    /// The [generation](ApiSender::generation) of the credential that signed the request.
    pub generation: u64,
}

/// Why a call brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiFailure {
    /// The API refused the call.
    #[error(transparent)]
    Refused(ApiError),
    /// The API refused the time of the request, and the clock was corrected: the next request is signed for another time.
    #[error("the clocks differ, and correcting ours did not help")]
    Skewed,
    /// No complete response.
    #[error("{reason}")]
    NoAnswer {
        /// Whether any byte of the request may have left, so that the call may have taken effect.
        sent: bool,
        /// Why.
        reason: FailureReason,
    },
    /// The response is not a complete API response. The call may have taken effect.
    #[error(transparent)]
    Malformed(NotAnAnswer),
}

impl ApiSender {
    /// Returns a sender for an endpoint. Without a credential its requests carry no signature, as
    /// AssumeRoleWithWebIdentity needs it.
    #[must_use]
    pub fn new(http: Client, endpoint: Endpoint, clock: SharedClock, credential: Option<Credential>) -> Self {
        let uri = format!("{endpoint}/").parse().expect("an endpoint is a scheme, a checked host and a port");
        let key = Mutex::new(CurrentKey { signer: credential.map(Signer::new), generation: 0 });
        Self(Arc::new(SenderState { http, endpoint, uri, clock, key }))
    }

    /// Returns a sender for the same endpoint and by the same clock, with another credential.
    #[must_use]
    pub fn with_credential(&self, credential: Option<Credential>) -> Self {
        let SenderState { http, endpoint, clock, .. } = &*self.0;
        Self::new(http.clone(), endpoint.clone(), clock.clone(), credential)
    }

    /// Signs with this credential from now on. Returns whether it differs from the one before.
    pub fn replace_credential(&self, credential: Credential) -> bool {
        let mut key = self.0.key.lock();
        if key.signer.as_ref().is_some_and(|signer| *signer.credential() == credential) {
            return false;
        }
        key.signer = Some(Signer::new(credential));
        key.generation += 1;
        true
    }

    /// Returns the credential that requests are signed with now.
    #[must_use]
    pub fn credential(&self) -> Option<Credential> {
        self.0.key.lock().signer.as_ref().map(|signer| signer.credential().clone())
    }

    /// Returns how often the credential was replaced.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.0.key.lock().generation
    }

    /// Returns the endpoint that is called.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// Returns how many seconds the server's clock is ahead of this machine's, as far as refusals showed it.
    #[must_use]
    pub fn clock_offset(&self) -> i64 {
        self.0.clock.offset().seconds()
    }

    /// Returns how long a call may take.
    #[must_use]
    pub fn time_outs(&self) -> TimeOuts {
        self.0.http.time_outs()
    }

    /// Begins a wait for the endpoint that spans several calls.
    #[must_use]
    pub fn wait(&self) -> WaitGuard {
        self.0.http.waits().begin(self.host())
    }

    /// Returns the host of the endpoint, with its port unless that is the scheme's own.
    #[must_use]
    pub fn host(&self) -> &str {
        self.0.endpoint.authority().as_str()
    }

    /// Signs a call for this moment and sends it once. `sending` decides whether it may leave, and records whether it did.
    /// The outcome comes within [`TimeOuts::call`].
    pub async fn call<A: Action>(
        &self,
        action: &A,
        region: Option<Region>,
        sending: &Arc<Sending>,
    ) -> CallOutcome<A::Answer> {
        let begun = Instant::now();
        let outcome = self.call_unrecorded(action, region, sending).await;
        request_log::record(action, &outcome, begun.elapsed());
        outcome
    }

    async fn call_unrecorded<A: Action>(
        &self,
        action: &A,
        region: Option<Region>,
        sending: &Arc<Sending>,
    ) -> CallOutcome<A::Answer> {
        let (offset, second) = self.0.clock.now();
        let (request, generation) = self.sign(action, region, second);
        let failed = |failure, date| CallOutcome { date, generation, ..CallOutcome::failed(failure) };
        let reply = match self.0.http.call(request, sending).await {
            Ok(reply) => reply,
            Err(CallError { sent, reason }) => return failed(ApiFailure::NoAnswer { sent, reason }, None),
        };
        match response::parse::<A>(reply.status, &reply.body) {
            Ok(Answered { answer, request_id }) => {
                CallOutcome { result: Ok(answer), request_id, date: reply.date, generation }
            }
            Err(Failure::Api(error)) if error.class() == Class::Clock && self.0.clock.correct(offset, reply.date) => {
                failed(ApiFailure::Skewed, reply.date)
            }
            Err(Failure::Api(error)) => failed(ApiFailure::Refused(error), reply.date),
            Err(Failure::NotAnAnswer(error)) => failed(ApiFailure::Malformed(error), reply.date),
        }
    }

    /// Returns the request for this second, and the generation of the credential that signed it.
    fn sign<A: Action>(&self, action: &A, region: Option<Region>, second: UnixSeconds) -> (Request<Bytes>, u64) {
        let SenderState { endpoint, uri, key, .. } = &*self.0;
        let target = Target { host: endpoint.authority(), region, language: Some(Language::English) };
        let prepared = Prepared::new(action, &target);
        let CurrentKey { signer, generation } = &mut *key.lock();
        let request = match signer {
            Some(signer) => into_http(&signer.sign(&prepared, second), uri),
            None => into_http(&prepared.unsigned(second, &mut Stamp::default()), uri),
        };
        (request, *generation)
    }
}

impl<T> CallOutcome<T> {
    pub(super) const fn failed(failure: ApiFailure) -> Self {
        Self { result: Err(failure), request_id: None, date: None, generation: 0 }
    }

    /// Returns the outcome with its answer converted.
    #[must_use]
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> CallOutcome<U> {
        let Self { result, request_id, date, generation } = self;
        CallOutcome { result: result.map(convert), request_id, date, generation }
    }
}

impl ApiFailure {
    /// Returns the class of a refusal; `None` if there is no complete response of the API.
    #[must_use]
    pub fn class(&self) -> Option<Class> {
        match self {
            Self::Refused(error) => Some(error.class()),
            Self::Skewed => Some(Class::Clock),
            Self::NoAnswer { .. } | Self::Malformed(_) => None,
        }
    }

    /// Returns the failure of calls to which no response came in this time.
    pub(super) const fn silence(after: Duration) -> Self {
        let reason = FailureReason::TimeOut { stage: CallStage::Answer, after };
        Self::NoAnswer { sent: true, reason }
    }
}

/// Returns a signed request in the form that the HTTP client takes.
fn into_http(signed: &SignedRequest<'_>, uri: &Uri) -> Request<Bytes> {
    let mut request = Request::post(uri.clone());
    for (name, value) in signed.headers() {
        let name = HeaderName::from_bytes(name.as_bytes()).expect("the names of the API's headers are valid");
        let mut value =
            HeaderValue::from_str(value).expect("headers are made of checked parts, all of them visible ASCII");
        value.set_sensitive(name == header::AUTHORIZATION || name == "x-tc-token");
        request = request.header(name, value);
    }
    request
        .header("x-tc-requestclient", CLIENT_TAG)
        .body(Bytes::copy_from_slice(signed.body()))
        .expect("the address comes from a checked endpoint, and every header was checked")
}

#[cfg(test)]
mod tests {
    use imageshare_core::{Permission, actions::ModifyImageSharePermission};

    use super::*;

    #[test]
    fn request_has_all_headers_and_hides_secrets() {
        let credential = Credential {
            secret_id: "AKIDEXAMPLE".parse().unwrap(),
            secret_key: "topsecret".parse().unwrap(),
            token: Some("toptoken".parse().unwrap()),
        };
        let action = ModifyImageSharePermission {
            image_id: "img-6pb6lrmy".parse().unwrap(),
            permission: Permission::Share,
            account_ids: vec!["1038493875".parse().unwrap()],
        };
        let endpoint = "http://127.0.0.1:9700".parse().unwrap();
        let http = Client::new(TimeOuts::default()).unwrap();
        let sender = ApiSender::new(http, endpoint, SharedClock::default(), Some(credential));
        let second = UnixSeconds::new(1_551_113_065).unwrap();
        let (request, _) = sender.sign(&action, "ap-singapore".parse().ok(), second);

        let header = |name: &str| request.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(request.uri(), "http://127.0.0.1:9700/");
        assert_eq!(header("host"), "127.0.0.1:9700");
        assert_eq!(header("content-type"), "application/json");
        assert_eq!(header("x-tc-action"), "ModifyImageSharePermission");
        assert_eq!(header("x-tc-version"), "2017-03-12");
        assert_eq!(header("x-tc-region"), "ap-singapore");
        assert_eq!(header("x-tc-timestamp"), "1551113065");
        assert_eq!(header("x-tc-language"), "en-US");
        assert_eq!(header("x-tc-token"), "toptoken");
        assert_eq!(header("x-tc-requestclient"), concat!("imageshare_", env!("CARGO_PKG_VERSION")));
        assert!(header("authorization").contains("SignedHeaders=content-type;host;x-tc-action"));
        assert_eq!(request.body(), r#"{"ImageId":"img-6pb6lrmy","AccountIds":["1038493875"],"Permission":"SHARE"}"#);
        let shown = format!("{request:?} {sender:?}");
        assert!(!shown.contains("toptoken") && !shown.contains("Signature="), "{shown}");
    }
}
