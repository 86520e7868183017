//! The items of an image, linked by their job and by their account.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::{Permission, ids::AccountId};

use super::{Account, Behind, Done, HeldJob, Item, ItemSource, ItemState, Stage, Store, TakenItem};
use crate::{
    arena::Key,
    job::{AcceptedWrite, AccountOutcome, Failure},
};

impl Store {
    pub(crate) const fn items(&self) -> usize {
        self.items.len()
    }

    pub(crate) fn item(&self, item: Key<Item>) -> &Item {
        &self.items[item]
    }

    /// Adds an item behind the others of its account. Returns the account if the item begins an operation; `None` also for
    /// an account that the job has already.
    pub(crate) fn add_item(
        &mut self,
        job: Key<HeldJob>,
        permission: Permission,
        account_id: AccountId,
        source: ItemSource,
    ) -> Option<Key<Account>> {
        let accounts = &mut self.accounts;
        let key = *self.by_id.entry(account_id).or_insert_with(|| accounts.insert(Account::new(account_id)));
        let held = &mut self.jobs[job];
        let tail = self.accounts[key].tail;
        // A job's items are added together, so a repeated account still has the job's own item at its end.
        if tail.is_some_and(|tail| self.items[tail].job == job) {
            held.duplicates += 1;
            return None;
        }
        let (next_in_account, next_in_job, state, write) = (None, None, ItemState::Open, None);
        let item = Item { job, account: key, next_in_account, next_in_job, permission, state, source, write };
        let item = self.items.insert(item);
        held.open += 1;
        // The item before belongs to an earlier job that is not settled.
        held.blocked += u32::from(tail.is_some());
        match held.last.replace(item) {
            Some(last) => self.items[last].next_in_job = Some(item),
            None => held.first = Some(item),
        }
        if let Some(tail) = tail {
            self.items[tail].next_in_account = Some(item);
        }
        let account = &mut self.accounts[key];
        account.head = account.head.or(Some(item));
        account.tail = Some(item);
        // An operation is under way: the item belongs to it, or to a later one.
        if account.front.is_some() {
            return None;
        }
        account.front = Some(item);
        account.sends = 0;
        account.attempts = 0;
        self.pending += 1;
        // After a lane was lost a call from before may still be in flight; its response decides.
        (account.stage == Stage::Idle).then_some(key)
    }

    pub(crate) fn first_in_job(&self, job: Key<HeldJob>) -> Option<Key<Item>> {
        self.jobs.get(job).and_then(|job| job.first)
    }

    pub(crate) fn next_in_job(&self, item: Key<Item>) -> Option<Key<Item>> {
        self.items[item].next_in_job
    }

    pub(crate) fn next_in_account(&self, item: Key<Item>) -> Option<Key<Item>> {
        self.items[item].next_in_account
    }

    /// The next item of the same account, if it requests the same change.
    pub(crate) fn next_in_operation(&self, item: Key<Item>) -> Option<Key<Item>> {
        let permission = self.items[item].permission;
        self.items[item].next_in_account.filter(|&next| self.items[next].permission == permission)
    }

    /// The first open item of an account from this one on.
    pub(crate) fn first_open(&self, mut from: Option<Key<Item>>) -> Option<Key<Item>> {
        while let Some(item) = from.filter(|&item| !self.items[item].is_open()) {
            from = self.items[item].next_in_account;
        }
        from
    }

    /// The items of an account from this one on, in order.
    pub(crate) fn items_from(&self, first: Option<Key<Item>>) -> impl Iterator<Item = (Key<Item>, &Item)> {
        let with_key = |key: Key<Item>| (key, &self.items[key]);
        core::iter::successors(first.map(with_key), move |(_, item)| item.next_in_account.map(with_key))
    }

    /// The items of an account whose jobs are not settled.
    pub(crate) fn items_of(&self, account: Key<Account>) -> impl Iterator<Item = (Key<Item>, &Item)> {
        self.items_from(self.accounts[account].head)
    }

    /// Gives an item another state. The number of open items of its job is the caller's to keep.
    pub(crate) fn set_state(&mut self, item: Key<Item>, state: ItemState) {
        self.items[item].state = state;
    }

    /// The write that completes the operation of an account. It is reported for the items that end as changed.
    pub(crate) fn set_write(&mut self, account: Key<Account>, write: &Arc<AcceptedWrite>) {
        let mut next = self.accounts[account].front;
        while let Some(item) = next {
            if self.items[item].is_open() {
                self.items[item].write = Some(write.clone());
            }
            next = self.next_in_operation(item);
        }
    }

    /// The reason why an item fails. It is reported if the item ends as failed.
    pub(crate) fn set_failure(&mut self, item: Key<Item>, failure: Arc<Failure>) {
        self.failures.insert(item, failure);
    }

    /// One more item of a job has a final outcome. Returns whether it is the last.
    pub(crate) fn count_decided(&mut self, job: Key<HeldJob>) -> bool {
        let job = &mut self.jobs[job];
        job.open -= 1;
        job.open == 0
    }

    /// An item whose outcome was final is open again.
    pub(crate) fn reopen(&mut self, item: Key<Item>) {
        self.items[item].state = ItemState::Open;
        self.jobs[self.items[item].job].open += 1;
    }

    /// Removes the first item of a job for its report. It is also the first of its account: earlier jobs are settled.
    pub(crate) fn take_first_item(&mut self, job: Key<HeldJob>) -> Option<TakenItem> {
        let item = self.jobs[job].first?;
        let Item { account, next_in_account, next_in_job, state, source, write, .. } = self.items.remove(item)?;
        self.jobs[job].first = next_in_job;
        let outcome = match state {
            ItemState::Done(Done::Changed) => AccountOutcome::Changed(write),
            ItemState::Done(Done::Unchanged) => AccountOutcome::Unchanged,
            ItemState::Open | ItemState::Assumed | ItemState::Early(_) | ItemState::Failed => {
                let failure = self.failures.remove(&item);
                AccountOutcome::Failed(failure.expect("a job is settled when each item is done or has its failure"))
            }
        };
        let account_id = self.accounts[account].id;
        self.accounts[account].head = next_in_account;
        let behind = match next_in_account {
            None => {
                self.accounts[account].tail = None;
                Behind::NoItem
            }
            Some(next) => {
                let key = self.items[next].job;
                let job = &mut self.jobs[key];
                // Each job counts how many of its accounts wait for an earlier job, so that no search is needed here.
                job.blocked -= 1;
                if job.blocked == 0 && job.open == 0 { Behind::Settleable(key) } else { Behind::Unsettled }
            }
        };
        Some(TakenItem { account, account_id, source, outcome, behind })
    }

    /// Drops the items of an account. Returns their jobs.
    pub(crate) fn drop_items(&mut self, account: Key<Account>) -> Vec<Key<HeldJob>> {
        let Account { head, tail, .. } = &mut self.accounts[account];
        *tail = None;
        let mut next = head.take();
        let mut jobs = Vec::new();
        while let Some(item) = next
            && let Some(dropped) = self.items.remove(item)
        {
            self.failures.remove(&item);
            next = dropped.next_in_account;
            jobs.push(dropped.job);
        }
        jobs
    }
}
