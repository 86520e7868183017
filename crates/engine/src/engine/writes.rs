//! Rules 2, 3 and 4: which operations travel together, and when an image or a lane has its turn.

use imageshare_core::Permission;

use super::{
    Alarm, Engine,
    account::{Account, Stage},
    group::Group,
    image::Image,
    lane::{Call, Kind, Lane, Origin, Write},
    ticket::Ticket,
};
use crate::{
    arena::Key,
    io::{Action, CallId, Command, LaneId},
    time::Instant,
};

impl Engine {
    /// Looks at an image: does what is due, puts it into the queues of the calls it wants, sets its next moment.
    pub(super) fn touch(&mut self, now: Instant, image: Key<Image>) {
        if self.images.get(image).is_none() {
            return;
        }
        self.work_off(now, image);
        if self.has_backlog(image) {
            return self.set_image_alarm(image, Some(now));
        }
        while self.images[image].wakes.first().is_some_and(|&(at, _)| at <= now)
            && let Some((_, account)) = self.images[image].wakes.pop_first()
        {
            self.wake(now, account);
        }
        while self.images[image].forgettable.front().is_some_and(|&(at, _)| at <= now)
            && let Some((_, account)) = self.images[image].forgettable.pop_front()
        {
            self.forget_account(now, account);
        }
        while !self.is_much_work()
            && let Some(&(at, ticket)) = self.images[image].deadlines.first().filter(|&&(at, _)| at <= now)
        {
            self.images[image].deadlines.remove(&(at, ticket));
            self.expire_unbegun(image, ticket);
            self.expire_ticket(now, ticket);
        }
        self.admit_behind(now, image);
        while let Some(&(at, ticket)) = self.images[image].doubtful.first().filter(|&&(at, _)| at <= now) {
            self.images[image].doubtful.remove(&(at, ticket));
            self.finished.push_back(ticket);
        }
        self.busy_due(now, image);
        self.quota_due(now, image);
        self.settle_samples(now, image);
        // Last, since an operation that has just failed leaves the last word to the one before it.
        self.guard_due(now, image);
        let lane = self.images[image].lane;
        if self.lane(lane).is_open() && !self.draining {
            for kind in Kind::ALL {
                if self.wants(now, image, kind) {
                    self.enqueue(image, kind);
                }
            }
        }
        let next = self.next_moment(now, image);
        self.set_image_alarm(image, next);
        self.forget_image(now, image);
    }

    pub(super) fn lane_of(&self, image: Key<Image>) -> &Lane {
        self.lanes.get(&self.images[image].lane).expect("an image belongs to a lane that exists")
    }

    /// Whether an image wants a call of this kind now.
    fn wants(&self, now: Instant, image: Key<Image>, kind: Kind) -> bool {
        // What is about to expire is not asked for any more, nor what is about to be decided.
        if self.is_expiry_due(now, image) || self.has_backlog(image) {
            return false;
        }
        let found = &self.images[image];
        match kind {
            Kind::Write => {
                let blocked = found.write.is_some()
                    || found.write_after > now
                    || found.busy.as_ref().is_some_and(|busy| busy.ask.is_some())
                    || found.denied.as_ref().is_some_and(|denied| denied.kind == Kind::Write && denied.again > now);
                let ready = || self.ready_list(now, image, self.holds_ready(image)).is_some();
                !blocked && (ready() || self.has_group_to_send(now, image))
            }
            Kind::ReadShares => {
                let wanted = found.read.wanted.is_some_and(|from| from <= now) && found.read.after <= now;
                wanted && found.read.in_flight.is_none() && found.in_hand()
            }
            Kind::ReadImage => {
                let due = found.busy.as_ref().and_then(|busy| busy.ask).is_some_and(|ask| ask <= now);
                due && found.query.is_none() && found.in_hand()
            }
        }
    }

    fn has_group_to_send(&self, now: Instant, image: Key<Image>) -> bool {
        let due = |group: &Group| group.sendable_from().is_some_and(|from| from <= now);
        self.images[image].groups.iter().any(|group| due(group) && self.has_next(image, group))
    }

    /// Whether the deadline of a ticket has come and its wishes are not expired yet.
    fn is_expiry_due(&self, now: Instant, image: Key<Image>) -> bool {
        self.images[image].deadlines.first().is_some_and(|&(at, _)| at <= now)
    }

