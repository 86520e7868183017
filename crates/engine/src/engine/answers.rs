//! How each call ends, and what that means for whom (rule 7).

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use imageshare_core::{Class, Permission};

use super::{
    Engine,
    account::{Account, Stage},
    backlog::Step,
    group::Group,
    image::{Image, failure},
    isolate::may_be_about_others,
    lane::{Call, Kind, Origin, Write},
};
use crate::{
    arena::Key,
    io::{Answer, CallId, ImageState, Outcome},
    job::{Failure, local},
    time::{Instant, Millis},
};

impl Engine {
    /// A throttled call comes again after this and up to a quarter more.
    const THROTTLE_PAUSE: Millis = Millis(1000);
    const THROTTLE_JITTER: Millis = Millis(250);

    pub(super) fn answer(&mut self, now: Instant, id: CallId, outcome: Outcome) {
        let Some(mut call) = self.calls.remove(&id) else { return };
        let lane = self.lane(call.lane);
        lane.in_flight -= 1;
        let nth = call.kind as usize;
        if lane.unsent[nth] == Some(id) {
            lane.unsent[nth] = None;
            lane.pacers[nth].sent(now);
        }
        // A code with a second part says that the limit of the whole account or address was hit, not of one action.
        let throttled = match &outcome {
            Outcome::Refused { class: Class::Throttle, code, .. } => Some(code.contains('.')),
            _ => None,
        };
        for (other, pacer) in lane.pacers.iter_mut().enumerate() {
            if other == nth || throttled == Some(true) {
                pacer.answered(now, throttled.is_some());
            }
        }
        self.judge_lane(now, &call, &outcome);
        let image = call.image;
        self.images[image].calls -= 1;
        match call.kind {
            Kind::Write => {
                self.images[image].write = None;
                if let Some(write) = call.write.take() {
                    if matches!(outcome, Outcome::Unanswered { sent: false, .. }) {
                        self.uncount_request(id, &write.members);
                    }
                    self.write_ended(now, &call, write, outcome);
                }
            }
            Kind::ReadShares => {
                self.images[image].read.in_flight = None;
                self.read_ended(now, &call, outcome);
            }
            Kind::ReadImage => {
                if self.images[image].query == Some(id) {
                    self.images[image].query = None;
                    self.query_ended(now, image, outcome);
                }
            }
        }
        self.lane_call_ended(now, call.lane);
        self.touch(now, image);
        for kind in Kind::ALL {
            self.arm(call.lane, kind);
        }
    }

    fn read_ended(&mut self, now: Instant, call: &Call, outcome: Outcome) {
        let image = call.image;
        if self.is_from_before(call) {
            // It shows who had the image before a worker in between, or why that was not shown. Whoever needs a listing
            // has asked for one since the lane came up.
            return;
        }
        match outcome {
            Outcome::Accepted(Answer::Shares(accounts)) => self.shares_read(now, call, accounts),
            Outcome::Refused { class: Class::Throttle, .. } => {
                let pause = self.throttle_pause();
                let found = &mut self.images[image];
                found.read.after = now + pause;
                found.want_reading(now);
            }
            Outcome::Refused { class: Class::Credential | Class::Clock, .. } | Outcome::Skewed => {
                self.images[image].want_reading(now);
            }
            Outcome::Refused { code, class: Class::Transient | Class::Unknown, message, request_id } => {
                self.read_failed(now, call, failure(&code, message, request_id));
            }
            Outcome::Refused { class, .. } if self.is_by_former_key(call) && self.is_about_key(call, class) => {
                self.images[image].want_reading(now);
            }
            Outcome::Refused { code, class, message, request_id } => {
                self.read_refused(now, call, class, &failure(&code, message, request_id));
            }
            Outcome::Unanswered { reason, .. } => {
                self.read_failed(now, call, failure(local::NO_ANSWER, reason, None));
            }
            Outcome::Accepted(_) => {
                self.read_failed(now, call, failure(local::NO_ANSWER, "an answer of another kind", None));
            }
        }
    }

