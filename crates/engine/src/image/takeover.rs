//! Rule 3, second part: calls of a worker before may land after a lane came up, so what is found then is read once more.

use alloc::vec::Vec;

use imageshare_core::Permission;

use super::{
    Image, Quota,
    account::{Account, Done, Wish, WishState},
    backlog::Step,
    decide::Known,
};
use crate::{arena::Key, call::EndedCall, context::Context, time::Instant};

impl Context<'_> {
    /// Whether a call began before its lane came up, where another worker may have had the lane since.
    pub(super) fn is_from_before(&self, call: &EndedCall) -> bool {
        self.limits.guard && call.began < self.lane.up_at
    }

    /// When a listing can no longer miss the work of a call of a worker before.
    fn shown_from(&self) -> Instant {
        self.lane.up_at + self.limits.landing + self.limits.read_delay
    }

    /// The same, where another worker may have had the lane.
    pub(super) fn guard_ends(&self) -> Option<Instant> {
        self.limits.guard.then(|| self.shown_from())
    }
}

impl Image {
    /// Whether an outcome, known in this way, may still be undone by a call of a worker before.
    ///
    /// An answer to our own write on an image of which no ticket came again can not: nobody else was at work there. A
    /// reading can, even one that shows our own work, since it may show a state from before a worker before us undid
    /// the same.
    pub(super) fn is_provisional(&self, cx: &Context<'_>, done: Done, known: Known) -> bool {
        let image = &self;
        let Some(read_from) = cx.guard_ends() else { return false };
        let concerned = image.redelivered || known.read || done == Done::Unchanged;
        let safe_from = if known.read { read_from } else { read_from - cx.limits.read_delay };
        concerned && known.since < safe_from
    }

    /// From when on a reading shows no state from before the lane came up, if this one may.
    pub(super) fn assumed_until(cx: &Context<'_>, known: Known) -> Option<Instant> {
        let shown_from = cx.lane.up_at + cx.limits.read_delay;
        (cx.limits.guard && known.read && known.since < shown_from).then_some(shown_from)
    }

    /// Whether another operation of the same account follows the one of this wish.
    pub(super) fn is_opposite_behind(&self, front: Key<Wish>) -> bool {
        let permission = self.store.wishes[front].permission;
        self.wishes_from(Some(front)).any(|(_, wish)| wish.state == WishState::Open && wish.permission != permission)
    }

    /// Opens what was assumed before the operation at the front, if that one is the opposite.
    pub(super) fn reopen_assumed(&mut self, cx: &Context<'_>, account: Key<Account>) {
        let Some(front) = self.store.accounts[account].front else { return };
        let permission = self.store.wishes[front].permission;
        let (mut first, mut is_provisional) = (None, false);
        let mut next = self.store.accounts[account].head;
        while let Some(wish) = next {
            let found = &mut self.store.wishes[wish];
            if found.state == WishState::Assumed && found.permission != permission {
                found.state = WishState::Open;
                first = first.or(Some(wish));
            }
            is_provisional |= found.state.provisional().is_some();
            next = found.next_in_account;
        }
        if first.is_none() {
            return;
        }
        if !is_provisional {
            self.provisional.remove(&account);
        }
        self.begin_operation(cx, account, first);
    }

    /// The lane came up, and another worker may have changed the image since this one had it: the last listing, our own
    /// writes from before and a cap learned then show nothing of it. Such a write still counts as one that a listing may
    /// not show yet, and what is in doubt stays so.
    pub(super) fn distrust(&mut self) {
        self.reading = None;
        self.quota = Quota { seen: self.quota.seen, list_max: self.quota.list_max, ..Quota::default() };
        for &account in self.store.by_id.values() {
            let Some(history) = self.store.accounts[account].history else { continue };
            let history = &mut self.store.histories[history];
            if let Some((permission, at)) = history.accepted.take() {
                history.suspect(permission, at);
            }
        }
    }

    /// When the provisional outcomes of an image can be read once more.
    pub(super) fn guard_from(&self, cx: &Context<'_>) -> Option<Instant> {
        if self.provisional.is_empty() {
            return None;
        }
        Some(cx.shown_from())
    }

    /// When calls of a worker before can no longer land, what was found until then is read once more.
    pub(super) fn guard_due(&mut self, cx: &mut Context<'_>) {
        let Some(from) = self.guard_from(cx).filter(|&from| from <= cx.now) else { return };
        let read = self.reading.as_ref().is_some_and(|reading| reading.began >= from);
        if read || self.unreadable(cx.now).is_some() {
            self.check_provisional(cx);
        } else if self.read.in_flight.is_none() {
            self.want_reading(from);
        }
    }

