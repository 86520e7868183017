//! The calls in flight: each runs in a task of its own, from the engine's action to its outcome.

use std::{collections::BTreeMap, sync::Arc};

use imageshare_core::{
    actions::{
        Action as _, DescribeImageSharePermission, DescribeImages, Image, ImageState as ApiState,
        ModifyImageSharePermission,
    },
    ids::{ImageId, RequestId},
};
use imageshare_engine::io::{Action, Answer, CallId, ImageReadiness, LaneId, Outcome};
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::{
    api::{ApiFailure, ApiSender, CallOutcome},
    events::CallDetails,
    http::Sending,
    ownership_proof::OwnershipProof,
};

/// The calls in flight.
#[derive(Debug)]
pub(super) struct Calls {
    in_flight: BTreeMap<CallId, CallRecord>,
    tasks: JoinSet<()>,
    sender: mpsc::UnboundedSender<CallEvent>,
    /// Holds at most two events for each call in flight. The engine bounds those for each lane.
    events: mpsc::UnboundedReceiver<CallEvent>,
}

/// What the driver records of a call.
#[derive(Debug)]
pub(super) struct CallRecord {
    pub(super) lane: LaneId,
    pub(super) details: CallDetails,
    /// When its request was written, if it was.
    pub(super) sent_at: Option<Instant>,
}

/// What happened to a call.
#[derive(Debug)]
pub(super) enum CallEvent {
    /// Its request is being written to an open connection.
    Sent(CallId),
    /// It ended.
    Ended {
        /// Its number.
        call: CallId,
        /// Its result.
        outcome: Outcome,
        /// The request id of an accepted request.
        request_id: Option<RequestId>,
        /// The generation of the credential that signed it; `None` of a call that was not signed.
        generation: Option<u64>,
    },
}

impl Calls {
    pub(super) fn new() -> Self {
        let (sender, events) = mpsc::unbounded_channel();
        Self { in_flight: BTreeMap::new(), tasks: JoinSet::new(), sender, events }
    }

    /// Starts a call. `proof` is the ownership proof of its lane, where that can be lost.
    pub(super) fn start(
        &mut self,
        call: CallId,
        lane: LaneId,
        api: ApiSender,
        action: Action,
        proof: Option<Arc<OwnershipProof>>,
    ) {
        self.in_flight.insert(call, CallRecord { lane, details: details(&action), sent_at: None });
        let flight = Flight::new(call, proof, self.sender.clone());
        self.tasks.spawn(flight.fly(api, action));
    }

    /// Waits for the next event. Cancel safe.
    pub(super) async fn next(&mut self) -> CallEvent {
        self.events.recv().await.expect("this holds a sender")
    }

    /// Returns the next event if there is one now.
    pub(super) fn try_next(&mut self) -> Option<CallEvent> {
        // The tasks that have ended have sent all their events.
        while self.tasks.try_join_next().is_some() {}
        self.events.try_recv().ok()
    }

    /// Records that a request is being written. Returns the lane and what the call is.
    pub(super) fn sent(&mut self, call: CallId) -> Option<(LaneId, &CallDetails)> {
        let call = self.in_flight.get_mut(&call)?;
        call.sent_at = Some(Instant::now());
        Some((call.lane, &call.details))
    }

    /// Removes a call that has ended.
    pub(super) fn remove(&mut self, call: CallId) -> Option<CallRecord> {
        self.in_flight.remove(&call)
    }

    /// Breaks off all calls. Each has an event about its outcome then.
    pub(super) async fn break_off(&mut self) {
        self.tasks.shutdown().await;
    }
}

/// Returns what events show of an action.
fn details(action: &Action) -> CallDetails {
    let (action, image_id, accounts) = match action {
        Action::Modify { image_id, account_ids, .. } => {
            (ModifyImageSharePermission::NAME, *image_id, u32::try_from(account_ids.len()).ok())
        }
        Action::ReadShares { image_id, .. } => (DescribeImageSharePermission::NAME, *image_id, None),
        Action::ReadImage { image_id, .. } => (DescribeImages::NAME, *image_id, None),
    };
    CallDetails { action, image_id, accounts }
}

