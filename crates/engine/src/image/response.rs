//! How each call about an image ends, and what follows.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::{Permission, ids::RequestId};

use super::{
    Image,
    backlog::{CallFailure, Step},
    failure,
    split::Split,
    store::{Account, Stage},
    write::{Origin, Write},
};
use crate::{
    arena::Key,
    call::{EndedCall, Kind},
    context::{Context, Effect},
    io::{Answer, CallId, ImageReadiness, Outcome},
    job::{AcceptedWrite, Failure, local},
    limits::{THROTTLE_JITTER, THROTTLE_PAUSE},
    reaction::{Applied, Concerns, Next, ObstacleEffect, Reaction},
    time::Instant,
};

impl Image {
    /// A call about the image ended.
    pub(crate) fn call_ended(&mut self, cx: &mut Context<'_>, call: &EndedCall, outcome: Outcome) {
        match call.kind {
            Kind::Write => {
                // There is always one: the engine passes an answer once, and only to the image that made the call.
                if let Some(write) = self.writes.end(cx.now, call.began) {
                    self.write_ended(cx, call, write, outcome);
                }
            }
            Kind::ReadShares => {
                self.listings.end();
                self.listing_ended(cx, call, outcome);
            }
            Kind::ReadImage => {
                if self.take_query(call.id) {
                    self.query_ended(cx, call, outcome);
                }
            }
        }
    }

    fn listing_ended(&mut self, cx: &mut Context<'_>, call: &EndedCall, outcome: Outcome) {
        if cx.is_from_before(call) {
            // It shows the shares from before another worker had the lane. Accounts that need a listing have requested one
            // since the lane came up.
            return;
        }
        match outcome {
            Outcome::Accepted(Answer::Shares(accounts)) => self.listed(cx, call, accounts),
            Outcome::Accepted(_) => {
                self.listing_failed(cx, call, failure(local::NO_ANSWER, "an answer of another kind", None));
            }
            // The driver has corrected the clock, so the next request has the right time.
            Outcome::Skewed => self.listings.want(cx.now),
            Outcome::Unanswered { reason, .. } => {
                self.listing_failed(cx, call, failure(local::NO_ANSWER, reason, None));
            }
            Outcome::Refused { code, class, message, request_id } => {
                let reaction = cx.lane.reaction_to(class, call);
                let refused = failure(&code, message, request_id);
                match reaction.next {
                    Next::SendAfterPause => {
                        self.listings.pause_until(throttled_until(cx));
                        self.listings.want(cx.now);
                    }
                    Next::SendAgain => self.listings.want(cx.now),
                    Next::Retry => self.listing_failed(cx, call, refused),
                    // The key in use may be permitted what the former one was refused.
                    Next::WaitForPermission if call.by_former_key => self.listings.want(cx.now),
                    _ => self.listing_refused(cx, call, reaction, &refused),
                }
            }
        }
    }

    fn query_ended(&mut self, cx: &mut Context<'_>, call: &EndedCall, outcome: Outcome) {
        if cx.is_from_before(call) {
            // The state from before another worker had the lane fails no job of this one.
            return self.query_again(cx.now);
        }
        match outcome {
            Outcome::Accepted(Answer::Image(state)) => self.image_seen(cx, &state),
            Outcome::Unanswered { .. } | Outcome::Skewed => self.query_again(cx.now),
            Outcome::Refused { class, .. } => match Reaction::to(class).next {
                Next::SendAgain | Next::SendAfterPause | Next::Retry => self.query_again(cx.now),
                // The state is not available: a write has to show it.
                _ => self.image_seen(cx, &ImageReadiness::Missing),
            },
            Outcome::Accepted(_) => self.image_seen(cx, &ImageReadiness::Missing),
        }
    }

    fn write_ended(&mut self, cx: &mut Context<'_>, call: &EndedCall, write: Write, outcome: Outcome) {
        let (permission, members, origin) = write.into_parts();
        if matches!(outcome, Outcome::Unanswered { sent: false, .. }) {
            self.uncount_request(call.id, &members);
        }
        for &member in &members {
            self.store.set_stage(member, Stage::Ended);
        }
        if cx.is_from_before(call) {
            return self.write_from_before_ended(cx, call, permission, &members, &outcome);
        }
        match outcome {
            Outcome::Accepted(answer) => {
                let request_id = if let Answer::Modified(request_id) = answer { request_id } else { None };
                self.write_accepted(cx, permission, &members, origin, request_id);
            }
            Outcome::Unanswered { sent, reason } => {
                if sent {
                    // From when it was sent, not from now: the API counts from there, and a call may take 10 s to fail.
                    self.put_in_doubt(cx, call.sent.unwrap_or(call.began), permission, &members);
                }
                let members = self.still_requested(cx, permission, members);
                // The whole list again, not halves: most often the connection failed and no account is at fault.
                let tried = Split::new(permission, members, failure(local::NO_ANSWER, reason, None));
                self.retry(cx, tried, origin);
            }
            Outcome::Skewed => {
                let members = self.still_requested(cx, permission, members);
                self.send_later(cx, members, origin);
            }
            Outcome::Refused { code, class, message, request_id } => {
                let reaction = cx.lane.reaction_to(class, call);
                // Also for accounts that no longer request this change: the write may have been applied to them.
                self.note_refused(cx, permission, &members, reaction.applied);
                let sent = members.len();
                let members = self.still_requested(cx, permission, members);
                if members.len() < sent && reaction.concerns == Concerns::List {
                    // It may be about an account that no longer requests this change: the others are sent again.
                    return self.send_later(cx, members, origin);
                }
                let tried = Split::new(permission, members, failure(&code, message, request_id));
                self.write_refused(cx, call, tried, origin, reaction);
            }
        }
    }

