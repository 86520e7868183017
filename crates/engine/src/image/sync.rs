//! The mode SYNC: share the image with exactly these accounts. A barrier in its image on both sides.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::{Permission, ids::AccountId};

use super::{
    Image, failure,
    history::History,
    listing::RefusedListing,
    obstacle::NotPermitted,
    store::{HeldJob, Item, ItemSource, ItemState},
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
    /// When it began: earlier listings are not used.
    since: Instant,
    /// How often its outcomes were compared with a last listing.
    rounds: u32,
    /// Accounts in the last listing that were neither requested nor in the first one.
    strangers: Vec<AccountId>,
}

/// The progress of a SYNC.
///
/// | from | to | when |
/// |---|---|---|
/// | `First` | `Working` | its first listing arrived, and its cancels are within the cancel limit |
/// | `First` | `Over` | it cannot begin |
/// | `Working` | `Last` | all its items have outcomes |
/// | `Working` | `Over` | the same, and nothing was sent |
/// | `Last` | `Working` | the last listing does not show an item, which is sent again |
/// | `Last` | `Over` | it shows all of them, or there were too many tries, or it is refused |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It waits for the listing that its items are computed from.
    First,
    /// Its items are carried out.
    Working,
    /// It waits for the listing that shows its result.
    Last,
    Over,
}

impl Sync {
    pub(super) const fn job(&self) -> Key<HeldJob> {
        self.job
    }

    /// Whether it waits for its first listing, and has no items yet.
    pub(super) fn is_unbegun(&self) -> bool {
        self.phase == Phase::First
    }
}

impl Image {
    pub(super) fn begin_sync(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>) {
        self.sync = Some(Sync { job, phase: Phase::First, since: cx.now, rounds: 0, strangers: Vec::new() });
        // Its deadline came while it waited behind other jobs, when it had no accounts to fail.
        if self.store.job(job).deadline() <= cx.now {
            return self.expire_sync(cx, job);
        }
        let cap = self.quota.cap(cx.limits.cap, cx.now);
        let mut requested = self.store.job(job).account_ids().to_vec();
        requested.sort_unstable();
        requested.dedup();
        // It can never fit, so nothing is cancelled to make room.
        if requested.len() > cap as usize {
            let message =
                alloc::format!("{} accounts are requested and the image may be shared with {cap}", requested.len());
            return self.fail_sync(cx, job, &failure(local::OVER_QUOTA, message, None));
        }
        match self.own_refusal(cx, job).filter(|refused| refused.fails_sync()) {
            Some(refused) => {
                let refused = cannot_begin(refused.failure());
                self.fail_sync(cx, job, &refused);
            }
            None => self.want_sync_listing(cx),
        }
    }

    /// The refusal of a listing that was requested for this SYNC, and late enough.
    fn own_refusal(&self, cx: &Context<'_>, job: Key<HeldJob>) -> Option<&RefusedListing> {
        let (seq, from) = (self.store.job(job).seq(), self.reliable_from(cx));
        self.listings.refused(cx.now).filter(|refused| refused.is_for(seq, from))
    }

    /// Whether a SYNC waits for the listing of this call before it can begin.
    pub(super) fn is_needed_by_sync(&self, call: &EndedCall) -> bool {
        let first = self.sync.as_ref().filter(|sync| sync.phase == Phase::First);
        first.is_some_and(|sync| self.store.job(sync.job).seq() < call.seq)
    }

    /// Requests the listing that a SYNC waits for; while listings are refused, when the next try is due.
    fn want_sync_listing(&mut self, cx: &mut Context<'_>) {
        let spaced = self.listings.refused(cx.now).map(RefusedListing::again_for_sync);
        let denied = self.not_permitted().filter(|_| self.is_listing_refused()).map(NotPermitted::again);
        // The latest of these: an earlier listing would only be requested again.
        let from = [Some(self.reliable_from(cx)), spaced, denied].into_iter().flatten().max();
        self.listings.want(from.unwrap_or_default());
    }