/// Makes the call that an action asks for.
async fn perform(api: &ApiSender, action: Action, sending: &Arc<Sending>) -> CallOutcome<Answer> {
    match action {
        Action::Modify { region, image_id, permission, account_ids } => {
            let action = ModifyImageSharePermission { image_id, account_ids, permission };
            let outcome = api.call(&action, Some(region), sending).await;
            let request_id = outcome.request_id;
            outcome.map(|()| Answer::Modified(request_id))
        }
        Action::ReadShares { region, image_id } => {
            let outcome = api.call(&DescribeImageSharePermission { image_id }, Some(region), sending).await;
            outcome.map(|shares| Answer::Shares(shares.iter().map(|share| share.account_id).collect()))
        }
        Action::ReadImage { region, image_id } => {
            let outcome = api.call(&DescribeImages { image_ids: vec![image_id] }, Some(region), sending).await;
            outcome.map(|images| Answer::Image(readiness(&images, image_id)))
        }
    }
}

/// Converts the result of a call for the engine.
fn outcome(result: Result<Answer, ApiFailure>, host: &str) -> Outcome {
    let no_answer = |sent, reason: String| Outcome::Unanswered { sent, reason: format!("{host}: {reason}").into() };
    match result {
        Ok(answer) => Outcome::Accepted(answer),
        Err(ApiFailure::Refused(error)) => Outcome::Refused {
            class: error.class(),
            code: error.code.into(),
            message: error.message.into(),
            request_id: error.request_id,
        },
        Err(ApiFailure::Skewed) => Outcome::Skewed,
        Err(ApiFailure::NoAnswer { sent, reason }) => no_answer(sent, reason.to_string()),
        Err(ApiFailure::Malformed(error)) => no_answer(true, error.to_string()),
    }
}

/// A call in flight. Whatever happens to the task that carries it, the driver receives exactly one outcome.
pub(super) struct Flight {
    call: CallId,
    sending: Arc<Sending>,
    /// What has to be fresh when the request is written, if anything.
    proof: Option<Arc<OwnershipProof>>,
    events: mpsc::UnboundedSender<CallEvent>,
    is_over: bool,
}

impl Flight {
    /// Returns the flight of a call. `proof` is the ownership proof of its lane, if the lane can be lost. Reads need it
    /// too: they use the rate limit of the lane, which may belong to another worker by now.
    pub(super) fn new(
        call: CallId,
        proof: Option<Arc<OwnershipProof>>,
        events: mpsc::UnboundedSender<CallEvent>,
    ) -> Self {
        let (lane_proof, driver_events) = (proof.clone(), events.clone());
        let may_leave = move || {
            let is_ours = lane_proof.is_none_or(|proof| proof.is_fresh());
            // Sending fails if the driver has ended; then the call must not leave.
            is_ours && driver_events.send(CallEvent::Sent(call)).is_ok()
        };
        Self { call, sending: Sending::new(may_leave), proof, events, is_over: false }
    }

    /// Waits for a proof that the lane is ours, then signs and sends the request. The driver receives the outcome.
    pub(super) async fn fly(mut self, api: ApiSender, action: Action) {
        if let Some(proof) = &self.proof
            && !proof.fresh().await
        {
            let reason = "the lane was lost before the request was sent".into();
            return self.land(Outcome::Unanswered { sent: false, reason }, None, None);
        }
        let CallOutcome { result, request_id, generation, .. } = perform(&api, action, &self.sending).await;
        self.land(outcome(result, api.host()), request_id, Some(generation));
    }

    fn land(&mut self, outcome: Outcome, request_id: Option<RequestId>, generation: Option<u64>) {
        self.is_over = true;
        drop(self.events.send(CallEvent::Ended { call: self.call, outcome, request_id, generation }));
    }
}

impl Drop for Flight {
    /// The task was ended, or a bug ended it.
    fn drop(&mut self) {
        if !self.is_over {
            let sent = !self.sending.abandon();
            self.land(Outcome::Unanswered { sent, reason: "the call was broken off".into() }, None, None);
        }
    }
}

