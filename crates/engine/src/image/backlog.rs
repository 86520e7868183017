//! Work on many accounts of an image at once, a part of it in each call of the engine.

use alloc::{collections::VecDeque, sync::Arc, vec::Vec};

use imageshare_core::Permission;

use super::{
    Image,
    store::{Account, HeldJob, Stage},
};
use crate::{arena::Key, context::Context, io::CallId, job::Failure};

/// Steps that many accounts still need, in order. Nothing is sent and no other job begins before they are done.
#[derive(Debug, Default)]
pub(super) struct Backlogs {
    queue: VecDeque<Backlog>,
    /// Jobs of a lane that was lost, removed once their items are dropped. A job may be listed repeatedly.
    lost_jobs: Vec<Key<HeldJob>>,
}

/// Accounts that need the same step. Some may have moved on or be forgotten.
#[derive(Debug)]
struct Backlog {
    accounts: VecDeque<Key<Account>>,
    step: Step,
}

/// The failure of all jobs by the response to one call. A job whose accounts that call did not contain is not given its
/// RequestId.
#[derive(Debug)]
pub(super) struct CallFailure {
    call: CallId,
    named: Arc<Failure>,
    nameless: Arc<Failure>,
}

/// What each account of a backlog needs.
#[derive(Debug)]
pub(super) enum Step {
    /// A listing was awaited and arrived, or was refused: decide again.
    Decide,
    /// A listing arrived that calls of an earlier worker cannot contradict: compare early outcomes with it.
    CheckTakeover,
    /// The image was refused: fail what is not in flight.
    Fail {
        /// Only operations of this permission.
        permission: Option<Permission>,
        refused: CallFailure,
    },
    /// The lane was lost: drop the items without a report.
    Forget,
    /// The image has no room for this share: fail it.
    OverQuota(Arc<Failure>),
}

impl CallFailure {
    pub(super) fn new(call: CallId, named: Arc<Failure>) -> Self {
        Self { call, nameless: named.without_request(), named }
    }

    /// The failure of a job.
    pub(super) fn for_job(&self, job: &HeldJob) -> &Arc<Failure> {
        if job.was_last_in(self.call) { &self.named } else { &self.nameless }
    }
}

impl Backlogs {
    pub(super) fn add(&mut self, accounts: impl IntoIterator<Item = Key<Account>>, step: Step) {
        self.queue.push_back(Backlog { accounts: accounts.into_iter().collect(), step });
    }

    /// Jobs of a lost lane are removed after all their items.
    pub(super) fn lose(&mut self, jobs: impl IntoIterator<Item = Key<HeldJob>>) {
        self.lost_jobs.extend(jobs);
    }

    /// Drops all steps: their jobs are forgotten.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }
}

impl Image {
    /// Whether accounts of this image need a step before anything is sent and before another job begins.
    pub(super) fn has_backlog(&self) -> bool {
        !self.backlogs.queue.is_empty()
    }

    /// Continues with the backlogs of an image, in order, within the work of one call.
    pub(super) fn work_off(&mut self, cx: &mut Context<'_>) {
        while !cx.work.is_much()
            && let Some(mut backlog) = self.backlogs.queue.pop_front()
        {
            while !cx.work.is_much()
                && let Some(account) = backlog.accounts.pop_front()
            {
                cx.work.done += 1;
                // An account may be forgotten while it waits in a backlog.
                if let Some(stage) = self.store.stage(account) {
                    self.take_step(cx, account, stage, &backlog.step);
                }
            }
            if !backlog.accounts.is_empty() {
                // Backlogs keep their order: the second one counts on what the first one decided.
                return self.backlogs.queue.push_front(backlog);
            }
            match backlog.step {
                Step::Decide => self.listing_decided(cx),
                Step::Forget => {
                    // Not earlier: items are dropped account by account, and each still names its job.
                    for job in core::mem::take(&mut self.backlogs.lost_jobs) {
                        self.store.remove_job(job);
                    }
                }
                Step::CheckTakeover | Step::Fail { .. } | Step::OverQuota(_) => {}
            }
        }
    }

    fn take_step(&mut self, cx: &mut Context<'_>, account: Key<Account>, stage: Stage, step: &Step) {
        match step {
            Step::Decide if stage == Stage::Checking => self.decide(cx, account),
            Step::CheckTakeover => self.check_early_account(cx, account),
            Step::Forget => {
                self.forget_items(cx, account);
                self.forget_account(cx, account);
            }
            // The response to the write in flight decides about its own accounts.
            Step::Fail { permission, refused } if stage != Stage::InFlight => {
                let requested = self.store.requested(account);
                if requested.is_some() && (permission.is_none() || requested == *permission) {
                    self.fail_with_image(cx, account, refused);
                }
            }
            Step::OverQuota(failure) if stage == Stage::Ready(Permission::Share) => {
                // The write that filled the image may be our own write for this account.
                match self.known(cx, account).filter(|known| known.permission() == Permission::Share) {
                    Some(known) => {
                        self.finish_front(cx, account, known);
                        self.decide(cx, account);
                    }
                    None => self.fail(cx, account, failure),
                }
            }
            Step::Decide | Step::Fail { .. } | Step::OverQuota(_) => {}
        }
    }

    /// Fails the operation of an account, since its image was refused. If a write may have been applied, that one or an earlier
    /// one, a listing decides first.
    fn fail_with_image(&mut self, cx: &mut Context<'_>, account: Key<Account>, refused: &CallFailure) {
        if !self.may_be_applied(account) {
            self.fail_front_by(cx, account, |job| refused.for_job(job));
            return self.decide(cx, account);
        }
        if self.store.history(account).is_some_and(|history| history.final_failure().is_some()) {
            // A later refusal does not put its listing off.
            return;
        }
        // One failure for all jobs of the operation: with the RequestId only if the call contained accounts of each.
        let mut failure = &refused.named;
        let mut next = self.store.front(account);
        while let Some(item) = next {
            if !self.store.job(self.store.item(item).job()).was_last_in(refused.call) {
                failure = &refused.nameless;
            }
            next = self.store.next_in_operation(item);
        }
        self.set_final_failure(cx, account, failure.clone());
    }
}
