//! How each call about an image ends, and what follows.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::Permission;

use super::{
    Image,
    account::{Account, Stage},
    backlog::{CallFailure, Step},
    failure,
    split::Split,
    write::{Origin, Write},
};
use crate::{
    arena::Key,
    call::{EndedCall, Kind},
    context::{Context, Effect},
    io::{Answer, CallId, ImageState, Outcome},
    job::{Failure, local},
    limits::{LIST_FAILURES_MAX, THROTTLE_JITTER, THROTTLE_PAUSE},
    reaction::{Applied, Concerns, Next, ObstacleEffect, Reaction},
    time::{Instant, Millis},
};

impl Image {
    /// A call about the image ended.
    pub(crate) fn answer(&mut self, cx: &mut Context<'_>, call: &EndedCall, outcome: Outcome) {
        match call.kind {
            Kind::Write => {
                let Some(write) = self.writes.end(cx.now, call.began) else { return };
                if matches!(outcome, Outcome::Unanswered { sent: false, .. }) {
                    self.uncount_request(call.id, &write.members);
                }
                self.write_ended(cx, call, write, outcome);
            }
            Kind::ReadShares => {
                self.listings.end();
                self.listing_ended(cx, call, outcome);
            }
            Kind::ReadImage => {
                if self.take_query(call.id) {
                    self.query_ended(cx, outcome);
                }
            }
        }
    }

    fn listing_ended(&mut self, cx: &mut Context<'_>, call: &EndedCall, outcome: Outcome) {
        if cx.is_from_before(call) {
            // It shows the shares from before another worker had the lane, or why they were not shown. Accounts that need a
            // listing have asked for one since the lane came up.
            return;
        }
        match outcome {
            Outcome::Accepted(Answer::Shares(accounts)) => self.listed(cx, call, accounts),
            Outcome::Accepted(_) => {
                self.listing_failed(cx, call, failure(local::NO_ANSWER, "an answer of another kind", None));
            }
            Outcome::Skewed => self.listings.want(cx.now),
            Outcome::Unanswered { reason, .. } => {
                self.listing_failed(cx, call, failure(local::NO_ANSWER, reason, None));
            }
            Outcome::Refused { code, class, message, request_id } => {
                let reaction = cx.lane.reaction_to(class, call);
                let refused = failure(&code, message, request_id);
                match reaction.next {
                    Next::SendAfterPause => {
                        let at = cx.now + Self::throttle_pause(cx);
                        self.listings.pause_until(at);
                        self.listings.want(cx.now);
                    }
                    Next::SendAgain => self.listings.want(cx.now),
                    Next::Retry => self.listing_failed(cx, call, refused),
                    Next::WaitForPermission if call.by_former_key => self.listings.want(cx.now),
                    _ => self.listing_refused(cx, call, reaction, &refused),
                }
            }
        }
    }

    fn query_ended(&mut self, cx: &mut Context<'_>, outcome: Outcome) {
        match outcome {
            Outcome::Accepted(Answer::Image(state)) => self.image_seen(cx, &state),
            Outcome::Unanswered { .. } | Outcome::Skewed => self.ask_again(cx.now),
            Outcome::Refused { class, .. } => match Reaction::to(class).next {
                Next::SendAgain | Next::SendAfterPause | Next::Retry => self.ask_again(cx.now),
                // Not allowed to ask, or not to be had: the write itself has to try.
                _ => self.image_seen(cx, &ImageState::Missing),
            },
            Outcome::Accepted(_) => self.image_seen(cx, &ImageState::Missing),
        }
    }

    fn write_ended(&mut self, cx: &mut Context<'_>, call: &EndedCall, write: Write, outcome: Outcome) {
        let Write { permission, members, origin } = write;
        for &member in &members {
            self.set_stage(member, Stage::Split);
        }
        if cx.is_from_before(call) {
            return self.write_from_before_ended(cx, call, permission, &members, &outcome);
        }
        match outcome {
            Outcome::Accepted(_) => self.write_accepted(cx, permission, &members, origin),
            Outcome::Unanswered { sent, reason } => {
                let sent_at = if sent { call.sent.or(Some(call.began)) } else { None };
                self.put_in_doubt(cx, sent_at, permission, &members);
                let members = self.still_requested(cx, permission, members);
                let tried = Split::new(permission, members, failure(local::NO_ANSWER, reason, None));
                self.write_failed(cx, tried, origin);
            }
            Outcome::Skewed => {
                let members = self.still_requested(cx, permission, members);
                self.send_later(cx, permission, members, origin);
            }
            Outcome::Refused { code, class, message, request_id } => {
                let reaction = cx.lane.reaction_to(class, call);
                self.mark_refused(cx, permission, &members, reaction.applied);
                let sent = members.len();
                let members = self.still_requested(cx, permission, members);
                let tried = Split::new(permission, members, failure(&code, message, request_id));
                if tried.members.len() < sent && reaction.concerns == Concerns::List {
                    // It may blame an account that is not requested any more: the others are tried again.
                    return self.send_later(cx, permission, tried.members, origin);
                }
                self.write_refused(cx, call, tried, origin, reaction);
            }
        }
    }

