//! What is known of an account, and what its operation waits for.

use alloc::sync::Arc;

use imageshare_core::Permission;

use super::{
    Image,
    account::{Account, Done, History, Item, ItemState, Stage},
    failure,
    held_job::HeldJob,
};
use crate::{
    arena::Key,
    context::{Context, ExpiredFailures},
    job::{Failure, local},
    limits::LISTING_AGE_MAX,
    time::Instant,
};

/// What is known of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The permission it is as requested for.
    pub(super) state: Permission,
    /// Since when: the beginning of the listing, or the answer of our own write.
    pub(super) since: Instant,
    /// Whether a listing says so, rather than our own write.
    pub(super) read: bool,
}

impl Image {
    /// What is known of an account: our own last write until a listing began at least `read_lag` after it, then that
    /// listing. A write of which it is not known whether it was applied leaves only what cannot be its work.
    pub(super) fn known(&self, cx: &Context<'_>, account: Key<Account>) -> Option<Known> {
        let account = &self.store.accounts[account];
        let listing = self.listings.newest();
        let history = account.history.map(|history| &self.store.histories[history]);
        let accepted = history.and_then(|history| history.accepted);
        let own = accepted.filter(|&(_, at)| listing.is_none_or(|listing| listing.began() < at + cx.limits.read_lag));
        let base = match own {
            Some((state, since)) => Some(Known { state, since, read: false }),
            None => listing.and_then(|listing| {
                let state = Permission::of_presence(listing.shows(account.id)?);
                Some(Known { state, since: listing.began(), read: true })
            }),
        };
        let Some((tried, at)) = history.and_then(|history| history.maybe_applied) else { return base };
        base.filter(|base| Some(base.state) == tried || (base.read && base.since >= at + cx.limits.read_lag))
    }

    /// Decides what the operation of an account waits for, anew. Settles it where nothing is left to do, and goes on
    /// with the next one.
    pub(super) fn decide(&mut self, cx: &mut Context<'_>, account: Key<Account>) {
        while self.decide_front(cx, account) {}
    }

    /// Decides the operation at the front. Gives whether it was settled, so that the next one has to be decided.
    fn decide_front(&mut self, cx: &mut Context<'_>, account: Key<Account>) -> bool {
        if self.store.accounts[account].stage == Stage::InFlight {
            return false;
        }
        self.expire_front(cx, account);
        self.reopen_assumed(cx, account);
        let Some(front) = self.store.accounts[account].front else {
            self.set_stage(account, Stage::Idle);
            return false;
        };
        if self.is_own(cx, account) {
            let message =
                "the account of the key: it owns the image, which can be neither shared with it nor taken from it";
            self.fail_front(cx, account, &failure(local::OWN_ACCOUNT, message, None));
            return true;
        }
        let item = &self.store.items[front];
        let (permission, job) = (item.permission, item.job);
        let is_as_requested = self.known(cx, account).is_some_and(|known| known.state == permission);
        if !is_as_requested && let Some(failure) = self.remembered_refusal(cx, account, permission, job) {
            self.fail_front(cx, account, &failure);
            return true;
        }
        let can_list = self.listings.refused(cx.now).is_none();
        let history = self.store.accounts[account].history.map(|history| &self.store.histories[history]);
        if let Some((from, ..)) = history.and_then(|history| history.final_failure.as_ref()) {
            return self.decide_final_failure(cx, account, permission, *from, can_list);
        }
        match history.and_then(|history| history.in_doubt_at(cx.now)) {
            Some((doubted, until)) if doubted != permission => {
                self.wait(account, until);
                return false;
            }
            Some(_) => {
                self.set_ready(account, permission);
                return false;
            }
            None => {}
        }
        match self.known(cx, account) {
            Some(known) if known.state == permission => {
                let assumed_until = Self::assumed_until(cx, known).filter(|_| self.is_opposite_behind(front));
                if assumed_until.is_none() && known.since + LISTING_AGE_MAX >= cx.now {
                    self.done_front(cx, account, known);
                    return true;
                }
                if can_list {
                    self.check(account, assumed_until.unwrap_or(cx.now));
                } else {
                    self.set_ready(account, permission);
                }
            }
            None if can_list && self.listings.newest().is_none() => self.check(account, cx.now),
            Some(_) | None => self.set_ready(account, permission),
        }
        false
    }

    /// Whether it is the account of the lane's credential.
    fn is_own(&self, cx: &Context<'_>, account: Key<Account>) -> bool {
        cx.lane.own_account == Some(self.store.accounts[account].id)
    }