    fn query_ended(&mut self, now: Instant, image: Key<Image>, outcome: Outcome) {
        match outcome {
            Outcome::Accepted(Answer::Image(state)) => self.image_seen(now, image, &state),
            Outcome::Unanswered { .. } | Outcome::Skewed => self.ask_again(now, image),
            Outcome::Refused {
                class: Class::Throttle | Class::Credential | Class::Clock | Class::Transient | Class::Unknown,
                ..
            } => self.ask_again(now, image),
            // Not allowed to ask, or not to be had: the write itself has to try.
            Outcome::Refused { .. } | Outcome::Accepted(_) => self.image_seen(now, image, &ImageState::Missing),
        }
    }

    fn write_ended(&mut self, now: Instant, call: &Call, write: Write, outcome: Outcome) {
        let image = call.image;
        self.images[image].last_write = Some(now);
        self.images[image].last_write_began = call.began;
        let Write { permission, members, origin } = write;
        for &member in &members {
            self.set_stage(member, Stage::Grouped);
        }
        if self.is_from_before(call) {
            return self.write_from_before_ended(now, call, permission, &members, &outcome);
        }
        match outcome {
            Outcome::Accepted(_) => self.write_accepted(now, image, permission, &members, origin),
            Outcome::Unanswered { sent, reason } => {
                let sent_at = if sent { call.sent.or(Some(call.began)) } else { None };
                self.mark_doubt(sent_at, permission, &members);
                let members = self.still_wished(now, permission, members);
                let tried = Group::new(permission, members, failure(local::NO_ANSWER, reason, None));
                self.write_failed(now, image, tried, origin, Class::Transient);
            }
            Outcome::Skewed => {
                let members = self.still_wished(now, permission, members);
                self.send_later(now, image, permission, members, origin);
            }
            Outcome::Refused { code, class, message, request_id } => {
                self.mark_refused(now, permission, &members, class);
                let sent = members.len();
                let members = self.still_wished(now, permission, members);
                let tried = Group::new(permission, members, failure(&code, message, request_id));
                if tried.members.len() < sent && blames_a_list(class) {
                    // Whom it blames may be one that nobody wishes for any more: each is tried again.
                    return self.send_later(now, image, permission, tried.members, origin);
                }
                self.write_refused(now, call, tried, origin, class);
            }
        }
    }

    /// A write ended that began before the lane came up. It may have been applied, and a worker in between may have
    /// changed the same accounts after it. The jobs that it was made for are no longer in hand.
    fn write_from_before_ended(
        &mut self,
        now: Instant,
        call: &Call,
        permission: Permission,
        members: &[Key<Account>],
        outcome: &Outcome,
    ) {
        match outcome {
            Outcome::Accepted(_) => self.suspect(now, permission, members),
            Outcome::Unanswered { sent: true, .. } => {
                self.mark_doubt(call.sent.or(Some(call.began)), permission, members);
            }
            Outcome::Refused { class, .. } => self.mark_refused(now, permission, members, *class),
            Outcome::Unanswered { sent: false, .. } | Outcome::Skewed => {}
        }
        self.make_ready(now, members);
    }

    /// The accounts of a write that ended whose operation is still the one that was sent. It is not after the lane was
    /// lost; what happened to those accounts counts all the same.
    fn still_wished(&mut self, now: Instant, permission: Permission, members: Vec<Key<Account>>) -> Vec<Key<Account>> {
        let wished = |&member: &Key<Account>| {
            self.accounts[member].front.map(|front| self.wishes[front].permission) == Some(permission)
        };
        let (still, strayed): (Vec<_>, Vec<_>) = members.into_iter().partition(wished);
        self.make_ready(now, &strayed);
        still
    }

    fn write_accepted(
        &mut self,
        now: Instant,
        image: Key<Image>,
        permission: Permission,
        members: &[Key<Account>],
        origin: Origin,
    ) {
        let len = u32::try_from(members.len()).unwrap_or(u32::MAX);
        let lane = self.images[image].lane;
        self.lane(lane).batch.accepted(len);
        let found = &mut self.images[image];
        found.accepted = true;
        found.busy = None;
        found.denied = None;
        if permission == Permission::Share {
            self.quota_accepted(image, members.len());
        }
        for &member in members {
            let before = self.known(member).map(|known| known.state);
            let history = self.history(member);
            history.accept(permission, now);
            self.forget_refusal(member, permission);
            self.count_written(image, before, permission);
            self.schedule_forgetting(member);
            let same = self.accounts[member].front.map(|front| self.wishes[front].permission) == Some(permission);
            self.set_stage(member, Stage::Idle);
            if same { self.written(now, member) } else { self.decide(now, member) }
        }
        if let Origin::Group(group) = origin {
            self.keep_group(image, group);
        }
    }

