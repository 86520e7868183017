//! Rules 2 and 8: jobs become tickets, tickets become wishes, and both keep the order of arrival.

use alloc::{boxed::Box, vec::Vec};

use imageshare_core::{Permission, ids::AccountId};

use super::{
    Image,
    account::{Account, Stage, Wish, WishState},
    ticket::Ticket,
};
use crate::{
    arena::Key,
    context::Context,
    io::TicketId,
    job::{Job, Mode},
    time::Instant,
};

impl Image {
    /// A job was delivered. It begins, or waits behind what has to be done before it.
    pub(crate) fn receive(&mut self, cx: &mut Context<'_>, id: TicketId, seq: u64, job: Job) -> Key<Ticket> {
        let (mode, redelivered) = (job.mode, job.redelivered);
        let deadline = job.deadline.unwrap_or(Instant::NEVER);
        let ticket = self.store.tickets.insert(Ticket {
            id,
            seq,
            mode,
            force: job.force,
            redelivered,
            deadline,
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
        self.redelivered |= redelivered;
        if deadline < Instant::NEVER {
            self.deadlines.insert((deadline, ticket));
        }
        let barrier = self.sync.is_some() || !self.behind.is_empty() || self.has_backlog();
        if barrier || (mode == Mode::Sync && self.held > 0) {
            self.behind.push_back(ticket);
        } else {
            self.admit(cx, ticket);
        }
        ticket
    }

    /// Lets a ticket begin: nothing that stands before it on its image is a barrier any more.
    pub(super) fn admit(&mut self, cx: &mut Context<'_>, ticket: Key<Ticket>) {
        let idle = self.held == 0;
        self.held += 1;
        if idle {
            self.forget_old_reading(cx);
        }
        if self.store.tickets[ticket].mode == Mode::Sync {
            self.begin_sync(cx, ticket);
            return;
        }
        let permission = self.store.tickets[ticket].mode.permission();
        let account_ids = core::mem::take(&mut self.store.tickets[ticket].account_ids);
        self.wish_for(cx, ticket, permission, &account_ids, false);
    }

    /// Adds a ticket's wishes for these accounts and decides each that stands first.
    pub(super) fn wish_for(
        &mut self,
        cx: &mut Context<'_>,
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
            self.decide(cx, account);
        }
        if self.store.tickets[ticket].open == 0 {
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
        let account = match self.store.by_id.get(&account_id) {
            Some(&account) => account,
            None => {
                let account = self.store.accounts.insert(Account::new(account_id));
                self.store.by_id.insert(account_id, account);
                account
            }
        };
        let tail = self.store.accounts[account].tail;
        if tail.is_some_and(|tail| self.store.wishes[tail].ticket == ticket) {
            self.store.tickets[ticket].duplicates += 1;
            return None;
        }
        let wish = self.store.wishes.insert(Wish {
            ticket,
            account,
            next_in_account: None,
            next_in_ticket: None,
            permission,
            state: WishState::Open,
            extra,
        });
        let found = &mut self.store.tickets[ticket];
        found.open += 1;
        found.blocked += u32::from(tail.is_some());
        if let Some(last) = found.last.replace(wish) {
            self.store.wishes[last].next_in_ticket = Some(wish);
        } else {
            found.first = Some(wish);
        }
        if let Some(tail) = tail {
            self.store.wishes[tail].next_in_account = Some(wish);
        }
        let found = &mut self.store.accounts[account];
        found.head = found.head.or(Some(wish));
        found.tail = Some(wish);
        if found.front.is_some() {
            return None;
        }
        self.set_front(account, Some(wish));
        let found = &mut self.store.accounts[account];
        found.sends = 0;
        found.attempts = 0;
        // After `LaneLost` a call of before may still be in flight; its answer decides.
        (found.stage == Stage::Idle).then_some(account)
    }

    /// The accounts of a ticket that has not begun.
    pub(super) fn take_accounts(&mut self, ticket: Key<Ticket>) -> Box<[AccountId]> {
        core::mem::take(&mut self.store.tickets[ticket].account_ids)
    }
}
