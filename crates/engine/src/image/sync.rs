//! The mode SYNC: make the image's list exactly this one. A barrier in its image on both sides.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::{Permission, ids::AccountId};

use super::{
    Image, RefusedListing,
    account::{Wish, WishState},
    failure,
    ticket::Ticket,
};
use crate::{
    arena::Key,
    call::{EndedCall, Kind},
    context::Context,
    job::{AccountOutcome, Failure, local},
    time::Instant,
};

/// The SYNC that is under way on an image.
#[derive(Debug)]
pub(super) struct Sync {
    pub(super) ticket: Key<Ticket>,
    pub(super) phase: Phase,
    /// When it began: an earlier listing is not its own.
    since: Instant,
    /// How often the last reading found something to send again.
    rounds: u32,
    /// Accounts that the last reading listed although they were neither wished nor there at the beginning.
    strangers: Vec<AccountId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It waits for the reading from which it finds out what to do.
    First,
    /// Its wishes are carried out.
    Working,
    /// It waits for the reading that shows that they were.
    Last,
    Over,
}

impl Image {
    pub(super) fn begin_sync(&mut self, cx: &mut Context<'_>, ticket: Key<Ticket>) {
        self.sync = Some(Sync { ticket, phase: Phase::First, since: cx.now, rounds: 0, strangers: Vec::new() });
        let cap = self.quota.cap(cx.limits.cap, cx.now);
        let mut wished = self.store.tickets[ticket].account_ids.to_vec();
        wished.sort_unstable();
        wished.dedup();
        if wished.len() > cap as usize {
            let message = alloc::format!("{} accounts are wished and the image may be shared with {cap}", wished.len());
            return self.fail_sync(cx, ticket, &failure(local::OVER_QUOTA, message, None));
        }
        match self.own_refusal(cx, ticket).filter(|refused| refused.is_final) {
            Some(refused) => {
                let refused = refused.failure.clone();
                self.fail_sync(cx, ticket, &refused);
            }
            None => self.ask_for_listing(cx),
        }
    }

    /// The refusal of a listing that was made for this SYNC, and late enough.
    fn own_refusal(&self, cx: &Context<'_>, ticket: Key<Ticket>) -> Option<&RefusedListing> {
        let (seq, from) = (self.store.tickets[ticket].seq, self.believable_from(cx));
        self.unreadable(cx.now).filter(|refused| refused.seq > seq && refused.began >= from)
    }

    /// Whether a SYNC waits for the listing that this call was to bring, before it can begin.
    pub(super) fn is_needed_by_sync(&self, call: &EndedCall) -> bool {
        let first = self.sync.as_ref().filter(|sync| sync.phase == Phase::First);
        first.is_some_and(|sync| self.store.tickets[sync.ticket].seq < call.seq)
    }

    /// Asks for the listing that a SYNC waits for: while listings are refused, not before the next try is due.
    fn ask_for_listing(&mut self, cx: &mut Context<'_>) {
        let spaced = self.unreadable(cx.now).map(|refused| refused.until.min(refused.at + Self::SYNC_LISTING_PAUSE));
        let denied = self.denied.as_ref().filter(|denied| denied.kind == Kind::ReadShares).map(|denied| denied.again);
        let from = [Some(self.believable_from(cx)), spaced, denied].into_iter().flatten().max();
        self.want_reading(from.unwrap_or_default());
    }

    /// From when on a reading is believed for every account of an image: past our last write, past every doubt, and past
    /// what a worker before may have written just before it left, whether it was answered or not.
    pub(super) fn believable_from(&self, cx: &Context<'_>) -> Instant {
        let written = self.last_write.map(|at| at + cx.limits.read_delay);
        let doubts = self.store.by_id.values().filter_map(|&account| self.store.accounts[account].history);
        let landed = doubts.filter_map(|history| self.store.histories[history].doubt).map(|(_, until)| until).max();
        let guard = cx.guard_ends();
        let after_landing = landed.map(|until| until + cx.limits.read_delay);
        [written, after_landing, guard].into_iter().flatten().max().unwrap_or_default()
    }

    /// A reading came, or was refused: goes on with the SYNC that waited for it.
    pub(super) fn sync_read(&mut self, cx: &mut Context<'_>) {
        let Some(sync) = &self.sync else { return };
        let (ticket, phase, since) = (sync.ticket, sync.phase, sync.since);
        if !matches!(phase, Phase::First | Phase::Last) {
            return;
        }
        match (phase, self.own_refusal(cx, ticket)) {
            (Phase::First, Some(refused)) if refused.is_final => {
                let refused = refused.failure.clone();
                return self.fail_sync(cx, ticket, &refused);
            }
            (Phase::Last, Some(_)) => return self.sync_done(ticket),
            _ => {}
        }
        let from = self.believable_from(cx).max(since);
        let Some(reading) = self.reading.as_ref().filter(|reading| reading.began >= from) else {
            return self.ask_for_listing(cx);
        };
        let listed = reading.accounts.clone();
        match phase {
            Phase::First => self.plan_sync(cx, ticket, &listed),
            _ => self.check_sync(cx, ticket, &listed),
        }
    }

