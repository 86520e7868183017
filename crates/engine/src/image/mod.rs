//! An image: its jobs and accounts, what is known about it, and its calls. It sees no lane, no other image and no queue.

mod admission;
mod backlog;
mod due;
mod history;
mod lane_end;
mod listing;
mod obstacle;
mod operation;
mod quota;
mod ready;
mod report;
mod response;
mod split;
mod store;
mod sync;
mod takeover;
mod write;

use alloc::{boxed::Box, collections::VecDeque, sync::Arc};

use imageshare_core::ids::{ImageId, Region, RequestId};

use self::{
    admission::Admission, backlog::Backlogs, due::Due, listing::Listings, obstacle::Obstacle, quota::Quota,
    split::Splits, store::Store, sync::Sync, takeover::Takeover, write::Writes,
};
pub(crate) use self::{obstacle::NotPermitted, store::HeldJob};
use crate::{arena::Key, context::Context, io::LaneId, job::Failure, time::Instant};

/// The name of an image: its id is unique in a region, and a lane has one credential for it.
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

impl Image {
    pub(crate) fn new(name: ImageName) -> Self {
        Self {
            name,
            store: Store::new(),
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

    /// Does what is due. Called after every change, since a change may make something due.
    pub(crate) fn run_due(&mut self, cx: &mut Context<'_>) {
        self.work_off(cx);
        // Until a backlog is done, accounts have stages that later steps change: nothing else may decide by them.
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
            // A SYNC without items gets them here, as failed ones, so it comes first.
            self.expire_unbegun(cx, job);
            self.expire_job(cx, job);
        }
        // The jobs that expired may have been the barrier.
        self.admit_waiting(cx);
        while let Some(job) = self.due.pop_settleable(cx.now) {
            self.finished.push_back(job);
        }
        self.busy_due(cx);
        self.quota_due(cx);
        self.settle_samples(cx);
        // Last, since after an operation that has just failed an earlier one may be the last that counts.
        self.run_takeover_check(cx);
    }

    /// When an image has to be visited again if nothing happens.
    pub(crate) fn next_moment(&self, cx: &Context<'_>) -> Option<Instant> {
        if self.due.has_expired(cx.now) || self.has_backlog() || self.next_to_admit().is_some() {
            return Some(cx.now);
        }
        let obstacle = self.obstacle.as_ref().map(|obstacle| obstacle.moments(cx.lane.image_wait));
        let others = [Some(self.writes.after()), self.quota.observed_cap_until(), self.takeover_check_at(cx)];
        let moments = self.due.next().into_iter().chain(self.listings.moments()).chain(others);
        let moments = moments.chain(obstacle.into_iter().flatten()).flatten().chain(self.splits.moments());
        // A past moment waits for something else, such as a call in flight; returning it would ring at once, again and again.
        moments.filter(|&at| at > cx.now && at < Instant::NEVER).min()
    }

    /// Whether nothing about it needs to be kept.
    pub(crate) fn is_forgettable(&self, cx: &Context<'_>) -> bool {
        // What would have to be found out again by calls is kept without jobs too.
        let has_state = self.is_busy()
            || self.listings.refused(cx.now).is_some()
            || self.quota.observed_cap_until().is_some_and(|until| until > cx.now);
        !has_state && !self.in_hand() && !self.store.has_accounts()
    }

    /// Jobs that are not settled, and those of a lost lane that are not dropped yet.
    pub(crate) const fn jobs(&self) -> usize {
        self.store.jobs()
    }

    /// Items that are held.
    pub(crate) const fn items(&self) -> usize {
        self.store.items()
    }

    /// Accounts with an operation.
    pub(crate) const fn pending(&self) -> usize {
        self.store.pending()
    }

    /// Jobs that began or wait, without those of a lost lane.
    pub(crate) fn held_jobs(&self) -> usize {
        self.admission.len()
    }

    /// Whether this job is still held. Its place in arrival distinguishes it from a later one under the same key.
    pub(crate) fn holds(&self, job: Key<HeldJob>, seq: u64) -> bool {
        self.store.get_job(job).is_some_and(|held| held.seq() == seq)
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

    /// Whether any job names it.
    pub(crate) fn in_hand(&self) -> bool {
        self.admission.len() > 0
    }
}

/// A failure as the engine shares it between items.
pub(crate) fn failure(code: &str, message: impl Into<Box<str>>, request_id: Option<RequestId>) -> Arc<Failure> {
    Arc::new(Failure { code: code.into(), message: message.into(), request_id })
}
