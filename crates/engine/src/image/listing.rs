//! Who has an image is listed before anything is written, and what a listing brings.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::ids::AccountId;

use super::{Image, account::Account, backlog::Step};
use crate::{
    arena::Key,
    call::{EndedCall, Kind},
    context::{Context, Effect},
    io::{CallId, Notice},
    job::{Failure, local},
    limits::{BLIND_REFUSALS_MAX, LISTING_AGE_MAX, SUSPICIOUS_LENGTHS, SYNC_LISTING_PAUSE, UNREADABLE_FOR},
    reaction::{Next, Reaction},
    time::{Instant, Millis},
};

/// A listing: who has the image, as a response said.
#[derive(Debug)]
pub(super) struct Listing {
    began: Instant,
    /// Sorted.
    accounts: Vec<AccountId>,
    /// Whether an account that is not listed is known not to have the image.
    complete: bool,
}

/// The newest listing of an image, and the calls for the next one.
#[derive(Debug, Default)]
pub(super) struct Listings {
    newest: Option<Listing>,
    /// A listing is wanted that begins no earlier than this.
    wanted: Option<Instant>,
    in_flight: Option<CallId>,
    /// No listing before this moment.
    after: Instant,
    /// Failed tries of the listing that is wanted.
    attempts: u32,
    /// The last listing was refused.
    refused: Option<RefusedListing>,
    /// Accounts whose operation waits for a listing; some may have moved on.
    waiting: Vec<Key<Account>>,
    /// Lists that were refused since an account has the image already, while no listing could tell which.
    blind_refusals: u32,
}

/// A listing that was refused, or failed as often as it is tried.
#[derive(Debug)]
pub(super) struct RefusedListing {
    began: Instant,
    /// It was made for the jobs that stood before this place in arrival.
    seq: u64,
    /// When it was refused.
    at: Instant,
    /// Until then work continues without a listing.
    until: Instant,
    failure: Arc<Failure>,
    /// Whether a SYNC that it was made for fails by it, and does not wait to ask again.
    is_final: bool,
}

impl Listing {
    /// An empty listing by a key whose account is not known may be that of another account's image.
    fn new(began: Instant, mut accounts: Vec<AccountId>, cap: u32, is_key_proven: bool) -> Self {
        accounts.sort_unstable();
        accounts.dedup();
        let is_whole = !SUSPICIOUS_LENGTHS.contains(&accounts.len()) && accounts.len() < cap as usize;
        let complete = is_whole && (is_key_proven || !accounts.is_empty());
        Self { began, accounts, complete }
    }

    /// When its request began: it shows what was so then or later, or up to the read lag earlier.
    pub(super) const fn began(&self) -> Instant {
        self.began
    }

    /// Sorted, none twice.
    pub(super) fn accounts(&self) -> &[AccountId] {
        &self.accounts
    }

    /// Whether the account has the image; `None` if the listing does not say.
    pub(super) fn shows(&self, account: AccountId) -> Option<bool> {
        let listed = self.accounts.binary_search(&account).is_ok();
        (listed || self.complete).then_some(listed)
    }
}

impl RefusedListing {
    fn new(cx: &Context<'_>, call: &EndedCall, until: Instant, failure: Arc<Failure>, is_final: bool) -> Self {
        Self { began: call.began, seq: call.seq, at: cx.now, until, failure, is_final }
    }

    /// Whether it was made for a job of this place in arrival, no earlier than `from`.
    pub(super) fn is_for(&self, seq: u64, from: Instant) -> bool {
        self.seq > seq && self.began >= from
    }

    pub(super) const fn is_final(&self) -> bool {
        self.is_final
    }

    pub(super) const fn failure(&self) -> &Arc<Failure> {
        &self.failure
    }

    /// When a SYNC asks for its own listing.
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