    /// Turns the difference between what is listed and what is wished into wishes, once.
    fn plan_sync(&mut self, cx: &mut Context<'_>, ticket: Key<Ticket>, listed: &[AccountId]) {
        let wished = self.store.tickets[ticket].account_ids.clone();
        let mut sorted = wished.to_vec();
        sorted.sort_unstable();
        let goes = |account: &AccountId| sorted.binary_search(account).is_err();
        let going: Vec<_> = listed.iter().copied().filter(goes).collect();
        let allowed = listed.len() * cx.limits.brake_percent as usize / 100;
        if going.len() > allowed && !self.store.tickets[ticket].force {
            let message = alloc::format!(
                "would cancel {} of the {} accounts that have the image, more than {} %; \"force\": true does it",
                going.len(),
                listed.len(),
                cx.limits.brake_percent
            );
            return self.fail_sync(cx, ticket, &failure(local::BRAKE, message, None));
        }
        self.set_phase(Phase::Working);
        self.take_accounts(ticket);
        self.wish_for(cx, ticket, Permission::Cancel, &going, true);
        self.wish_for(cx, ticket, Permission::Share, &wished, false);
    }

    /// Whether a SYNC whose wishes all have outcomes can be settled; if not, asks for its last reading.
    pub(super) fn sync_is_over(&mut self, cx: &mut Context<'_>, ticket: Key<Ticket>) -> bool {
        let Some(sync) = &self.sync else { return true };
        match sync.phase {
            Phase::Over => true,
            Phase::Working if self.store.tickets[ticket].requests == 0 => true,
            Phase::Working => {
                self.set_phase(Phase::Last);
                self.sync_read(cx);
                false
            }
            Phase::First | Phase::Last => false,
        }
    }

    /// Compares the outcomes with the last reading. What does not agree is sent again, as often as an operation is
    /// tried.
    fn check_sync(&mut self, cx: &mut Context<'_>, ticket: Key<Ticket>, listed: &[AccountId]) {
        let mut disagree = Vec::new();
        let mut named = Vec::new();
        let mut next = self.store.tickets[ticket].first;
        while let Some(wish) = next {
            let found = &self.store.wishes[wish];
            let account_id = self.store.accounts[found.account].id;
            named.push(account_id);
            let shown = self.reading.as_ref().and_then(|reading| reading.shows(account_id));
            let done = matches!(found.state, WishState::Done(_));
            if done && shown.is_some_and(|shown| Permission::of_presence(shown) != found.permission) {
                disagree.push(wish);
            }
            next = found.next_in_ticket;
        }
        named.sort_unstable();
        let strangers = listed.iter().copied().filter(|account| named.binary_search(account).is_err()).collect();
        let attempts = cx.limits.attempts;
        let Some(sync) = &mut self.sync else { return };
        sync.rounds += 1;
        sync.strangers = strangers;
        let again = sync.rounds < attempts;
        if disagree.is_empty() {
            return self.sync_done(ticket);
        }
        if again {
            self.set_phase(Phase::Working);
        }
        for wish in disagree {
            self.reopen(cx, wish, again);
        }
        if !again {
            self.sync_done(ticket);
        }
    }

    /// A wish that was done is found not to be so: it is open again, or failed if that was tried often enough.
    fn reopen(&mut self, cx: &mut Context<'_>, wish: Key<Wish>, again: bool) {
        let (ticket, account) = (self.store.wishes[wish].ticket, self.store.wishes[wish].account);
        if again {
            self.store.wishes[wish].state = WishState::Open;
            self.store.tickets[ticket].open += 1;
            self.begin_operation(cx, account, Some(wish));
            self.decide(cx, account);
        } else {
            self.store.wishes[wish].state = WishState::Failed;
            let message = "the API accepted it and the list of the image still does not show it";
            self.store.failures.insert(wish, failure(local::NO_ANSWER, message, None));
        }
    }

    fn sync_done(&mut self, ticket: Key<Ticket>) {
        self.set_phase(Phase::Over);
        self.finished.push_back(ticket);
    }

    /// Ends a SYNC. Gives what the last reading listed although nobody wished it.
    pub(super) fn end_sync(&mut self, ticket: Key<Ticket>) -> Vec<(AccountId, AccountOutcome)> {
        let Some(sync) = self.sync.take_if(|sync| sync.ticket == ticket) else { return Vec::new() };
        let message = "is listed although it was not at the beginning: shared by somebody else, or the list is cut";
        let stranger = failure(local::NO_ANSWER, message, None);
        let failed = |account| (account, AccountOutcome::Failed(stranger.clone()));
        sync.strangers.into_iter().map(failed).collect()
    }

    /// A SYNC that never begins: all its accounts fail for one reason.
    pub(super) fn fail_sync(&mut self, cx: &Context<'_>, ticket: Key<Ticket>, failure: &Arc<Failure>) {
        self.set_phase(Phase::Over);
        for &account_id in &self.take_accounts(ticket) {
            self.add_wish(ticket, Permission::Share, account_id, false);
        }
        let mut next = self.store.tickets[ticket].first;
        while let Some(wish) = next {
            next = self.store.wishes[wish].next_in_ticket;
            if self.store.wishes[wish].state == WishState::Open {
                self.fail_front(cx, self.store.wishes[wish].account, failure);
            }
        }
        self.finished.push_back(ticket);
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(sync) = &mut self.sync {
            sync.phase = phase;
        }
    }
}
