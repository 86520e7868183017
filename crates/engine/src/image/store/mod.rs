//! The jobs of an image, their items, and the accounts that these items belong to. Keeps the links between them, and the
//! operations that are ready to be sent.

mod accounts;
mod items;

use alloc::{boxed::Box, collections::BTreeMap, sync::Arc};

use imageshare_core::{Permission, ids::AccountId};

use super::{history::History, ready::Ready};
use crate::{
    arena::{Arena, Key},
    io::{CallId, DeliveryId},
    job::{AcceptedWrite, AccountOutcome, Failure, Job, Mode},
    time::Instant,
};

/// The jobs, items and accounts of an image.
#[derive(Debug)]
pub(super) struct Store {
    // A map in order of ids: what an image does must not depend on the seed of a hasher.
    by_id: BTreeMap<AccountId, Key<Account>>,
    accounts: Arena<Account>,
    items: Arena<Item>,
    histories: Arena<History>,
    jobs: Arena<HeldJob>,
    // Beside the items, since few fail: a pointer in each of millions would cost eight bytes.
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
    /// The accepted write that completed it, if one did.
    write: Option<Arc<AcceptedWrite>>,
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
}

impl Account {
    const fn new(id: AccountId) -> Self {
        let (head, front, tail, history) = (None, None, None, None);
        Self { id, head, front, tail, history, seq: 0, stage: Stage::Idle, sends: 0, attempts: 0 }
    }
}
