//! What the end of a call shows about its lane.

use alloc::{boxed::Box, vec::Vec};

use super::{Change, Closed, Lane, LaneState, Streak};
use crate::{
    arena::Key,
    call::{EndedCall, Kind, Purpose},
    images::Entry,
    io::{Answer, CloseReason, Notice, Outcome},
    pacer::Throttled,
    reaction::{Health, KeyEvidence, KeyTrust, Reaction},
    time::Instant,
};

/// A call that ended, as its lane sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JudgedCall {
    pub(crate) call: EndedCall,
    pub(crate) image: Key<Entry>,
    pub(crate) purpose: Purpose,
    /// Whether its image waits since a listing was not permitted.
    pub(crate) is_denied_listing: bool,
}

impl Lane {
    /// A call ended: its slot is used, and the pace adapts to its outcome.
    pub(crate) fn call_ended(&mut self, now: Instant, call: &EndedCall, outcome: &Outcome) {
        self.in_flight -= 1;
        // The slot counts as used even if the request was never written: the API may have received a part of it.
        self.slots[call.kind as usize].written(now, call.id);
        let refused = match outcome {
            Outcome::Refused { class, .. } => Some(Reaction::to(*class).lane),
            _ => None,
        };
        let is_throttled = matches!(refused, Some(Health::Throttled | Health::ThrottledAll));
        let throttled = if is_throttled { Throttled::Yes } else { Throttled::No };
        for kind in Kind::ALL {
            // A limit of the whole account slows all kinds. Any other one is of one action.
            if kind == call.kind || refused == Some(Health::ThrottledAll) {
                self.slots[kind as usize].call_ended(now, throttled);
            }
        }
    }

    /// A call ended, which may show what the key in use is permitted. A refusal of the request's values shows nothing: the API
    /// may check them before it checks the key.
    fn note_permitted(&mut self, call: &EndedCall, outcome: &Outcome, reaction: Option<Reaction>) {
        if call.by_former_key {
            return;
        }
        match (call.kind, outcome) {
            (Kind::Write, _) if reaction.is_none_or(|reaction| reaction.key == KeyEvidence::Permitted) => {
                self.permitted.note_write(call.began);
                self.key.confirm();
            }
            (Kind::ReadShares, Outcome::Accepted(Answer::Shares(accounts))) => {
                self.permitted.note_listing(call.began);
                if !accounts.is_empty() {
                    self.key.confirm();
                }
            }
            _ => {}
        }
    }

    /// Judges the lane by the outcome of one of its calls.
    pub(crate) fn judge(&mut self, now: Instant, judged: &JudgedCall, outcome: &Outcome, changes: &mut Vec<Change>) {
        let call = &judged.call;
        let trust = self.key.trust(now);
        let reaction = match outcome {
            Outcome::Refused { class, .. } => Some(Reaction::to(*class).with_key(call.trust(trust))),
            Outcome::Accepted(_) | Outcome::Skewed | Outcome::Unanswered { .. } => None,
        };
        let is_good = match outcome {
            Outcome::Accepted(_) | Outcome::Refused { .. } => reaction.is_none_or(|reaction| reaction.lane.is_good()),
            Outcome::Skewed | Outcome::Unanswered { .. } => false,
        };
        let is_past_key = |reaction: Reaction| matches!(reaction.key, KeyEvidence::Passed | KeyEvidence::Permitted);
        let permitted = match call.kind {
            Kind::Write => is_good && reaction.is_none_or(is_past_key),
            // A listing shows nothing about writes. It counts where a listing was what the key was refused.
            Kind::ReadShares => matches!(outcome, Outcome::Accepted(_)) && judged.is_denied_listing,
            Kind::ReadImage => false,
        };
        if is_good {
            // Calls in a row: one usable response shows that the endpoint works.
            self.streak = Streak::default();
            // A credential that was refreshed for one kind of call may still be refused for another.
            self.refreshed.take_if(|(kind, _)| *kind == call.kind);
            self.clock_corrected = None;
            self.note_permitted(call, outcome, reaction);
        }
        // Refusals that may have been the key's fault are tried again once it is known to be the right one.
        let is_key_proven = trust == KeyTrust::Unproven && self.key.trust(now) == KeyTrust::Proven;
        if let Some(closed) = self.state.closed() {
            let serves = match closed.reason {
                // Only another key or the operator opens it.
                CloseReason::Account => return,
                // Without jobs there is no better probe: the next jobs decide.
                _ if !closed.has_jobs() => true,
                CloseReason::Permission => permitted || is_key_proven,
                // A credential may be refused for one action and accepted for another.
                CloseReason::Credential => call.kind == closed.probe,
                CloseReason::Clock | CloseReason::Endpoint => true,
            };
            if is_good && serves {
                if closed.reason == CloseReason::Endpoint && closed.failed_probes > 0 {
                    // Also for the calls that were in flight when the outage was recognized.
                    changes.push(Change::Outage);
                }
                self.open(changes);
                changes.push(Change::Permitted);
            } else if judged.purpose == Purpose::Probe {
                self.probe_failed(now, outcome, changes);
            }
            return;
        }
        // The lane was open, and refusals of the key kept some images waiting.
        if is_key_proven {
            changes.push(Change::Permitted);
        }
        self.judge_open(now, judged, outcome, changes);
    }

