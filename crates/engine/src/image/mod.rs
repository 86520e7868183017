//! An image: its jobs and accounts, what is known of it, and what is under way. It sees no lane, no other image and no queue.

mod account;
mod admission;
mod answers;
mod backlog;
mod decide;
mod due;
mod held_job;
mod items;
mod leave;
mod listing;
mod obstacle;
mod quota;
mod ready;
mod report;
mod split;
mod splitting;
mod sync;
mod takeover;
mod write;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use imageshare_core::ids::{AccountId, ImageId, Region};

use self::{
    account::{Account, History, Item},
    admission::Admission,
    backlog::Backlogs,
    due::Due,
    listing::Listings,
    obstacle::Obstacle,
    quota::Quota,
    ready::Ready,
    split::Splits,
    sync::Sync,
    takeover::Takeover,
    write::Writes,
};
pub(crate) use self::{held_job::HeldJob, obstacle::NotPermitted};
use crate::{
    arena::{Arena, Key},
    context::Context,
    io::LaneId,
    job::Failure,
    time::Instant,
};

/// The name of an image: an image id belongs to a region, and is used by the credential of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ImageName {
    pub(crate) lane: LaneId,
    pub(crate) region: Region,
    pub(crate) id: ImageId,
}

/// One image of one lane and region.
#[derive(Debug)]
pub(crate) struct Image {
    name: ImageName,
    store: Store,
    ready: Ready,
    due: Due,
    listings: Listings,
    writes: Writes,
    splits: Splits,
    obstacle: Option<Obstacle>,
    quota: Quota,
    takeover: Takeover,
    backlogs: Backlogs,
    sync: Option<Sync>,
    admission: Admission,
    /// Jobs that may be settled.
    finished: VecDeque<Key<HeldJob>>,
}

/// The accounts of an image, its jobs, and what links them.
#[derive(Debug)]
struct Store {
    by_id: BTreeMap<AccountId, Key<Account>>,
    accounts: Arena<Account>,
    items: Arena<Item>,
    histories: Arena<History>,
    jobs: Arena<HeldJob>,
    failures: BTreeMap<Key<Item>, Arc<Failure>>,
    /// Accounts with an operation.
    pending: usize,
}

impl Image {
    pub(crate) fn new(name: ImageName) -> Self {
        Self {
            name,
            store: Store {
                by_id: BTreeMap::new(),
                accounts: Arena::new(),
                items: Arena::new(),
                histories: Arena::new(),
                jobs: Arena::new(),
                failures: BTreeMap::new(),
                pending: 0,
            },
            ready: Ready::default(),
            due: Due::default(),
            listings: Listings::default(),
            writes: Writes::default(),
            splits: Splits::default(),
            obstacle: None,
            quota: Quota::default(),
            takeover: Takeover::default(),
            backlogs: Backlogs::default(),
            sync: None,
            admission: Admission::default(),
            finished: VecDeque::new(),
        }
    }

    pub(crate) const fn name(&self) -> ImageName {
        self.name
    }

    /// Does what is due. Is called after every change, since one may make another thing due.
    pub(crate) fn run_due(&mut self, cx: &mut Context<'_>) {
        self.work_off(cx);
        if self.has_backlog() {
            return;
        }
        while let Some(account) = self.due.pop_wake(cx.now) {
            self.wake(cx, account);
        }
        while let Some(account) = self.due.pop_forgettable(cx.now) {
            self.forget_account(cx, account);
        }
        while !cx.work.is_much()
            && let Some(job) = self.due.pop_expired(cx.now)
        {
            self.expire_unbegun(cx, job);
            self.expire_job(cx, job);
        }
        self.admit_behind(cx);
        while let Some(job) = self.due.pop_landed(cx.now) {
            self.finished.push_back(job);
        }
        self.busy_due(cx);
        self.quota_due(cx);
        self.settle_samples(cx);
        // Last, since an operation that has just failed leaves the last word to the one before it.
        self.run_takeover_check(cx);
    }

