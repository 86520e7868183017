//! The operation of an account: what it waits for, and how it ends.

use alloc::sync::Arc;

use imageshare_core::Permission;

use super::{
    Image, failure,
    history::{FinalFailure, Known},
    store::{Account, Done, HeldJob, Item, ItemState, Stage},
};
use crate::{
    arena::Key,
    context::{Context, ExpiredFailures},
    job::{AcceptedWrite, Failure, local},
    limits::LISTING_AGE_MAX,
    time::Instant,
};

/// Whether the operation at the front ended, so that the next one has to be decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Front {
    Ended,
    Waits,
}

impl Image {
    /// Decides what the operation of an account waits for. Ends it where nothing is left to do, and continues with the next
    /// one.
    pub(super) fn decide(&mut self, cx: &mut Context<'_>, account: Key<Account>) {
        // Not by recursion: thousands of jobs may request opposite changes of one account.
        while self.decide_front(cx, account) == Front::Ended {}
    }

    fn decide_front(&mut self, cx: &mut Context<'_>, account: Key<Account>) -> Front {
        if self.is_in_flight(account) {
            return Front::Waits;
        }
        // Both may change the front, which everything below depends on.
        self.expire_front(cx, account);
        self.reopen_assumed(cx, account);
        let Some(front) = self.store.front(account) else {
            self.store.set_stage(account, Stage::Idle);
            return Front::Waits;
        };
        if cx.lane.own_account == Some(self.store.id(account)) {
            let message =
                "the account of the key: it owns the image, which can be neither shared with it nor taken from it";
            self.fail_front(cx, account, &failure(local::OWN_ACCOUNT, message, None));
            return Front::Ended;
        }
        let item = self.store.item(front);
        let (permission, job) = (item.permission(), item.job());
        let is_requested = |known: &Known| known.permission() == permission;
        // The refusal came before the job was redelivered, and sending the account again would split another list. An account
        // that is in the requested state all the same does not fail.
        if !self.known(cx, account).as_ref().is_some_and(is_requested)
            && let Some(failure) = self.remembered_refusal(cx, account, permission, job)
        {
            self.fail_front(cx, account, &failure);
            return Front::Ended;
        }
        // A final failure comes before a write in doubt: its listing waits for the write anyway.
        let history = self.store.history(account);
        if let Some(last) = history.and_then(|history| history.final_failure()).cloned() {
            return self.decide_final_failure(cx, account, permission, &last);
        }
        // Before any listing: none that begins now can show what the write in doubt will do.
        if let Some((in_doubt, until)) = history.and_then(|history| history.in_doubt_at(cx.now)) {
            // The same change may be sent again: it cannot undo the write in doubt.
            if in_doubt == permission {
                self.store.set_ready(account, permission);
            } else {
                self.store.set_stage(account, Stage::Waiting);
                self.due.wake(until, account);
            }
            return Front::Waits;
        }
        let can_list = self.listings.refused(cx.now).is_none();
        match self.known(cx, account) {
            Some(known) if is_requested(&known) => {
                // Unchanged may be wrong here, and an opposite operation would leave no later listing to find out.
                let assumed_until = Self::assumed_until(cx, known).filter(|_| self.is_opposite_behind(front));
                // No listing can contradict our own write before the read lag has passed.
                let is_recent = known.since() + LISTING_AGE_MAX >= cx.now
                    || (!known.is_listed() && known.since() + cx.limits.read_lag > cx.now);
                if assumed_until.is_none() && is_recent {
                    self.finish_front(cx, account, known);
                    return Front::Ended;
                }
                if can_list {
                    self.check(account, assumed_until.unwrap_or(cx.now));
                } else {
                    // Too old to report as unchanged, and no newer one: the write itself shows the state.
                    self.store.set_ready(account, permission);
                }
            }
            // Where a listing leaves the state unknown, another one would too, so the write comes next.
            None if can_list && self.listings.newest().is_none() => self.check(account, cx.now),
            Some(_) | None => self.store.set_ready(account, permission),
        }
        Front::Waits
    }

    pub(super) fn is_in_flight(&self, account: Key<Account>) -> bool {
        self.store.stage(account) == Some(Stage::InFlight)
    }

    /// The account waits for a listing that begins no earlier than `from`.
    fn check(&mut self, account: Key<Account>, from: Instant) {
        self.store.set_stage(account, Stage::Checking);
        self.listings.wait(account);
        self.listings.want(from);
    }

    /// A write in doubt that an account waits for can no longer take effect.
    pub(super) fn wake(&mut self, cx: &mut Context<'_>, account: Key<Account>) {
        if self.store.stage(account) == Some(Stage::Waiting) {
            self.decide(cx, account);
        }
    }

    // Final failures.