    /// A write ended that began before the lane came up. It may have been applied, and another worker may have changed the
    /// same accounts after it. Its jobs are gone.
    fn write_from_before_ended(
        &mut self,
        cx: &mut Context<'_>,
        call: &EndedCall,
        permission: Permission,
        members: &[Key<Account>],
        outcome: &Outcome,
    ) {
        match outcome {
            Outcome::Accepted(_) => self.note_maybe_applied(cx, permission, members),
            Outcome::Unanswered { sent: true, .. } => {
                self.put_in_doubt(cx, call.sent.unwrap_or(call.began), permission, members);
            }
            Outcome::Refused { class, .. } => {
                self.note_refused(cx, permission, members, Reaction::to(*class).applied);
            }
            Outcome::Unanswered { sent: false, .. } | Outcome::Skewed => {}
        }
        self.make_ready(cx, members);
        self.forget_accounts(cx, members);
    }

    /// Returns the accounts of a write that still request its permission. After the lane was lost some may not; these are
    /// decided again.
    fn still_requested(
        &mut self,
        cx: &mut Context<'_>,
        permission: Permission,
        members: Vec<Key<Account>>,
    ) -> Vec<Key<Account>> {
        let is_requested = |&member: &Key<Account>| self.store.requested(member) == Some(permission);
        let (still, strayed): (Vec<_>, Vec<_>) = members.into_iter().partition(is_requested);
        self.make_ready(cx, &strayed);
        self.forget_accounts(cx, &strayed);
        still
    }

    fn write_accepted(
        &mut self,
        cx: &mut Context<'_>,
        permission: Permission,
        members: &[Key<Account>],
        origin: Origin,
        request_id: Option<RequestId>,
    ) {
        let write = Arc::new(AcceptedWrite { request_id, at: cx.now });
        cx.effects.push(Effect::ListAccepted(members.len()));
        // An accepted write refutes every obstacle, and shows that refused accounts are at fault themselves.
        self.writes.accept();
        self.obstacle = None;
        if permission == Permission::Share {
            self.quota_accepted(members.len());
        }
        for &member in members {
            // Known before the write is noted, so that the count changes only if the account did.
            let before = self.known(cx, member).map(|known| known.permission());
            self.store.history_mut(member).accept(permission, cx.now);
            cx.refusals.forget(self.name, self.store.id(member), permission);
            self.count_written(before, permission);
            self.schedule_forgetting(cx, member);
            self.store.set_stage(member, Stage::Idle);
            if self.store.requested(member) == Some(permission) {
                // The write may have been sent for an earlier operation, whose job was lost meanwhile.
                self.store.set_sends(member, self.store.sends(member).max(1));
                self.finish_by_response(cx, member, Some(&write));
            } else {
                self.decide(cx, member);
            }
        }
        self.keep_split(origin);
    }

    fn write_refused(
        &mut self,
        cx: &mut Context<'_>,
        call: &EndedCall,
        tried: Split,
        origin: Origin,
        reaction: Reaction,
    ) {
        if reaction.obstacle == ObstacleEffect::Ends {
            self.obstacle_ends(reaction.next);
        }
        let (permission, refused) = (tried.permission(), tried.failure().clone());
        match reaction.next {
            Next::FindAccount | Next::FindAccountOrOther | Next::FindDone => {
                self.account_refused(cx, tried, origin, reaction.next);
            }
            Next::Retry => self.retry(cx, tried, origin),
            Next::ShortenLists => self.list_too_long(cx, &tried, origin),
            // A CANCEL needs no room: whatever this means, no account is at fault.
            Next::CountAccounts if permission == Permission::Cancel => self.retry(cx, tried, origin),
            Next::CountAccounts => self.over_quota(cx, &tried, origin),
            Next::WaitForImage => {
                self.image_busy(cx, call.id, &refused);
                self.send_later(cx, tried.into_members(), origin);
            }
            Next::SendAfterPause => {
                self.writes.pause_until(throttled_until(cx));
                self.send_later(cx, tried.into_members(), origin);
            }
            Next::SendAgain => self.send_later(cx, tried.into_members(), origin),
            Next::Fail => {
                self.send_later(cx, tried.into_members(), origin);
                self.fail_image(cx, Some(permission), call.id, &refused);
            }
            Next::WaitForPermission => {
                self.send_later(cx, tried.into_members(), origin);
                if call.by_former_key {
                    // A refusal of a replaced key shows nothing about the key in use.
                } else if self.deny(cx, Kind::Write) {
                    self.fail_image(cx, None, call.id, &refused);
                } else {
                    cx.effects.push(Effect::NotPermitted(refused));
                }
            }
        }
    }