/// Returns the state of one image. A state that is missing or not documented may still become NORMAL.
fn readiness(images: &[Image], image_id: ImageId) -> ImageReadiness {
    let Some(image) = images.iter().find(|image| image.image_id == image_id) else { return ImageReadiness::Missing };
    match &image.image_state {
        Some(ApiState::Normal) => ImageReadiness::Normal,
        Some(state @ (ApiState::CreateFailed | ApiState::ImportFailed)) => {
            ImageReadiness::Broken(state.as_str().into())
        }
        Some(
            state @ (ApiState::Creating
            | ApiState::Importing
            | ApiState::Other(_)
            | ApiState::Syncing
            | ApiState::Using),
        ) => ImageReadiness::Pending(state.as_str().into()),
        None => ImageReadiness::Pending("no state".into()),
    }
}

#[cfg(test)]
mod tests {
    use imageshare_core::{Class, response};

    use super::*;

    const IMAGE: &str = "img-6pb6lrmy";

    #[track_caller]
    fn check_image(set: &str, expected: &ImageReadiness) {
        let body = format!(
            r#"{{"Response":{{"ImageSet":{set},"TotalCount":1,"RequestId":"71e69b56-32be-4412-ab45-49eded6a87be"}}}}"#
        );
        let images = response::parse::<DescribeImages>(200, body.as_bytes()).unwrap().answer;
        assert_eq!(&readiness(&images, IMAGE.parse().unwrap()), expected);
    }

    #[test]
    fn image_states_are_normal_pending_broken_or_missing() {
        let entry = |state: &str| format!(r#"[{{"ImageId":"{IMAGE}","ImageState":{state}}}]"#);
        check_image(&entry("\"NORMAL\""), &ImageReadiness::Normal);
        for state in ["CREATING", "IMPORTING", "SYNCING", "USING", "NEVERHEARDOF"] {
            check_image(&entry(&format!("\"{state}\"")), &ImageReadiness::Pending(state.into()));
        }
        check_image(&entry("null"), &ImageReadiness::Pending("no state".into()));
        for state in ["CREATEFAILED", "IMPORTFAILED"] {
            check_image(&entry(&format!("\"{state}\"")), &ImageReadiness::Broken(state.into()));
        }
        check_image("[]", &ImageReadiness::Missing);
        check_image(r#"[{"ImageId":"img-another1","ImageState":"NORMAL"}]"#, &ImageReadiness::Missing);
    }

    #[track_caller]
    fn of_response(status: u16, body: &str) -> Outcome {
        let failure = match response::parse::<ModifyImageSharePermission>(status, body.as_bytes()).unwrap_err() {
            response::Failure::Api(error) => ApiFailure::Refused(error),
            response::Failure::NotAnAnswer(error) => ApiFailure::Malformed(error),
        };
        outcome(Err(failure), "api.example")
    }

    #[test]
    fn refusal_keeps_code_malformed_response_is_doubt() {
        let body = r#"{"Response":{"Error":{"Code":"RequestLimitExceeded","Message":"slow\ndown"},"RequestId":"71e69b56-32be-4412-ab45-49eded6a87be"}}"#;
        let outcome = of_response(200, body);
        let Outcome::Refused { code, class, message, request_id } = outcome else { panic!("{outcome:?}") };
        assert_eq!((&*code, class, &*message), ("RequestLimitExceeded", Class::Throttle, "slow down"));
        assert!(request_id.is_some());

        let outcome = of_response(502, "<html>");
        let Outcome::Unanswered { sent: true, reason } = outcome else { panic!("{outcome:?}") };
        assert!(reason.starts_with("api.example: "), "{reason}");
    }

    #[tokio::test]
    async fn broken_off_call_has_an_outcome() {
        let (events, mut received) = mpsc::unbounded_channel();
        drop(Flight::new(CallId(7), None, events));
        let Some(CallEvent::Ended { call, outcome, .. }) = received.recv().await else { panic!("no event") };
        assert_eq!(call, CallId(7));
        assert!(matches!(outcome, Outcome::Unanswered { sent: false, .. }), "{outcome:?}");
        assert!(received.recv().await.is_none(), "it ended once");
    }
}
