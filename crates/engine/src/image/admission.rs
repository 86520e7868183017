//! Which jobs of an image have begun, and which wait: a SYNC is a barrier on both sides.

use alloc::{collections::VecDeque, vec::Vec};

use imageshare_core::{Permission, ids::AccountId};

use super::{
    Image,
    store::{HeldJob, ItemSource},
};
use crate::{
    arena::Key,
    context::Context,
    io::DeliveryId,
    job::{Job, Mode},
};

/// The jobs of an image in order of arrival.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// Jobs that have begun and are not settled.
    begun: u32,
    /// Jobs that wait: behind a SYNC, as a SYNC behind others, or for a backlog.
    waiting: VecDeque<Key<HeldJob>>,
}

impl Admission {
    /// Jobs that are not settled.
    pub(super) fn len(&self) -> usize {
        self.begun as usize + self.waiting.len()
    }

    pub(super) fn is_waiting(&self, job: Key<HeldJob>) -> bool {
        self.waiting.contains(&job)
    }

    /// Begins the first job that waits, whether it may begin or not.
    pub(super) fn begin_next(&mut self) -> Option<Key<HeldJob>> {
        let next = self.waiting.pop_front();
        self.begun += u32::from(next.is_some());
        next
    }

    pub(super) const fn settled(&mut self) {
        self.begun -= 1;
    }

    /// Forgets all jobs. Returns those that waited.
    pub(super) fn forget(&mut self) -> VecDeque<Key<HeldJob>> {
        core::mem::take(self).waiting
    }
}

impl Image {
    /// Takes a job. It begins, or waits behind earlier jobs.
    pub(crate) fn receive(&mut self, cx: &mut Context<'_>, id: DeliveryId, seq: u64, job: Job) -> Key<HeldJob> {
        if job.redelivered {
            self.takeover.redelivered();
        }
        let key = self.store.insert_job(id, seq, job);
        // Before it begins: a job may expire while it waits behind a SYNC.
        self.due.expire(self.store.job(key).deadline(), key);
        self.admission.waiting.push_back(key);
        // Behind another one it waits even if it could begin, since jobs begin in order of arrival.
        if self.admission.waiting.len() == 1 && self.may_admit(key) {
            self.admit_next(cx);
        }
        key
    }

    /// Lets waiting jobs begin, as far as nothing before them is a barrier.
    pub(super) fn admit_waiting(&mut self, cx: &mut Context<'_>) {
        while !cx.work.is_much()
            && let Some(next) = self.next_to_admit()
        {
            cx.work.done += self.store.job(next).account_ids().len();
            self.admit_next(cx);
        }
    }

    /// The first waiting job, if it may begin.
    pub(super) fn next_to_admit(&self) -> Option<Key<HeldJob>> {
        self.admission.waiting.front().copied().filter(|&next| self.may_admit(next))
    }

    fn may_admit(&self, job: Key<HeldJob>) -> bool {
        let is_sync = self.store.job(job).mode() == Mode::Sync;
        // A job that began during a backlog would be decided by stages that the backlog is about to change.
        self.sync.is_none() && !self.has_backlog() && (!is_sync || self.admission.begun == 0)
    }

    fn admit_next(&mut self, cx: &mut Context<'_>) {
        // After a quiet time the last listing may be old, and is not worth comparing with.
        if self.admission.begun == 0 {
            self.forget_old_listing(cx);
        }
        let Some(job) = self.admission.begin_next() else { return };
        match self.store.job(job).mode() {
            Mode::Sync => self.begin_sync(cx, job),
            mode => {
                let account_ids = self.store.take_account_ids(job);
                self.add_items(cx, job, mode.permission(), &account_ids, ItemSource::Job);
            }
        }
    }

    /// Adds a job's items for these accounts, and decides each operation that begins.
    pub(super) fn add_items(
        &mut self,
        cx: &mut Context<'_>,
        job: Key<HeldJob>,
        permission: Permission,
        account_ids: &[AccountId],
        source: ItemSource,
    ) {
        let add = |&account_id: &AccountId| self.store.add_item(job, permission, account_id, source);
        // All items first: deciding one may end its operation, and the job must not be complete before it has all of them.
        let begun: Vec<_> = account_ids.iter().filter_map(add).collect();
        for account in begun {
            self.decide(cx, account);
        }
        if self.store.job(job).is_decided() {
            self.finished.push_back(job);
        }
    }
}