    /// What is left of a group after a part of it went.
    fn keep_group(&mut self, image: Key<Image>, group: Group) {
        if !group.members.is_empty() || group.sample.is_some() {
            self.push_group(image, group);
        }
    }

    fn write_refused(&mut self, now: Instant, call: &Call, tried: Group, origin: Origin, class: Class) {
        let image = call.image;
        if !matches!(class, Class::Busy | Class::Throttle | Class::Credential | Class::Clock) {
            self.images[image].busy = None;
        }
        let is_about_key = self.is_about_key(call, class);
        if !is_about_key && !matches!(class, Class::Throttle | Class::Credential | Class::Clock) {
            self.images[image].denied = None;
        }
        if is_about_key {
            let refused = tried.failure.clone();
            self.send_later(now, image, tried.permission, tried.members, origin);
            // What a key was refused that is replaced by now says nothing.
            if self.is_by_former_key(call) {
                return;
            }
            if self.deny(now, image, Kind::Write) {
                return self.fail_image(now, image, None, call.id, &refused);
            }
            return self.close_if_none_permitted(now, image, &refused);
        }
        match class {
            Class::Account | Class::AccountOrOther | Class::AlreadyDone => {
                self.blamed(now, image, tried, origin, class);
            }
            Class::Transient | Class::Unknown => self.write_failed(now, image, tried, origin, class),
            Class::BatchTooLarge => self.too_long(now, image, &tried, origin),
            Class::Busy => {
                self.image_busy(now, image, call.id, &tried.failure);
                self.send_later(now, image, tried.permission, tried.members, origin);
            }
            // A CANCEL takes no room: whatever this means, it blames nobody.
            Class::Quota if tried.permission == Permission::Cancel => {
                self.write_failed(now, image, tried, origin, Class::Unknown);
            }
            Class::Quota => self.over_quota(now, image, &tried, origin),
            Class::Throttle => {
                let pause = self.throttle_pause();
                self.images[image].write_after = now + pause;
                self.send_later(now, image, tried.permission, tried.members, origin);
            }
            Class::Credential | Class::Clock => self.send_later(now, image, tried.permission, tried.members, origin),
            // The key's fault is dealt with above; whatever else is refused so is the image's or the job's.
            Class::Permission | Class::Deployment | Class::Image => {
                let (permission, refused) = (tried.permission, tried.failure.clone());
                self.send_later(now, image, permission, tried.members, origin);
                self.fail_image(now, image, Some(permission), call.id, &refused);
            }
        }
    }

    /// Nothing came of the call, and nobody is to blame: the same operations are sent again as they were.
    fn send_later(
        &mut self,
        now: Instant,
        image: Key<Image>,
        permission: Permission,
        mut members: Vec<Key<Account>>,
        origin: Origin,
    ) {
        match origin {
            Origin::Ready => self.make_ready(now, &members),
            Origin::Group(mut group) if group.sample.is_none() && group.permission == permission => {
                members.append(&mut group.members);
                group.members = members;
                self.push_group(image, group);
            }
            Origin::Group(mut group) => {
                if let Some(sample) = &mut group.sample {
                    sample.tried.retain(|tried| !members.contains(tried));
                    sample.waiting.append(&mut members);
                }
                self.push_group(image, group);
            }
        }
    }

    /// A refusal that blames an account of the list.
    fn blamed(&mut self, now: Instant, image: Key<Image>, mut tried: Group, origin: Origin, class: Class) {
        let rest = self.split_origin(image, origin);
        match *tried.members.as_slice() {
            [] => self.make_ready(now, &rest),
            [alone] => {
                self.make_ready(now, &rest);
                self.blamed_alone(now, alone, tried.permission, tried.failure, class);
            }
            _ => {
                if may_be_about_others(class) {
                    self.sample(image, &mut tried);
                }
                self.isolate(now, image, tried, &rest);
            }
        }
    }