    /// Judges a lane that is not closed.
    fn judge_open(&mut self, now: Instant, judged: &JudgedCall, outcome: &Outcome, changes: &mut Vec<Change>) {
        let call = &judged.call;
        // A call that was signed before the credential or the clock was corrected shows nothing about it now.
        let signed_since = |mended: Instant| call.began >= mended;
        match outcome {
            Outcome::Accepted(_) => {}
            Outcome::Unanswered { .. } => self.no_answer(now, judged, outcome, changes),
            Outcome::Skewed => match self.clock_corrected {
                Some(at) if signed_since(at) => self.close(now, CloseReason::Clock, detail(outcome), now, changes),
                Some(_) => {}
                None => self.clock_corrected = Some(now),
            },
            Outcome::Refused { class, .. } => match (Reaction::to(*class).lane, self.refreshed) {
                (Health::Good | Health::Throttled | Health::ThrottledAll, _) => {}
                (Health::ClockRefused, _) => self.close(now, CloseReason::Clock, detail(outcome), now, changes),
                (Health::CredentialRefused, Some((_, at))) if !signed_since(at) => {}
                // Another call was refused before: a refresh is under way, or the lane is closed.
                (Health::CredentialRefused, _) if !self.is_open() => {}
                (Health::CredentialRefused, Some(_)) => {
                    self.close_by(now, CloseReason::Credential, call.kind, detail(outcome), now, changes);
                }
                (Health::CredentialRefused, None) => {
                    self.state = LaneState::Refreshing(call.kind, detail(outcome));
                    changes.push(Change::RefreshCredential);
                }
            },
        }
    }

    fn no_answer(&mut self, now: Instant, judged: &JudgedCall, outcome: &Outcome, changes: &mut Vec<Change>) {
        let enough = self.streak.failed(judged.image, judged.call.began, detail(outcome));
        if !enough || !self.is_open() {
            return;
        }
        // The outage began with the first failed call, and the time until its jobs end counts from there.
        let since = self.streak.since().unwrap_or(now);
        if self.streak.is_on_several_images() || judged.call.kind == Kind::ReadImage {
            self.close(now, CloseReason::Endpoint, detail(outcome), since, changes);
        } else {
            // Too few images to distinguish an endpoint from an image: one query decides.
            let mut closed = Closed::new(CloseReason::Endpoint, Kind::ReadImage, detail(outcome), since);
            closed.probe_at = Some(now);
            self.state = LaneState::Suspect(closed);
        }
    }

    /// Another credential is in use. Returns whether calls continue.
    pub(crate) fn credential_fresh(&mut self, now: Instant) -> bool {
        match &self.state {
            LaneState::Refreshing(kind, _) => {
                self.refreshed = Some((*kind, now));
                self.state = LaneState::Open;
                true
            }
            // The next probe need not wait.
            LaneState::Closed(closed) if matches!(closed.reason, CloseReason::Credential | CloseReason::Permission) => {
                self.probe_at(now);
                false
            }
            LaneState::Open => true,
            _ => false,
        }
    }

    /// A refresh returned no other credential.
    pub(crate) fn credential_broken(&mut self, now: Instant, changes: &mut Vec<Change>) {
        if let LaneState::Refreshing(kind, refused) = &self.state {
            let (kind, detail) = (*kind, alloc::format!("{refused} (and there is no other credential)"));
            self.close_by(now, CloseReason::Credential, kind, detail.into(), now, changes);
        }
    }

    /// Closes the lane: no calls except one probe at a time.
    pub(crate) fn close(
        &mut self,
        now: Instant,
        reason: CloseReason,
        detail: Box<str>,
        since: Instant,
        changes: &mut Vec<Change>,
    ) {
        let probe = if reason == CloseReason::Permission { Kind::Write } else { Kind::ReadImage };
        self.close_by(now, reason, probe, detail, since, changes);
    }

    /// The same; calls of this kind show whether it works again.
    fn close_by(
        &mut self,
        now: Instant,
        reason: CloseReason,
        probe: Kind,
        detail: Box<str>,
        since: Instant,
        changes: &mut Vec<Change>,
    ) {
        // A lane that is leaving has no calls to make, and would announce a reason that nothing can remove.
        if !self.state.can_close() {
            return;
        }
        changes.push(Change::Notice(Notice::Closed { reason, detail: detail.clone() }));
        let mut closed = Closed::new(reason, probe, detail, since);
        // A probe with another account's key shows nothing.
        closed.probe_at = (reason != CloseReason::Account).then_some(now + closed.pause());
        self.state = LaneState::Closed(closed);
    }

    /// Opens the lane. That is announced if its closing was.
    pub(crate) fn open(&mut self, changes: &mut Vec<Change>) {
        if matches!(self.state, LaneState::Closed(_)) {
            changes.push(Change::Notice(Notice::Opened));
        }
        self.state = LaneState::Open;
        changes.push(Change::Opened);
    }

    fn probe_failed(&mut self, now: Instant, outcome: &Outcome, changes: &mut Vec<Change>) {
        let is_suspect = matches!(self.state, LaneState::Suspect(_));
        let Some(mut closed) = self.state.closed().cloned() else { return };
        if !matches!(outcome, Outcome::Accepted(_)) {
            closed.detail = detail(outcome);
        }
        closed.probe_at = Some(now + closed.pause());
        closed.failed_probes = closed.failed_probes.saturating_add(1);
        let (reason, detail) = (closed.reason, closed.detail.clone());
        if is_suspect {
            changes.push(Change::Notice(Notice::Closed { reason, detail }));
        }
        // From the first failed probe on it is an outage and not a fault of some images.
        if closed.failed_probes == 1 && reason == CloseReason::Endpoint {
            changes.push(Change::Outage);
        }
        self.state = LaneState::Closed(closed);
    }
}

/// An outcome, for the operator.
fn detail(outcome: &Outcome) -> Box<str> {
    match outcome {
        Outcome::Refused { code, message, .. } => alloc::format!("{code}: {message}").into(),
        Outcome::Unanswered { reason, .. } => reason.clone(),
        Outcome::Skewed => "the clock differs from the server's by more than 5 minutes".into(),
        Outcome::Accepted(_) => "accepted".into(),
    }
}