    /// When an image has to be looked at again if nothing happens.
    fn next_moment(&self, now: Instant, image: Key<Image>) -> Option<Instant> {
        if self.is_expiry_due(now, image) || self.has_backlog(image) || self.next_to_admit(image).is_some() {
            return Some(now);
        }
        let found = &self.images[image];
        let groups = found.groups.iter().filter_map(Group::sendable_from);
        let busy = found.busy.as_ref();
        let moments = [
            found.wakes.first().map(|&(at, _)| at),
            found.forgettable.front().map(|&(at, _)| at),
            found.deadlines.first().map(|&(at, _)| at),
            found.doubtful.first().map(|&(at, _)| at),
            found.read.wanted.map(|from| from.max(found.read.after)),
            Some(found.write_after),
            busy.and_then(|busy| busy.ask),
            busy.map(|busy| busy.since + self.image_wait(found.lane)),
            found.denied.as_ref().map(|denied| denied.again),
            found.read.refused.as_ref().map(|refused| refused.until),
            found.quota.learned.as_ref().map(|learned| learned.until),
            self.guard_from(image),
        ];
        moments.into_iter().flatten().chain(groups).filter(|&at| at > now && at < Instant::NEVER).min()
    }

    pub(super) fn enqueue(&mut self, image: Key<Image>, kind: Kind) {
        let found = &mut self.images[image];
        if core::mem::replace(&mut found.queued[kind as usize], true) {
            return;
        }
        let lane = found.lane;
        self.lane(lane).queues[kind as usize].push_back(image);
        self.arm(lane, kind);
    }

    /// Puts the next slot of a kind into the agenda, if there is something to use it for.
    pub(super) fn arm(&mut self, lane: LaneId, kind: Kind) {
        let found = self.lane(lane);
        let nth = kind as usize;
        let idle = found.queues[nth].is_empty() || found.unsent[nth].is_some() || !found.is_open();
        if idle || found.armed[nth].is_some() || found.in_flight >= found.limits.concurrency {
            return;
        }
        let at = found.pacers[nth].next();
        found.armed[nth] = Some(at);
        self.agenda.insert((at, Alarm::Slot(lane, kind)));
    }

    /// A slot has come: the first image in turn that still wants a call gets it.
    pub(super) fn take_slot(&mut self, now: Instant, lane: LaneId, kind: Kind) {
        let found = self.lane(lane);
        let nth = kind as usize;
        let idle = found.unsent[nth].is_some() || !found.is_open() || found.in_flight >= found.limits.concurrency;
        if idle || self.draining {
            return;
        }
        if self.lane(lane).pacers[nth].next() > now {
            return self.arm(lane, kind);
        }
        while let Some(image) = self.lane(lane).queues[nth].pop_front() {
            self.images[image].queued[nth] = false;
            if self.wants(now, image, kind) {
                if self.begin_call(now, image, kind) {
                    break;
                }
                // What seemed to be there to send was not: that may have changed what the image waits for.
                self.touch(now, image);
            }
        }
        self.arm(lane, kind);
    }

    /// Sends what an image wants. Gives whether there was something to send.
    fn begin_call(&mut self, now: Instant, image: Key<Image>, kind: Kind) -> bool {
        match kind {
            Kind::Write => match self.choose_write(now, image) {
                Some(write) => self.send_write(now, image, write, false),
                None => return false,
            },
            Kind::ReadShares => self.send_read(now, image, false),
            Kind::ReadImage => self.send_query(now, image, false),
        }
        true
    }

    /// What is written next to an image: a group's turn, or the ready operations of the permission that has waited
    /// longest, with all others of that permission that fit.
    pub(super) fn choose_write(&mut self, now: Instant, image: Key<Image>) -> Option<Write> {
        if self.images[image].group_had_turn
            && let Some((permission, len)) = self.ready_list(now, image, true)
        {
            return Some(self.take_ready(image, permission, len));
        }
        if let Some((group, members)) = self.next_of_groups(now, image) {
            self.images[image].group_had_turn = true;
            return Some(Write { permission: group.permission, members, origin: Origin::Group(group) });
        }
        let (permission, len) = self.ready_list(now, image, self.holds_ready(image))?;
        Some(self.take_ready(image, permission, len))
    }

    /// Whether ready operations wait for more of them: a group is about to go on after its reading, and what it sets
    /// free then travels with them.
    fn holds_ready(&self, image: Key<Image>) -> bool {
        let found = &self.images[image];
        found.read.attempts == 0 && found.groups.iter().any(|group| group.read_from.is_some())
    }

    /// The permission whose ready operations have waited longest, and how many of them fit into a request; only a full
    /// one, if `full`.
    fn ready_list(&self, now: Instant, image: Key<Image>, full: bool) -> Option<(Permission, usize)> {
        let batch_max = self.lane_of(image).batch_max();
        let room = self.share_room(now, image).min(batch_max);
        let found = &self.images[image];
        let cancel = found.ready_cancels.first();
        let share = found.ready_shares.first().filter(|_| room > 0);
        let (permission, len_max) = match (cancel, share) {
            (Some(cancel), Some(share)) if cancel < share => (Permission::Cancel, batch_max),
            (_, Some(_)) => (Permission::Share, room),
            (Some(_), None) => (Permission::Cancel, batch_max),
            (None, None) => return None,
        };
        let len = found.ready(permission).len().min(len_max);
        (!full || len == len_max).then_some((permission, len))
    }