    /// A write ended that began before the lane came up. It may have been applied, and a worker in between may have
    /// changed the same accounts after it. The jobs that it was made for are no longer in hand.
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
                self.put_in_doubt(cx, call.sent.or(Some(call.began)), permission, members);
            }
            Outcome::Refused { class, .. } => {
                self.mark_refused(cx, permission, members, Reaction::to(*class).applied);
            }
            Outcome::Unanswered { sent: false, .. } | Outcome::Skewed => {}
        }
        self.make_ready(cx, members);
    }

    /// The accounts of a write that ended whose operation is still the one that was sent. It is not after the lane was
    /// lost; what happened to those accounts counts all the same.
    fn still_requested(
        &mut self,
        cx: &mut Context<'_>,
        permission: Permission,
        members: Vec<Key<Account>>,
    ) -> Vec<Key<Account>> {
        let requested = |&member: &Key<Account>| {
            self.store.accounts[member].front.map(|front| self.store.items[front].permission) == Some(permission)
        };
        let (still, strayed): (Vec<_>, Vec<_>) = members.into_iter().partition(requested);
        self.make_ready(cx, &strayed);
        still
    }

    fn write_accepted(
        &mut self,
        cx: &mut Context<'_>,
        permission: Permission,
        members: &[Key<Account>],
        origin: Origin,
    ) {
        cx.effects.push(Effect::ListAccepted(members.len()));
        self.writes.accept();
        self.obstacle = None;
        if permission == Permission::Share {
            self.quota_accepted(members.len());
        }
        for &member in members {
            let before = self.known(cx, member).map(|known| known.state);
            let history = self.history(member);
            history.accept(permission, cx.now);
            self.forget_refusal(cx, member, permission);
            self.count_written(before, permission);
            self.schedule_forgetting(cx, member);
            let same =
                self.store.accounts[member].front.map(|front| self.store.items[front].permission) == Some(permission);
            self.set_stage(member, Stage::Idle);
            if same { self.written(cx, member) } else { self.decide(cx, member) }
        }
        if let Origin::Split(split) = origin {
            self.keep_split(split);
        }
    }

    /// What is left of a split after a part of it went.
    fn keep_split(&mut self, split: Split) {
        if !split.members.is_empty() || split.sample.is_some() {
            self.splits.push(split);
        }
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
        match reaction.next {
            Next::FindAccount | Next::FindAccountOrOther | Next::FindDone => {
                self.blamed(cx, tried, origin, reaction.next);
            }
            Next::Retry => self.write_failed(cx, tried, origin),
            Next::ShortenLists => self.too_long(cx, &tried, origin),
            Next::WaitForImage => {
                self.image_busy(cx, call.id, &tried.failure);
                self.send_later(cx, tried.permission, tried.members, origin);
            }
            // A CANCEL takes no room: whatever this means, it blames no account.
            Next::CountAccounts if tried.permission == Permission::Cancel => self.write_failed(cx, tried, origin),
            Next::CountAccounts => self.over_quota(cx, &tried, origin),
            Next::SendAfterPause => {
                let at = cx.now + Self::throttle_pause(cx);
                self.writes.pause_until(at);
                self.send_later(cx, tried.permission, tried.members, origin);
            }
            Next::SendAgain => self.send_later(cx, tried.permission, tried.members, origin),
            Next::Fail => {
                let (permission, refused) = (tried.permission, tried.failure.clone());
                self.send_later(cx, permission, tried.members, origin);
                self.fail_image(cx, Some(permission), call.id, &refused);
            }
            Next::WaitForPermission => {
                let refused = tried.failure.clone();
                self.send_later(cx, tried.permission, tried.members, origin);
                // A refusal of a key that is replaced by now says nothing.
                if call.by_former_key {
                    return;
                }
                if self.deny(cx, Kind::Write) {
                    self.fail_image(cx, None, call.id, &refused);
                } else {
                    cx.effects.push(Effect::NotPermitted(refused));
                }
            }
        }
    }

    /// The call had no effect and no account is at fault: the same operations are sent again as they were.
    fn send_later(
        &mut self,
        cx: &mut Context<'_>,
        permission: Permission,
        mut members: Vec<Key<Account>>,
        origin: Origin,
    ) {
        match origin {
            Origin::Ready => self.make_ready(cx, &members),
            Origin::Split(mut split) if split.sample.is_none() && split.permission == permission => {
                members.append(&mut split.members);
                split.members = members;
                self.splits.push(split);
            }
            Origin::Split(mut split) => {
                if let Some(sample) = &mut split.sample {
                    sample.tried.retain(|tried| !members.contains(tried));
                    sample.waiting.append(&mut members);
                }
                self.splits.push(split);
            }
        }
    }

    /// A refusal that blames an account of the list.
    fn blamed(&mut self, cx: &mut Context<'_>, mut tried: Split, origin: Origin, next: Next) {
        let rest = self.split_origin(origin);
        match *tried.members.as_slice() {
            [] => self.make_ready(cx, &rest),
            [alone] => {
                self.make_ready(cx, &rest);
                self.blamed_alone(cx, alone, tried.permission, tried.failure, next);
            }
            _ => {
                match next {
                    Next::FindAccountOrOther => self.sample(&mut tried),
                    Next::FindDone => self.listings.already_shared(cx.now),
                    _ => {}
                }
                self.isolate(cx, tried, &rest);
            }
        }
    }

    /// The members of a call's split that were not sent. A split that samples stays as it is.
    fn split_origin(&mut self, origin: Origin) -> Vec<Key<Account>> {
        match origin {
            Origin::Ready => Vec::new(),
            Origin::Split(split) if split.sample.is_some() => {
                self.splits.push(split);
                Vec::new()
            }
            Origin::Split(split) => split.members,
        }
    }

    fn blamed_alone(
        &mut self,
        cx: &mut Context<'_>,
        alone: Key<Account>,
        permission: Permission,
        refused: Arc<Failure>,
        next: Next,
    ) {
        match (permission, next) {
            (Permission::Share, Next::FindDone) => self.already_done(cx, alone),
            // Most likely it does not have the image: if so it is as requested.
            (Permission::Cancel, _) => self.set_final_failure(cx, alone, refused),
            (Permission::Share, _) => {
                self.remember(cx, alone, permission, &refused);
                self.count_sample(alone, &refused.code);
                self.set_stage(alone, Stage::Idle);
                self.fail(cx, alone, &refused);
            }
        }
    }

    /// One account alone was refused because it has the image: if this was the first write for it, it had it before.
    fn already_done(&mut self, cx: &mut Context<'_>, alone: Key<Account>) {
        let first = self.store.accounts[alone].sends == 1;
        self.writes.accept();
        let history = self.history(alone);
        history.accept(Permission::Share, cx.now);
        self.schedule_forgetting(cx, alone);
        self.set_stage(alone, Stage::Idle);
        if first {
            self.store.accounts[alone].sends = 0;
        }
        self.found_done(cx, alone);
    }

    /// A failure that names no cause, or no response: tried again after a pause, and a list that fails twice in a row in parts.
    fn write_failed(&mut self, cx: &mut Context<'_>, mut tried: Split, origin: Origin) {
        let before = match &origin {
            Origin::Split(split) if split.sample.is_none() => split.failures,
            _ => 0,
        };
        let rest = self.split_origin(origin);
        self.make_ready(cx, &rest);
        match *tried.members.as_slice() {
            [] => {}
            [alone] => self.failed_alone(cx, alone, tried),
            _ => {
                tried.failures = before + 1;
                tried.after = cx.now + cx.pause(tried.failures);
                if tried.failures < LIST_FAILURES_MAX {
                    return self.splits.push(tried);
                }
                self.sample(&mut tried);
                if tried.sample.is_some() {
                    cx.effects.push(Effect::Split);
                    self.splits.push(tried);
                } else {
                    self.halve(cx, tried);
                }
            }
        }
    }

    fn failed_alone(&mut self, cx: &mut Context<'_>, alone: Key<Account>, mut tried: Split) {
        let found = &mut self.store.accounts[alone];
        found.attempts = found.attempts.saturating_add(1);
        let attempts = u32::from(found.attempts);
        if attempts >= cx.limits.attempts {
            return self.set_final_failure(cx, alone, tried.failure);
        }
        tried.after = cx.now + cx.pause(attempts);
        self.splits.push(tried);
    }

    fn too_long(&mut self, cx: &mut Context<'_>, tried: &Split, origin: Origin) {
        let rest = self.split_origin(origin);
        self.make_ready(cx, &rest);
        match *tried.members.as_slice() {
            [] => {}
            [alone] => {
                self.set_stage(alone, Stage::Idle);
                self.fail(cx, alone, &tried.failure);
            }
            _ => {
                cx.effects.push(Effect::ListTooLong(tried.members.len()));
                self.make_ready(cx, &tried.members);
            }
        }
    }

    fn over_quota(&mut self, cx: &mut Context<'_>, tried: &Split, origin: Origin) {
        let rest = self.split_origin(origin);
        self.make_ready(cx, &rest);
        match *tried.members.as_slice() {
            [] => {}
            [alone] => {
                self.quota_refused(cx, 1);
                self.set_stage(alone, Stage::Idle);
                self.fail_unless_applied(cx, alone, tried.failure.clone());
            }
            _ => {
                self.quota_refused(cx, tried.members.len());
                self.make_ready(cx, &tried.members);
            }
        }
    }

    /// Fails every operation of an image, or those of one permission, that is not in flight. Jobs of which that call
    /// carried no account are not given its request id.
    pub(super) fn fail_image(
        &mut self,
        cx: &mut Context<'_>,
        permission: Option<Permission>,
        call: CallId,
        refused: &Arc<Failure>,
    ) {
        let refused = CallFailure::new(call, refused.clone());
        let accounts = self.store.by_id.values().copied().collect();
        self.backlogs.add(accounts, Step::Fail { permission, refused });
        self.work_off(cx);
    }

    /// No answer came: what was sent may still be applied until `write_lag` after it was sent.
    fn put_in_doubt(
        &mut self,
        cx: &Context<'_>,
        sent_at: Option<Instant>,
        permission: Permission,
        members: &[Key<Account>],
    ) {
        let Some(sent_at) = sent_at else { return };
        let until = sent_at + cx.limits.write_lag;
        for &member in members {
            let history = self.history(member);
            // Only the same permission is ever sent while a doubt holds.
            let longest =
                history.in_doubt.filter(|&(doubted, _)| doubted == permission).map_or(until, |(_, at)| at.max(until));
            history.in_doubt = Some((permission, longest));
            history.note_maybe_applied(permission, longest);
            self.schedule_forgetting(cx, member);
            self.put_jobs_in_doubt(member, permission, until);
        }
    }

    /// The jobs of an operation in doubt are settled only when it can no longer land, where another worker may take over.
    fn put_jobs_in_doubt(&mut self, member: Key<Account>, permission: Permission, until: Instant) {
        let mut next = self.store.accounts[member].front;
        while let Some(item) = next.filter(|&item| self.store.items[item].permission == permission) {
            let job = &mut self.store.jobs[self.store.items[item].job];
            job.in_doubt_until = job.in_doubt_until.max(until);
            next = self.store.items[item].next_in_account;
        }
    }

    /// A list was refused: what it named may have been applied in part.
    fn mark_refused(
        &mut self,
        cx: &mut Context<'_>,
        permission: Permission,
        members: &[Key<Account>],
        applied: Applied,
    ) {
        let may_be_applied = match applied {
            Applied::Never => false,
            Applied::ToOthers => members.len() > 1,
            Applied::Perhaps => true,
        };
        if may_be_applied {
            self.note_maybe_applied(cx, permission, members);
        }
    }

    /// A write of these accounts may have been applied by now.
    fn note_maybe_applied(&mut self, cx: &mut Context<'_>, permission: Permission, members: &[Key<Account>]) {
        for &member in members {
            self.history(member).note_maybe_applied(permission, cx.now);
            self.schedule_forgetting(cx, member);
        }
    }

    fn throttle_pause(cx: &mut Context<'_>) -> Millis {
        THROTTLE_PAUSE + cx.random.part_of(THROTTLE_JITTER)
    }
}
