//! The calls of processes: their way to the cloud, its answers, and the faults of a call.

use imageshare_core::{
    Class,
    ids::{AccountId, ImageId, RequestId},
};
use imageshare_engine::io::{Action, Answer, CallId, ImageReadiness, Outcome};
use imageshare_sandbox::ledger::{ImageState, Refusal};

use super::{CALL_TIMEOUT, Event, Run};
use crate::fault::InjectedFault;

impl Run {
    /// A process makes a call that nothing holds back, with a key of this account.
    pub(super) fn make_call(&mut self, id: u64, call: CallId, action: Action, caller: AccountId) {
        let Some(process) = self.process(id) else { return };
        let (away, consumer) = (process.away, process.consumer);
        let is_consumer = consumer.is_some_and(|consumer| self.queue.has_consumer(consumer));
        self.checker.called(id, call, &action, away, is_consumer || !self.world.has_takeover_checks());
        self.call(id, call, action, caller);
    }

    /// Decides what becomes of a call.
    fn call(&mut self, process: u64, call: CallId, action: Action, caller: AccountId) {
        let id = request_id(process, call);
        let refused = |code: &str, message: &str| refused(code, message, id);
        let sent = self.now + self.random.below(4);
        let (least, most) = self.world.latency;
        let takes = self.random.between(least, most);
        let write_lag = self.world.limits.write_lag.0;
        let mut fault = self.world.faults.of_call(&mut self.random);
        if self.now < self.outage_until {
            fault = Some(InjectedFault::Unconnected);
        }
        if let Some(fault) = fault {
            self.ended.coverage.fault(fault);
        }
        if fault == Some(InjectedFault::Unconnected) {
            let outcome = Outcome::Unanswered { sent: false, reason: "connection refused".into() };
            return self.at(sent + 1, Event::Answer(process, call, outcome));
        }
        if fault == Some(InjectedFault::ListingRefused) {
            match &action {
                Action::ReadShares { image_id, .. } => self.checker.listing_refused(*image_id),
                Action::Modify { .. } | Action::ReadImage { .. } => fault = None,
            }
        }
        self.checker.asked(self.now, id, &action);
        self.at(sent, Event::Sent(process, call, Some(kind(&action))));
        let arrives = sent + (takes / 2).min(write_lag.saturating_sub(1));
        let lost = |reason: &str| Outcome::Unanswered { sent: true, reason: reason.into() };
        let (outcome, at, arrives) = match fault {
            None => {
                return self
                    .at(arrives, Event::Arrive { process, call, caller, action, answers_at: Some(sent + takes) });
            }
            Some(InjectedFault::AnswerLate) => {
                let answers_at = Some(sent + CALL_TIMEOUT - 1);
                return self.at(arrives, Event::Arrive { process, call, caller, action, answers_at });
            }
            Some(InjectedFault::AnswerLost) => (lost("connection reset"), sent + takes, Some(arrives)),
            Some(InjectedFault::Late) => {
                // At the very last moment as often as before.
                let after = [self.random.below(write_lag), write_lag - 1];
                (lost("time-out"), sent + CALL_TIMEOUT.min(takes), Some(sent + self.random.of(&after)))
            }
            Some(InjectedFault::Html) => (lost("<html>"), sent + takes, None),
            Some(InjectedFault::Credential) => {
                (refused("AuthFailure.TokenFailure", "the token expired"), sent + takes, None)
            }
            Some(InjectedFault::InternalError) => (refused("InternalError", "try again"), sent + takes, None),
            Some(InjectedFault::Clock) => {
                (refused("AuthFailure.SignatureExpire", "the clocks differ"), sent + takes, None)
            }
            Some(InjectedFault::ListingRefused) => {
                (refused("UnauthorizedOperation", "not allowed to list"), sent + takes, None)
            }
            Some(InjectedFault::Deployment) => (refused("ActionOffline", "not for this account"), sent + takes, None),
            Some(InjectedFault::Skew) => (Outcome::Skewed, sent + takes, None),
            Some(InjectedFault::Throttle) => {
                self.ended.throttled += 1;
                let of_account = self.ended.throttled.is_multiple_of(4);
                let code = if of_account { "RequestLimitExceeded.UinLimitExceeded" } else { "RequestLimitExceeded" };
                (refused(code, "too many"), sent + takes, None)
            }
            Some(_) => (lost("time-out"), sent + CALL_TIMEOUT, None),
        };
        if let Some(arrives) = arrives {
            self.at(arrives, Event::Arrive { process, call, caller, action, answers_at: None });
        }
        self.at(at, Event::Answer(process, call, outcome));
    }