    /// The members of a call's group that were not sent. A group that samples stays as it is.
    fn split_origin(&mut self, image: Key<Image>, origin: Origin) -> Vec<Key<Account>> {
        match origin {
            Origin::Ready => Vec::new(),
            Origin::Group(group) if group.sample.is_some() => {
                self.push_group(image, group);
                Vec::new()
            }
            Origin::Group(group) => group.members,
        }
    }

    fn blamed_alone(
        &mut self,
        now: Instant,
        alone: Key<Account>,
        permission: Permission,
        refused: Arc<Failure>,
        class: Class,
    ) {
        let image = self.accounts[alone].image;
        match (permission, class) {
            (Permission::Share, Class::AlreadyDone) => self.already_done(now, alone),
            // Most likely it does not have the image: if so it is as wished.
            (Permission::Cancel, _) => self.give_verdict(now, alone, refused),
            (Permission::Share, _) => {
                self.remember(now, alone, permission, &refused);
                self.count_sample(image, alone, &refused.code);
                self.set_stage(alone, Stage::Idle);
                self.fail(now, alone, &refused);
            }
        }
    }

    /// One account alone was refused because it has the image: if this was the first write for it, it had it before.
    fn already_done(&mut self, now: Instant, alone: Key<Account>) {
        let first = self.accounts[alone].sends == 1;
        let image = self.accounts[alone].image;
        self.images[image].accepted = true;
        let history = self.history(alone);
        history.accept(Permission::Share, now);
        self.schedule_forgetting(alone);
        self.set_stage(alone, Stage::Idle);
        if first {
            self.accounts[alone].sends = 0;
        }
        self.found_done(now, alone);
    }

    /// A failure that blames nobody, or no answer: again after a pause; a list that fails twice in a row in parts.
    fn write_failed(&mut self, now: Instant, image: Key<Image>, mut tried: Group, origin: Origin, class: Class) {
        let before = match &origin {
            Origin::Group(group) if group.sample.is_none() => group.failures,
            _ => 0,
        };
        let rest = self.split_origin(image, origin);
        self.make_ready(now, &rest);
        match *tried.members.as_slice() {
            [] => {}
            [alone] => self.failed_alone(now, image, alone, tried),
            _ => {
                tried.failures = before + 1;
                tried.after = now + self.pause(tried.failures);
                if tried.failures < 2 {
                    return self.push_group(image, tried);
                }
                if may_be_about_others(class) {
                    self.sample(image, &mut tried);
                }
                if tried.sample.is_some() {
                    self.count_split(image);
                    self.push_group(image, tried);
                } else {
                    self.halve(image, tried);
                }
            }
        }
    }

    fn failed_alone(&mut self, now: Instant, image: Key<Image>, alone: Key<Account>, mut tried: Group) {
        let found = &mut self.accounts[alone];
        found.attempts = found.attempts.saturating_add(1);
        let attempts = u32::from(found.attempts);
        if attempts >= self.limits.attempts {
            return self.give_verdict(now, alone, tried.failure);
        }
        tried.after = now + self.pause(attempts);
        self.push_group(image, tried);
    }

    fn too_long(&mut self, now: Instant, image: Key<Image>, tried: &Group, origin: Origin) {
        let rest = self.split_origin(image, origin);
        self.make_ready(now, &rest);
        let lane = self.images[image].lane;
        match *tried.members.as_slice() {
            [] => {}
            [alone] => {
                self.set_stage(alone, Stage::Idle);
                self.fail(now, alone, &tried.failure);
            }
            _ => {
                let len = u32::try_from(tried.members.len()).unwrap_or(u32::MAX);
                self.lane(lane).batch.refused(len);
                let learned = u32::try_from(self.lane(lane).batch_max()).unwrap_or(u32::MAX);
                self.notice(lane, crate::io::Notice::BatchLearned(learned));
                self.make_ready(now, &tried.members);
            }
        }
    }