    /// Compares the provisional outcomes with a reading that no call of a worker before can make untrue. What does not
    /// agree is sent again. Without the right to read, everything is.
    pub(super) fn check_provisional(&mut self, cx: &mut Context<'_>) {
        let Some(from) = self.guard_from(cx) else { return };
        let readable = self.unreadable(cx.now).is_none();
        if cx.now < from || (readable && self.reading.as_ref().is_none_or(|reading| reading.began < from)) {
            return;
        }
        if !readable {
            // The last reading is from before they could no longer land, so it proves nothing.
            self.reading = None;
        }
        let provisional = core::mem::take(&mut self.provisional);
        self.add_backlog(provisional.into_iter().collect(), Step::Confirm);
    }

    /// The same for one account.
    pub(super) fn compare_provisional(&mut self, cx: &mut Context<'_>, account: Key<Account>) {
        let (last, is_any_open) = self.last_word(account);
        // Where a later operation was done by now, its own write has the last word.
        let doubted = last.filter(|&wish| self.is_provisional_wish(wish) && !self.agrees(account, wish));
        if doubted.is_some() && is_any_open {
            // A later operation is under way, and may fail: when it ends, the account is looked at again.
            return;
        }
        self.confirm(cx, account, doubted);
        if doubted.is_some() {
            self.send_again(cx, account);
        }
    }

    /// Whether the reading shows an account to be as wished.
    fn agrees(&self, account: Key<Account>, wish: Key<Wish>) -> bool {
        let reading = self.reading.as_ref();
        let shown = reading.and_then(|reading| reading.shows(self.store.accounts[account].id));
        shown.map(Permission::of_presence) == Some(self.store.wishes[wish].permission)
    }

    /// The last operation of an account ended. If an earlier one has a provisional outcome that a reading did not agree
    /// with, that one may have the last word again.
    pub(super) fn look_at_provisional(&mut self, account: Key<Account>) {
        let found = &self.store.accounts[account];
        if self.wishes_from(found.head).any(|(_, wish)| wish.state.provisional().is_some()) {
            self.provisional.insert(account);
        }
    }

    /// The wishes of an account from this one on, in order.
    pub(super) fn wishes_from(&self, first: Option<Key<Wish>>) -> impl Iterator<Item = (Key<Wish>, &Wish)> {
        let with_key = |key: Key<Wish>| (key, &self.store.wishes[key]);
        core::iter::successors(first.map(with_key), move |(_, wish)| wish.next_in_account.map(with_key))
    }

    /// Gives up on knowing better: the provisional outcomes become final.
    pub(super) fn confirm_all(&mut self, cx: &Context<'_>) {
        for account in core::mem::take(&mut self.provisional) {
            self.confirm(cx, account, None);
        }
    }

    /// The last wish of an account that is done, if only provisionally, and whether there are others that are not
    /// decided. One that failed, such as an expired one, has changed nothing.
    fn last_word(&self, account: Key<Account>) -> (Option<Key<Wish>>, bool) {
        let (mut last, mut is_any_open) = (None, false);
        for (key, wish) in self.wishes_from(self.store.accounts[account].head) {
            match wish.state {
                WishState::Open => is_any_open = true,
                WishState::Assumed | WishState::Provisional(_) | WishState::Done(_) => last = Some(key),
                WishState::Failed => {}
            }
        }
        (last, is_any_open)
    }

    fn is_provisional_wish(&self, wish: Key<Wish>) -> bool {
        self.store.wishes[wish].state.provisional().is_some()
    }

    /// Makes the provisional outcomes of an account final, but for those of the last operation if it is doubted: these
    /// are open again.
    fn confirm(&mut self, cx: &Context<'_>, account: Key<Account>, doubted: Option<Key<Wish>>) {
        let permission = doubted.map(|wish| self.store.wishes[wish].permission);
        let wishes = self.wishes_from(self.store.accounts[account].head);
        let provisional: Vec<_> =
            wishes.filter_map(|(key, wish)| Some((key, wish.permission, wish.state.provisional()?))).collect();
        let kept = provisional.iter().rposition(|&(_, other, _)| Some(other) != permission).map_or(0, |last| last + 1);
        let reopened = if doubted.is_some() { kept } else { provisional.len() };
        for &(wish, _, done) in &provisional[..reopened] {
            self.store.wishes[wish].state = WishState::Done(done);
            self.wish_decided(self.store.wishes[wish].ticket);
        }
        for &(wish, ..) in &provisional[reopened..] {
            self.store.wishes[wish].state = WishState::Open;
        }
        let open_again = &provisional[reopened..];
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
            history.suspect(permission, at);
        }
        self.decide(cx, account);
    }
}