    /// Decides an operation with a final failure: by a listing, if there can be one.
    fn decide_final_failure(
        &mut self,
        cx: &mut Context<'_>,
        account: Key<Account>,
        permission: Permission,
        last: &FinalFailure,
    ) -> Front {
        let shown = self.listings.since(last.from()).map(|listing| {
            let is_shared = listing.shows(self.store.id(account));
            is_shared.map(|is_shared| Known::Listed(Permission::of_presence(is_shared), listing.began()))
        });
        match shown {
            Some(Some(known)) if known.permission() == permission => {
                self.writes.accept();
                self.finish_front(cx, account, known);
                Front::Ended
            }
            // Without calls the refusal is not the last word: a listing is tried again once the lane is open.
            None if self.listings.refused(cx.now).is_none() || !cx.lane.is_open => {
                self.check(account, last.from().max(cx.now));
                Front::Waits
            }
            _ => {
                self.report_final_failure(cx, account, last);
                Front::Ended
            }
        }
    }

    /// Fails an operation with a final failure. A job that arrived after that is not given the RequestId.
    pub(super) fn report_final_failure(&mut self, cx: &Context<'_>, account: Key<Account>, last: &FinalFailure) {
        let nameless = last.failure().without_request();
        self.fail_front_by(cx, account, |job| if last.is_of(job.seq()) { last.failure() } else { &nameless });
    }

    /// The operation fails unless a listing that shows all its writes finds it done.
    pub(super) fn set_final_failure(&mut self, cx: &mut Context<'_>, account: Key<Account>, failure: Arc<Failure>) {
        self.count_sample(account, &failure.code);
        let history = self.store.history_mut(account);
        // A write in doubt may be applied until then, and a listing may lag behind that.
        let applied_until = history.in_doubt_at(cx.now).map_or(cx.now, |(_, until)| until);
        history.set_final_failure(FinalFailure::new(applied_until + cx.limits.read_lag, cx.next_seq, failure));
        self.store.set_stage(account, Stage::Idle);
        self.decide(cx, account);
    }

    /// Fails the operation. If a write for it may have been applied, a listing decides first.
    pub(super) fn fail_unless_applied(&mut self, cx: &mut Context<'_>, account: Key<Account>, failure: Arc<Failure>) {
        if self.may_be_applied(account) {
            self.set_final_failure(cx, account, failure);
        } else {
            self.fail(cx, account, &failure);
        }
    }

    // Ends.

    /// Ends the operation as done, by what is known.
    pub(super) fn finish_front(&mut self, cx: &mut Context<'_>, account: Key<Account>, known: Known) {
        let done = if self.store.sends(account) > 0 { Done::Changed } else { Done::Unchanged };
        // Assumed is the weaker of the two: an opposite operation opens it before the takeover check runs.
        let state = if done == Done::Unchanged && Self::assumed_until(cx, known).is_some() {
            ItemState::Assumed
        } else if self.is_early(cx, done, known) {
            if !known.is_listed() {
                self.takeover.note_early_write(cx.now + cx.limits.read_lag);
            }
            ItemState::Early(done)
        } else {
            ItemState::Done(done)
        };
        if known.is_listed() && done == Done::Changed {
            // The listing showed the effect of our write. A later one may still show the state before it, as it may after
            // an accepted write.
            self.store.history_mut(account).accept(known.permission(), cx.now);
            self.schedule_forgetting(cx, account);
        }
        self.close_front(cx, account, state);
    }

    /// Ends the operation after the response to its write showed that the account is in the requested state. This is known
    /// as of the beginning of the write: a call of an earlier worker may have changed the account between write and response.
    ///
    /// `write` is that write if it was accepted.
    pub(super) fn finish_by_response(
        &mut self,
        cx: &mut Context<'_>,
        account: Key<Account>,
        write: Option<&Arc<AcceptedWrite>>,
    ) {
        // Its jobs may have expired while the write was in flight.
        if let Some(permission) = self.store.requested(account) {
            if let Some(write) = write {
                self.store.set_write(account, write);
            }
            let known = Known::Written(permission, self.writes.last_began());
            self.finish_front(cx, account, known);
        }
        self.decide(cx, account);
    }

    /// Fails the operation and continues with the next one.
    pub(super) fn fail(&mut self, cx: &mut Context<'_>, account: Key<Account>, failure: &Arc<Failure>) {
        self.fail_front(cx, account, failure);
        self.decide(cx, account);
    }

    pub(super) fn fail_front(&mut self, cx: &Context<'_>, account: Key<Account>, failure: &Arc<Failure>) {
        self.fail_front_by(cx, account, |_| failure);
    }