    /// The cloud does what a request asks.
    pub(super) fn arrive(&mut self, id: RequestId, caller: AccountId, action: &Action) -> Outcome {
        let refused = |code: &str, message: &str| refused(code, message, id);
        if self.meters[kind(action)].admit(self.now).is_err() {
            self.ended.throttled += 1;
            return refused("RequestLimitExceeded", "too many requests in a second");
        }
        let (revoked_until, code, is_of_writes) = self.revoked;
        if self.now < revoked_until && (!is_of_writes || matches!(action, Action::Modify { .. })) {
            return refused(code, "the policy was revoked");
        }
        if let Action::Modify { image_id, .. } = action {
            self.look_whether_full(*image_id);
        }
        let ledger = &mut self.world.ledger;
        let answered = match action {
            Action::Modify { region, image_id, permission, account_ids } => {
                self.ended.writes += 1;
                let done = ledger.modify(self.now, caller, *region, *image_id, account_ids, *permission);
                done.map(|()| Answer::Modified(Some(id)))
            }
            Action::ReadShares { region, image_id } => {
                let as_of = self.now.saturating_sub(self.random.below(self.world.lag_max + 1));
                let listed = ledger.shares(as_of, caller, *region, *image_id);
                listed.map(|shares| Answer::Shares(shares.into_iter().map(|(account, _)| account).collect()))
            }
            Action::ReadImage { region, image_id } => {
                let seen = ledger.image(self.now, caller, *region, *image_id);
                seen.map(|view| Answer::Image(view.map_or(ImageReadiness::Missing, |view| readiness(view.state))))
            }
        };
        if let Action::Modify { image_id, account_ids, .. } = action {
            self.look_whether_full(*image_id);
            for &account in account_ids {
                let is_shared = self.world.ledger.is_shared(*image_id, account);
                self.checker.note_state(self.now, *image_id, account, is_shared);
            }
        }
        match answered {
            Ok(answer) => Outcome::Accepted(answer),
            Err(Refusal { code, message }) => refused(&code, &message),
        }
    }

    /// As full as the cloud lets it be, or as the engine is set to make it.
    fn look_whether_full(&mut self, image: ImageId) {
        if self.world.ledger.shared_count(image) >= self.world.cap() {
            self.checker.is_full(self.now, image);
        }
    }
}

/// Every call has a request id of its own.
pub(super) fn request_id(process: u64, call: CallId) -> RequestId {
    RequestId::new(&format!("{:016x}-{:08x}", process, call.0)).expect("25 printable characters are a request id")
}

/// The place of an action among those that are counted.
const fn kind(action: &Action) -> usize {
    match action {
        Action::Modify { .. } => 0,
        Action::ReadShares { .. } => 1,
        Action::ReadImage { .. } => 2,
    }
}

fn refused(code: &str, message: &str, request_id: RequestId) -> Outcome {
    Outcome::Refused {
        code: code.into(),
        class: Class::of(code),
        message: message.into(),
        request_id: Some(request_id),
    }
}

fn readiness(state: ImageState) -> ImageReadiness {
    match state {
        ImageState::Normal => ImageReadiness::Normal,
        ImageState::CreateFailed | ImageState::ImportFailed => ImageReadiness::Broken(state.as_str().into()),
        ImageState::Creating | ImageState::Importing | ImageState::Syncing | ImageState::Using => {
            ImageReadiness::Pending(state.as_str().into())
        }
    }
}
