//! Rule 2: a ticket is settled when all its outcomes are known and every earlier one that names one of its accounts is.

use alloc::vec::Vec;

use super::{
    Engine,
    account::{Done, Wish, WishState},
    image::Image,
    ticket::Ticket,
};
use crate::{
    arena::Key,
    job::{AccountOutcome, Mode, Report},
    time::Instant,
};

impl Engine {
    /// Settles what can be settled, until so much work is done. An image is looked at when the last of its tickets that
    /// stand together is.
    pub(super) fn settle_finished(&mut self, now: Instant, work_max: usize) {
        let mut changed: Option<Key<Image>> = None;
        loop {
            let ticket = if self.work < work_max { self.finished.pop_front() } else { None };
            let image = ticket.and_then(|ticket| self.tickets.get(ticket)).map(|found| found.image);
            if changed != image
                && let Some(changed) = changed.take()
            {
                self.touch(now, changed);
            }
            match ticket {
                Some(ticket) if image.is_some() && self.settle_if_finished(now, ticket) => changed = image,
                None if self.finished.is_empty() || self.work >= work_max => return,
                _ => {}
            }
        }
    }

    /// Settles a ticket if nothing of it is open. Gives whether something has changed for its image.
    fn settle_if_finished(&mut self, now: Instant, ticket: Key<Ticket>) -> bool {
        let found = &self.tickets[ticket];
        if found.open > 0 || found.blocked > 0 || !found.account_ids.is_empty() {
            return false;
        }
        if self.limits.guard && found.doubt_until > now {
            // Whoever takes over must learn from the ticket, which comes again, that such a write may land.
            let (image, until) = (found.image, found.doubt_until);
            self.images[image].doubtful.insert((until, ticket));
            return true;
        }
        if found.mode == Mode::Sync && !self.sync_is_over(now, ticket) {
            return false;
        }
        self.settle(now, ticket);
        true
    }

    /// Takes a ticket out of the engine and says what became of it.
    fn settle(&mut self, now: Instant, ticket: Key<Ticket>) {
        let mut report = self.take_report(now, ticket);
        report.cancelled.extend(self.end_sync(ticket));
        self.work += report.outcomes.len() + report.cancelled.len();
        let Some(Ticket { id, image, deadline, .. }) = self.tickets.remove(ticket) else { return };
        self.report(id, report);
        let found = &mut self.images[image];
        found.deadlines.remove(&(deadline, ticket));
        found.held -= 1;
        let lane = found.lane;
        self.lane(lane).tickets -= 1;
        self.admit_behind(now, image);
    }

    /// Lets those begin that waited behind a SYNC or a backlog.
    pub(super) fn admit_behind(&mut self, now: Instant, image: Key<Image>) {
        while !self.is_much_work()
            && let Some(next) = self.next_to_admit(image)
        {
            self.images[image].behind.pop_front();
            self.work += self.tickets[next].account_ids.len();
            self.admit(now, next);
        }
    }

    /// The first ticket of those that wait, if there is nothing left that it waits for.
    pub(super) fn next_to_admit(&self, image: Key<Image>) -> Option<Key<Ticket>> {
        let found = &self.images[image];
        let next = *found.behind.front()?;
        let is_sync = self.tickets[next].mode == Mode::Sync;
        let waits = found.sync.is_some() || self.has_backlog(image) || (is_sync && found.held > 0);
        (!waits).then_some(next)
    }

    /// Takes a ticket's wishes away and makes its report of them.
    fn take_report(&mut self, now: Instant, ticket: Key<Ticket>) -> Report {
        let found = &self.tickets[ticket];
        let mut report = Report {
            outcomes: Vec::with_capacity(1),
            cancelled: Vec::new(),
            duplicates: found.duplicates,
            requests: found.requests,
        };
        let mut next = found.first;
        while let Some(wish) = next {
            let Some(taken) = self.wishes.remove(wish) else { break };
            next = taken.next_in_ticket;
            let account_id = self.accounts[taken.account].id;
            let outcome = self.take_outcome(wish, &taken);
            let list = if taken.extra { &mut report.cancelled } else { &mut report.outcomes };
            list.push((account_id, outcome));
            self.unlink(now, &taken);
        }
        report
    }

    fn take_outcome(&mut self, wish: Key<Wish>, taken: &Wish) -> AccountOutcome {
        match taken.state {
            WishState::Done(Done::Changed) => AccountOutcome::Changed,
            WishState::Done(Done::Unchanged) => AccountOutcome::Unchanged,
            WishState::Open | WishState::Assumed | WishState::Provisional(_) | WishState::Failed => {
                let failure = self.failures.remove(&wish);
                AccountOutcome::Failed(failure.expect("a ticket is settled when each wish is done or has its failure"))
            }
        }
    }

    /// The first wish of an account is gone: the ticket of the next one is no longer held up by it.
    fn unlink(&mut self, now: Instant, taken: &Wish) {
        let account = &mut self.accounts[taken.account];
        account.head = taken.next_in_account;
        let Some(next) = taken.next_in_account else {
            account.tail = None;
            self.forget_account(now, taken.account);
            return;
        };
        let ticket = self.wishes[next].ticket;
        let found = &mut self.tickets[ticket];
        found.blocked -= 1;
        if found.blocked == 0 && found.open == 0 {
            self.finished.push_back(ticket);
        }
    }
}
