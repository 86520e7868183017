//! The mode SYNC: make the image's list exactly this one. A barrier in its image on both sides.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::{Permission, ids::AccountId};

use super::{
    Image,
    account::{Item, ItemState},
    failure,
    held_job::HeldJob,
    listing::RefusedListing,
    obstacle::NotPermitted,
};
use crate::{
    arena::Key,
    call::EndedCall,
    context::Context,
    job::{AccountOutcome, Failure, local},
    time::Instant,
};

/// The SYNC that is under way on an image.
#[derive(Debug)]
pub(super) struct Sync {
    job: Key<HeldJob>,
    phase: Phase,
    /// When it began: an earlier listing is not its own.
    since: Instant,
    /// How often the last listing found something to send again.
    rounds: u32,
    /// Accounts that the last listing listed although they were neither requested nor there at the beginning.
    strangers: Vec<AccountId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It waits for the listing from which it finds out what to do.
    First,
    /// Its items are carried out.
    Working,
    /// It waits for the listing that shows that they were.
    Last,
    Over,
}

impl Sync {
    pub(super) const fn job(&self) -> Key<HeldJob> {
        self.job
    }
}

impl Image {
    pub(super) fn begin_sync(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>) {
        self.sync = Some(Sync { job, phase: Phase::First, since: cx.now, rounds: 0, strangers: Vec::new() });
        let cap = self.quota.cap(cx.limits.cap, cx.now);
        let mut requested = self.store.jobs[job].account_ids.to_vec();
        requested.sort_unstable();
        requested.dedup();
        if requested.len() > cap as usize {
            let message =
                alloc::format!("{} accounts are requested and the image may be shared with {cap}", requested.len());
            return self.fail_sync(cx, job, &failure(local::OVER_QUOTA, message, None));
        }
        match self.own_refusal(cx, job).filter(|refused| refused.is_final()) {
            Some(refused) => {
                let refused = cannot_begin(refused.failure());
                self.fail_sync(cx, job, &refused);
            }
            None => self.ask_for_listing(cx),
        }
    }

    /// The refusal of a listing that was made for this SYNC, and late enough.
    fn own_refusal(&self, cx: &Context<'_>, job: Key<HeldJob>) -> Option<&RefusedListing> {
        let (seq, from) = (self.store.jobs[job].seq, self.reliable_from(cx));
        self.listings.refused(cx.now).filter(|refused| refused.is_for(seq, from))
    }

    /// Whether a SYNC waits for the listing that this call was to bring, before it can begin.
    pub(super) fn is_needed_by_sync(&self, call: &EndedCall) -> bool {
        let first = self.sync.as_ref().filter(|sync| sync.phase == Phase::First);
        first.is_some_and(|sync| self.store.jobs[sync.job].seq < call.seq)
    }

    /// Asks for the listing that a SYNC waits for: while listings are refused, not before the next try is due.
    fn ask_for_listing(&mut self, cx: &mut Context<'_>) {
        let spaced = self.listings.refused(cx.now).map(RefusedListing::again_for_sync);
        let denied = self.not_permitted().filter(|_| self.is_listing_refused()).map(NotPermitted::again);
        let from = [Some(self.reliable_from(cx)), spaced, denied].into_iter().flatten().max();
        self.listings.want(from.unwrap_or_default());
    }

    /// From when on a listing is believed for every account of an image: past our last write, past every doubt, and past
    /// what a worker before may have written just before it left, whether it was answered or not.
    pub(super) fn reliable_from(&self, cx: &Context<'_>) -> Instant {
        let written = self.writes.last_ended().map(|at| at + cx.limits.read_lag);
        let doubts = self.store.by_id.values().filter_map(|&account| self.store.accounts[account].history);
        let landed = doubts.filter_map(|history| self.store.histories[history].in_doubt).map(|(_, until)| until).max();
        let guard = cx.takeover_check_from();
        let after_write_lag = landed.map(|until| until + cx.limits.read_lag);
        [written, after_write_lag, guard].into_iter().flatten().max().unwrap_or_default()
    }

    /// A listing came, or was refused: goes on with the SYNC that waited for it.
    pub(super) fn sync_read(&mut self, cx: &mut Context<'_>) {
        let Some(sync) = &self.sync else { return };
        let (job, phase, since) = (sync.job, sync.phase, sync.since);
        if !matches!(phase, Phase::First | Phase::Last) {
            return;
        }
        match (phase, self.own_refusal(cx, job)) {
            (Phase::First, Some(refused)) if refused.is_final() => {
                let refused = cannot_begin(refused.failure());
                return self.fail_sync(cx, job, &refused);
            }
            (Phase::Last, Some(_)) => return self.sync_done(job),
            _ => {}
        }
        let from = self.reliable_from(cx).max(since);
        let Some(listing) = self.listings.since(from) else {
            return self.ask_for_listing(cx);
        };
        let listed = listing.accounts().to_vec();
        match phase {
            Phase::First => self.plan_sync(cx, job, &listed),
            _ => self.check_sync(cx, job, &listed),
        }
    }

