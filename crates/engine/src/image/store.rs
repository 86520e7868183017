//! The jobs of an image, their items, and the accounts that these items belong to. Keeps the links between them, and the
//! operations that are ready to be sent.

use alloc::{boxed::Box, collections::BTreeMap, sync::Arc, vec::Vec};

use imageshare_core::{Permission, ids::AccountId};

use super::{history::History, ready::Ready};
use crate::{
    arena::{Arena, Key},
    io::{CallId, DeliveryId},
    job::{AccountOutcome, Failure, Job, Mode},
    time::Instant,
};

/// The jobs, items and accounts of an image.
#[derive(Debug)]
pub(super) struct Store {
    by_id: BTreeMap<AccountId, Key<Account>>,
    accounts: Arena<Account>,
    items: Arena<Item>,
    histories: Arena<History>,
    jobs: Arena<HeldJob>,
    failures: BTreeMap<Key<Item>, Arc<Failure>>,
    ready: Ready,
    /// Accounts with an operation.
    pending: usize,
}

/// One delivery of one job. There may be millions, so rare state is kept elsewhere.
#[derive(Debug)]
pub(crate) struct HeldJob {
    id: DeliveryId,
    seq: u64,
    mode: Mode,
    force: bool,
    redelivered: bool,
    deadline: Instant,
    account_ids: Box<[AccountId]>,
    first: Option<Key<Item>>,
    last: Option<Key<Item>>,
    /// Items without a final outcome.
    open: u32,
    /// Accounts that an earlier, unsettled job also names.
    blocked: u32,
    in_doubt_until: Instant,
    duplicates: u32,
    requests: u32,
    /// The last call that contained an account of the job, so that each call is counted once.
    last_call: CallId,
}

/// One account of one job.
#[derive(Debug)]
pub(super) struct Item {
    job: Key<HeldJob>,
    account: Key<Account>,
    /// The item of a later job for the same account.
    next_in_account: Option<Key<Self>>,
    /// The same job's item for another account.
    next_in_job: Option<Key<Self>>,
    permission: Permission,
    state: ItemState,
    source: ItemSource,
}

/// The outcome of an item.
///
/// | from | to | when |
/// |---|---|---|
/// | `Open` | `Done`, `Failed` | its operation ends |
/// | `Open` | `Early`, `Assumed` | its operation ends where a takeover check follows |
/// | `Early`, `Assumed` | `Done` | the takeover check agrees, or a later operation was done by then |
/// | `Early`, `Assumed` | `Open` | the takeover check does not agree |
/// | `Assumed` | `Open` | an opposite operation of the account follows |
/// | `Done` | `Open`, `Failed` | the last listing of a SYNC does not show it |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemState {
    Open,
    /// Unchanged, by a listing that may show the state from before the lane came up. No listing after an opposite operation
    /// can confirm it.
    Assumed,
    /// Done, unless the takeover check does not agree.
    Early(Done),
    Done(Done),
    /// The reason is in [`Store::failures`].
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    Changed,
    Unchanged,
}

/// Why an item exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ItemSource {
    /// The job names the account.
    Job,
    /// A SYNC cancels the account, which is listed and not in the job.
    Sync,
}

/// One account of one image. Exists while a job names it or its history matters.
///
/// The first open items that request the same change are its operation: sent once, it completes all of them.
#[derive(Debug)]
pub(super) struct Account {
    id: AccountId,
    /// The first item whose job is not settled.
    head: Option<Key<Item>>,
    /// The first open item.
    front: Option<Key<Item>>,
    tail: Option<Key<Item>>,
    history: Option<Key<History>>,
    /// The place in arrival under which the operation is ready.
    seq: u64,
    stage: Stage,
    /// Writes sent for the operation.
    sends: u8,
    /// Failed tries of the operation alone.
    attempts: u8,
}