    /// From when on a listing shows every account of an image: it shows our last write, writes in doubt, and what an earlier
    /// worker may have written just before the takeover.
    pub(super) fn reliable_from(&self, cx: &Context<'_>) -> Instant {
        let written = self.writes.last_ended().map(|at| at + cx.limits.read_lag);
        let in_doubt = self.store.histories().filter_map(History::in_doubt_until).max();
        let in_doubt = in_doubt.map(|until| until + cx.limits.read_lag);
        [written, in_doubt, cx.takeover_check_from()].into_iter().flatten().max().unwrap_or_default()
    }

    /// A listing arrived, or was refused: continues with the SYNC that waited for it.
    pub(super) fn sync_listed(&mut self, cx: &mut Context<'_>) {
        let Some(sync) = &self.sync else { return };
        let (job, phase, since) = (sync.job, sync.phase, sync.since);
        if !matches!(phase, Phase::First | Phase::Last) {
            return;
        }
        match (phase, self.own_refusal(cx, job)) {
            (Phase::First, Some(refused)) if refused.fails_sync() => {
                let refused = cannot_begin(refused.failure());
                return self.fail_sync(cx, job, &refused);
            }
            // All its items have outcomes already: without a listing, these stand.
            (Phase::Last, Some(_)) => return self.sync_done(job),
            _ => {}
        }
        // A SYNC also undoes what other programs did before it began, so an earlier listing is too old.
        let from = self.reliable_from(cx).max(since);
        let Some(listing) = self.listings.since(from) else {
            return self.want_sync_listing(cx);
        };
        let listed = listing.accounts().to_vec();
        match phase {
            Phase::First => self.plan_sync(cx, job, &listed),
            _ => self.check_sync(cx, job, &listed),
        }
    }

    /// Turns the difference between the listing and the request into items, once.
    fn plan_sync(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>, listed: &[AccountId]) {
        let mut sorted = self.store.job(job).account_ids().to_vec();
        sorted.sort_unstable();
        let goes = |account: &AccountId| sorted.binary_search(account).is_err();
        let going: Vec<_> = listed.iter().copied().filter(goes).collect();
        let allowed = listed.len() * cx.limits.cancel_limit_percent as usize / 100;
        if going.len() > allowed && !self.store.job(job).is_forced() {
            let message = alloc::format!(
                "would cancel {} of the {} accounts that have the image, more than {} %; if that is right, \
                 set \"force\": true in the job, or --force of imageshare sync",
                going.len(),
                listed.len(),
                cx.limits.cancel_limit_percent
            );
            return self.fail_sync(cx, job, &failure(local::CANCEL_LIMIT, message, None));
        }
        // From here on the plan is fixed: the accounts of a later listing do not change what this job requests.
        self.set_phase(Phase::Working);
        let requested = self.store.take_account_ids(job);
        // Cancels first, since the shares may need their room.
        self.add_items(cx, job, Permission::Cancel, &going, ItemSource::Sync);
        self.add_items(cx, job, Permission::Share, &requested, ItemSource::Job);
    }

    /// Whether a SYNC whose items all have outcomes can be settled. If not, its last listing is requested.
    pub(super) fn sync_is_over(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>) -> bool {
        let Some(sync) = &self.sync else { return true };
        match sync.phase {
            Phase::Over => true,
            // Without a write, the first listing has shown the result already.
            Phase::Working if self.store.job(job).requests() == 0 => true,
            Phase::Working => {
                self.set_phase(Phase::Last);
                self.sync_listed(cx);
                false
            }
            Phase::First | Phase::Last => false,
        }
    }