    /// Decides an operation that has used up its tries: a listing has the last word, if there can be one.
    fn decide_final_failure(
        &mut self,
        cx: &mut Context<'_>,
        account: Key<Account>,
        permission: Permission,
        from: Instant,
        can_list: bool,
    ) -> bool {
        let found = &self.store.accounts[account];
        let listing = self.listings.since(from);
        let shown = listing.map(|listing| (listing.shows(found.id).map(Permission::of_presence), listing.began()));
        match shown {
            Some((Some(state), since)) if state == permission => {
                self.writes.accept();
                self.done_front(cx, account, Known { state, since, read: true });
                true
            }
            None if can_list => {
                self.check(account, from.max(cx.now));
                false
            }
            _ => {
                if let Some((_, seq, failure)) = self.history(account).final_failure.clone() {
                    self.report_final_failure(cx, account, seq, &failure);
                }
                true
            }
        }
    }

    /// Fails an operation that has used up its tries. A job that came after that is not given the id of the request.
    pub(super) fn report_final_failure(
        &mut self,
        cx: &Context<'_>,
        account: Key<Account>,
        seq: u64,
        failure: &Arc<Failure>,
    ) {
        let nameless = failure.without_request();
        self.fail_front_by(cx, account, |job| if job.seq < seq { failure } else { &nameless });
    }

    /// The operation has used up its tries. Unless a listing that began after all of them finds it as requested, it fails.
    pub(super) fn set_final_failure(&mut self, cx: &mut Context<'_>, account: Key<Account>, failure: Arc<Failure>) {
        let read_lag = cx.limits.read_lag;
        self.count_sample(account, &failure.code);
        let seq = cx.next_seq;
        let history = self.history(account);
        let landed = history.in_doubt_at(cx.now).map_or(cx.now, |(_, until)| until);
        history.final_failure = Some((landed + read_lag, seq, failure));
        self.set_stage(account, Stage::Idle);
        self.decide(cx, account);
    }

    /// Settles the operation as done, by what is known.
    pub(super) fn done_front(&mut self, cx: &mut Context<'_>, account: Key<Account>, known: Known) {
        let done = if self.store.accounts[account].sends > 0 { Done::Changed } else { Done::Unchanged };
        let state = if done == Done::Unchanged && Self::assumed_until(cx, known).is_some() {
            ItemState::Assumed
        } else if self.is_early(cx, done, known) {
            ItemState::Early(done)
        } else {
            ItemState::Done(done)
        };
        if known.read && done == Done::Changed {
            // The listing showed the work of our own write. A later one may still show the state before it, as it may
            // after an accepted write.
            let history = self.history(account);
            history.accept(known.state, cx.now);
            self.schedule_forgetting(cx, account);
        }
        self.finish_front(cx, account, state);
    }

    /// Settles the operation after the answer to its write said that the account is as requested. What the answer says was
    /// so when the write was applied: a call of a worker before may have landed between that and the answer.
    pub(super) fn found_done(&mut self, cx: &mut Context<'_>, account: Key<Account>) {
        if let Some(front) = self.store.accounts[account].front {
            let since = self.writes.last_began();
            let known = Known { state: self.store.items[front].permission, since, read: false };
            self.done_front(cx, account, known);
        }
        self.decide(cx, account);
    }

    /// Settles the operation after its write was accepted. It may have been carried by the write of one before, whose
    /// job was lost meanwhile.
    pub(super) fn written(&mut self, cx: &mut Context<'_>, account: Key<Account>) {
        self.store.accounts[account].sends = self.store.accounts[account].sends.max(1);
        self.found_done(cx, account);
    }

    /// Fails the operation and goes on with the next one.
    pub(super) fn fail(&mut self, cx: &mut Context<'_>, account: Key<Account>, failure: &Arc<Failure>) {
        self.fail_front(cx, account, failure);
        self.decide(cx, account);
    }

    /// The same where a write of the operation may have been applied: then a listing has the last word.
    pub(super) fn fail_unless_applied(&mut self, cx: &mut Context<'_>, account: Key<Account>, failure: Arc<Failure>) {
        if self.may_be_applied(account) {
            self.set_final_failure(cx, account, failure);
        } else {
            self.fail(cx, account, &failure);
        }
    }

    pub(super) fn fail_front(&mut self, cx: &Context<'_>, account: Key<Account>, failure: &Arc<Failure>) {
        self.fail_front_by(cx, account, |_| failure);
    }