/// The state of an account's operation.
///
/// | from | to | when |
/// |---|---|---|
/// | `Idle` | `Checking` | a listing has to come first |
/// | `Idle` | `Ready` | it may be sent |
/// | `Idle` | `Waiting` | an opposite write is in doubt |
/// | `Checking`, `Waiting` | any of these | the listing arrived, or the write can no longer take effect |
/// | `Ready`, `Split` | `InFlight` | a write begins |
/// | `InFlight` | `Ended` | the write ended |
/// | `Ended` | `Split` | its list failed and is sent again, whole or in parts |
/// | `Ended`, `Split` | `Idle` | it leaves its list |
/// | any but `InFlight` | `Idle` | it gets an outcome, and the next operation begins |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// There is no operation, or its next stage is about to be decided.
    Idle,
    Checking,
    /// It may be sent with any other operations of this permission.
    Ready(Permission),
    InFlight,
    /// Its write ended, and what follows is being decided.
    Ended,
    /// It is sent as its split decides.
    Split,
    Waiting,
}

/// What is left of an account when its first item was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behind {
    NoItem,
    /// The job of the next item, which can be settled now.
    Settleable(Key<HeldJob>),
    Unsettled,
}

/// An item that was removed for the report of its job.
#[derive(Debug)]
pub(super) struct TakenItem {
    pub(super) account: Key<Account>,
    pub(super) account_id: AccountId,
    pub(super) source: ItemSource,
    pub(super) outcome: AccountOutcome,
    pub(super) behind: Behind,
}

impl ItemState {
    /// The outcome of an item that a takeover check may open again.
    pub(super) const fn early(self) -> Option<Done> {
        match self {
            Self::Assumed => Some(Done::Unchanged),
            Self::Early(done) => Some(done),
            Self::Open | Self::Done(_) | Self::Failed => None,
        }
    }
}

impl Item {
    pub(super) const fn job(&self) -> Key<HeldJob> {
        self.job
    }

    pub(super) const fn account(&self) -> Key<Account> {
        self.account
    }

    pub(super) const fn permission(&self) -> Permission {
        self.permission
    }

    pub(super) const fn state(&self) -> ItemState {
        self.state
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == ItemState::Open
    }
}

impl HeldJob {
    /// No call has this number.
    const NO_CALL: CallId = CallId(u64::MAX);

    pub(super) const fn id(&self) -> DeliveryId {
        self.id
    }

    /// The place in arrival.
    pub(super) const fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) const fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) const fn is_forced(&self) -> bool {
        self.force
    }

    pub(super) const fn is_redelivered(&self) -> bool {
        self.redelivered
    }

    /// From when on nothing of it begins; [`Instant::NEVER`] without a deadline.
    pub(super) const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The accounts of a job that has no items yet.
    pub(super) const fn account_ids(&self) -> &[AccountId] {
        &self.account_ids
    }

    /// Until when a write with one of its accounts is in doubt.
    pub(super) const fn in_doubt_until(&self) -> Instant {
        self.in_doubt_until
    }

    pub(super) const fn duplicates(&self) -> u32 {
        self.duplicates
    }

    /// Write requests that contained an account of it.
    pub(super) const fn requests(&self) -> u32 {
        self.requests
    }

    /// Whether the last call that contained an account of it is this one.
    pub(super) fn was_last_in(&self, call: CallId) -> bool {
        self.last_call == call
    }

    /// Whether all its items have final outcomes.
    pub(super) const fn is_decided(&self) -> bool {
        self.open == 0
    }

    /// Whether it can be settled: it is decided, and so is every earlier job of its accounts.
    pub(super) fn is_settleable(&self) -> bool {
        self.open == 0 && self.blocked == 0 && self.account_ids.is_empty()
    }
}

impl Store {
    pub(super) const fn new() -> Self {
        Self {
            by_id: BTreeMap::new(),
            accounts: Arena::new(),
            items: Arena::new(),
            histories: Arena::new(),
            jobs: Arena::new(),
            failures: BTreeMap::new(),
            ready: Ready::new(),
            pending: 0,
        }
    }

    // Jobs.

    pub(super) fn insert_job(&mut self, id: DeliveryId, seq: u64, job: Job) -> Key<HeldJob> {
        self.jobs.insert(HeldJob {
            id,
            seq,
            mode: job.mode,
            force: job.force,
            redelivered: job.redelivered,
            deadline: job.deadline.unwrap_or(Instant::NEVER),
            account_ids: job.account_ids,
            first: None,
            last: None,
            open: 0,
            blocked: 0,
            in_doubt_until: Instant::default(),
            duplicates: 0,
            requests: 0,
            last_call: HeldJob::NO_CALL,
        })
    }