    /// When an image has to be looked at again if nothing happens.
    pub(crate) fn next_moment(&self, cx: &Context<'_>) -> Option<Instant> {
        if self.due.has_expired(cx.now) || self.has_backlog() || self.next_to_admit().is_some() {
            return Some(cx.now);
        }
        let obstacle = self.obstacle.as_ref().map(|obstacle| obstacle.moments(cx.lane.image_wait));
        let others = [Some(self.writes.after()), self.quota.observed_cap_until(), self.takeover_check_at(cx)];
        let moments = self.due.next().into_iter().chain(self.listings.moments()).chain(others);
        let moments = moments.chain(obstacle.into_iter().flatten()).flatten().chain(self.splits.moments());
        moments.filter(|&at| at > cx.now && at < Instant::NEVER).min()
    }

    /// Whether nothing of it need be kept.
    pub(crate) fn is_forgettable(&self, cx: &Context<'_>) -> bool {
        let learned = self.is_busy()
            || self.listings.refused(cx.now).is_some()
            || self.quota.observed_cap_until().is_some_and(|until| until > cx.now);
        !learned && !self.in_hand() && self.store.by_id.is_empty()
    }

    /// Jobs that are not settled, those of a lost lane included that are not dropped yet.
    pub(crate) const fn jobs(&self) -> usize {
        self.store.jobs.len()
    }

    /// Items that are held.
    pub(crate) const fn items(&self) -> usize {
        self.store.items.len()
    }

    /// Accounts with an operation.
    pub(crate) const fn pending(&self) -> usize {
        self.store.pending
    }

    /// Jobs in hand: those that began and those that wait.
    pub(crate) fn held_jobs(&self) -> usize {
        self.admission.len()
    }

    /// Whether this job is still held; its place in arrival tells it from a later one under the same key.
    pub(crate) fn holds(&self, job: Key<HeldJob>, seq: u64) -> bool {
        self.store.jobs.get(job).is_some_and(|held| held.seq == seq)
    }

    /// Whether no write is in flight.
    pub(crate) const fn may_write(&self) -> bool {
        !self.writes.is_in_flight()
    }

    /// Whether no listing is in flight.
    pub(crate) const fn may_list(&self) -> bool {
        !self.listings.is_in_flight()
    }

    /// Whether jobs wait for a listing.
    pub(crate) fn awaits_listing(&self) -> bool {
        self.in_hand() && self.listings.is_wanted()
    }

    /// Tries of a time when nothing worked do not count.
    pub(crate) fn forgive_attempts(&mut self) {
        self.listings.forgive_attempts();
        for split in self.splits.iter_mut() {
            split.failures = 0;
            for &member in &split.members {
                if let Some(account) = self.store.accounts.get_mut(member) {
                    account.attempts = 0;
                }
            }
        }
    }

    /// The lane came up: what another worker may have changed since is not known any more.
    pub(crate) fn lane_up(&mut self, cx: &mut Context<'_>) {
        self.takeover.begin();
        if cx.has_takeover_checks() {
            self.distrust();
        }
        self.forget_refused_listing(cx);
    }

    /// Makes an item the front of its account, or none.
    fn set_front(&mut self, account: Key<Account>, front: Option<Key<Item>>) {
        let before = core::mem::replace(&mut self.store.accounts[account].front, front);
        self.store.pending = self.store.pending + usize::from(front.is_some()) - usize::from(before.is_some());
        if before.is_some() && front.is_none() {
            self.recheck_early(account);
        }
    }

    /// Whether any job names it.
    pub(crate) fn in_hand(&self) -> bool {
        self.admission.len() > 0
    }
}

/// A failure as the engine shares it between items.
pub(crate) fn failure(
    code: &str,
    message: impl Into<Box<str>>,
    request_id: Option<imageshare_core::ids::RequestId>,
) -> Arc<Failure> {
    Arc::new(Failure { code: code.into(), message: message.into(), request_id })
}
