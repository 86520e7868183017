//! One call: from the engine's action to a signed request, and from the reply to the engine's outcome.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use http::{Request, Uri};
use imageshare_core::{
    Class, UnixSeconds,
    actions::{
        self, Action as _, DescribeImageSharePermission, DescribeImages, Image, ModifyImageSharePermission,
        SharedAccount,
    },
    ids::{ImageId, Region, RequestId},
    request::{Host, Language, Prepared, Signer, Target},
    response::{self, Answered, Failure},
};
use imageshare_engine::io::{Action, Answer, CallId, ImageState, Outcome};
use tokio::sync::mpsc::UnboundedSender;

use super::event::News;
use crate::{
    events,
    http::{CallError, Client, Reply, Sending, authority, into_http},
    proof::Proof,
};

/// How the answer to an action is read.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Modify,
    ReadShares,
    ReadImage(ImageId),
}

impl Kind {
    pub(super) const fn of(action: &Action) -> Self {
        match action {
            Action::Modify { .. } => Self::Modify,
            Action::ReadShares { .. } => Self::ReadShares,
            Action::ReadImage { image_id, .. } => Self::ReadImage(*image_id),
        }
    }

    /// Reads a reply. Beside the outcome, what an accepted request is known by at the API.
    fn outcome(self, reply: &Reply) -> (Outcome, Option<RequestId>) {
        match self {
            Self::Modify => read::<ModifyImageSharePermission>(reply, |()| Answer::Modified),
            Self::ReadShares => read::<DescribeImageSharePermission>(reply, |shares| {
                Answer::Shares(shares.iter().map(|SharedAccount { account_id, .. }| *account_id).collect())
            }),
            Self::ReadImage(image_id) => {
                read::<DescribeImages>(reply, |images| Answer::Image(image_state(&images, image_id)))
            }
        }
    }
}

/// What is told of an action.
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

/// Prepares an action for the host of an endpoint's address. Depends on no clock.
pub(super) fn prepare(uri: &Uri, action: Action) -> Prepared {
    let host = Host::new(authority(uri)).expect("the address of an endpoint has a checked host and port");
    let target = |region: Region| Target { host, region: Some(region), language: Some(Language::English) };
    match action {
        Action::Modify { region, image_id, permission, account_ids } => {
            Prepared::new(&ModifyImageSharePermission { image_id, account_ids, permission }, &target(region))
        }
        Action::ReadShares { region, image_id } => {
            Prepared::new(&DescribeImageSharePermission { image_id }, &target(region))
        }
        Action::ReadImage { region, image_id } => {
            Prepared::new(&DescribeImages { image_ids: vec![image_id] }, &target(region))
        }
    }
}

/// Signs a prepared request for a second and puts it into the form that the HTTP client takes.
pub(super) fn sign(prepared: &Prepared, signer: &mut Signer, second: UnixSeconds, uri: &Uri) -> Request<Bytes> {
    into_http(&signer.sign(prepared, second), uri)
}

/// A call in the air. Whatever happens to the task that carries it, the driver hears exactly once how it ended.
pub(super) struct Flight {
    call: CallId,
    kind: Kind,
    sending: Arc<Sending>,
    /// What has to be fresh when the request is written, if anything.
    proof: Option<Arc<Proof>>,
    news: UnboundedSender<News>,
    is_over: bool,
}

impl Flight {
    /// `proof` is that of the lane, where it has one. It concerns readings too: they count against the limit, which may
    /// be somebody else's by now.
    pub(super) fn new(call: CallId, kind: Kind, proof: Option<Arc<Proof>>, news: UnboundedSender<News>) -> Self {
        let (at_the_end, on_sent) = (proof.clone(), news.clone());
        let may_leave = move || {
            let is_ours = at_the_end.is_none_or(|proof| proof.is_fresh());
            // The driver is gone when nobody takes the news; then nobody needs them.
            is_ours && on_sent.send(News::Sent(call)).is_ok()
        };
        Self { call, kind, sending: Sending::new(may_leave), proof, news, is_over: false }
    }

    /// Sends the request and tells the driver what came of it. It waits for a proof that the lane is ours.
    pub(super) async fn fly(mut self, client: Client, request: Request<Bytes>) {
        if let Some(proof) = &self.proof
            && !proof.fresh().await
        {
            let reason = "the lane was lost before the request was sent".into();
            return self.land(Outcome::Unanswered { sent: false, reason }, None, None);
        }
        let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
        let ((outcome, request_id), date) = match client.call(request, &self.sending).await {
            Ok(reply) => (self.kind.outcome(&reply), reply.date),
            Err(CallError { sent, reason }) => {
                ((Outcome::Unanswered { sent, reason: reason.to_string().into() }, None), None)
            }
        };
        let outcome = match outcome {
            Outcome::Unanswered { sent, reason } => {
                Outcome::Unanswered { sent, reason: format!("{host}: {reason}").into() }
            }
            answered @ (Outcome::Accepted(_) | Outcome::Refused { .. } | Outcome::Skewed) => answered,
        };
        self.land(outcome, request_id, date);
    }

