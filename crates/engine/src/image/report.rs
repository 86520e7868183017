//! A job is settled when all its outcomes are known and every earlier job that names one of its accounts is settled.

use alloc::{boxed::Box, vec::Vec};

use super::{
    Image,
    store::{Behind, HeldJob, ItemSource},
};
use crate::{
    arena::Key,
    context::{Context, Effect},
    job::{Mode, Report},
};

impl Image {
    /// Settles what can be settled, within the work of one call.
    pub(crate) fn settle_finished(&mut self, cx: &mut Context<'_>) {
        while !cx.work.is_much() && self.settle_next(cx) {}
    }

    /// Settles everything that can be settled, since the lane ends.
    pub(crate) fn settle_all(&mut self, cx: &mut Context<'_>) {
        while self.settle_next(cx) {}
    }

    /// Settles the first job that may be settled, if it still can be. Returns whether there was one.
    fn settle_next(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(job) = self.finished.pop_front() else { return false };
        let Some(held) = self.store.get_job(job).filter(|job| job.is_settleable()) else { return true };
        let in_doubt_until = held.in_doubt_until();
        if cx.has_takeover_checks() && in_doubt_until > cx.now {
            // After a takeover, the next worker finds out about the write in doubt by the job, which is redelivered.
            self.due.settle(in_doubt_until, job);
        } else if held.mode() != Mode::Sync || self.sync_is_over(cx, job) {
            self.settle(cx, job);
        }
        true
    }

    /// Jobs that may be settled.
    pub(crate) fn finished(&self) -> usize {
        self.finished.len()
    }

    fn settle(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>) {
        // Its items are taken first: they may be what a later job waited for, and that one is settled next.
        let mut report = self.take_report(cx, job);
        report.cancelled.extend(self.end_sync(job));
        cx.work.done += report.outcomes.len() + report.cancelled.len();
        let held = self.store.job(job);
        cx.effects.push(Effect::Settled(held.id(), Box::new(report)));
        self.due.settled(held.deadline(), job);
        self.store.remove_job(job);
        self.admission.settled();
        // It may have been the last job that a SYNC waited for, or the SYNC that others waited for.
        self.admit_waiting(cx);
    }

    /// Removes a job's items and makes its report of them.
    fn take_report(&mut self, cx: &Context<'_>, job: Key<HeldJob>) -> Report {
        let (duplicates, requests) = (self.store.job(job).duplicates(), self.store.job(job).requests());
        // Most jobs name one account, and millions of reports may wait for the driver.
        let mut report = Report { outcomes: Vec::with_capacity(1), cancelled: Vec::new(), duplicates, requests };
        while let Some(taken) = self.store.take_first_item(job) {
            let list = match taken.source {
                ItemSource::Job => &mut report.outcomes,
                ItemSource::Sync => &mut report.cancelled,
            };
            list.push((taken.account_id, taken.outcome));
            match taken.behind {
                Behind::NoItem => self.forget_account(cx, taken.account),
                Behind::Settleable(job) => self.finished.push_back(job),
                Behind::Unsettled => {}
            }
        }
        report
    }
}
