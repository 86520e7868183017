//! Takeover checks: calls of another worker may take effect after a lane came up, so early outcomes are listed again.

use alloc::{collections::BTreeSet, vec::Vec};

use imageshare_core::Permission;

use super::{
    Image,
    backlog::Step,
    history::Known,
    store::{Account, Done, Item, ItemState},
};
use crate::{arena::Key, call::EndedCall, context::Context, time::Instant};

/// What another worker may still change after a takeover.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    /// Whether a job of this image was redelivered since the lane came up.
    redelivered: bool,
    /// Accounts with early outcomes.
    early: BTreeSet<Key<Account>>,
    /// From when on a listing shows our own early writes.
    shown_from: Instant,
}

impl Takeover {
    /// A redelivered job arrived: another worker may have worked on it.
    pub(super) const fn redelivered(&mut self) {
        self.redelivered = true;
    }

    /// An item of this account has an early outcome.
    pub(super) fn add_early(&mut self, account: Key<Account>) {
        self.early.insert(account);
    }

    /// An early outcome rests on our own write, which listings show from then on.
    pub(super) fn note_early_write(&mut self, shown_from: Instant) {
        self.shown_from = self.shown_from.max(shown_from);
    }

    pub(super) fn forget_jobs(&mut self) {
        self.early.clear();
    }
}

impl Context<'_> {
    /// Whether a call began before its lane came up, where another worker may have had the lane since.
    pub(super) fn is_from_before(&self, call: &EndedCall) -> bool {
        self.has_takeover_checks() && call.began < self.lane.up_at
    }

    /// From when on a listing shows all calls of an earlier worker.
    fn takeover_check_at(&self) -> Instant {
        self.lane.up_at + self.limits.write_lag + self.limits.read_lag
    }

    /// The same, if another worker may have had the lane.
    pub(super) fn takeover_check_from(&self) -> Option<Instant> {
        self.has_takeover_checks().then(|| self.takeover_check_at())
    }
}

impl Image {
    /// The lane came up. Another worker may have changed the image meanwhile: listings, our own writes and an observed cap from
    /// before show nothing. Such a write is still one that a listing may not show yet, and writes stay in doubt.
    pub(crate) fn lane_up(&mut self, cx: &mut Context<'_>) {
        self.takeover.redelivered = false;
        if cx.has_takeover_checks() {
            // Neither the list nor the count contains what another worker changed.
            self.listings.forget();
            self.quota.forget_count();
            let accounts: Vec<_> = self.store.accounts().map(|(_, account)| account).collect();
            for account in accounts {
                if let Some(history) = self.store.get_history_mut(account) {
                    // Not dropped: a listing may still show the state before our write, and must not count as proof.
                    history.distrust();
                }
            }
        }
        self.forget_refused_listing(cx);
    }

    /// Whether a call of an earlier worker may still contradict an outcome that is known in this way.
    ///
    /// It cannot contradict a change that a response to our own write showed, if no job of the image was redelivered: no
    /// other worker worked on it. A listing may be contradicted, even one that shows our own write: it may show the state from before an
    /// earlier worker changed it back.
    pub(super) fn is_early(&self, cx: &Context<'_>, done: Done, known: Known) -> bool {
        let Some(check_from) = cx.takeover_check_from() else { return false };
        let is_concerned = self.takeover.redelivered || known.is_listed() || done == Done::Unchanged;
        // A response to our write needs no read lag: it is not a listing that may be stale.
        let safe_from = if known.is_listed() { check_from } else { check_from - cx.limits.read_lag };
        is_concerned && known.since() < safe_from
    }

    /// Returns from when on a listing shows no state from before the lane came up; `None` if `known` cannot show such a
    /// state.
    pub(super) fn assumed_until(cx: &Context<'_>, known: Known) -> Option<Instant> {
        let shown_from = cx.lane.up_at + cx.limits.read_lag;
        (cx.has_takeover_checks() && known.is_listed() && known.since() < shown_from).then_some(shown_from)
    }

    /// Whether an opposite operation of the same account follows the one of this item.
    pub(super) fn is_opposite_behind(&self, front: Key<Item>) -> bool {
        let permission = self.store.item(front).permission();
        self.store.items_from(Some(front)).any(|(_, item)| item.is_open() && item.permission() != permission)
    }

    /// Opens what was assumed before the operation at the front, if that one is the opposite.
    pub(super) fn reopen_assumed(&mut self, cx: &Context<'_>, account: Key<Account>) {
        let Some(permission) = self.store.requested(account) else { return };
        let is_wrong = |item: &Item| item.state() == ItemState::Assumed && item.permission() != permission;
        let items = self.store.items_of(account).filter(|(_, item)| is_wrong(item));
        let assumed: Vec<_> = items.map(|(key, _)| key).collect();
        let Some(&first) = assumed.first() else { return };
        for &item in &assumed {
            self.store.set_state(item, ItemState::Open);
        }
        if !self.has_early(account) {
            self.takeover.early.remove(&account);
        }
        // The assumed items come before the front, so the operation begins with them.
        self.begin_operation(cx, account, Some(first));
    }