    /// Asks for a listing that begins no earlier than `from`. Of several such moments the earliest counts: an account that
    /// needs a later one asks again.
    pub(super) fn want(&mut self, from: Instant) {
        self.wanted = Some(self.wanted.map_or(from, |wanted| wanted.min(from)));
    }

    pub(super) const fn is_wanted(&self) -> bool {
        self.wanted.is_some()
    }

    pub(super) const fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether the listing that is wanted may be requested now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        !self.is_in_flight() && self.wanted.is_some_and(|from| from <= now) && self.after <= now
    }

    /// When it may be requested, and when it may be tried again after a refusal.
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

    /// Why listing is not possible for now.
    pub(super) fn refused(&self, now: Instant) -> Option<&RefusedListing> {
        self.refused.as_ref().filter(|refused| refused.until > now)
    }

    /// A listing that was refused before the lane came up or opened, or with another key, decides nothing any more.
    pub(super) fn forget_refused(&mut self) {
        self.refused = None;
    }

    /// A list was refused since an account has the image already. If it cannot be listed, shares are sent alone from the
    /// second time on: each list would be refused as long as one of its accounts has the image.
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

    /// Tries of a time when nothing worked do not count.
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
        // An account that is not served by this one asks again.
        listings.wanted = None;
        self.listing_permitted();
        if self.listings.newest.as_ref().is_some_and(|newest| newest.began > call.began) {
            return;
        }
        let is_key_proven = !call.by_former_key && !cx.lane.is_key_unproven;
        let listing = Listing::new(call.began, accounts, cx.limits.cap, is_key_proven);
        self.quota.saw(listing.accounts.len());
        self.listings.newest = Some(listing);
        self.count_present(cx);
        self.review_cap(cx);
        self.look_again(cx);
    }

    /// A listing failed in a way that may pass. After as many tries as an operation has, work continues without until the
    /// next pause is over.
    pub(super) fn listing_failed(&mut self, cx: &mut Context<'_>, call: &EndedCall, failure: Arc<Failure>) {
        self.listings.attempts += 1;
        let attempts = self.listings.attempts;
        if attempts < cx.limits.attempts {
            self.listings.after = cx.now + cx.pause(attempts);
            self.listings.want(cx.now);
            return;
        }
        // It has to outlast this moment, in which work continues without.
        let until = cx.now + cx.limits.longest_pause(attempts).max(Millis(1));
        let refused = RefusedListing::new(cx, call, until, failure, true);
        self.continue_without(cx, refused);
    }

    /// A listing was refused, and trying again at once would not change that. Where the key may be at fault, a SYNC waits
    /// and asks again.
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
        let until = cx.now + UNREADABLE_FOR;
        let refused = RefusedListing::new(cx, call, until, failure.clone(), is_final);
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
        if before.is_none_or(|before| before.failure.code != code) {
            cx.notice(Notice::CannotList { image_id: self.name.id, code });
        }
        self.look_again(cx);
    }

    /// Decides everything anew that waited for a listing.
    fn look_again(&mut self, cx: &mut Context<'_>) {
        let waiting = core::mem::take(&mut self.listings.waiting);
        self.backlogs.add(waiting.into(), Step::Decide);
        self.work_off(cx);
    }

    /// All that waited for a listing is decided anew.
    pub(super) fn listing_decided(&mut self, cx: &mut Context<'_>) {
        self.drop_done_members(cx);
        self.check_early_outcomes(cx);
        self.sync_read(cx);
    }

    /// A listing that is too old to call anything unchanged is worth nothing to jobs that come after a quiet time.
    pub(super) fn forget_old_listing(&mut self, cx: &Context<'_>) {
        self.listings.newest.take_if(|listing| listing.began + LISTING_AGE_MAX < cx.now);
    }

    /// A listing that was refused before the lane came up or opened, or with another key, decides nothing any more.
    pub(crate) fn forget_refused_listing(&mut self, cx: &mut Context<'_>) {
        self.listings.forget_refused();
        self.sync_read(cx);
    }
}
