//! Listings of an image's shares: when they are requested, and what they change.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::ids::AccountId;

use super::{Image, backlog::Step, store::Account};
use crate::{
    arena::Key,
    call::{EndedCall, Kind},
    context::{Context, Effect},
    io::{CallId, Notice},
    job::{Failure, local},
    limits::{BLIND_REFUSALS_MAX, LISTING_AGE_MAX, SYNC_LISTING_PAUSE, UNREADABLE_FOR, may_be_truncated},
    reaction::{KeyTrust, Next, Reaction},
    time::{Instant, Millis},
};

/// A response to DescribeImageSharePermission.
#[derive(Debug)]
pub(super) struct Listing {
    began: Instant,
    /// Sorted.
    accounts: Vec<AccountId>,
    /// What an account that is not in the list shows.
    absence: Absence,
}

/// Whether accounts that are not listed do not have the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absence {
    Proven,
    /// The list may have been cut, or may be that of another account's image.
    Unknown,
}

/// The newest listing of an image, and the calls for the next one.
#[derive(Debug, Default)]
pub(super) struct Listings {
    newest: Option<Listing>,
    /// A listing is needed that begins no earlier than this.
    wanted: Option<Instant>,
    in_flight: Option<CallId>,
    /// No listing before this moment.
    after: Instant,
    /// Failed tries of the listing.
    attempts: u32,
    /// The last listing was refused.
    refused: Option<RefusedListing>,
    /// Accounts whose operation waits for a listing. Some may have moved on.
    waiting: Vec<Key<Account>>,
    /// Lists that were refused as already shared while no listing could show which account it is.
    blind_refusals: u32,
}

/// A listing that was refused, or failed `attempts` times.
#[derive(Debug)]
pub(super) struct RefusedListing {
    began: Instant,
    /// It was requested for jobs before this place in arrival.
    seq: u64,
    /// When it was refused.
    at: Instant,
    /// Until then work continues without a listing.
    until: Instant,
    failure: Arc<Failure>,
    for_sync: ForSync,
}

/// What a SYNC does whose listing is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForSync {
    Fail,
    /// It waits and lists again.
    Wait,
}

impl Listing {
    fn new(cx: &Context<'_>, call: &EndedCall, mut accounts: Vec<AccountId>) -> Self {
        accounts.sort_unstable();
        accounts.dedup();
        let is_whole = !may_be_truncated(accounts.len(), cx.limits.cap);
        // With a key of unknown account, an empty list may be that of another account's image.
        let is_ours = !accounts.is_empty() || call.trust(cx.lane.key_trust) == KeyTrust::Proven;
        let absence = if is_whole && is_ours { Absence::Proven } else { Absence::Unknown };
        Self { began: call.began, accounts, absence }
    }

    /// When its request began. It shows a state that is at most the read lag older than that.
    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// Sorted, none twice.
    pub(super) fn accounts(&self) -> &[AccountId] {
        &self.accounts
    }

    /// Whether the account has the image; `None` if the listing does not show it.
    pub(super) fn shows(&self, account: AccountId) -> Option<bool> {
        let is_listed = self.accounts.binary_search(&account).is_ok();
        (is_listed || self.absence == Absence::Proven).then_some(is_listed)
    }
}

impl RefusedListing {
    fn new(cx: &Context<'_>, call: &EndedCall, until: Instant, failure: Arc<Failure>, for_sync: ForSync) -> Self {
        Self { began: call.began, seq: call.seq, at: cx.now, until, failure, for_sync }
    }

    /// Whether it was requested for the job at this place in arrival, no earlier than `from`.
    pub(super) fn is_for(&self, seq: u64, from: Instant) -> bool {
        self.seq > seq && self.began >= from
    }

    /// Whether a SYNC that it was requested for fails.
    pub(super) fn fails_sync(&self) -> bool {
        self.for_sync == ForSync::Fail
    }

    pub(super) const fn failure(&self) -> &Arc<Failure> {
        &self.failure
    }

    /// When a SYNC requests its own listing.
    pub(super) fn again_for_sync(&self) -> Instant {
        self.until.min(self.at + SYNC_LISTING_PAUSE)
    }
}

impl Listings {
    pub(super) const fn newest(&self) -> Option<&Listing> {
        self.newest.as_ref()
    }

    /// The newest one, if it began at `from` or later.
    pub(super) fn since(&self, from: Instant) -> Option<&Listing> {
        self.newest.as_ref().filter(|listing| listing.began >= from)
    }

    pub(super) fn forget(&mut self) {
        self.newest = None;
    }

    /// Requests a listing that begins no earlier than `from`. The earliest of several such moments counts: an account that needs
    /// a later one requests it again.
    pub(super) fn want(&mut self, from: Instant) {
        // The latest would make all accounts wait for the slowest one.
        self.wanted = Some(self.wanted.map_or(from, |wanted| wanted.min(from)));
    }