    /// Compares the outcomes with the last listing. What does not agree is sent again, or fails at comparison number
    /// `attempts`.
    fn check_sync(&mut self, cx: &mut Context<'_>, job: Key<HeldJob>, listed: &[AccountId]) {
        let mut disagree = Vec::new();
        let mut named = Vec::new();
        let mut next = self.store.first_in_job(job);
        while let Some(item) = next {
            let (account, permission) = (self.store.item(item).account(), self.store.item(item).permission());
            let account_id = self.store.id(account);
            named.push(account_id);
            let shown = self.listings.newest().and_then(|listing| listing.shows(account_id));
            // A failed item stays failed, and a list that may be cut refutes nothing.
            let is_done = matches!(self.store.item(item).state(), ItemState::Done(_));
            if is_done && shown.is_some_and(|shown| Permission::of_presence(shown) != permission) {
                disagree.push(item);
            }
            next = self.store.next_in_job(item);
        }
        named.sort_unstable();
        let strangers = listed.iter().copied().filter(|account| named.binary_search(account).is_err()).collect();
        let attempts = cx.limits.attempts;
        let Some(sync) = &mut self.sync else { return };
        // Bounded, since another program may undo each write and would keep the SYNC, and all jobs behind it, forever.
        sync.rounds += 1;
        sync.strangers = strangers;
        if !disagree.is_empty() && sync.rounds < attempts {
            self.set_phase(Phase::Working);
            return disagree.into_iter().for_each(|item| self.reopen(cx, item));
        }
        let message = "the API accepted it and the list of the image still does not show it";
        for item in disagree {
            self.store.set_state(item, ItemState::Failed);
            self.store.set_failure(item, failure(local::NOT_SHOWN, message, None));
        }
        self.sync_done(job);
    }

    /// An item that was done is not: it is open again.
    fn reopen(&mut self, cx: &mut Context<'_>, item: Key<Item>) {
        let account = self.store.item(item).account();
        self.store.reopen(item);
        // A SYNC is alone on its image, so no later item of the account can be in front.
        self.begin_operation(cx, account, Some(item));
        self.decide(cx, account);
    }

    /// Ends a SYNC with the outcomes of its items.
    pub(super) fn sync_done(&mut self, job: Key<HeldJob>) {
        self.set_phase(Phase::Over);
        self.finished.push_back(job);
    }

    /// Ends a SYNC. Returns the accounts of the last listing that no job requested.
    pub(super) fn end_sync(&mut self, job: Key<HeldJob>) -> Vec<(AccountId, AccountOutcome)> {
        let Some(sync) = self.sync.take_if(|sync| sync.job == job) else { return Vec::new() };
        let message = "is listed although it was not at the beginning: shared by another program, or the list is cut";
        let stranger = failure(local::NOT_SHOWN, message, None);
        let failed = |account| (account, AccountOutcome::Failed(stranger.clone()));
        sync.strangers.into_iter().map(failed).collect()
    }

    /// A SYNC that never begins: all its accounts fail for one reason.
    pub(super) fn fail_sync(&mut self, cx: &Context<'_>, job: Key<HeldJob>, failure: &Arc<Failure>) {
        self.set_phase(Phase::Over);
        // Each account gets an item, so that the report names all of them.
        for account_id in self.store.take_account_ids(job) {
            self.store.add_item(job, Permission::Share, account_id, ItemSource::Job);
        }
        let mut next = self.store.first_in_job(job);
        while let Some(item) = next {
            if self.store.item(item).is_open() {
                self.fail_front(cx, self.store.item(item).account(), failure);
            }
            next = self.store.next_in_job(item);
        }
        self.finished.push_back(job);
    }

    /// Ends a SYNC whose deadline came before its first listing.
    pub(super) fn expire_sync(&mut self, cx: &Context<'_>, job: Key<HeldJob>) {
        self.fail_sync(cx, job, &failure(local::EXPIRED, "the job expired before it could begin", None));
    }

    fn set_phase(&mut self, phase: Phase) {
        if let Some(sync) = &mut self.sync {
            sync.phase = phase;
        }
    }
}

/// The failure of a SYNC whose listing failed. No write was sent for it, so nothing is in doubt.
fn cannot_begin(refused: &Arc<Failure>) -> Arc<Failure> {
    if *refused.code != *local::NO_ANSWER {
        return refused.clone();
    }
    failure(local::NOT_ATTEMPTED, alloc::format!("the image's list could not be read: {}", refused.message), None)
}