    pub(super) fn remove_job(&mut self, job: Key<HeldJob>) {
        self.jobs.remove(job);
    }

    pub(super) const fn jobs(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn get_job(&self, job: Key<HeldJob>) -> Option<&HeldJob> {
        self.jobs.get(job)
    }

    pub(super) fn job(&self, job: Key<HeldJob>) -> &HeldJob {
        &self.jobs[job]
    }

    pub(super) fn take_account_ids(&mut self, job: Key<HeldJob>) -> Box<[AccountId]> {
        core::mem::take(&mut self.jobs[job].account_ids)
    }

    /// The job of an item is settled no earlier than this.
    pub(super) fn put_in_doubt(&mut self, item: Key<Item>, until: Instant) {
        let job = &mut self.jobs[self.items[item].job];
        job.in_doubt_until = job.in_doubt_until.max(until);
    }

    /// A call contains an account of the item's job.
    pub(super) fn count_request(&mut self, item: Key<Item>, call: CallId) {
        let job = &mut self.jobs[self.items[item].job];
        if core::mem::replace(&mut job.last_call, call) != call {
            job.requests += 1;
        }
    }

    /// The call never left.
    pub(super) fn uncount_request(&mut self, item: Key<Item>, call: CallId) {
        let job = &mut self.jobs[self.items[item].job];
        if job.last_call == call {
            job.last_call = HeldJob::NO_CALL;
            job.requests -= 1;
        }
    }

    // Items.

    pub(super) const fn items(&self) -> usize {
        self.items.len()
    }

    pub(super) fn item(&self, item: Key<Item>) -> &Item {
        &self.items[item]
    }

    /// Adds an item behind the others of its account. Returns the account if the item begins an operation; `None` also for
    /// an account that the job has already.
    pub(super) fn add_item(
        &mut self,
        job: Key<HeldJob>,
        permission: Permission,
        account_id: AccountId,
        source: ItemSource,
    ) -> Option<Key<Account>> {
        let accounts = &mut self.accounts;
        let account = *self.by_id.entry(account_id).or_insert_with(|| accounts.insert(Account::new(account_id)));
        let found = &mut self.jobs[job];
        let tail = self.accounts[account].tail;
        if tail.is_some_and(|tail| self.items[tail].job == job) {
            found.duplicates += 1;
            return None;
        }
        let (next_in_account, next_in_job, state) = (None, None, ItemState::Open);
        let item = self.items.insert(Item { job, account, next_in_account, next_in_job, permission, state, source });
        found.open += 1;
        found.blocked += u32::from(tail.is_some());
        match found.last.replace(item) {
            Some(last) => self.items[last].next_in_job = Some(item),
            None => found.first = Some(item),
        }
        if let Some(tail) = tail {
            self.items[tail].next_in_account = Some(item);
        }
        let found = &mut self.accounts[account];
        found.head = found.head.or(Some(item));
        found.tail = Some(item);
        if found.front.is_some() {
            return None;
        }
        found.front = Some(item);
        found.sends = 0;
        found.attempts = 0;
        self.pending += 1;
        // After a lane was lost a call from before may still be in flight; its response decides.
        (found.stage == Stage::Idle).then_some(account)
    }

    pub(super) fn first_in_job(&self, job: Key<HeldJob>) -> Option<Key<Item>> {
        self.jobs.get(job).and_then(|job| job.first)
    }

    pub(super) fn next_in_job(&self, item: Key<Item>) -> Option<Key<Item>> {
        self.items[item].next_in_job
    }

    pub(super) fn next_in_account(&self, item: Key<Item>) -> Option<Key<Item>> {
        self.items[item].next_in_account
    }

    /// The next item of the same account, if it requests the same change.
    pub(super) fn next_in_operation(&self, item: Key<Item>) -> Option<Key<Item>> {
        let permission = self.items[item].permission;
        self.items[item].next_in_account.filter(|&next| self.items[next].permission == permission)
    }

    /// The first open item of an account from this one on.
    pub(super) fn first_open(&self, mut from: Option<Key<Item>>) -> Option<Key<Item>> {
        while let Some(item) = from.filter(|&item| !self.items[item].is_open()) {
            from = self.items[item].next_in_account;
        }
        from
    }

    /// The items of an account from this one on, in order.
    pub(super) fn items_from(&self, first: Option<Key<Item>>) -> impl Iterator<Item = (Key<Item>, &Item)> {
        let with_key = |key: Key<Item>| (key, &self.items[key]);
        core::iter::successors(first.map(with_key), move |(_, item)| item.next_in_account.map(with_key))
    }

    /// The items of an account whose jobs are not settled.
    pub(super) fn items_of(&self, account: Key<Account>) -> impl Iterator<Item = (Key<Item>, &Item)> {
        self.items_from(self.accounts[account].head)
    }

    /// Gives an item another state. The number of open items of its job is the caller's to keep.
    pub(super) fn set_state(&mut self, item: Key<Item>, state: ItemState) {
        self.items[item].state = state;
    }

    /// The reason why an item fails. It is reported if the item ends as failed.
    pub(super) fn set_failure(&mut self, item: Key<Item>, failure: Arc<Failure>) {
        self.failures.insert(item, failure);
    }

    /// One more item of a job has a final outcome. Returns whether it is the last.
    pub(super) fn count_decided(&mut self, job: Key<HeldJob>) -> bool {
        let job = &mut self.jobs[job];
        job.open -= 1;
        job.open == 0
    }

    /// An item whose outcome was final is open again.
    pub(super) fn reopen(&mut self, item: Key<Item>) {
        let found = &mut self.items[item];
        found.state = ItemState::Open;
        self.jobs[found.job].open += 1;
    }

    /// Removes the first item of a job for its report. It is also the first of its account: earlier jobs are settled.
    pub(super) fn take_first_item(&mut self, job: Key<HeldJob>) -> Option<TakenItem> {
        let item = self.jobs[job].first?;
        let Item { account, next_in_account, next_in_job, state, source, .. } = self.items.remove(item)?;
        self.jobs[job].first = next_in_job;
        let outcome = match state {
            ItemState::Done(Done::Changed) => AccountOutcome::Changed,
            ItemState::Done(Done::Unchanged) => AccountOutcome::Unchanged,
            ItemState::Open | ItemState::Assumed | ItemState::Early(_) | ItemState::Failed => {
                let failure = self.failures.remove(&item);
                AccountOutcome::Failed(failure.expect("a job is settled when each item is done or has its failure"))
            }
        };
        let found = &mut self.accounts[account];
        found.head = next_in_account;
        let account_id = found.id;
        let behind = match next_in_account {
            None => {
                found.tail = None;
                Behind::NoItem
            }
            Some(next) => {
                let key = self.items[next].job;
                let job = &mut self.jobs[key];
                job.blocked -= 1;
                if job.blocked == 0 && job.open == 0 { Behind::Settleable(key) } else { Behind::Unsettled }
            }
        };
        Some(TakenItem { account, account_id, source, outcome, behind })
    }

    /// Drops the items of an account. Returns their jobs.
    pub(super) fn drop_items(&mut self, account: Key<Account>) -> Vec<Key<HeldJob>> {
        let found = &mut self.accounts[account];
        found.tail = None;
        let mut next = found.head.take();
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

    // Accounts.

    /// Accounts with an operation.
    pub(super) const fn pending(&self) -> usize {
        self.pending
    }

    pub(super) fn has_accounts(&self) -> bool {
        !self.by_id.is_empty()
    }

    /// All accounts, sorted by id.
    pub(super) fn accounts(&self) -> impl Iterator<Item = (AccountId, Key<Account>)> {
        self.by_id.iter().map(|(&id, &account)| (id, account))
    }

    pub(super) fn contains(&self, account: Key<Account>) -> bool {
        self.accounts.get(account).is_some()
    }

    pub(super) fn id(&self, account: Key<Account>) -> AccountId {
        self.accounts[account].id
    }

    /// The stage of an account's operation; `None` if the account was forgotten.
    pub(super) fn stage(&self, account: Key<Account>) -> Option<Stage> {
        self.accounts.get(account).map(|account| account.stage)
    }

    /// Moves an operation to another stage. Splits, and the accounts that wait for a listing, look at the stage themselves.
    pub(super) fn set_stage(&mut self, account: Key<Account>, stage: Stage) {
        let found = &mut self.accounts[account];
        if let Stage::Ready(permission) = core::mem::replace(&mut found.stage, stage) {
            self.ready.remove(permission, found.seq, account);
        }
    }

    /// The operation may be sent. The cancels of a SYNC come before its shares.
    pub(super) fn set_ready(&mut self, account: Key<Account>, permission: Permission) {
        self.set_stage(account, Stage::Idle);
        let found = &mut self.accounts[account];
        let Some(front) = found.front else { return };
        found.seq = self.jobs[self.items[front].job].seq + u64::from(permission == Permission::Share);
        found.stage = Stage::Ready(permission);
        self.ready.insert(permission, found.seq, account);
    }

    pub(super) const fn ready(&self) -> &Ready {
        &self.ready
    }

    pub(super) fn clear_ready(&mut self) {
        self.ready.clear();
    }

    /// The first open item of an account.
    pub(super) fn front(&self, account: Key<Account>) -> Option<Key<Item>> {
        self.accounts[account].front
    }

    /// The permission that an account's operation requests; `None` without an operation.
    pub(super) fn requested(&self, account: Key<Account>) -> Option<Permission> {
        let front = self.accounts.get(account)?.front?;
        Some(self.items[front].permission)
    }

    /// Makes an item the front of its account. Returns whether the account has no operation any more.
    pub(super) fn set_front(&mut self, account: Key<Account>, front: Option<Key<Item>>) -> bool {
        let before = core::mem::replace(&mut self.accounts[account].front, front);
        self.pending = self.pending + usize::from(front.is_some()) - usize::from(before.is_some());
        before.is_some() && front.is_none()
    }

    /// The operation is a new one: no write was sent for it and no try failed.
    pub(super) fn reset_counts(&mut self, account: Key<Account>) {
        self.set_sends(account, 0);
        self.accounts[account].attempts = 0;
    }

    pub(super) fn sends(&self, account: Key<Account>) -> u8 {
        self.accounts[account].sends
    }

    pub(super) fn set_sends(&mut self, account: Key<Account>, sends: u8) {
        self.accounts[account].sends = sends;
    }

    /// A try of the operation alone failed. Returns how many have.
    pub(super) fn count_attempt(&mut self, account: Key<Account>) -> u32 {
        let found = &mut self.accounts[account];
        found.attempts = found.attempts.saturating_add(1);
        found.attempts.into()
    }

    pub(super) fn forgive_attempts(&mut self, account: Key<Account>) {
        if let Some(account) = self.accounts.get_mut(account) {
            account.attempts = 0;
        }
    }

    /// The history of an account's writes, if one was sent that may matter.
    pub(super) fn history(&self, account: Key<Account>) -> Option<&History> {
        self.accounts[account].history.map(|history| &self.histories[history])
    }

    pub(super) fn get_history_mut(&mut self, account: Key<Account>) -> Option<&mut History> {
        self.accounts[account].history.map(|history| &mut self.histories[history])
    }

    /// Returns the history of an account's writes, and creates it if it is missing.
    pub(super) fn history_mut(&mut self, account: Key<Account>) -> &mut History {
        let histories = &mut self.histories;
        let history = *self.accounts[account].history.get_or_insert_with(|| histories.insert(History::default()));
        &mut self.histories[history]
    }

    /// The histories of all accounts.
    pub(super) fn histories(&self) -> impl Iterator<Item = &History> {
        self.by_id.values().filter_map(|&account| self.history(account))
    }

    pub(super) fn drop_history(&mut self, account: Key<Account>) {
        if let Some(history) = self.accounts[account].history.take() {
            self.histories.remove(history);
        }
    }

    /// Drops an account that no job names.
    pub(super) fn drop_if_idle(&mut self, account: Key<Account>) {
        let found = &self.accounts[account];
        if found.head.is_none() && found.stage == Stage::Idle {
            self.by_id.remove(&found.id);
            self.accounts.remove(account);
        }
    }
}

impl Account {
    const fn new(id: AccountId) -> Self {
        let (head, front, tail, history) = (None, None, None, None);
        Self { id, head, front, tail, history, seq: 0, stage: Stage::Idle, sends: 0, attempts: 0 }
    }
}