    pub(super) const fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    pub(super) const fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether a listing may begin now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.is_in_flight() && self.wanted.is_some_and(|from| from <= now) && self.after <= now
    }

    /// When the next listing may begin, and when a refusal ends.
    pub(super) fn moments(&self) -> [Option<Instant>; 2] {
        [self.wanted.map(|from| from.max(self.after)), self.refused.as_ref().map(|refused| refused.until)]
    }

    /// Whether the last try failed and another one follows.
    pub(super) const fn is_retried(&self) -> bool {
        self.attempts > 0
    }

    pub(super) const fn begin(&mut self, call: CallId) {
        self.wanted = None;
        self.in_flight = Some(call);
    }

    pub(super) const fn end(&mut self) {
        self.in_flight = None;
    }

    /// Makes the next request no earlier than this.
    pub(super) fn pause_until(&mut self, at: Instant) {
        self.after = at;
    }

    /// The refusal by which nothing can be listed now.
    pub(super) fn refused(&self, now: Instant) -> Option<&RefusedListing> {
        self.refused.as_ref().filter(|refused| refused.until > now)
    }

    /// A list was refused as already shared. Without listings, shares are sent alone from the second time on: each list would
    /// be refused as long as one of its accounts has the image.
    pub(super) fn already_shared(&mut self, now: Instant) {
        if self.refused(now).is_some() {
            self.blind_refusals = self.blind_refusals.saturating_add(1);
        }
    }

    /// Whether shares are sent alone.
    pub(super) const fn is_blind(&self) -> bool {
        self.blind_refusals >= BLIND_REFUSALS_MAX
    }

    /// An account waits for the next listing.
    pub(super) fn wait(&mut self, account: Key<Account>) {
        self.waiting.push(account);
    }

    /// Accounts that wait for the next listing. Some may have moved on.
    pub(super) fn waiting(&self) -> &[Key<Account>] {
        &self.waiting
    }

    /// Failures during an outage do not count.
    pub(super) fn forgive_attempts(&mut self) {
        self.attempts = 0;
        self.refused.take_if(|refused| *refused.failure.code == *local::NO_ANSWER);
    }

    pub(super) fn forget_jobs(&mut self) {
        self.waiting.clear();
        self.wanted = None;
    }
}

impl Image {
    /// A listing arrived.
    pub(super) fn listed(&mut self, cx: &mut Context<'_>, call: &EndedCall, accounts: Vec<AccountId>) {
        let listings = &mut self.listings;
        listings.attempts = 0;
        listings.refused = None;
        listings.blind_refusals = 0;
        // An account that needs a later one requests it again.
        listings.wanted = None;
        self.listing_permitted();
        // Responses may arrive in another order than their requests began.
        if self.listings.newest.as_ref().is_some_and(|newest| newest.began > call.began) {
            return;
        }
        let listing = Listing::new(cx, call, accounts);
        self.quota.saw(listing.accounts.len());
        // The cap is reviewed by the new count, and accounts are decided by both.
        self.listings.newest = Some(listing);
        self.count_present(cx);
        self.review_cap(cx);
        self.decide_waiting(cx);
    }

    /// A listing failed for a reason that may be temporary. After `attempts` tries, work continues without listings for one
    /// pause.
    pub(super) fn listing_failed(&mut self, cx: &mut Context<'_>, call: &EndedCall, failure: Arc<Failure>) {
        self.listings.attempts += 1;
        let attempts = self.listings.attempts;
        // A try during an outage fails no SYNC: the next listing is requested once the lane is open.
        if attempts < cx.limits.attempts || !cx.lane.is_open {
            self.listings.after = cx.now + cx.pause(attempts);
            self.listings.want(cx.now);
            return;
        }
        // It must last longer than this moment, so that waiting accounts are decided without a listing.
        let until = cx.now + cx.limits.longest_pause(attempts).max(Millis(1));
        let refused = RefusedListing::new(cx, call, until, failure, ForSync::Fail);
        self.continue_without(cx, refused);
    }

    /// A listing was refused, and trying again at once would not change that. If the key may be at fault, a SYNC waits and lists
    /// again.
    pub(super) fn listing_refused(
        &mut self,
        cx: &mut Context<'_>,
        call: &EndedCall,
        reaction: Reaction,
        failure: &Arc<Failure>,
    ) {
        let is_about_key = reaction.next == Next::WaitForPermission;
        let is_denied = is_about_key && self.is_needed_by_sync(call);
        let is_final = !is_about_key || (is_denied && self.deny(cx, Kind::ReadShares));
        let for_sync = if is_final { ForSync::Fail } else { ForSync::Wait };
        let until = cx.now + UNREADABLE_FOR;
        let refused = RefusedListing::new(cx, call, until, failure.clone(), for_sync);
        self.continue_without(cx, refused);
        if is_denied && !is_final {
            cx.effects.push(Effect::NotPermitted(failure.clone()));
        }
    }

    fn continue_without(&mut self, cx: &mut Context<'_>, refused: RefusedListing) {
        let code = refused.failure.code.clone();
        self.listings.attempts = 0;
        self.listings.wanted = None;
        let before = self.listings.refused.replace(refused);
        // One notice for each cause, not for each try.
        if before.is_none_or(|before| before.failure.code != code) {
            cx.notice(Notice::CannotList { image_id: self.name.id, code });
        }
        self.decide_waiting(cx);
    }

    /// Decides again what waited for a listing.
    fn decide_waiting(&mut self, cx: &mut Context<'_>) {
        let waiting = core::mem::take(&mut self.listings.waiting);
        self.backlogs.add(waiting, Step::Decide);
        self.work_off(cx);
    }

    /// All accounts that waited for a listing were decided again: continues with splits, early outcomes and a SYNC.
    pub(super) fn listing_decided(&mut self, cx: &mut Context<'_>) {
        self.drop_done_members(cx);
        self.check_early_outcomes(cx);
        self.sync_listed(cx);
    }

    /// Drops a listing that is too old to report an account as unchanged.
    pub(super) fn forget_old_listing(&mut self, cx: &Context<'_>) {
        self.listings.newest.take_if(|listing| listing.began + LISTING_AGE_MAX < cx.now);
    }

    /// A refusal from before the lane came up or opened, or of another key, no longer counts.
    pub(crate) fn forget_refused_listing(&mut self, cx: &mut Context<'_>) {
        self.listings.refused = None;
        self.sync_listed(cx);
    }
}
