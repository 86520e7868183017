//! Rule 2: a ticket is settled when all its outcomes are known and every earlier one that names one of its accounts is.

use alloc::{boxed::Box, vec::Vec};

use super::{
    Image,
    account::{Done, Wish, WishState},
    ticket::Ticket,
};
use crate::{
    arena::Key,
    context::{Context, Effect},
    job::{AccountOutcome, Mode, Report},
};

impl Image {
    /// Settles what can be settled, until so much work is done.
    pub(crate) fn settle_finished(&mut self, cx: &mut Context<'_>) {
        while !cx.work.is_much()
            && let Some(ticket) = self.finished.pop_front()
        {
            if self.store.tickets.get(ticket).is_some() {
                self.settle_if_finished(cx, ticket);
            }
        }
    }

    /// Settles all that can be settled, since the lane ends.
    pub(crate) fn settle_all(&mut self, cx: &mut Context<'_>) {
        while let Some(ticket) = self.finished.pop_front() {
            if self.store.tickets.get(ticket).is_some() {
                self.settle_if_finished(cx, ticket);
            }
        }
    }

    /// Jobs that may be settled.
    pub(crate) fn finished(&self) -> usize {
        self.finished.len()
    }

    /// Settles a ticket if nothing of it is open.
    fn settle_if_finished(&mut self, cx: &mut Context<'_>, ticket: Key<Ticket>) {
        let found = &self.store.tickets[ticket];
        if found.open > 0 || found.blocked > 0 || !found.account_ids.is_empty() {
            return;
        }
        let (mode, doubt_until) = (found.mode, found.doubt_until);
        if cx.limits.guard && doubt_until > cx.now {
            // Whoever takes over must learn from the ticket, which comes again, that such a write may land.
            self.doubtful.insert((doubt_until, ticket));
            return;
        }
        if mode == Mode::Sync && !self.sync_is_over(cx, ticket) {
            return;
        }
        self.settle(cx, ticket);
    }

    /// Takes a ticket out of the engine and says what became of it.
    fn settle(&mut self, cx: &mut Context<'_>, ticket: Key<Ticket>) {
        let mut report = self.take_report(cx, ticket);
        report.cancelled.extend(self.end_sync(ticket));
        cx.work.done += report.outcomes.len() + report.cancelled.len();
        let Some(Ticket { id, deadline, .. }) = self.store.tickets.remove(ticket) else { return };
        cx.effects.push(Effect::Settled(id, Box::new(report)));
        self.deadlines.remove(&(deadline, ticket));
        self.held -= 1;
        self.admit_behind(cx);
    }

    /// Lets those begin that waited behind a SYNC or a backlog.
    pub(super) fn admit_behind(&mut self, cx: &mut Context<'_>) {
        while !cx.work.is_much()
            && let Some(next) = self.next_to_admit()
        {
            self.behind.pop_front();
            cx.work.done += self.store.tickets[next].account_ids.len();
            self.admit(cx, next);
        }
    }

    /// The first ticket of those that wait, if there is nothing left that it waits for.
    pub(super) fn next_to_admit(&self) -> Option<Key<Ticket>> {
        let next = *self.behind.front()?;
        let is_sync = self.store.tickets[next].mode == Mode::Sync;
        let waits = self.sync.is_some() || self.has_backlog() || (is_sync && self.held > 0);
        (!waits).then_some(next)
    }

    /// Takes a ticket's wishes away and makes its report of them.
    fn take_report(&mut self, cx: &mut Context<'_>, ticket: Key<Ticket>) -> Report {
        let found = &self.store.tickets[ticket];
        let mut report = Report {
            outcomes: Vec::with_capacity(1),
            cancelled: Vec::new(),
            duplicates: found.duplicates,
            requests: found.requests,
        };
        let mut next = found.first;
        while let Some(wish) = next {
            let Some(taken) = self.store.wishes.remove(wish) else { break };
            next = taken.next_in_ticket;
            let account_id = self.store.accounts[taken.account].id;
            let outcome = self.take_outcome(wish, &taken);
            let list = if taken.extra { &mut report.cancelled } else { &mut report.outcomes };
            list.push((account_id, outcome));
            self.unlink(cx, &taken);
        }
        report
    }

    fn take_outcome(&mut self, wish: Key<Wish>, taken: &Wish) -> AccountOutcome {
        match taken.state {
            WishState::Done(Done::Changed) => AccountOutcome::Changed,
            WishState::Done(Done::Unchanged) => AccountOutcome::Unchanged,
            WishState::Open | WishState::Assumed | WishState::Provisional(_) | WishState::Failed => {
                let failure = self.store.failures.remove(&wish);
                AccountOutcome::Failed(failure.expect("a ticket is settled when each wish is done or has its failure"))
            }
        }
    }

    /// The first wish of an account is gone: the ticket of the next one is no longer held up by it.
    fn unlink(&mut self, cx: &mut Context<'_>, taken: &Wish) {
        let account = &mut self.store.accounts[taken.account];
        account.head = taken.next_in_account;
        let Some(next) = taken.next_in_account else {
            account.tail = None;
            self.forget_account(cx, taken.account);
            return;
        };
        let ticket = self.store.wishes[next].ticket;
        let found = &mut self.store.tickets[ticket];
        found.blocked -= 1;
        if found.blocked == 0 && found.open == 0 {
            self.finished.push_back(ticket);
        }
    }
}
