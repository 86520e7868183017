//! Rules 2 and 8: jobs become tickets, tickets become wishes, and both keep the order of arrival.

use alloc::{boxed::Box, vec::Vec};

use imageshare_core::{Permission, ids::AccountId};

use super::{
    Engine,
    account::{Account, Stage, Wish, WishState},
    image::{Image, failure},
    lane::{Arrival, LaneState},
    ticket::Ticket,
};
use crate::{
    arena::Key,
    io::{LaneId, TicketId},
    job::{AccountOutcome, Job, Mode, Report, local},
    limits::Ending,
    time::Instant,
};

impl Engine {
    pub(super) fn receive(&mut self, now: Instant, id: TicketId, lane: LaneId, job: Job) {
        // A job that was on its way when its lane was lost comes again.
        let Some(found) = self.lanes.get(&lane).filter(|lane| lane.serving) else { return };
        match (&found.state, self.limits.ending) {
            (LaneState::GivenUp(reason), _) => {
                let message = alloc::format!("the lane is closed ({})", reason.as_str());
                return self.refuse_whole(id, &job.account_ids, local::NOT_ATTEMPTED, &message);
            }
            // While a call is in flight the earlier ones are not settled: it waits with them.
            (LaneState::Leaving, Ending::Report) if found.in_flight == 0 => {
                return self.refuse_whole(id, &job.account_ids, local::NOT_ATTEMPTED, "the command was ended");
            }
            // It is given back with those that are held.
            (LaneState::Leaving, Ending::GiveBack) => return,
            _ => {}
        }
        let image = self.image_of(lane, &job);
        let ticket = self.tickets.insert(Ticket {
            id,
            image,
            seq: self.next_seq,
            mode: job.mode,
            force: job.force,
            redelivered: job.redelivered,
            deadline: job.deadline.unwrap_or(Instant::NEVER),
            account_ids: job.account_ids,
            first: None,
            last: None,
            open: 0,
            blocked: 0,
            doubt_until: Instant::default(),
            duplicates: 0,
            requests: 0,
            last_call: Ticket::NO_CALL,
        });
        let (seq, leased) = (self.next_seq, self.limits.lease.is_some());
        // Two places a ticket: the cancels that a SYNC adds stand before its shares.
        self.next_seq += 2;
        let found = self.lane(lane);
        found.tickets += 1;
        if leased {
            found.arrivals.push_back(Arrival { at: now, ticket, seq });
        }
        let image_found = &mut self.images[image];
        image_found.redelivered |= job.redelivered;
        if let Some(deadline) = job.deadline {
            image_found.deadlines.insert((deadline, ticket));
        }
        let barrier = image_found.sync.is_some() || !image_found.behind.is_empty() || !image_found.backlogs.is_empty();
        if barrier || (job.mode == Mode::Sync && image_found.held > 0) {
            image_found.behind.push_back(ticket);
        } else {
            self.admit(now, ticket);
        }
        self.schedule_lane(lane);
        self.try_new_image(now, lane, image);
        self.touch(now, image);
    }

    /// Lets a ticket begin: nothing that stands before it on its image is a barrier any more.
    pub(super) fn admit(&mut self, now: Instant, ticket: Key<Ticket>) {
        let image = self.tickets[ticket].image;
        let idle = self.images[image].held == 0;
        self.images[image].held += 1;
        if idle {
            self.forget_old_reading(now, image);
        }
        if self.tickets[ticket].mode == Mode::Sync {
            self.begin_sync(now, ticket);
            return;
        }
        let permission = self.tickets[ticket].mode.permission();
        let account_ids = core::mem::take(&mut self.tickets[ticket].account_ids);
        self.wish_for(now, ticket, permission, &account_ids, false);
    }

    /// Adds a ticket's wishes for these accounts and decides each that stands first.
    pub(super) fn wish_for(
        &mut self,
        now: Instant,
        ticket: Key<Ticket>,
        permission: Permission,
        account_ids: &[AccountId],
        extra: bool,
    ) {
        let mut fresh = Vec::new();
        for &account_id in account_ids {
            if let Some(account) = self.add_wish(ticket, permission, account_id, extra) {
                fresh.push(account);
            }
        }
        for account in fresh {
            self.decide(now, account);
        }
        if self.tickets[ticket].open == 0 {
            self.finished.push_back(ticket);
        }
    }

    /// Adds a wish at the end of its account's. Gives the account if the wish begins an operation there.
    pub(super) fn add_wish(
        &mut self,
        ticket: Key<Ticket>,
        permission: Permission,
        account_id: AccountId,
        extra: bool,
    ) -> Option<Key<Account>> {
        let image = self.tickets[ticket].image;
        let account = match self.images[image].accounts.get(&account_id) {
            Some(&account) => account,
            None => {
                let account = self.accounts.insert(Account::new(account_id, image));
                self.images[image].accounts.insert(account_id, account);
                account
            }
        };
        let tail = self.accounts[account].tail;
        if tail.is_some_and(|tail| self.wishes[tail].ticket == ticket) {
            self.tickets[ticket].duplicates += 1;
            return None;
        }
        let wish = self.wishes.insert(Wish {
            ticket,
            account,
            next_in_account: None,
            next_in_ticket: None,
            permission,
            state: WishState::Open,
            extra,
        });
        let found = &mut self.tickets[ticket];
        found.open += 1;
        found.blocked += u32::from(tail.is_some());
        if let Some(last) = found.last.replace(wish) {
            self.wishes[last].next_in_ticket = Some(wish);
        } else {
            found.first = Some(wish);
        }
        if let Some(tail) = tail {
            self.wishes[tail].next_in_account = Some(wish);
        }
        let found = &mut self.accounts[account];
        found.head = found.head.or(Some(wish));
        found.tail = Some(wish);
        if found.front.is_some() {
            return None;
        }
        self.set_front(account, Some(wish));
        let found = &mut self.accounts[account];
        found.sends = 0;
        found.attempts = 0;
        // After `LaneLost` a call of before may still be in flight; its answer decides.
        (found.stage == Stage::Idle).then_some(account)
    }

    /// Settles a job that never begins, all its accounts for one reason.
    pub(super) fn refuse_whole(&mut self, id: TicketId, account_ids: &[AccountId], code: &str, message: &str) {
        let failure = failure(code, message, None);
        let mut report = Report { outcomes: Vec::new(), cancelled: Vec::new(), duplicates: 0, requests: 0 };
        let mut reported = alloc::collections::BTreeSet::new();
        for &account_id in account_ids {
            if reported.insert(account_id) {
                report.outcomes.push((account_id, AccountOutcome::Failed(failure.clone())));
            } else {
                report.duplicates += 1;
            }
        }
        self.report(id, report);
    }

    fn image_of(&mut self, lane: LaneId, job: &Job) -> Key<Image> {
        let name = (lane, job.region, job.image_id);
        if let Some(&image) = self.image_keys.get(&name) {
            return image;
        }
        let image = self.images.insert(Image::new(lane, job.region, job.image_id));
        self.image_keys.insert(name, image);
        self.lane(lane).images.insert(image);
        image
    }

    /// The accounts of a ticket that has not begun.
    pub(super) fn take_accounts(&mut self, ticket: Key<Ticket>) -> Box<[AccountId]> {
        core::mem::take(&mut self.tickets[ticket].account_ids)
    }
}