    fn land(&mut self, outcome: Outcome, request_id: Option<RequestId>, date: Option<SystemTime>) {
        self.is_over = true;
        drop(self.news.send(News::Answer { call: self.call, outcome, request_id, date }));
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

fn read<A: actions::Action>(reply: &Reply, answer: impl FnOnce(A::Answer) -> Answer) -> (Outcome, Option<RequestId>) {
    let outcome = match response::parse::<A>(reply.status, &reply.body) {
        Ok(Answered { answer: found, request_id }) => return (Outcome::Accepted(answer(found)), request_id),
        Err(Failure::Api(error)) => Outcome::Refused {
            class: Class::of(&error.code),
            code: error.code.into(),
            message: error.message.into(),
            request_id: error.request_id,
        },
        Err(Failure::NotAnAnswer(error)) => Outcome::Unanswered { sent: true, reason: error.to_string().into() },
    };
    (outcome, None)
}

/// What a listing says of one image. A state that nobody documented, or none, may still become NORMAL.
fn image_state(images: &[Image], image_id: ImageId) -> ImageState {
    use actions::ImageState as Found;

    let Some(image) = images.iter().find(|image| image.image_id == image_id) else { return ImageState::Missing };
    match &image.image_state {
        Some(Found::Normal) => ImageState::Normal,
        Some(state @ (Found::CreateFailed | Found::ImportFailed)) => ImageState::Broken(state.as_str().into()),
        Some(state @ (Found::Creating | Found::Importing | Found::Other(_) | Found::Syncing | Found::Using)) => {
            ImageState::Pending(state.as_str().into())
        }
        None => ImageState::Pending("no state".into()),
    }
}

#[cfg(test)]
mod tests {
    use imageshare_core::{Credential, Permission};

    use super::*;

    const IMAGE: &str = "img-6pb6lrmy";

    #[track_caller]
    fn check_image(set: &str, expected: &ImageState) {
        let body = format!(
            r#"{{"Response":{{"ImageSet":{set},"TotalCount":1,"RequestId":"71e69b56-32be-4412-ab45-49eded6a87be"}}}}"#
        );
        let reply = Reply { status: 200, date: None, body: body.into() };
        let outcome = Kind::ReadImage(IMAGE.parse().unwrap()).outcome(&reply).0;
        assert_eq!(outcome, Outcome::Accepted(Answer::Image(expected.clone())));
    }

    #[test]
    fn every_state_of_an_image_is_ready_pending_or_hopeless() {
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

    #[test]
    fn a_request_carries_what_the_api_wants_and_hides_what_nobody_else_should_see() {
        let credential = Credential {
            secret_id: "AKIDEXAMPLE".parse().unwrap(),
            secret_key: "topsecret".parse().unwrap(),
            token: Some("toptoken".parse().unwrap()),
        };
        let action = Action::Modify {
            region: "ap-singapore".parse().unwrap(),
            image_id: IMAGE.parse().unwrap(),
            permission: Permission::Share,
            account_ids: vec!["1038493875".parse().unwrap()],
        };
        let uri = Uri::from_static("http://127.0.0.1:9700/");
        let second = UnixSeconds::new(1_551_113_065).unwrap();
        let prepared = prepare(&uri, action);
        let request = sign(&prepared, &mut Signer::new(credential), second, &uri);

        let header = |name: &str| request.headers().get(name).unwrap().to_str().unwrap();
        assert_eq!(request.uri(), &uri);
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
        let shown = format!("{request:?}");
        assert!(!shown.contains("toptoken") && !shown.contains("Signature="), "{shown}");
    }

    #[test]
    fn a_refusal_keeps_its_code_and_what_is_no_answer_may_have_been_applied() {
        let body = r#"{"Response":{"Error":{"Code":"RequestLimitExceeded","Message":"slow\ndown"},"RequestId":"71e69b56-32be-4412-ab45-49eded6a87be"}}"#;
        let outcome = Kind::Modify.outcome(&Reply { status: 200, date: None, body: body.into() }).0;
        let Outcome::Refused { code, class, message, request_id } = outcome else { panic!("{outcome:?}") };
        assert_eq!((&*code, class, &*message), ("RequestLimitExceeded", Class::Throttle, "slow down"));
        assert!(request_id.is_some());

        let page = Reply { status: 502, date: None, body: "<html>".into() };
        let outcome = Kind::ReadShares.outcome(&page).0;
        assert!(matches!(outcome, Outcome::Unanswered { sent: true, .. }), "{outcome:?}");
    }

    #[tokio::test]
    async fn a_flight_that_is_broken_off_says_so_and_whether_it_was_sent() {
        let (news, mut heard) = tokio::sync::mpsc::unbounded_channel();
        drop(Flight::new(CallId(7), Kind::Modify, None, news));
        let Some(News::Answer { call, outcome, .. }) = heard.recv().await else { panic!("no news") };
        assert_eq!(call, CallId(7));
        assert!(matches!(outcome, Outcome::Unanswered { sent: false, .. }), "{outcome:?}");
        assert!(heard.recv().await.is_none(), "it ended once");
    }
}