    fn has_early(&self, account: Key<Account>) -> bool {
        self.store.items_of(account).any(|(_, item)| item.state().early().is_some())
    }

    /// When the early outcomes of an image can be listed again. A listing that began while one of our writes was in flight
    /// may not show it, and the write would be sent again for nothing.
    pub(super) fn takeover_check_at(&self, cx: &Context<'_>) -> Option<Instant> {
        (!self.takeover.early.is_empty()).then(|| cx.takeover_check_at().max(self.takeover.shown_from))
    }

    /// Once calls of an earlier worker can no longer take effect, early outcomes are listed again.
    pub(super) fn run_takeover_check(&mut self, cx: &mut Context<'_>) {
        let Some(from) = self.takeover_check_at(cx).filter(|&from| from <= cx.now) else { return };
        if self.listings.since(from).is_some() || self.listings.refused(cx.now).is_some() {
            self.check_early_outcomes(cx);
        // When the one in flight ends, this is checked again.
        } else if !self.listings.is_in_flight() {
            self.listings.want(from);
        }
    }

    /// Compares early outcomes with a listing that calls of an earlier worker cannot contradict. What does not agree is sent
    /// again; without listings, everything is.
    pub(super) fn check_early_outcomes(&mut self, cx: &mut Context<'_>) {
        let Some(from) = self.takeover_check_at(cx) else { return };
        let can_list = self.listings.refused(cx.now).is_none();
        if cx.now < from || (can_list && self.listings.since(from).is_none()) {
            return;
        }
        if !can_list {
            // The last listing is too early to prove anything.
            self.listings.forget();
        }
        self.backlogs.add(core::mem::take(&mut self.takeover.early), Step::CheckTakeover);
    }

    /// The same for one account.
    pub(super) fn check_early_account(&mut self, cx: &mut Context<'_>, account: Key<Account>) {
        let refuted = self.refuted(account);
        if refuted.is_some() && self.store.items_of(account).any(|(_, item)| item.is_open()) {
            // A later operation is under way, and may fail: when it ends, the account is checked again.
            return;
        }
        // Also where nothing was refuted: the items are final now and their jobs can be settled.
        self.confirm(cx, account, refuted);
        if refuted.is_some() {
            // The account was changed back, or may have been where nothing can be listed.
            if let Some(history) = self.store.get_history_mut(account) {
                history.distrust();
            }
            self.decide(cx, account);
        }
    }

    /// The permission of the last operation that is done, if the outcome is early and the listing does not agree. A later
    /// operation that is done finally has its own write; one that failed has changed nothing.
    fn refuted(&self, account: Key<Account>) -> Option<Permission> {
        let is_done = |item: &Item| !matches!(item.state(), ItemState::Open | ItemState::Failed);
        let (_, last) = self.store.items_of(account).filter(|(_, item)| is_done(item)).last()?;
        last.state().early()?;
        let listing = self.listings.newest();
        let shown = listing.and_then(|listing| listing.shows(self.store.id(account))).map(Permission::of_presence);
        (shown != Some(last.permission())).then_some(last.permission())
    }

    /// The last operation of an account ended. If an earlier one has an early outcome, that one may be the last that counts.
    pub(super) fn recheck_early(&mut self, account: Key<Account>) {
        if self.has_early(account) {
            self.takeover.add_early(account);
        }
    }

    /// The early outcomes become final without a check, since the lane ends.
    pub(super) fn confirm_all(&mut self, cx: &Context<'_>) {
        for account in core::mem::take(&mut self.takeover.early) {
            self.confirm(cx, account, None);
        }
    }

    /// Makes the early outcomes of an account final. If the last operation, of this permission, is refuted, its items are open
    /// again.
    fn confirm(&mut self, cx: &Context<'_>, account: Key<Account>, refuted: Option<Permission>) {
        let items = self.store.items_of(account);
        let early: Vec<_> =
            items.filter_map(|(key, item)| Some((key, item.permission(), item.state().early()?))).collect();
        let is_other = |&(_, permission, _): &(Key<Item>, Permission, Done)| Some(permission) != refuted;
        let confirmed = early.iter().rposition(is_other).map_or(0, |last| last + 1);
        // Only the last operation is sent again: earlier ones were superseded by it, whatever the account is now.
        let (confirmed, reopened) = early.split_at(confirmed);
        for &(item, _, done) in confirmed {
            self.store.set_state(item, ItemState::Done(done));
            self.item_decided(self.store.item(item).job());
        }
        for &(item, ..) in reopened {
            self.store.set_state(item, ItemState::Open);
        }
        if let Some(&(first, ..)) = reopened.first() {
            self.begin_operation(cx, account, Some(first));
            // The write that was sent for it still counts, whatever the next listing shows.
            self.store.set_sends(account, u8::from(reopened.iter().any(|&(.., done)| done == Done::Changed)));
        }
    }
}