    /// Turns the difference between what is listed and what is requested into items, once.
    fn plan_sync(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>, listed: &[AccountId]) {
        let requested = self.store.jobs[job].account_ids.clone();
        let mut sorted = requested.to_vec();
        sorted.sort_unstable();
        let goes = |account: &AccountId| sorted.binary_search(account).is_err();
        let going: Vec<_> = listed.iter().copied().filter(goes).collect();
        let allowed = listed.len() * cx.limits.cancel_limit_percent as usize / 100;
        if going.len() > allowed && !self.store.jobs[job].force {
            let message = alloc::format!(
                "would cancel {} of the {} accounts that have the image, more than {} %; if that is right, \
                 set \"force\": true in the job, or --force of imageshare sync",
                going.len(),
                listed.len(),
                cx.limits.cancel_limit_percent
            );
            return self.fail_sync(cx, job, &failure(local::CANCEL_LIMIT, message, None));
        }
        self.set_phase(Phase::Working);
        self.take_accounts(job);
        self.add_items(cx, job, Permission::Cancel, &going, true);
        self.add_items(cx, job, Permission::Share, &requested, false);
    }

    /// Whether a SYNC whose items all have outcomes can be settled; if not, asks for its last listing.
    pub(super) fn sync_is_over(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>) -> bool {
        let Some(sync) = &self.sync else { return true };
        match sync.phase {
            Phase::Over => true,
            Phase::Working if self.store.jobs[job].requests == 0 => true,
            Phase::Working => {
                self.set_phase(Phase::Last);
                self.sync_read(cx);
                false
            }
            Phase::First | Phase::Last => false,
        }
    }

    /// Compares the outcomes with the last listing. What does not agree is sent again, as often as an operation is
    /// tried.
    fn check_sync(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>, listed: &[AccountId]) {
        let mut disagree = Vec::new();
        let mut named = Vec::new();
        let mut next = self.store.jobs[job].first;
        while let Some(item) = next {
            let found = &self.store.items[item];
            let account_id = self.store.accounts[found.account].id;
            named.push(account_id);
            let shown = self.listings.newest().and_then(|listing| listing.shows(account_id));
            let done = matches!(found.state, ItemState::Done(_));
            if done && shown.is_some_and(|shown| Permission::of_presence(shown) != found.permission) {
                disagree.push(item);
            }
            next = found.next_in_job;
        }
        named.sort_unstable();
        let strangers = listed.iter().copied().filter(|account| named.binary_search(account).is_err()).collect();
        let attempts = cx.limits.attempts;
        let Some(sync) = &mut self.sync else { return };
        sync.rounds += 1;
        sync.strangers = strangers;
        let again = sync.rounds < attempts;
        if disagree.is_empty() {
            return self.sync_done(job);
        }
        if again {
            self.set_phase(Phase::Working);
        }
        for item in disagree {
            self.reopen(cx, item, again);
        }
        if !again {
            self.sync_done(job);
        }
    }

    /// A item that was done is found not to be so: it is open again, or failed if that was tried often enough.
    fn reopen(&mut self, cx: &mut Context<'_>, item: Key<Item>, again: bool) {
        let (job, account) = (self.store.items[item].job, self.store.items[item].account);
        if again {
            self.store.items[item].state = ItemState::Open;
            self.store.jobs[job].open += 1;
            self.begin_operation(cx, account, Some(item));
            self.decide(cx, account);
        } else {
            self.store.items[item].state = ItemState::Failed;
            let message = "the API accepted it and the list of the image still does not show it";
            self.store.failures.insert(item, failure(local::NOT_SHOWN, message, None));
        }
    }

    fn sync_done(&mut self, job: Key<HeldJob>) {
        self.set_phase(Phase::Over);
        self.finished.push_back(job);
    }

    /// Ends a SYNC. Returns the accounts of the last listing that no job requested.
    pub(super) fn end_sync(&mut self, job: Key<HeldJob>) -> Vec<(AccountId, AccountOutcome)> {
        let Some(sync) = self.sync.take_if(|sync| sync.job == job) else { return Vec::new() };
        let message = "is listed although it was not at the beginning: shared by somebody else, or the list is cut";
        let stranger = failure(local::NOT_SHOWN, message, None);
        let failed = |account| (account, AccountOutcome::Failed(stranger.clone()));
        sync.strangers.into_iter().map(failed).collect()
    }

    /// A SYNC that never begins: all its accounts fail for one reason.
    pub(super) fn fail_sync(&mut self, cx: &Context<'_>, job: Key<HeldJob>, failure: &Arc<Failure>) {
        self.set_phase(Phase::Over);
        for &account_id in &self.take_accounts(job) {
            self.add_item(job, Permission::Share, account_id, false);
        }
        let mut next = self.store.jobs[job].first;
        while let Some(item) = next {
            next = self.store.items[item].next_in_job;
            if self.store.items[item].state == ItemState::Open {
                self.fail_front(cx, self.store.items[item].account, failure);
            }
        }
        self.finished.push_back(job);
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(sync) = &mut self.sync {
            sync.phase = phase;
        }
    }
}

/// The failure of a SYNC whose listing failed so. Nothing was sent for it, so nothing is in doubt.
fn cannot_begin(refused: &Arc<Failure>) -> Arc<Failure> {
    if *refused.code != *local::NO_ANSWER {
        return refused.clone();
    }
    failure(local::NOT_ATTEMPTED, alloc::format!("the image's list could not be read: {}", refused.message), None)
}
