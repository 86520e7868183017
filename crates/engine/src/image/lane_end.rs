//! How an image's jobs end with their lane: they are forgotten, or all reported.

use alloc::vec::Vec;

use super::{
    Image,
    backlog::{CallFailure, Step},
    failure,
    store::{Account, HeldJob, ItemSource},
};
use crate::{
    arena::Key,
    context::{Context, UnfinishedFailures},
    job::local,
};

impl Image {
    /// Forgets all jobs without a report. What is known about the image is kept.
    pub(crate) fn forget_jobs(&mut self, cx: &Context<'_>) {
        // A SYNC that has not begun has no items, so its job would not be reached through them.
        let sync = self.sync.take().map(|sync| sync.job());
        self.backlogs.lose(self.admission.forget().into_iter().chain(sync));
        self.store.clear_ready();
        self.listings.forget_jobs();
        // Their accounts are dropped below. A step that ran afterwards would decide about jobs that are gone.
        self.backlogs.clear();
        self.splits.clear();
        self.takeover.forget_jobs();
        self.due.forget_jobs();
        self.finished.clear();
        // Another worker may have another key. This one starts again with the first pause.
        self.forget_refusals_of_key();
        // The write in flight still ends, and must not find an item that it could complete.
        for account in self.writes.forget_origin() {
            self.forget_items(cx, account);
        }
        self.backlogs.add(self.store.accounts().map(|(_, account)| account), Step::Forget);
    }

    /// Drops the items of an account. Their jobs have others, and are dropped after all of them.
    pub(super) fn forget_items(&mut self, cx: &Context<'_>, account: Key<Account>) {
        self.backlogs.lose(self.store.drop_items(account));
        self.begin_operation(cx, account, None);
    }

    /// Ends every job with a report.
    pub(crate) fn report_unfinished(&mut self, cx: &mut Context<'_>, failures: &UnfinishedFailures) {
        // What was refused already is reported so.
        while self.has_backlog() {
            cx.work.done = 0;
            self.work_off(cx);
        }
        self.splits.clear();
        // Before the others: it is the barrier that they wait for.
        match self.sync.as_ref().map(|sync| (sync.job(), sync.is_unbegun())) {
            Some((job, true)) => self.fail_sync(cx, job, &failures.not_attempted),
            // Its items end as those of all other jobs: a write in doubt was attempted.
            Some((job, false)) => self.sync_done(job),
            None => {}
        }
        self.fail_unfinished(cx, failures);
        while let Some(job) = self.admission.begin_next() {
            let permission = self.store.job(job).mode().permission();
            for account_id in self.store.take_account_ids(job) {
                self.store.add_item(job, permission, account_id, ItemSource::Job);
            }
            self.fail_unfinished(cx, failures);
        }
        // The process ends, so no listing will come to check them.
        self.confirm_all(cx);
        self.settle_all(cx);
    }

    /// The failure of accounts of a busy image without a write in doubt.
    fn busy_failure(&self, why: &str) -> Option<CallFailure> {
        let (call, refused) = self.busy_response()?;
        let message =
            alloc::format!("the image was not ready; last answer {}: {}; {why}", refused.code, refused.message);
        Some(CallFailure::new(call, failure(local::IMAGE_BUSY, message, refused.request_id)))
    }

    fn fail_unfinished(&mut self, cx: &Context<'_>, failures: &UnfinishedFailures) {
        let busy = self.busy_failure(&failures.not_attempted.message);
        for account in self.store.accounts().map(|(_, account)| account).collect::<Vec<_>>() {
            // Each failure makes the next operation of the account the first, until none is left.
            while let Some(front) = self.store.front(account) {
                debug_assert!(self.store.item(front).is_open(), "the front is an open item");
                let history = self.store.history(account);
                let last = history.and_then(|history| history.final_failure()).cloned();
                let is_in_doubt = history.is_some_and(|history| history.in_doubt_at(cx.now).is_some());
                match (last, &busy) {
                    // While a write is in doubt, another one's refusal does not decide.
                    (Some(last), _) if !is_in_doubt || *last.failure().code == *local::NO_ANSWER => {
                        self.report_final_failure(cx, account, &last);
                    }
                    _ if self.may_be_applied(account) => self.fail_front(cx, account, &failures.no_answer),
                    (_, Some(busy)) => self.fail_front_by(cx, account, |job| busy.for_job(job)),
                    (_, None) => self.fail_front(cx, account, &failures.not_attempted),
                }
            }
        }
    }

    /// The deadline of a SYNC that waits for its first listing has come: it fails. Other jobs have items, or begin later.
    pub(super) fn expire_unbegun(&mut self, cx: &Context<'_>, job: Key<HeldJob>) {
        if self.store.get_job(job).is_some_and(|job| !job.account_ids().is_empty()) && !self.admission.is_waiting(job) {
            self.expire_sync(cx, job);
        }
    }
}