    /// Fails the operation, for each of its jobs with a failure of its own.
    pub(super) fn fail_front_by<'a>(
        &mut self,
        cx: &Context<'_>,
        account: Key<Account>,
        failure: impl Fn(&HeldJob) -> &'a Arc<Failure>,
    ) {
        let mut next = self.store.front(account);
        while let Some(item) = next {
            if self.store.item(item).is_open() {
                // A later job did not have its account in the refused request, so it is not given that RequestId.
                let failure = failure(self.store.job(self.store.item(item).job())).clone();
                self.store.set_failure(item, failure);
            }
            next = self.store.next_in_operation(item);
        }
        self.close_front(cx, account, ItemState::Failed);
    }

    /// Gives all items of the operation this outcome, and begins the next operation.
    fn close_front(&mut self, cx: &Context<'_>, account: Key<Account>, state: ItemState) {
        let mut next = self.store.front(account);
        let mut behind = None;
        while let Some(item) = next {
            self.close_item(item, state);
            behind = self.store.next_in_account(item);
            next = self.store.next_in_operation(item);
        }
        self.begin_operation(cx, account, behind);
    }

    /// Gives an open item its outcome. The caller moves the front of the account.
    fn close_item(&mut self, key: Key<Item>, state: ItemState) {
        let item = self.store.item(key);
        if !item.is_open() {
            return;
        }
        let (job, account) = (item.job(), item.account());
        self.store.set_state(key, state);
        if state.early().is_some() {
            self.takeover.add_early(account);
        } else {
            self.item_decided(job);
        }
    }

    /// One item of a job has its final outcome.
    pub(super) fn item_decided(&mut self, job: Key<HeldJob>) {
        if self.store.count_decided(job) {
            self.finished.push_back(job);
        }
    }

    /// Makes the first open item from here on the front, and its operation a new one.
    pub(super) fn begin_operation(&mut self, cx: &Context<'_>, account: Key<Account>, from: Option<Key<Item>>) {
        // The response to a write in flight is awaited even if its items are gone, since it changes what is known.
        if !self.is_in_flight(account) {
            self.store.set_stage(account, Stage::Idle);
        }
        self.set_front(account, self.store.first_open(from));
        // The tries belong to the operation, so the next one starts with none.
        self.store.reset_counts(account);
        let Some(history) = self.store.get_history_mut(account) else { return };
        // The operation that ended may have kept it longer than the writes need it.
        if history.clear_final_failure() || history.expires(cx.limits.read_lag) <= cx.now {
            self.schedule_forgetting(cx, account);
        }
    }

    /// Makes an item the front of its account.
    fn set_front(&mut self, account: Key<Account>, front: Option<Key<Item>>) {
        // An operation that ended may have been what kept an earlier outcome from being checked.
        if self.store.set_front(account, front) {
            self.recheck_early(account);
        }
    }

    fn remembered_refusal(
        &self,
        cx: &Context<'_>,
        account: Key<Account>,
        permission: Permission,
        job: Key<HeldJob>,
    ) -> Option<Arc<Failure>> {
        if !self.store.job(job).is_redelivered() {
            return None;
        }
        cx.refusals.get(cx.now, self.name, self.store.id(account), permission).cloned()
    }

    // Deadlines.

    /// Fails the items at the front whose jobs have expired.
    fn expire_front(&mut self, cx: &mut Context<'_>, account: Key<Account>) {
        // The alarm of a deadline may ring after this decision in the same moment.
        while let Some(front) = self.store.front(account)
            && self.store.job(self.store.item(front).job()).deadline() <= cx.now
        {
            self.expire_item(cx, front);
        }
    }

    /// A job's deadline has come: its items fail, except those in flight.
    pub(super) fn expire_job(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>) {
        let mut next = self.store.first_in_job(job);
        while let Some(item) = next {
            next = self.store.next_in_job(item);
            let (account, is_open) = (self.store.item(item).account(), self.store.item(item).is_open());
            let is_in_flight = self.is_in_flight(account);
            if !is_open || (is_in_flight && self.is_in_operation(item)) {
                continue;
            }
            self.expire_item(cx, item);
            cx.work.done += 1;
            // A write in flight decides about the items that are left when it ends.
            if !is_in_flight {
                self.decide(cx, account);
            }
        }
    }

    /// Whether an open item requests the same change as the operation at the front. It may also stand behind an opposite
    /// item.
    fn is_in_operation(&self, item: Key<Item>) -> bool {
        let item = self.store.item(item);
        self.store.requested(item.account()) == Some(item.permission())
    }

    fn expire_item(&mut self, cx: &Context<'_>, item: Key<Item>) {
        let (account, permission) = (self.store.item(item).account(), self.store.item(item).permission());
        let is_in_doubt = self.is_in_operation(item) && self.may_be_applied(account);
        let failure = if is_in_doubt { &cx.expired.in_doubt } else { &cx.expired.untouched };
        self.store.set_failure(item, Arc::clone(failure));
        self.close_item(item, ItemState::Failed);
        if self.store.front(account) != Some(item) {
            return;
        }
        let next = self.store.first_open(self.store.next_in_account(item));
        if next.is_some_and(|next| self.store.item(next).permission() == permission) {
            // The operation continues with the items that are left, and with its tries.
            self.set_front(account, next);
        } else {
            self.begin_operation(cx, account, next);
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