    /// Fails the operation, for each of its jobs for a reason of its own.
    pub(super) fn fail_front_by<'a>(
        &mut self,
        cx: &Context<'_>,
        account: Key<Account>,
        failure: impl Fn(&HeldJob) -> &'a Arc<Failure>,
    ) {
        let mut next = self.store.accounts[account].front;
        let permission = next.map(|front| self.store.items[front].permission);
        while let Some(item) = next.filter(|&item| Some(self.store.items[item].permission) == permission) {
            if self.store.items[item].state == ItemState::Open {
                let failure = failure(&self.store.jobs[self.store.items[item].job]);
                self.store.failures.insert(item, failure.clone());
            }
            next = self.store.items[item].next_in_account;
        }
        self.finish_front(cx, account, ItemState::Failed);
    }

    /// Gives all items of the operation this state and moves to the next operation.
    fn finish_front(&mut self, cx: &Context<'_>, account: Key<Account>, state: ItemState) {
        let mut next = self.store.accounts[account].front;
        let permission = next.map(|front| self.store.items[front].permission);
        while let Some(item) = next.filter(|&item| Some(self.store.items[item].permission) == permission) {
            self.close_item(item, state);
            next = self.store.items[item].next_in_account;
        }
        self.begin_operation(cx, account, next);
    }

    /// An open item gets its outcome. The front of its account is the caller's to move.
    pub(super) fn close_item(&mut self, item: Key<Item>, state: ItemState) {
        let found = &mut self.store.items[item];
        if found.state != ItemState::Open {
            return;
        }
        found.state = state;
        let (job, account) = (found.job, found.account);
        if state.early().is_some() {
            self.takeover.doubt(account);
        } else {
            self.item_decided(job);
        }
    }

    /// One item of a job has its final outcome.
    pub(super) fn item_decided(&mut self, job: Key<HeldJob>) {
        let found = &mut self.store.jobs[job];
        found.open -= 1;
        if found.open == 0 {
            self.finished.push_back(job);
        }
    }

    /// Makes the first open item from here on the front, and its operation a new one.
    pub(super) fn begin_operation(&mut self, cx: &Context<'_>, account: Key<Account>, mut from: Option<Key<Item>>) {
        while let Some(item) = from.filter(|&item| self.store.items[item].state != ItemState::Open) {
            from = self.store.items[item].next_in_account;
        }
        // The answer to a write in flight is awaited whatever becomes of its items.
        if self.store.accounts[account].stage != Stage::InFlight {
            self.set_stage(account, Stage::Idle);
        }
        self.set_front(account, from);
        let found = &mut self.store.accounts[account];
        found.sends = 0;
        found.attempts = 0;
        let final_failure = found.history.and_then(|history| self.store.histories[history].final_failure.take());
        if final_failure.is_some() {
            self.schedule_forgetting(cx, account);
        }
    }

    /// Fails the items at the front whose jobs have expired.
    fn expire_front(&mut self, cx: &mut Context<'_>, account: Key<Account>) {
        while let Some(front) = self.store.accounts[account].front {
            let expired = self.store.jobs[self.store.items[front].job].deadline <= cx.now;
            if !expired {
                return;
            }
            self.expire_item(cx, front);
        }
    }

    /// A job's deadline has come: what is not in flight fails.
    pub(super) fn expire_job(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>) {
        let mut next = self.store.jobs.get(job).and_then(|job| job.first);
        while let Some(item) = next {
            let found = &self.store.items[item];
            let account = found.account;
            next = found.next_in_job;
            let in_flight = self.store.accounts[account].stage == Stage::InFlight;
            if found.state != ItemState::Open || (in_flight && self.is_in_operation(item)) {
                continue;
            }
            self.expire_item(cx, item);
            cx.work.done += 1;
            if !in_flight {
                self.decide(cx, account);
            }
        }
    }

    /// Whether an open item belongs to the operation at the front, as far as its permission tells.
    fn is_in_operation(&self, item: Key<Item>) -> bool {
        let account = &self.store.accounts[self.store.items[item].account];
        account.front.is_some_and(|front| self.store.items[front].permission == self.store.items[item].permission)
    }

    fn expire_item(&mut self, cx: &Context<'_>, item: Key<Item>) {
        let account = self.store.items[item].account;
        let in_doubt = self.is_in_operation(item) && self.may_be_applied(account);
        let failure = Arc::clone(if in_doubt { &cx.expired.in_doubt } else { &cx.expired.untouched });
        self.store.failures.insert(item, failure);
        self.close_item(item, ItemState::Failed);
        if self.store.accounts[account].front != Some(item) {
            return;
        }
        let mut next = self.store.items[item].next_in_account;
        while let Some(behind) = next.filter(|&behind| self.store.items[behind].state != ItemState::Open) {
            next = self.store.items[behind].next_in_account;
        }
        let permission = self.store.items[item].permission;
        if next.is_some_and(|next| self.store.items[next].permission == permission) {
            // The operation goes on with the items that are left, and with the tries it had.
            self.set_front(account, next);
        } else {
            self.begin_operation(cx, account, next);
        }
    }

    /// Whether a write for the operation was sent of which it is not known whether it was applied. A refusal that was
    /// about the call and not about its accounts leaves no doubt.
    pub(super) fn may_be_applied(&self, account: Key<Account>) -> bool {
        let found = &self.store.accounts[account];
        let history = found.history.map(|history| &self.store.histories[history]);
        let maybe_applied =
            history.is_some_and(|history| history.maybe_applied.is_some() || history.in_doubt.is_some());
        found.stage == Stage::InFlight || (found.sends > 0 && maybe_applied)
    }

    fn remembered_refusal(
        &self,
        cx: &Context<'_>,
        account: Key<Account>,
        permission: Permission,
        job: Key<HeldJob>,
    ) -> Option<Arc<Failure>> {
        if !self.store.jobs[job].redelivered {
            return None;
        }
        cx.refusals.get(cx.now, self.name, self.store.accounts[account].id, permission).cloned()
    }

    /// The account waits for a listing that begins no earlier than `from`.
    fn check(&mut self, account: Key<Account>, from: Instant) {
        self.set_stage(account, Stage::Checking);
        self.listings.wait(account);
        self.listings.want(from);
    }

    fn wait(&mut self, account: Key<Account>, until: Instant) {
        self.set_stage(account, Stage::Waiting);
        self.due.wake(until, account);
    }

    pub(super) fn set_ready(&mut self, account: Key<Account>, permission: Permission) {
        self.set_stage(account, Stage::Idle);
        let Some(front) = self.store.accounts[account].front else { return };
        let seq = self.store.jobs[self.store.items[front].job].seq + u64::from(permission == Permission::Share);
        let found = &mut self.store.accounts[account];
        found.seq = seq;
        found.stage = Stage::Ready(permission);
        self.ready.insert(permission, seq, account);
    }

    /// Moves an account to another stage; one that was ready leaves the ready ones. Splits and the list of those that
    /// are being checked look at the stage themselves.
    pub(super) fn set_stage(&mut self, account: Key<Account>, stage: Stage) {
        let found = &mut self.store.accounts[account];
        if let Stage::Ready(permission) = found.stage {
            let seq = found.seq;
            self.ready.remove(permission, seq, account);
        }
        self.store.accounts[account].stage = stage;
    }

    /// The history of an account, begun if there is none.
    pub(super) fn history(&mut self, account: Key<Account>) -> &mut History {
        let history = match self.store.accounts[account].history {
            Some(history) => history,
            None => {
                let history = self.store.histories.insert(History::default());
                self.store.accounts[account].history = Some(history);
                history
            }
        };
        &mut self.store.histories[history]
    }

    /// Sees to it that the history of an account is looked at when it is too old to matter.
    pub(super) fn schedule_forgetting(&mut self, cx: &Context<'_>, account: Key<Account>) {
        let Some(history) = self.store.accounts[account].history else { return };
        let expires = self.store.histories[history].expires(cx.limits.read_lag, LISTING_AGE_MAX);
        if expires < Instant::NEVER {
            self.due.forget(expires, account);
        }
    }

    /// A doubt that an account waits for has ended.
    pub(super) fn wake(&mut self, cx: &mut Context<'_>, account: Key<Account>) {
        if self.store.accounts.get(account).is_some_and(|found| found.stage == Stage::Waiting) {
            self.decide(cx, account);
        }
    }

    /// Drops what need not be kept of an account.
    pub(super) fn forget_account(&mut self, cx: &mut Context<'_>, account: Key<Account>) {
        let Some(found) = self.store.accounts.get(account) else { return };
        let id = found.id;
        let idle = found.head.is_none() && found.stage == Stage::Idle;
        if let Some(history) = found.history {
            let expires = self.store.histories[history].expires(cx.limits.read_lag, LISTING_AGE_MAX);
            if expires > cx.now {
                return;
            }
            self.store.histories.remove(history);
            self.store.accounts[account].history = None;
        }
        if idle {
            self.store.accounts.remove(account);
            self.store.by_id.remove(&id);
        }
    }
}

impl ExpiredFailures {
    pub(crate) fn new() -> Self {
        let in_doubt = "the job expired after a write was sent; it is not known whether it was applied";
        Self {
            untouched: failure(local::EXPIRED, "the job expired before the account was done", None),
            in_doubt: failure(local::NO_ANSWER, in_doubt, None),
        }
    }
}
