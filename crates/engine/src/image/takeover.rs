//! Takeover checks: calls of another worker may land after a lane came up, so what was found until then is listed again.

use alloc::{collections::BTreeSet, vec::Vec};

use imageshare_core::Permission;

use super::{
    Image,
    account::{Account, Done, Item, ItemState},
    backlog::Step,
    decide::Known,
};
use crate::{arena::Key, call::EndedCall, context::Context, time::Instant};

/// What another worker may still undo after a takeover.
#[derive(Debug, Default)]
pub(super) struct Takeover {
    /// Whether a job of this image was redelivered since the lane came up.
    redelivered: bool,
    /// Accounts with items that are done provisionally.
    early: BTreeSet<Key<Account>>,
}

impl Takeover {
    /// A redelivered job arrived: another worker may have worked on it.
    pub(super) const fn redelivered(&mut self) {
        self.redelivered = true;
    }

    /// The lane came up: what is redelivered from now on counts.
    pub(super) const fn begin(&mut self) {
        self.redelivered = false;
    }

    /// An item of this account is done provisionally.
    pub(super) fn doubt(&mut self, account: Key<Account>) {
        self.early.insert(account);
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

    /// When a listing can no longer miss the work of a call of a worker before.
    fn shown_from(&self) -> Instant {
        self.lane.up_at + self.limits.write_lag + self.limits.read_lag
    }

    /// The same, where another worker may have had the lane.
    pub(super) fn takeover_check_from(&self) -> Option<Instant> {
        self.has_takeover_checks().then(|| self.shown_from())
    }
}

impl Image {
    /// Whether an outcome, known in this way, may still be undone by a call of a worker before.
    ///
    /// An answer to our own write on an image of which no job was redelivered cannot: no other worker was at work there. A
    /// listing can, even one that shows our own work, since it may show a state from before a worker before us undid
    /// the same.
    pub(super) fn is_early(&self, cx: &Context<'_>, done: Done, known: Known) -> bool {
        let Some(read_from) = cx.takeover_check_from() else { return false };
        let concerned = self.takeover.redelivered || known.read || done == Done::Unchanged;
        let safe_from = if known.read { read_from } else { read_from - cx.limits.read_lag };
        concerned && known.since < safe_from
    }

    /// From when on a listing shows no state from before the lane came up, if this one may.
    pub(super) fn assumed_until(cx: &Context<'_>, known: Known) -> Option<Instant> {
        let shown_from = cx.lane.up_at + cx.limits.read_lag;
        (cx.has_takeover_checks() && known.read && known.since < shown_from).then_some(shown_from)
    }

    /// Whether another operation of the same account follows the one of this item.
    pub(super) fn is_opposite_behind(&self, front: Key<Item>) -> bool {
        let permission = self.store.items[front].permission;
        self.items_from(Some(front)).any(|(_, item)| item.state == ItemState::Open && item.permission != permission)
    }

    /// Opens what was assumed before the operation at the front, if that one is the opposite.
    pub(super) fn reopen_assumed(&mut self, cx: &Context<'_>, account: Key<Account>) {
        let Some(front) = self.store.accounts[account].front else { return };
        let permission = self.store.items[front].permission;
        let (mut first, mut is_early) = (None, false);
        let mut next = self.store.accounts[account].head;
        while let Some(item) = next {
            let found = &mut self.store.items[item];
            if found.state == ItemState::Assumed && found.permission != permission {
                found.state = ItemState::Open;
                first = first.or(Some(item));
            }
            is_early |= found.state.early().is_some();
            next = found.next_in_account;
        }
        if first.is_none() {
            return;
        }
        if !is_early {
            self.takeover.early.remove(&account);
        }
        self.begin_operation(cx, account, first);
    }

    /// The lane came up, and another worker may have changed the image since this one had it: the last listing, our own
    /// writes from before and a cap learned then show nothing of it. Such a write still counts as one that a listing may
    /// not show yet, and what is in doubt stays so.
    pub(super) fn distrust(&mut self) {
        self.listings.forget();
        self.quota.distrust();
        for &account in self.store.by_id.values() {
            let Some(history) = self.store.accounts[account].history else { continue };
            let history = &mut self.store.histories[history];
            if let Some((permission, at)) = history.accepted.take() {
                history.note_maybe_applied(permission, at);
            }
        }
    }

    /// When the provisional outcomes of an image can be read once more.
    pub(super) fn takeover_check_at(&self, cx: &Context<'_>) -> Option<Instant> {
        if self.takeover.early.is_empty() {
            return None;
        }
        Some(cx.shown_from())
    }

    /// When calls of a worker before can no longer land, what was found until then is read once more.
    pub(super) fn run_takeover_check(&mut self, cx: &mut Context<'_>) {
        let Some(from) = self.takeover_check_at(cx).filter(|&from| from <= cx.now) else { return };
        let read = self.listings.since(from).is_some();
        if read || self.listings.refused(cx.now).is_some() {
            self.check_early_outcomes(cx);
        } else if !self.listings.is_in_flight() {
            self.listings.want(from);
        }
    }

