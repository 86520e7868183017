//! How an image's jobs end with their lane: they are forgotten, or all reported.

use alloc::{sync::Arc, vec::Vec};

use super::{
    Image,
    account::{Account, WishState},
    backlog::Step,
    failure,
    ticket::Ticket,
    write::Origin,
};
use crate::{
    arena::Key,
    context::Context,
    job::{Failure, local},
};

impl Image {
    /// Forgets all jobs without a report. What is known of the image stays.
    pub(crate) fn forget_jobs(&mut self, cx: &Context<'_>) {
        let waiting = self.behind.drain(..).chain(self.sync.take().map(|sync| sync.ticket));
        self.lost_tickets.extend(waiting);
        self.held = 0;
        self.ready_cancels.clear();
        self.ready_shares.clear();
        self.checking.clear();
        self.backlogs.clear();
        self.groups.clear();
        self.provisional.clear();
        self.doubtful.clear();
        self.deadlines.clear();
        self.finished.clear();
        self.denied = None;
        self.read.wanted = None;
        // The write in flight still ends, and has to find nothing that it could settle.
        if let Some(write) = &mut self.write {
            write.origin = Origin::Ready;
            for account in write.members.clone() {
                self.forget_wishes(cx, account);
            }
        }
        let accounts = self.store.by_id.values().copied().collect();
        self.add_backlog(accounts, Step::Forget);
    }

    /// Drops the wishes of an account. Their tickets have others, and are dropped after all of them.
    pub(super) fn forget_wishes(&mut self, cx: &Context<'_>, account: Key<Account>) {
        let mut next = self.store.accounts[account].head;
        while let Some(wish) = next {
            let Some(taken) = self.store.wishes.remove(wish) else { break };
            self.store.failures.remove(&wish);
            next = taken.next_in_account;
            self.lost_tickets.push(taken.ticket);
        }
        let found = &mut self.store.accounts[account];
        found.head = None;
        found.tail = None;
        self.begin_operation(cx, account, None);
    }

    /// Ends every job: what was not tried fails for that reason.
    pub(crate) fn abandon(&mut self, cx: &mut Context<'_>, not_attempted: &Arc<Failure>, no_answer: &Arc<Failure>) {
        // What was refused already is reported so.
        while self.has_backlog() {
            cx.work.done = 0;
            self.work_off(cx);
        }
        self.groups.clear();
        if let Some(sync) = &self.sync {
            let ticket = sync.ticket;
            self.fail_sync(cx, ticket, not_attempted);
        }
        self.abandon_wishes(cx, not_attempted, no_answer);
        for ticket in core::mem::take(&mut self.behind) {
            self.held += 1;
            let permission = self.store.tickets[ticket].mode.permission();
            for &account_id in &self.take_accounts(ticket) {
                self.add_wish(ticket, permission, account_id, false);
            }
            self.abandon_wishes(cx, not_attempted, no_answer);
        }
        self.confirm_all(cx);
    }

    fn abandon_wishes(&mut self, cx: &Context<'_>, not_attempted: &Arc<Failure>, no_answer: &Arc<Failure>) {
        for account in self.store.by_id.values().copied().collect::<Vec<_>>() {
            while let Some(front) = self.store.accounts[account].front {
                let history = self.store.accounts[account].history.map(|history| &self.store.histories[history]);
                let verdict = history.and_then(|history| history.verdict.clone());
                debug_assert_eq!(self.store.wishes[front].state, WishState::Open, "the front is an open wish");
                match verdict {
                    Some((_, seq, failure)) => self.fail_by_verdict(cx, account, seq, &failure),
                    None if self.may_be_applied(account) => self.fail_front(cx, account, no_answer),
                    None => self.fail_front(cx, account, not_attempted),
                }
            }
        }
    }

    /// A ticket that has not begun expired: it begins only to fail.
    pub(super) fn expire_unbegun(&mut self, cx: &Context<'_>, ticket: Key<Ticket>) {
        let Some(found) = self.store.tickets.get(ticket) else { return };
        if found.account_ids.is_empty() || self.behind.contains(&ticket) {
            return;
        }
        // A SYNC that waits for its first reading.
        self.fail_sync(cx, ticket, &failure(local::EXPIRED, "the job expired before it could begin", None));
    }
}