    fn take_ready(&mut self, image: Key<Image>, permission: Permission, len: usize) -> Write {
        let found = &mut self.images[image];
        found.group_had_turn = false;
        let members = found.ready(permission).iter().take(len).map(|&(_, account)| account).collect();
        Write { permission, members, origin: Origin::Ready }
    }

    pub(super) fn send_write(&mut self, now: Instant, image: Key<Image>, write: Write, probe: bool) {
        let call = self.next_call_id();
        let account_ids = write.members.iter().map(|&member| self.accounts[member].id).collect();
        for &member in &write.members {
            self.set_stage(member, Stage::InFlight);
            self.accounts[member].sends = self.accounts[member].sends.saturating_add(1);
            self.count_request(call, member);
        }
        let Image { lane, region, id, .. } = self.images[image];
        self.images[image].write = Some(call);
        let permission = write.permission;
        self.begin(now, call, image, Kind::Write, probe, Some(write));
        let action = Action::Modify { region, image_id: id, permission, account_ids };
        self.commands.push_back(Command::Call { call, lane, action });
    }

    /// Counts a request for each ticket that has an account of it in the operation, once a ticket.
    fn count_request(&mut self, call: CallId, member: Key<Account>) {
        let mut next = self.accounts[member].front;
        let permission = next.map(|front| self.wishes[front].permission);
        while let Some(wish) = next.filter(|&wish| Some(self.wishes[wish].permission) == permission) {
            let found = &self.wishes[wish];
            next = found.next_in_account;
            let ticket = &mut self.tickets[found.ticket];
            if core::mem::replace(&mut ticket.last_call, call) != call {
                ticket.requests += 1;
            }
        }
    }

    /// A request never left: it was none, for its accounts and for their tickets.
    pub(super) fn uncount_request(&mut self, call: CallId, members: &[Key<Account>]) {
        for &member in members {
            let found = &mut self.accounts[member];
            found.sends = found.sends.saturating_sub(1);
            let mut next = found.front;
            while let Some(wish) = next {
                let found = &self.wishes[wish];
                next = found.next_in_account;
                let ticket = &mut self.tickets[found.ticket];
                if ticket.last_call == call {
                    ticket.last_call = Ticket::NO_CALL;
                    ticket.requests -= 1;
                }
            }
        }
    }

    pub(super) fn send_read(&mut self, now: Instant, image: Key<Image>, probe: bool) {
        let call = self.next_call_id();
        let Image { lane, region, id, .. } = self.images[image];
        let found = &mut self.images[image];
        found.read.wanted = None;
        found.read.in_flight = Some(call);
        self.begin(now, call, image, Kind::ReadShares, probe, None);
        self.commands.push_back(Command::Call { call, lane, action: Action::ReadShares { region, image_id: id } });
    }

    pub(super) fn send_query(&mut self, now: Instant, image: Key<Image>, probe: bool) {
        let call = self.next_call_id();
        let Image { lane, region, id, .. } = self.images[image];
        if !probe {
            self.images[image].query = Some(call);
        }
        self.begin(now, call, image, Kind::ReadImage, probe, None);
        self.commands.push_back(Command::Call { call, lane, action: Action::ReadImage { region, image_id: id } });
    }

    fn begin(&mut self, now: Instant, id: CallId, image: Key<Image>, kind: Kind, probe: bool, write: Option<Write>) {
        let lane = self.images[image].lane;
        self.images[image].calls += 1;
        let seq = self.next_seq;
        self.calls.insert(id, Call { id, lane, seq, image, kind, probe, began: now, sent: None, write });
        let found = self.lane(lane);
        found.in_flight += 1;
        found.unsent[kind as usize] = Some(id);
    }

    /// A request was written: its slot is taken, and the next call of its kind may come an interval later.
    pub(super) fn call_sent(&mut self, now: Instant, id: CallId) {
        let Some(call) = self.calls.get_mut(&id) else { return };
        call.sent = call.sent.or(Some(now));
        let (lane, kind) = (call.lane, call.kind);
        let found = self.lane(lane);
        if found.unsent[kind as usize] == Some(id) {
            found.unsent[kind as usize] = None;
            found.pacers[kind as usize].sent(now);
            self.arm(lane, kind);
        }
    }

    /// Drops an image of which nothing need be kept.
    fn forget_image(&mut self, now: Instant, image: Key<Image>) {
        let found = &self.images[image];
        let idle = !found.in_hand() && found.accounts.is_empty() && found.calls == 0 && !found.queued.contains(&true);
        let learnt = found.busy.is_some()
            || found.unreadable(now).is_some()
            || found.quota.learned.as_ref().is_some_and(|learned| learned.until > now)
            || found.alarm.is_some();
        if !idle || learnt || self.lane_of(image).images.len() <= 1 {
            return;
        }
        let name = (found.lane, found.region, found.id);
        self.images.remove(image);
        self.image_keys.remove(&name);
        self.lane(name.0).images.remove(&image);
    }
}
