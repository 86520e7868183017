//! One call: from the engine's action to the API, and from the response to the engine's outcome.

use std::sync::Arc;

use imageshare_core::{
    actions::{
        Action as _, DescribeImageSharePermission, DescribeImages, Image, ImageState as ApiState,
        ModifyImageSharePermission,
    },
    ids::{ImageId, RequestId},
};
use imageshare_engine::io::{Action, Answer, CallId, ImageState, Outcome};
use tokio::sync::mpsc::UnboundedSender;

use super::event::News;
use crate::{
    api::{ApiSender, CallFailure, CallOutcome},
    events,
    http::Sending,
    proof::Proof,
};

/// Returns what events show of an action.
pub(super) fn told_of(action: &Action) -> events::Call {
    let (action, image_id, accounts) = match action {
        Action::Modify { image_id, account_ids, .. } => {
            (ModifyImageSharePermission::NAME, *image_id, u32::try_from(account_ids.len()).ok())
        }
        Action::ReadShares { image_id, .. } => (DescribeImageSharePermission::NAME, *image_id, None),
        Action::ReadImage { image_id, .. } => (DescribeImages::NAME, *image_id, None),
    };
    events::Call { action, image_id, accounts }
}

/// Makes the call that an action asks for.
async fn perform(api: &ApiSender, action: Action, sending: &Arc<Sending>) -> CallOutcome<Answer> {
    match action {
        Action::Modify { region, image_id, permission, account_ids } => {
            let action = ModifyImageSharePermission { image_id, account_ids, permission };
            api.call(&action, Some(region), sending).await.map(|()| Answer::Modified)
        }
        Action::ReadShares { region, image_id } => {
            let outcome = api.call(&DescribeImageSharePermission { image_id }, Some(region), sending).await;
            outcome.map(|shares| Answer::Shares(shares.iter().map(|share| share.account_id).collect()))
        }
        Action::ReadImage { region, image_id } => {
            let outcome = api.call(&DescribeImages { image_ids: vec![image_id] }, Some(region), sending).await;
            outcome.map(|images| Answer::Image(image_state(&images, image_id)))
        }
    }
}

/// Converts the result of a call for the engine.
fn outcome(result: Result<Answer, CallFailure>, host: &str) -> Outcome {
    let no_answer = |sent, reason: String| Outcome::Unanswered { sent, reason: format!("{host}: {reason}").into() };
    match result {
        Ok(answer) => Outcome::Accepted(answer),
        Err(CallFailure::Refused(error)) => Outcome::Refused {
            class: error.class(),
            code: error.code.into(),
            message: error.message.into(),
            request_id: error.request_id,
        },
        Err(CallFailure::Skewed) => Outcome::Skewed,
        Err(CallFailure::NoAnswer { sent, reason }) => no_answer(sent, reason.to_string()),
        Err(CallFailure::Malformed(error)) => no_answer(true, error.to_string()),
    }
}

/// A call in flight. Whatever happens to the task that carries it, the driver receives exactly one outcome.
pub(super) struct Flight {
    call: CallId,
    sending: Arc<Sending>,
    /// What has to be fresh when the request is written, if anything.
    proof: Option<Arc<Proof>>,
    news: UnboundedSender<News>,
    is_over: bool,
}

impl Flight {
    /// `proof` is that of the lane, where it has one. Reads need it too: they count against the limit, which may be another
    /// worker's by now.
    pub(super) fn new(call: CallId, proof: Option<Arc<Proof>>, news: UnboundedSender<News>) -> Self {
        let (at_write, on_sent) = (proof.clone(), news.clone());
        let may_leave = move || {
            let is_ours = at_write.is_none_or(|proof| proof.is_fresh());
            // Nothing receives the news when the driver has ended; then the call must not leave.
            is_ours && on_sent.send(News::Sent(call)).is_ok()
        };
        Self { call, sending: Sending::new(may_leave), proof, news, is_over: false }
    }

    /// Waits for a proof that the lane is ours, then signs and sends the request, and tells the driver the outcome.
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
        drop(self.news.send(News::Answer { call: self.call, outcome, request_id, generation }));
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
fn image_state(images: &[Image], image_id: ImageId) -> ImageState {
    let Some(image) = images.iter().find(|image| image.image_id == image_id) else { return ImageState::Missing };
    match &image.image_state {
        Some(ApiState::Normal) => ImageState::Normal,
        Some(state @ (ApiState::CreateFailed | ApiState::ImportFailed)) => ImageState::Broken(state.as_str().into()),
        Some(
            state @ (ApiState::Creating
            | ApiState::Importing
            | ApiState::Other(_)
            | ApiState::Syncing
            | ApiState::Using),
        ) => ImageState::Pending(state.as_str().into()),
        None => ImageState::Pending("no state".into()),
    }
}

#[cfg(test)]
mod tests {
    use imageshare_core::{Class, response};

    use super::*;

    const IMAGE: &str = "img-6pb6lrmy";

    #[track_caller]
    fn check_image(set: &str, expected: &ImageState) {
        let body = format!(
            r#"{{"Response":{{"ImageSet":{set},"TotalCount":1,"RequestId":"71e69b56-32be-4412-ab45-49eded6a87be"}}}}"#
        );
        let images = response::parse::<DescribeImages>(200, body.as_bytes()).unwrap().answer;
        assert_eq!(&image_state(&images, IMAGE.parse().unwrap()), expected);
    }

    #[test]
    fn image_states_are_normal_pending_broken_or_missing() {
        let entry = |state: &str| format!(r#"[{{"ImageId":"{IMAGE}","ImageState":{state}}}]"#);
        check_image(&entry("\"NORMAL\""), &ImageState::Normal);
        for state in ["CREATING", "IMPORTING", "SYNCING", "USING", "NEVERHEARDOF"] {
            check_image(&entry(&format!("\"{state}\"")), &ImageState::Pending(state.into()));
        }
        check_image(&entry("null"), &ImageState::Pending("no state".into()));
        for state in ["CREATEFAILED", "IMPORTFAILED"] {
            check_image(&entry(&format!("\"{state}\"")), &ImageState::Broken(state.into()));
        }
        check_image("[]", &ImageState::Missing);
        check_image(r#"[{"ImageId":"img-another1","ImageState":"NORMAL"}]"#, &ImageState::Missing);
    }

    #[track_caller]
    fn of_response(status: u16, body: &str) -> Outcome {
        let failure = match response::parse::<ModifyImageSharePermission>(status, body.as_bytes()).unwrap_err() {
            response::Failure::Api(error) => CallFailure::Refused(error),
            response::Failure::NotAnAnswer(error) => CallFailure::Malformed(error),
        };
        outcome(Err(failure), "api.example")
    }

    #[test]
    fn refusal_keeps_its_code_and_malformed_response_is_in_doubt() {
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
        let (news, mut heard) = tokio::sync::mpsc::unbounded_channel();
        drop(Flight::new(CallId(7), None, news));
        let Some(News::Answer { call, outcome, .. }) = heard.recv().await else { panic!("no news") };
        assert_eq!(call, CallId(7));
        assert!(matches!(outcome, Outcome::Unanswered { sent: false, .. }), "{outcome:?}");
        assert!(heard.recv().await.is_none(), "it ended once");
    }
}
