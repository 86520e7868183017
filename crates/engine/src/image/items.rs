//! Jobs become items, which keep the order of arrival.

use alloc::{boxed::Box, vec::Vec};

use imageshare_core::{Permission, ids::AccountId};

use super::{
    Image,
    account::{Account, Item, ItemState, Stage},
    held_job::HeldJob,
};
use crate::{
    arena::Key,
    context::Context,
    io::DeliveryId,
    job::{Job, Mode},
    time::Instant,
};

impl Image {
    /// A job was delivered. It begins, or waits behind what has to be done before it.
    pub(crate) fn receive(&mut self, cx: &mut Context<'_>, id: DeliveryId, seq: u64, job: Job) -> Key<HeldJob> {
        let (mode, redelivered) = (job.mode, job.redelivered);
        let deadline = job.deadline.unwrap_or(Instant::NEVER);
        let job = self.store.jobs.insert(HeldJob {
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
            in_doubt_until: Instant::default(),
            duplicates: 0,
            requests: 0,
            last_call: HeldJob::NO_CALL,
        });
        if redelivered {
            self.takeover.redelivered();
        }
        self.due.expire(deadline, job);
        let barrier = self.sync.is_some() || self.admission.is_any_waiting() || self.has_backlog();
        if barrier || (mode == Mode::Sync && self.admission.begun() > 0) {
            self.admission.wait(job);
        } else {
            self.admit(cx, job);
        }
        job
    }

    /// Lets a job begin: nothing that stands before it on its image is a barrier any more.
    pub(super) fn admit(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>) {
        let idle = self.admission.begun() == 0;
        self.admission.begin();
        if idle {
            self.forget_old_listing(cx);
        }
        if self.store.jobs[job].mode == Mode::Sync {
            self.begin_sync(cx, job);
            return;
        }
        let permission = self.store.jobs[job].mode.permission();
        let account_ids = core::mem::take(&mut self.store.jobs[job].account_ids);
        self.add_items(cx, job, permission, &account_ids, false);
    }

    /// Adds a job's items for these accounts and decides each that stands first.
    pub(super) fn add_items(
        &mut self,
        cx: &mut Context<'_>,
        job: Key<HeldJob>,
        permission: Permission,
        account_ids: &[AccountId],
        extra: bool,
    ) {
        let mut fresh = Vec::new();
        for &account_id in account_ids {
            if let Some(account) = self.add_item(job, permission, account_id, extra) {
                fresh.push(account);
            }
        }
        for account in fresh {
            self.decide(cx, account);
        }
        if self.store.jobs[job].open == 0 {
            self.finished.push_back(job);
        }
    }

    /// Adds an item at the end of its account's. Returns the account if the item begins an operation there.
    pub(super) fn add_item(
        &mut self,
        job: Key<HeldJob>,
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
        if tail.is_some_and(|tail| self.store.items[tail].job == job) {
            self.store.jobs[job].duplicates += 1;
            return None;
        }
        let item = self.store.items.insert(Item {
            job,
            account,
            next_in_account: None,
            next_in_job: None,
            permission,
            state: ItemState::Open,
            extra,
        });
        let found = &mut self.store.jobs[job];
        found.open += 1;
        found.blocked += u32::from(tail.is_some());
        if let Some(last) = found.last.replace(item) {
            self.store.items[last].next_in_job = Some(item);
        } else {
            found.first = Some(item);
        }
        if let Some(tail) = tail {
            self.store.items[tail].next_in_account = Some(item);
        }
        let found = &mut self.store.accounts[account];
        found.head = found.head.or(Some(item));
        found.tail = Some(item);
        if found.front.is_some() {
            return None;
        }
        self.set_front(account, Some(item));
        let found = &mut self.store.accounts[account];
        found.sends = 0;
        found.attempts = 0;
        // After `LaneLost` a call of before may still be in flight; its answer decides.
        (found.stage == Stage::Idle).then_some(account)
    }

    /// The accounts of a job that has not begun.
    pub(super) fn take_accounts(&mut self, job: Key<HeldJob>) -> Box<[AccountId]> {
        core::mem::take(&mut self.store.jobs[job].account_ids)
    }
}
