//! A job is settled when all its outcomes are known and every earlier job that names one of its accounts is settled.

use alloc::{boxed::Box, vec::Vec};

use super::{
    Image,
    account::{Done, Item, ItemState},
    held_job::HeldJob,
};
use crate::{
    arena::Key,
    context::{Context, Effect},
    job::{AccountOutcome, Mode, Report},
};

impl Image {
    /// Settles what can be settled, until so much work is done.
    pub(crate) fn settle_finished(&mut self, cx: &mut Context<'_>) {
        while !cx.work.is_much() && self.settle_next(cx) {}
    }

    /// Settles all that can be settled, since the lane ends.
    pub(crate) fn settle_all(&mut self, cx: &mut Context<'_>) {
        while self.settle_next(cx) {}
    }

    /// Settles the first job of those that may be settled, if it still can be. Returns whether there was one.
    fn settle_next(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(job) = self.finished.pop_front() else { return false };
        if self.store.jobs.get(job).is_some() {
            self.settle_if_finished(cx, job);
        }
        true
    }

    /// Jobs that may be settled.
    pub(crate) fn finished(&self) -> usize {
        self.finished.len()
    }

    /// Settles a job if nothing of it is open.
    fn settle_if_finished(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>) {
        let found = &self.store.jobs[job];
        if found.open > 0 || found.blocked > 0 || !found.account_ids.is_empty() {
            return;
        }
        let (mode, in_doubt_until) = (found.mode, found.in_doubt_until);
        if cx.has_takeover_checks() && in_doubt_until > cx.now {
            // The next worker must learn from the job, which is redelivered, that such a write may land.
            self.due.land(in_doubt_until, job);
            return;
        }
        if mode == Mode::Sync && !self.sync_is_over(cx, job) {
            return;
        }
        self.settle(cx, job);
    }

    /// Takes a job out of the engine and says what became of it.
    fn settle(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>) {
        let mut report = self.take_report(cx, job);
        report.cancelled.extend(self.end_sync(job));
        cx.work.done += report.outcomes.len() + report.cancelled.len();
        let Some(HeldJob { id, deadline, .. }) = self.store.jobs.remove(job) else { return };
        cx.effects.push(Effect::Settled(id, Box::new(report)));
        self.due.settled(deadline, job);
        self.admission.settled();
        self.admit_behind(cx);
    }

    /// Lets those begin that waited behind a SYNC or a backlog.
    pub(super) fn admit_behind(&mut self, cx: &mut Context<'_>) {
        while !cx.work.is_much()
            && let Some(next) = self.next_to_admit()
        {
            self.admission.pop_waiting();
            cx.work.done += self.store.jobs[next].account_ids.len();
            self.admit(cx, next);
        }
    }

    /// The first job of those that wait, if there is nothing left that it waits for.
    pub(super) fn next_to_admit(&self) -> Option<Key<HeldJob>> {
        let next = self.admission.first_waiting()?;
        let is_sync = self.store.jobs[next].mode == Mode::Sync;
        let waits = self.sync.is_some() || self.has_backlog() || (is_sync && self.admission.begun() > 0);
        (!waits).then_some(next)
    }

    /// Takes a job's items away and makes its report of them.
    fn take_report(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>) -> Report {
        let found = &self.store.jobs[job];
        let mut report = Report {
            outcomes: Vec::with_capacity(1),
            cancelled: Vec::new(),
            duplicates: found.duplicates,
            requests: found.requests,
        };
        let mut next = found.first;
        while let Some(item) = next {
            let Some(taken) = self.store.items.remove(item) else { break };
            next = taken.next_in_job;
            let account_id = self.store.accounts[taken.account].id;
            let outcome = self.take_outcome(item, &taken);
            let list = if taken.extra { &mut report.cancelled } else { &mut report.outcomes };
            list.push((account_id, outcome));
            self.unlink(cx, &taken);
        }
        report
    }

    fn take_outcome(&mut self, item: Key<Item>, taken: &Item) -> AccountOutcome {
        match taken.state {
            ItemState::Done(Done::Changed) => AccountOutcome::Changed,
            ItemState::Done(Done::Unchanged) => AccountOutcome::Unchanged,
            ItemState::Open | ItemState::Assumed | ItemState::Early(_) | ItemState::Failed => {
                let failure = self.store.failures.remove(&item);
                AccountOutcome::Failed(failure.expect("a job is settled when each item is done or has its failure"))
            }
        }
    }

    /// The first item of an account is gone: the job of the next one is no longer held up by it.
    fn unlink(&mut self, cx: &mut Context<'_>, taken: &Item) {
        let account = &mut self.store.accounts[taken.account];
        account.head = taken.next_in_account;
        let Some(next) = taken.next_in_account else {
            account.tail = None;
            self.forget_account(cx, taken.account);
            return;
        };
        let job = self.store.items[next].job;
        let found = &mut self.store.jobs[job];
        found.blocked -= 1;
        if found.blocked == 0 && found.open == 0 {
            self.finished.push_back(job);
        }
    }
}
