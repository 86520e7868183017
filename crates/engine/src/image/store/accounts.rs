//! The accounts of an image: the stage of each operation, and the history of its writes.

use imageshare_core::{Permission, ids::AccountId};

use super::{Account, History, Item, Ready, Stage, Store};
use crate::arena::Key;

impl Store {
    /// Accounts with an operation.
    pub(crate) const fn pending(&self) -> usize {
        self.pending
    }

    pub(crate) fn has_accounts(&self) -> bool {
        !self.by_id.is_empty()
    }

    /// All accounts, sorted by id.
    pub(crate) fn accounts(&self) -> impl Iterator<Item = (AccountId, Key<Account>)> {
        self.by_id.iter().map(|(&id, &account)| (id, account))
    }

    pub(crate) fn contains(&self, account: Key<Account>) -> bool {
        self.accounts.get(account).is_some()
    }

    pub(crate) fn id(&self, account: Key<Account>) -> AccountId {
        self.accounts[account].id
    }

    /// The stage of an account's operation; `None` if the account was forgotten.
    pub(crate) fn stage(&self, account: Key<Account>) -> Option<Stage> {
        self.accounts.get(account).map(|account| account.stage)
    }

    /// Moves an operation to another stage. Splits, and the accounts that wait for a listing, look at the stage themselves.
    pub(crate) fn set_stage(&mut self, account: Key<Account>, stage: Stage) {
        let before = core::mem::replace(&mut self.accounts[account].stage, stage);
        if let Stage::Ready(permission) = before {
            self.ready.remove(permission, self.accounts[account].seq, account);
        }
    }

    /// The operation may be sent. The cancels of a SYNC come before its shares.
    pub(crate) fn set_ready(&mut self, key: Key<Account>, permission: Permission) {
        // Taken out of the ready ones first, since its place there may change.
        self.set_stage(key, Stage::Idle);
        let account = &mut self.accounts[key];
        let Some(front) = account.front else { return };
        account.seq = self.jobs[self.items[front].job].seq + u64::from(permission == Permission::Share);
        account.stage = Stage::Ready(permission);
        self.ready.insert(permission, account.seq, key);
    }

    pub(crate) const fn ready(&self) -> &Ready {
        &self.ready
    }

    pub(crate) fn clear_ready(&mut self) {
        self.ready.clear();
    }

    /// The first open item of an account.
    pub(crate) fn front(&self, account: Key<Account>) -> Option<Key<Item>> {
        self.accounts[account].front
    }

    /// The permission that an account's operation requests; `None` without an operation.
    pub(crate) fn requested(&self, account: Key<Account>) -> Option<Permission> {
        let front = self.accounts.get(account)?.front?;
        Some(self.items[front].permission)
    }

    /// Makes an item the front of its account. Returns whether the account has no operation any more.
    pub(crate) fn set_front(&mut self, account: Key<Account>, front: Option<Key<Item>>) -> bool {
        let before = core::mem::replace(&mut self.accounts[account].front, front);
        self.pending = self.pending + usize::from(front.is_some()) - usize::from(before.is_some());
        before.is_some() && front.is_none()
    }

    /// The operation is a new one: no write was sent for it and no try failed.
    pub(crate) fn reset_counts(&mut self, account: Key<Account>) {
        self.set_sends(account, 0);
        self.accounts[account].attempts = 0;
    }

    pub(crate) fn sends(&self, account: Key<Account>) -> u8 {
        self.accounts[account].sends
    }

    pub(crate) fn set_sends(&mut self, account: Key<Account>, sends: u8) {
        self.accounts[account].sends = sends;
    }

    /// A try of the operation alone failed. Returns how many have.
    pub(crate) fn count_attempt(&mut self, account: Key<Account>) -> u32 {
        let attempts = &mut self.accounts[account].attempts;
        *attempts = attempts.saturating_add(1);
        (*attempts).into()
    }

    pub(crate) fn forgive_attempts(&mut self, account: Key<Account>) {
        if let Some(account) = self.accounts.get_mut(account) {
            account.attempts = 0;
        }
    }

    /// The history of an account's writes, if one was sent that may matter.
    pub(crate) fn history(&self, account: Key<Account>) -> Option<&History> {
        self.accounts[account].history.map(|history| &self.histories[history])
    }

    pub(crate) fn get_history_mut(&mut self, account: Key<Account>) -> Option<&mut History> {
        self.accounts[account].history.map(|history| &mut self.histories[history])
    }

    /// Returns the history of an account's writes, and creates it if it is missing.
    pub(crate) fn history_mut(&mut self, account: Key<Account>) -> &mut History {
        let histories = &mut self.histories;
        let history = *self.accounts[account].history.get_or_insert_with(|| histories.insert(History::default()));
        &mut self.histories[history]
    }

    /// The histories of all accounts.
    pub(crate) fn histories(&self) -> impl Iterator<Item = &History> {
        self.by_id.values().filter_map(|&account| self.history(account))
    }

    pub(crate) fn drop_history(&mut self, account: Key<Account>) {
        if let Some(history) = self.accounts[account].history.take() {
            self.histories.remove(history);
        }
    }

    /// Drops an account that no job names.
    pub(crate) fn drop_if_idle(&mut self, key: Key<Account>) {
        let account = &self.accounts[key];
        // An account in another stage is in a list, or in the write in flight.
        if account.head.is_none() && account.stage == Stage::Idle {
            self.by_id.remove(&account.id);
            self.accounts.remove(key);
        }
    }
}