    fn over_quota(&mut self, now: Instant, image: Key<Image>, tried: &Group, origin: Origin) {
        let rest = self.split_origin(image, origin);
        self.make_ready(now, &rest);
        match *tried.members.as_slice() {
            [] => {}
            [alone] => {
                self.quota_refused(now, image, 1);
                self.set_stage(alone, Stage::Idle);
                self.fail_unless_applied(now, alone, tried.failure.clone());
            }
            _ => {
                self.quota_refused(now, image, tried.members.len());
                self.make_ready(now, &tried.members);
            }
        }
    }

    /// Fails every operation of an image, or those of one permission, that is not in flight. Jobs of which that call
    /// carried no account are not given its request id.
    pub(super) fn fail_image(
        &mut self,
        now: Instant,
        image: Key<Image>,
        permission: Option<Permission>,
        call: CallId,
        refused: &Arc<Failure>,
    ) {
        let (refused, nameless) = (refused.clone(), refused.without_request());
        let accounts = self.images[image].accounts.values().copied().collect();
        self.add_backlog(image, accounts, Step::Fail { permission, call, refused, nameless });
        self.work_off(now, image);
    }

    /// No answer came: what was sent may still be applied until `landing` after it was sent.
    fn mark_doubt(&mut self, sent_at: Option<Instant>, permission: Permission, members: &[Key<Account>]) {
        let Some(sent_at) = sent_at else { return };
        let until = sent_at + self.limits.landing;
        for &member in members {
            let history = self.history(member);
            // Only the same permission is ever sent while a doubt holds.
            let longest =
                history.doubt.filter(|&(doubted, _)| doubted == permission).map_or(until, |(_, at)| at.max(until));
            history.doubt = Some((permission, longest));
            history.suspect(permission, longest);
            self.schedule_forgetting(member);
            self.doubt_tickets(member, permission, until);
        }
    }

    /// The tickets of an operation in doubt are settled only when it can no longer land, where somebody may take over.
    fn doubt_tickets(&mut self, member: Key<Account>, permission: Permission, until: Instant) {
        let mut next = self.accounts[member].front;
        while let Some(wish) = next.filter(|&wish| self.wishes[wish].permission == permission) {
            let ticket = &mut self.tickets[self.wishes[wish].ticket];
            ticket.doubt_until = ticket.doubt_until.max(until);
            next = self.wishes[wish].next_in_account;
        }
    }

    /// A list was refused: what it named may have been applied in part, unless the refusal is about the call itself.
    fn mark_refused(&mut self, now: Instant, permission: Permission, members: &[Key<Account>], class: Class) {
        let untouched =
            matches!(class, Class::Throttle | Class::Credential | Class::Clock | Class::Permission | Class::Deployment);
        let alone_and_clear = members.len() == 1 && !matches!(class, Class::Transient | Class::Unknown);
        if untouched || alone_and_clear {
            return;
        }
        self.suspect(now, permission, members);
    }

    /// A write of these accounts may have been applied by now.
    fn suspect(&mut self, now: Instant, permission: Permission, members: &[Key<Account>]) {
        for &member in members {
            self.history(member).suspect(permission, now);
            self.schedule_forgetting(member);
        }
    }

    fn throttle_pause(&mut self) -> Millis {
        Self::THROTTLE_PAUSE + self.random.part_of(Self::THROTTLE_JITTER)
    }
}

/// Whether a refusal of this class says something of a list as it was sent, and not of each account in it.
const fn blames_a_list(class: Class) -> bool {
    matches!(
        class,
        Class::Account
            | Class::AccountOrOther
            | Class::AlreadyDone
            | Class::BatchTooLarge
            | Class::Quota
            | Class::Transient
            | Class::Unknown
    )
}

/// What an outcome says of itself, for people.
pub(super) fn detail(outcome: &Outcome) -> Box<str> {
    match outcome {
        Outcome::Refused { code, message, .. } => alloc::format!("{code}: {message}").into(),
        Outcome::Unanswered { reason, .. } => reason.clone(),
        Outcome::Skewed => "the clock differs from the server's by more than 5 minutes".into(),
        Outcome::Accepted(_) => "accepted".into(),
    }
}
