//! Rules 8, 9 and 10: how a lane ends. Its jobs go back all together, or are all reported.

use alloc::{boxed::Box, sync::Arc, vec::Vec};

use super::{
    Engine,
    account::{Account, WishState},
    backlog::Step,
    image::{Image, failure},
    lane::{LaneState, Origin},
    ticket::Ticket,
};
use crate::{
    arena::Key,
    io::{CloseReason, Command, LaneId},
    job::{Failure, local},
    limits::Ending,
    time::Instant,
};

impl Engine {
    pub(super) fn drain(&mut self, now: Instant) {
        self.draining = true;
        for lane in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.leave(now, lane);
        }
    }

    /// No new calls on a lane; it leaves when the last one in flight has ended.
    pub(super) fn leave(&mut self, now: Instant, lane: LaneId) {
        if matches!(self.lane(lane).state, LaneState::Down | LaneState::GivenUp(_)) {
            return;
        }
        self.lane(lane).state = LaneState::Leaving;
        self.lane_call_ended(now, lane);
    }

    /// A call of a lane ended: if the lane is to leave and it was the last one, it does.
    pub(super) fn lane_call_ended(&mut self, now: Instant, lane: LaneId) {
        let (ending, closed_for) = (self.limits.ending, self.limits.closed_for);
        let found = self.lane(lane);
        if found.in_flight > 0 {
            return;
        }
        match &found.state {
            LaneState::Leaving => match ending {
                Ending::GiveBack => {
                    // What is finished is settled first, and stands before the end in the order of commands.
                    self.settle_finished(now, usize::MAX);
                    self.forget_tickets(now, lane);
                    self.lane(lane).state = LaneState::Down;
                    self.commands.push_back(Command::GiveBack(lane));
                }
                Ending::Report => self.abandon(now, lane, "the command was ended"),
            },
            LaneState::Closed(closed)
                if closed.certain
                    && !closed.given_back
                    && ending == Ending::GiveBack
                    && closed.since + closed_for <= now =>
            {
                self.give_back_closed(now, lane);
                self.schedule_lane(lane);
            }
            _ => {}
        }
    }

    /// A lane was closed too long: its jobs go back, and it goes on probing.
    pub(super) fn give_back_closed(&mut self, now: Instant, lane: LaneId) {
        self.settle_finished(now, usize::MAX);
        self.forget_tickets(now, lane);
        if let LaneState::Closed(closed) = &mut self.lane(lane).state {
            closed.given_back = true;
        }
        self.commands.push_back(Command::GiveBack(lane));
    }

    /// A lane was closed too long and there is nobody to give its jobs back to.
    pub(super) fn give_up(&mut self, now: Instant, lane: LaneId, reason: CloseReason, detail: &str) {
        self.lane(lane).state = LaneState::GivenUp(reason);
        self.abandon(now, lane, &alloc::format!("the lane is closed ({}): {detail}", reason.as_str()));
    }

    /// The jobs of a lane are no longer ours.
    pub(super) fn lane_lost(&mut self, now: Instant, lane: LaneId) {
        if !self.lanes.contains_key(&lane) {
            return;
        }
        self.forget_tickets(now, lane);
        self.lane(lane).state = LaneState::Down;
        self.set_lane_alarm(lane, None);
    }

    /// Forgets all tickets of a lane without a word. What was learnt about its images stays.
    fn forget_tickets(&mut self, now: Instant, lane: LaneId) {
        for call in self.calls.values_mut().filter(|call| call.lane == lane) {
            if let Some(write) = &mut call.write {
                write.origin = Origin::Ready;
            }
        }
        let (tickets, images) = (&self.tickets, &self.images);
        let is_kept =
            |&ticket: &Key<Ticket>| tickets.get(ticket).is_some_and(|ticket| images[ticket.image].lane != lane);
        self.finished.retain(is_kept);
        for image in self.lane(lane).images.clone() {
            self.forget_image_tickets(now, image);
        }
        let found = self.lane(lane);
        found.serving = false;
        found.tickets = 0;
        found.arrivals.clear();
        for queue in &mut found.queues {
            queue.clear();
        }
    }

    fn forget_image_tickets(&mut self, now: Instant, image: Key<Image>) {
        let found = &mut self.images[image];
        let waiting = found.behind.drain(..).chain(found.sync.take().map(|sync| sync.ticket));
        found.lost_tickets.extend(waiting);
        found.held = 0;
        found.queued = [false; 3];
        found.ready_cancels.clear();
        found.ready_shares.clear();
        found.checking.clear();
        found.backlogs.clear();
        found.groups.clear();
        found.provisional.clear();
        found.doubtful.clear();
        found.deadlines.clear();
        found.denied = None;
        found.read.wanted = None;
        // Calls in flight still end, and have to find nothing that they could settle.
        let calls = self.calls.values().filter(|call| call.image == image);
        let writes = calls.filter_map(|call| call.write.as_ref());
        for account in writes.flat_map(|write| write.members.iter().copied()).collect::<Vec<_>>() {
            self.forget_wishes(account);
        }
        let accounts = self.images[image].accounts.values().copied().collect();
        self.add_backlog(image, accounts, Step::Forget);
        self.touch(now, image);
    }

    /// Drops the wishes of an account. Their tickets have others, and are dropped after all of them.
    pub(super) fn forget_wishes(&mut self, account: Key<Account>) {
        let image = self.accounts[account].image;
        let mut next = self.accounts[account].head;
        while let Some(wish) = next {
            let Some(taken) = self.wishes.remove(wish) else { break };
            self.failures.remove(&wish);
            next = taken.next_in_account;
            self.images[image].lost_tickets.push(taken.ticket);
        }
        let found = &mut self.accounts[account];
        found.head = None;
        found.tail = None;
        self.begin_operation(account, None);
    }

    /// Settles every ticket of a lane: what was not tried is said to be so.
    fn abandon(&mut self, now: Instant, lane: LaneId, why: &str) {
        let not_attempted = failure(local::NOT_ATTEMPTED, Box::from(why), None);
        let message = alloc::format!("a write was sent and it is not known whether it was applied; {why}");
        let no_answer = failure(local::NO_ANSWER, message, None);
        for image in self.lane(lane).images.clone() {
            // What was refused already is reported so.
            while self.has_backlog(image) {
                self.work = 0;
                self.work_off(now, image);
            }
            self.images[image].groups.clear();
            if let Some(sync) = &self.images[image].sync {
                let ticket = sync.ticket;
                self.fail_sync(image, ticket, &not_attempted);
            }
            self.abandon_wishes(image, &not_attempted, &no_answer);
            for ticket in core::mem::take(&mut self.images[image].behind) {
                self.images[image].held += 1;
                let permission = self.tickets[ticket].mode.permission();
                for &account_id in &self.take_accounts(ticket) {
                    self.add_wish(ticket, permission, account_id, false);
                }
                self.abandon_wishes(image, &not_attempted, &no_answer);
            }
            self.confirm_all(image);
        }
        self.settle_finished(now, usize::MAX);
        self.set_lane_alarm(lane, None);
    }

    fn abandon_wishes(&mut self, image: Key<Image>, not_attempted: &Arc<Failure>, no_answer: &Arc<Failure>) {
        for account in self.images[image].accounts.values().copied().collect::<Vec<_>>() {
            while let Some(front) = self.accounts[account].front {
                let history = self.accounts[account].history.map(|history| &self.histories[history]);
                let verdict = history.and_then(|history| history.verdict.clone());
                debug_assert_eq!(self.wishes[front].state, WishState::Open, "the front is an open wish");
                match verdict {
                    Some((_, seq, failure)) => self.fail_by_verdict(account, seq, &failure),
                    None if self.may_be_applied(account) => self.fail_front(account, no_answer),
                    None => self.fail_front(account, not_attempted),
                }
            }
        }
    }

    /// A ticket that has not begun expired: it begins only to fail.
    pub(super) fn expire_unbegun(&mut self, image: Key<Image>, ticket: Key<Ticket>) {
        let Some(found) = self.tickets.get(ticket) else { return };
        if found.account_ids.is_empty() || self.images[image].behind.contains(&ticket) {
            return;
        }
        // A SYNC that waits for its first reading.
        self.fail_sync(image, ticket, &failure(local::EXPIRED, "the job expired before it could begin", None));
    }
}