    /// A refusal that is about one account of the list.
    fn account_refused(&mut self, cx: &mut Context<'_>, mut tried: Split, origin: Origin, next: Next) {
        match *tried.members() {
            [] => self.release_rest(cx, origin),
            [alone] => {
                self.release_rest(cx, origin);
                self.refused_alone(cx, alone, &tried, next);
            }
            _ => {
                match next {
                    Next::FindAccountOrOther => self.sample(&mut tried),
                    Next::FindDone => self.listings.already_shared(cx.now),
                    _ => {}
                }
                self.find_culprit(cx, tried, origin);
            }
        }
    }

    fn refused_alone(&mut self, cx: &mut Context<'_>, alone: Key<Account>, tried: &Split, next: Next) {
        let refused = tried.failure();
        match (tried.permission(), next) {
            (Permission::Share, Next::FindDone) => self.already_shared(cx, alone),
            // Most likely it does not have the image, and is in the requested state.
            (Permission::Cancel, _) => self.set_final_failure(cx, alone, refused.clone()),
            (Permission::Share, _) => {
                cx.refusals.remember(cx.now, self.name, self.store.id(alone), Permission::Share, refused);
                self.count_sample(alone, &refused.code);
                self.store.set_stage(alone, Stage::Idle);
                self.fail(cx, alone, refused);
            }
        }
    }

    /// An account alone was refused because it has the image. If this was the first write for it, it had it before.
    fn already_shared(&mut self, cx: &mut Context<'_>, alone: Key<Account>) {
        self.writes.accept();
        self.store.history_mut(alone).accept(Permission::Share, cx.now);
        self.schedule_forgetting(cx, alone);
        self.store.set_stage(alone, Stage::Idle);
        // With more than one, an earlier write of ours may have shared it: then it counts as changed.
        if self.store.sends(alone) == 1 {
            self.store.set_sends(alone, 0);
        }
        self.finish_by_response(cx, alone, None);
    }

    fn list_too_long(&mut self, cx: &mut Context<'_>, tried: &Split, origin: Origin) {
        self.release_rest(cx, origin);
        match *tried.members() {
            [] => {}
            [alone] => {
                // A list of one cannot be shortened, so the code means something else.
                self.store.set_stage(alone, Stage::Idle);
                self.fail_unless_applied(cx, alone, tried.failure().clone());
            }
            _ => {
                cx.effects.push(Effect::ListTooLong(tried.members().len()));
                self.make_ready(cx, tried.members());
            }
        }
    }

    fn over_quota(&mut self, cx: &mut Context<'_>, tried: &Split, origin: Origin) {
        self.release_rest(cx, origin);
        match *tried.members() {
            [] => {}
            [alone] => {
                // The account is not at fault. Later shares fail by the observed cap, without a write.
                self.quota_refused(cx, 1);
                self.store.set_stage(alone, Stage::Idle);
                self.fail_unless_applied(cx, alone, tried.failure().clone());
            }
            _ => {
                self.quota_refused(cx, tried.members().len());
                self.make_ready(cx, tried.members());
            }
        }
    }

    /// Fails the operations of an image that are not in flight: all of them, or those of one permission. A job with no
    /// account in `call` is not given its RequestId.
    pub(super) fn fail_image(
        &mut self,
        cx: &mut Context<'_>,
        permission: Option<Permission>,
        call: CallId,
        refused: &Arc<Failure>,
    ) {
        let refused = CallFailure::new(call, refused.clone());
        let accounts = self.store.accounts().map(|(_, account)| account);
        self.backlogs.add(accounts, Step::Fail { permission, refused });
        self.work_off(cx);
    }

    /// A list was refused: it may have been applied to some of its accounts.
    fn note_refused(&mut self, cx: &Context<'_>, permission: Permission, members: &[Key<Account>], applied: Applied) {
        let may_be_applied = match applied {
            Applied::Never => false,
            Applied::ToOthers => members.len() > 1,
            Applied::Perhaps => true,
        };
        if may_be_applied {
            self.note_maybe_applied(cx, permission, members);
        }
    }
}

/// When a call that was throttled may be sent again.
fn throttled_until(cx: &mut Context<'_>) -> Instant {
    cx.now + (THROTTLE_PAUSE + THROTTLE_JITTER.part(cx.random.next()))
}