    /// Compares the provisional outcomes with a listing that no call of a worker before can make untrue. What does not
    /// agree is sent again. Without the right to read, everything is.
    pub(super) fn check_early_outcomes(&mut self, cx: &mut Context<'_>) {
        let Some(from) = self.takeover_check_at(cx) else { return };
        let can_list = self.listings.refused(cx.now).is_none();
        if cx.now < from || (can_list && self.listings.since(from).is_none()) {
            return;
        }
        if !can_list {
            // The last listing is from before they could no longer land, so it proves nothing.
            self.listings.forget();
        }
        let early = core::mem::take(&mut self.takeover.early);
        self.backlogs.add(early.into_iter().collect(), Step::Confirm);
    }

    /// The same for one account.
    pub(super) fn check_early_account(&mut self, cx: &mut Context<'_>, account: Key<Account>) {
        let (last, is_any_open) = self.last_word(account);
        // Where a later operation was done by now, its own write has the last word.
        let doubted = last.filter(|&item| self.is_early_item(item) && !self.agrees(account, item));
        if doubted.is_some() && is_any_open {
            // A later operation is under way, and may fail: when it ends, the account is looked at again.
            return;
        }
        self.confirm(cx, account, doubted);
        if doubted.is_some() {
            self.send_again(cx, account);
        }
    }

    /// Whether the listing shows an account to be as requested.
    fn agrees(&self, account: Key<Account>, item: Key<Item>) -> bool {
        let listing = self.listings.newest();
        let shown = listing.and_then(|listing| listing.shows(self.store.accounts[account].id));
        shown.map(Permission::of_presence) == Some(self.store.items[item].permission)
    }

    /// The last operation of an account ended. If an earlier one has a provisional outcome that a listing did not agree
    /// with, that one may have the last word again.
    pub(super) fn recheck_early(&mut self, account: Key<Account>) {
        let found = &self.store.accounts[account];
        if self.items_from(found.head).any(|(_, item)| item.state.early().is_some()) {
            self.takeover.doubt(account);
        }
    }

    /// The items of an account from this one on, in order.
    pub(super) fn items_from(&self, first: Option<Key<Item>>) -> impl Iterator<Item = (Key<Item>, &Item)> {
        let with_key = |key: Key<Item>| (key, &self.store.items[key]);
        core::iter::successors(first.map(with_key), move |(_, item)| item.next_in_account.map(with_key))
    }

    /// Gives up on knowing better: the provisional outcomes become final.
    pub(super) fn confirm_all(&mut self, cx: &Context<'_>) {
        for account in core::mem::take(&mut self.takeover.early) {
            self.confirm(cx, account, None);
        }
    }

    /// The last item of an account that is done, if only provisionally, and whether there are others that are not
    /// decided. One that failed, such as an expired one, has changed nothing.
    fn last_word(&self, account: Key<Account>) -> (Option<Key<Item>>, bool) {
        let (mut last, mut is_any_open) = (None, false);
        for (key, item) in self.items_from(self.store.accounts[account].head) {
            match item.state {
                ItemState::Open => is_any_open = true,
                ItemState::Assumed | ItemState::Early(_) | ItemState::Done(_) => last = Some(key),
                ItemState::Failed => {}
            }
        }
        (last, is_any_open)
    }

    fn is_early_item(&self, item: Key<Item>) -> bool {
        self.store.items[item].state.early().is_some()
    }

    /// Makes the provisional outcomes of an account final, but for those of the last operation if it is doubted: these
    /// are open again.
    fn confirm(&mut self, cx: &Context<'_>, account: Key<Account>, doubted: Option<Key<Item>>) {
        let permission = doubted.map(|item| self.store.items[item].permission);
        let items = self.items_from(self.store.accounts[account].head);
        let early: Vec<_> = items.filter_map(|(key, item)| Some((key, item.permission, item.state.early()?))).collect();
        let kept = early.iter().rposition(|&(_, other, _)| Some(other) != permission).map_or(0, |last| last + 1);
        let reopened = if doubted.is_some() { kept } else { early.len() };
        for &(item, _, done) in &early[..reopened] {
            self.store.items[item].state = ItemState::Done(done);
            self.item_decided(self.store.items[item].job);
        }
        for &(item, ..) in &early[reopened..] {
            self.store.items[item].state = ItemState::Open;
        }
        let open_again = &early[reopened..];
        if let Some(&(first, ..)) = open_again.first() {
            self.begin_operation(cx, account, Some(first));
            // The write that was sent for it stays one, whatever the next one finds.
            self.store.accounts[account].sends = u8::from(open_again.iter().any(|&(.., done)| done == Done::Changed));
        }
    }

    /// What was believed of an account has been undone, or may have been where nothing can be read.
    fn send_again(&mut self, cx: &mut Context<'_>, account: Key<Account>) {
        let history = self.history(account);
        if let Some((permission, at)) = history.accepted.take() {
            history.note_maybe_applied(permission, at);
        }
        self.decide(cx, account);
    }
}
