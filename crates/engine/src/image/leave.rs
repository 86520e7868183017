//! How an image's jobs end with their lane: they are forgotten, or all reported.

use alloc::{sync::Arc, vec::Vec};

use super::{
    Image,
    account::{Account, ItemState},
    backlog::{CallFailure, Step},
    failure,
    held_job::HeldJob,
    sync::Sync,
};
use crate::{
    arena::Key,
    context::Context,
    job::{Failure, local},
};

impl Image {
    /// Forgets all jobs without a report. What is known of the image stays.
    pub(crate) fn forget_jobs(&mut self, cx: &Context<'_>) {
        let sync = self.sync.take().map(|sync| sync.job());
        for job in self.admission.forget().into_iter().chain(sync) {
            self.backlogs.lose(job);
        }
        self.ready.clear();
        self.listings.forget_jobs();
        self.backlogs.clear();
        self.splits.clear();
        self.takeover.forget_jobs();
        self.due.forget_jobs();
        self.finished.clear();
        self.forget_refusals_of_key();
        // The write in flight still ends, and has to find nothing that it could settle.
        for account in self.writes.forget_origin() {
            self.forget_items(cx, account);
        }
        let accounts = self.store.by_id.values().copied().collect();
        self.backlogs.add(accounts, Step::Forget);
    }

    /// Drops the items of an account. Their jobs have others, and are dropped after all of them.
    pub(super) fn forget_items(&mut self, cx: &Context<'_>, account: Key<Account>) {
        let mut next = self.store.accounts[account].head;
        while let Some(item) = next {
            let Some(taken) = self.store.items.remove(item) else { break };
            self.store.failures.remove(&item);
            next = taken.next_in_account;
            self.backlogs.lose(taken.job);
        }
        let found = &mut self.store.accounts[account];
        found.head = None;
        found.tail = None;
        self.begin_operation(cx, account, None);
    }

    /// Ends every job: what was not tried fails for that reason.
    pub(crate) fn abandon(&mut self, cx: &mut Context<'_>, not_attempted: &Arc<Failure>, no_answer: &Arc<Failure>) {
        // What was refused already is reported so.
        while self.has_backlog() {
            cx.work.done = 0;
            self.work_off(cx);
        }
        self.splits.clear();
        if let Some(job) = self.sync.as_ref().map(Sync::job) {
            self.fail_sync(cx, job, not_attempted);
        }
        self.abandon_items(cx, not_attempted, no_answer);
        while let Some(job) = self.admission.pop_waiting() {
            self.admission.begin();
            let permission = self.store.jobs[job].mode.permission();
            for &account_id in &self.take_accounts(job) {
                self.add_item(job, permission, account_id, false);
            }
            self.abandon_items(cx, not_attempted, no_answer);
        }
        self.confirm_all(cx);
        self.settle_all(cx);
    }

    /// What a job that ends with its lane reports of an account of a busy image for which nothing is in doubt.
    fn busy_failure(&self, why: &str) -> Option<CallFailure> {
        let (call, refused) = self.busy_response()?;
        let message =
            alloc::format!("the image was not ready; last answer {}: {}; {why}", refused.code, refused.message);
        Some(CallFailure::new(call, failure(local::IMAGE_BUSY, message, refused.request_id)))
    }

    fn abandon_items(&mut self, cx: &Context<'_>, not_attempted: &Arc<Failure>, no_answer: &Arc<Failure>) {
        let busy = self.busy_failure(&not_attempted.message);
        for account in self.store.by_id.values().copied().collect::<Vec<_>>() {
            while let Some(front) = self.store.accounts[account].front {
                let history = self.store.accounts[account].history.map(|history| &self.store.histories[history]);
                let final_failure = history.and_then(|history| history.final_failure.clone());
                debug_assert_eq!(self.store.items[front].state, ItemState::Open, "the front is an open item");
                match final_failure {
                    Some((_, seq, failure)) => self.report_final_failure(cx, account, seq, &failure),
                    None if self.may_be_applied(account) => self.fail_front(cx, account, no_answer),
                    None => match &busy {
                        Some(busy) => self.fail_front_by(cx, account, |job| busy.of(job)),
                        None => self.fail_front(cx, account, not_attempted),
                    },
                }
            }
        }
    }

    /// A job that has not begun expired: it begins only to fail.
    pub(super) fn expire_unbegun(&mut self, cx: &Context<'_>, job: Key<HeldJob>) {
        let Some(found) = self.store.jobs.get(job) else { return };
        if found.account_ids.is_empty() || self.admission.is_waiting(job) {
            return;
        }
        // A SYNC that waits for its first listing.
        self.fail_sync(cx, job, &failure(local::EXPIRED, "the job expired before it could begin", None));
    }
}
