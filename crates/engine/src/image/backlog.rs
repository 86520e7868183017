//! Work on many accounts of an image at once: a part of it in each call of the engine.

use alloc::{collections::VecDeque, sync::Arc, vec::Vec};

use imageshare_core::Permission;

use super::{
    Image,
    account::{Account, Stage},
    held_job::HeldJob,
};
use crate::{arena::Key, context::Context, io::CallId, job::Failure};

/// What is still to be done to many accounts, in order. Nothing is sent and no other job begins before that.
#[derive(Debug, Default)]
pub(super) struct Backlogs {
    queue: VecDeque<Backlog>,
    /// Jobs of a lane that was lost, until their items are dropped; some stand there more than once.
    lost_jobs: Vec<Key<HeldJob>>,
}

/// Accounts to which the same is still to be done. Some may have moved on, or be forgotten.
#[derive(Debug)]
struct Backlog {
    accounts: VecDeque<Key<Account>>,
    step: Step,
}

/// The failure of all jobs by the response to one call. A job of which that call carried no account is not given its request
/// id.
#[derive(Debug)]
pub(super) struct CallFailure {
    call: CallId,
    named: Arc<Failure>,
    nameless: Arc<Failure>,
}

/// What is to be done to each account of a backlog.
#[derive(Debug)]
pub(super) enum Step {
    /// A listing was awaited and came, or was refused: decide anew.
    Decide,
    /// A listing came that no call of a worker before can make untrue: compare the provisional outcome with it.
    Confirm,
    /// The image was refused: fail what is not in flight.
    Fail {
        /// Only operations of this permission.
        permission: Option<Permission>,
        refused: CallFailure,
    },
    /// The lane was lost: drop the items, without a word.
    Forget,
    /// There is no room for this share: fail it.
    OverQuota(Arc<Failure>),
}

impl CallFailure {
    pub(super) fn new(call: CallId, named: Arc<Failure>) -> Self {
        Self { call, nameless: named.without_request(), named }
    }

    /// The failure of a job.
    pub(super) fn of(&self, job: &HeldJob) -> &Arc<Failure> {
        if job.last_call == self.call { &self.named } else { &self.nameless }
    }
}

impl Backlogs {
    pub(super) fn add(&mut self, accounts: VecDeque<Key<Account>>, step: Step) {
        self.queue.push_back(Backlog { accounts, step });
    }

    /// A job of a lost lane is dropped after its items.
    pub(super) fn lose(&mut self, job: Key<HeldJob>) {
        self.lost_jobs.push(job);
    }

    /// Drops all steps: the jobs that they were for are forgotten.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }
}

impl Image {
    /// Whether something has to be done to accounts of this image before anything is sent about it and before another job
    /// begins there.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlogs.queue.is_empty()
    }

    /// Goes on with the backlogs of an image, in order, until all are done or so much work is.
    pub(super) fn work_off(&mut self, cx: &mut Context<'_>) {
        while !cx.work.is_much()
            && let Some(mut backlog) = self.backlogs.queue.pop_front()
        {
            while !cx.work.is_much()
                && let Some(account) = backlog.accounts.pop_front()
            {
                cx.work.done += 1;
                if self.store.accounts.get(account).is_some() {
                    self.take_step(cx, account, &backlog.step);
                }
            }
            if !backlog.accounts.is_empty() {
                return self.backlogs.queue.push_front(backlog);
            }
            match backlog.step {
                Step::Decide => self.listing_decided(cx),
                Step::Forget => {
                    for job in core::mem::take(&mut self.backlogs.lost_jobs) {
                        self.store.jobs.remove(job);
                    }
                }
                Step::Confirm | Step::Fail { .. } | Step::OverQuota(_) => {}
            }
        }
    }

    fn take_step(&mut self, cx: &mut Context<'_>, account: Key<Account>, step: &Step) {
        let found = &self.store.accounts[account];
        match step {
            Step::Decide if found.stage == Stage::Checking => self.decide(cx, account),
            Step::Confirm => self.check_early_account(cx, account),
            Step::Forget => {
                self.forget_items(cx, account);
                self.forget_account(cx, account);
            }
            Step::Fail { permission, refused } if found.stage != Stage::InFlight => {
                let requested = found.front.map(|front| self.store.items[front].permission);
                if requested.is_some() && (permission.is_none() || requested == *permission) {
                    self.fail_front_by(cx, account, |job| refused.of(job));
                    self.decide(cx, account);
                }
            }
            Step::OverQuota(failure) if found.stage == Stage::Ready(Permission::Share) => {
                // What makes it full may be a write of ours for this very account.
                match self.known(cx, account).filter(|known| known.state == Permission::Share) {
                    Some(known) => {
                        self.done_front(cx, account, known);
                        self.decide(cx, account);
                    }
                    None => self.fail(cx, account, failure),
                }
            }
            Step::Decide | Step::Fail { .. } | Step::OverQuota(_) => {}
        }
    }
}
