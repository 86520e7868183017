//! A list that failed is sent again, then in parts, until the account at fault is alone.

use alloc::{sync::Arc, vec::Vec};

use imageshare_core::Permission;

use super::{
    Image,
    history::History,
    listing::Listing,
    store::{Account, Stage},
    write::Origin,
};
use crate::{
    arena::Key,
    context::{Context, Effect},
    job::Failure,
    limits::{LIST_FAILURES_MAX, SAMPLE_SIZE},
    time::Instant,
};

/// Operations of one permission that failed together.
///
/// | after | it waits for | sent next |
/// |---|---|---|
/// | a failure without a named cause | a pause | the whole list, or a single account |
/// | the second such failure in a row | a pause | each half, as a split of its own |
/// | a refusal for one account | a listing, which drops members that are done | the first half |
/// | one of the last two, with a sample | the same | the sampled accounts alone, then as without a sample |
///
/// When a part is refused or fails, the members that were not sent become ready. When it is accepted, they stay in the
/// split, which ends when it has no members.
#[derive(Debug)]
pub(super) struct Split {
    permission: Permission,
    /// In order of arrival; some may have moved on.
    members: Vec<Key<Account>>,
    fault: Fault,
    /// Failures in a row without a named cause.
    failures: u32,
    /// Nothing is sent before this moment.
    after: Instant,
    /// It waits for a listing that began no earlier.
    listing_from: Option<Instant>,
    sample: Option<Sample>,
    /// The last failure.
    failure: Arc<Failure>,
}

/// Whether sending all members would fail again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Unknown,
    /// A member must be at fault.
    OfMember,
}

/// Accounts from all over a list, sent alone where the caller or the image may be at fault: if all are refused and no write
/// was ever accepted, no account is.
#[derive(Debug)]
struct Sample {
    /// Those not sent yet.
    waiting: Vec<Key<Account>>,
    /// Those sent, decided or not.
    tried: Vec<Key<Account>>,
    /// Those finally refused.
    refused: Vec<Key<Account>>,
}

/// The lists of an image that are sent in parts, the newest last.
#[derive(Debug, Default)]
pub(super) struct Splits {
    lists: Vec<Split>,
    turn: Turn,
}

/// Splits and full lists of ready operations take turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Turn {
    #[default]
    Split,
    FullList,
}

impl Split {
    pub(super) const fn new(permission: Permission, members: Vec<Key<Account>>, failure: Arc<Failure>) -> Self {
        let (listing_from, sample) = (None, None);
        Self {
            permission,
            members,
            fault: Fault::Unknown,
            failures: 0,
            after: Instant(0),
            listing_from,
            sample,
            failure,
        }
    }

    pub(super) const fn permission(&self) -> Permission {
        self.permission
    }

    pub(super) fn members(&self) -> &[Key<Account>] {
        &self.members
    }

    pub(super) fn into_members(self) -> Vec<Key<Account>> {
        self.members
    }

    pub(super) const fn failure(&self) -> &Arc<Failure> {
        &self.failure
    }

    /// When it has something to send; `None` while it waits for a listing.
    const fn sendable_from(&self) -> Option<Instant> {
        if self.listing_from.is_some() { None } else { Some(self.after) }
    }

    /// Draws a sample evenly from all over the list.
    fn draw_sample(&mut self) {
        let len = self.members.len();
        let members = &mut self.members;
        // From the end to the beginning, so that removing one does not move the places of the next.
        let waiting = (0..SAMPLE_SIZE).rev().map(|n| members.remove(n * len / SAMPLE_SIZE)).collect();
        self.sample = Some(Sample { waiting, tried: Vec::new(), refused: Vec::new() });
    }

    /// Takes out the members that are sent next.
    fn take_next(&mut self, batch_max: usize) -> Vec<Key<Account>> {
        if let Some(sample) = &mut self.sample
            && let Some(alone) = sample.waiting.pop()
        {
            sample.tried.push(alone);
            return [alone].to_vec();
        }
        let len = self.members.len();
        // All of them would fail again. A half that is accepted shows that the culprit is in the other one.
        let whole = if self.fault == Fault::OfMember && len > 1 { len / 2 } else { len };
        let rest = self.members.split_off(whole.min(batch_max));
        core::mem::replace(&mut self.members, rest)
    }
}

impl Splits {
    pub(super) fn clear(&mut self) {
        self.lists.clear();
    }

    /// Puts these before the ones that were added meanwhile.
    fn put_before(&mut self, mut splits: Vec<Split>) {
        splits.append(&mut self.lists);
        self.lists = splits;
    }

    /// When each of them has something to send.
    pub(super) fn moments(&self) -> impl Iterator<Item = Instant> {
        self.lists.iter().filter_map(Split::sendable_from)
    }

    /// Whether one waits for its listing.
    pub(super) fn is_any_awaiting(&self) -> bool {
        self.lists.iter().any(|split| split.listing_from.is_some())
    }

    pub(super) const fn turn(&self) -> Turn {
        self.turn
    }

    pub(super) const fn set_turn(&mut self, turn: Turn) {
        self.turn = turn;
    }
}

impl Image {
    // After a write failed.

    /// The call had no effect and no account is at fault: the same operations are sent again as they were.
    pub(super) fn send_later(&mut self, cx: &mut Context<'_>, mut members: Vec<Key<Account>>, origin: Origin) {
        let Origin::Split(mut split) = origin else {
            return self.make_ready(cx, &members);
        };
        match &mut split.sample {
            Some(sample) => {
                // They are undecided, so they are sampled again.
                sample.tried.retain(|tried| !members.contains(tried));
                sample.waiting.append(&mut members);
            }
            None => {
                members.append(&mut split.members);
                split.members = members;
            }
        }
        self.add_split(split);
    }

    /// Keeps what is left of a split after a part of it was accepted.
    pub(super) fn keep_split(&mut self, origin: Origin) {
        if let Origin::Split(split) = origin
            && (!split.members.is_empty() || split.sample.is_some())
        {
            self.add_split(split);
        }
    }

    /// Releases the members of a write's split that were not sent. A split that samples stays as it is.
    pub(super) fn release_rest(&mut self, cx: &mut Context<'_>, origin: Origin) {
        match origin {
            Origin::Ready => {}
            Origin::Split(split) if split.sample.is_some() => self.add_split(split),
            Origin::Split(split) => self.make_ready(cx, &split.members),
        }
    }

    /// A list was refused for one of its accounts: list the shares, drop the members that are done, then try the halves.
    pub(super) fn find_culprit(&mut self, cx: &mut Context<'_>, mut tried: Split, origin: Origin) {
        // A member of the part must be at fault, so nothing is known about the rest.
        self.release_rest(cx, origin);
        cx.effects.push(Effect::Split);
        // Sending all of them would be refused again.
        tried.fault = Fault::OfMember;
        tried.failures = 0;
        // The list may have been applied in part. Members that are done need no further write.
        if self.listings.refused(cx.now).is_none() {
            tried.listing_from = Some(cx.now);
            self.listings.want(cx.now);
        }
        self.add_split(tried);
    }

    /// A failure without a named cause, or no response: the list is sent again after a pause, and in parts after the second
    /// failure in a row.
    pub(super) fn retry(&mut self, cx: &mut Context<'_>, mut tried: Split, origin: Origin) {
        let failures = match &origin {
            // A sampled account was sent alone, and its failures are counted with it.
            Origin::Split(split) if split.sample.is_none() => split.failures,
            _ => 0,
        };
        // The rest is not known to be at fault, and must not wait for the pauses of this part.
        self.release_rest(cx, origin);
        match *tried.members.as_slice() {
            [] => {}
            [alone] => self.retry_alone(cx, alone, tried),
            _ => {
                tried.failures = failures + 1;
                tried.after = cx.now + cx.pause(tried.failures);
                if tried.failures < LIST_FAILURES_MAX {
                    return self.add_split(tried);
                }
                cx.effects.push(Effect::Split);
                self.sample(&mut tried);
                // A sampled list stays whole until then: its sample may show that no account is at fault.
                if tried.sample.is_none() {
                    self.add_split(tried.take_second_half());
                }
                self.add_split(tried);
            }
        }
    }

    fn retry_alone(&mut self, cx: &mut Context<'_>, alone: Key<Account>, mut tried: Split) {
        let attempts = self.store.count_attempt(alone);
        if attempts >= cx.limits.attempts {
            return self.set_final_failure(cx, alone, tried.failure);
        }
        tried.after = cx.now + cx.pause(attempts);
        self.add_split(tried);
    }

    /// Before a long list is split for a reason that may be the caller's or the image's, some accounts are sent alone.
    pub(super) fn sample(&self, tried: &mut Split) {
        if !self.writes.is_any_accepted() && tried.sample.is_none() && tried.members.len() > 2 * SAMPLE_SIZE {
            tried.draw_sample();
        }
    }

    /// Adds a split. Its members whose write has just ended belong to it from now on.
    fn add_split(&mut self, split: Split) {
        let sampled = split.sample.iter().flat_map(|sample| &sample.waiting);
        for &member in split.members.iter().chain(sampled) {
            if self.store.stage(member) == Some(Stage::Ended) {
                self.store.set_stage(member, Stage::Split);
            }
        }
        self.splits.lists.push(split);
    }

    /// These leave their split, or the write that ended, and are decided again.
    pub(super) fn make_ready(&mut self, cx: &mut Context<'_>, accounts: &[Key<Account>]) {
        for &account in accounts {
            if matches!(self.store.stage(account), Some(Stage::Ended | Stage::Split)) {
                self.store.set_stage(account, Stage::Idle);
                self.decide(cx, account);
            }
        }
    }

    // After a listing.

    /// Splits that waited for the listing drop their members that are done.
    pub(super) fn drop_done_members(&mut self, cx: &mut Context<'_>) {
        let began = self.listings.newest().map(Listing::began);
        let is_refused = self.listings.refused(cx.now).is_some();
        // Taken out, since a member that is done begins its next operation, which may need a split itself.
        for mut split in core::mem::take(&mut self.splits.lists) {
            match split.listing_from {
                Some(from) if is_refused || began.is_some_and(|began| began >= from) => {
                    split.listing_from = None;
                    let before = split.members.len();
                    split.members.retain(|&member| !self.is_done_by_listing(cx, member, split.permission));
                    if split.members.len() < before && split.members.len() <= 1 {
                        // The culprit may be one of those that are done.
                        split.fault = Fault::Unknown;
                    }
                }
                Some(from) => self.listings.want(from),
                None => {}
            }
            self.splits.lists.push(split);
        }
    }

    /// Ends the operation of a member that the listing shows in the requested state. A listing does not end a write in doubt.
    fn is_done_by_listing(&mut self, cx: &mut Context<'_>, member: Key<Account>, permission: Permission) -> bool {
        if self.store.stage(member) != Some(Stage::Split) {
            return false;
        }
        // The write in doubt may be the opposite one, which would take effect after this listing.
        let is_in_doubt = self.store.history(member).is_some_and(|history| history.in_doubt_at(cx.now).is_some());
        let known = self.known(cx, member);
        let is_done = !is_in_doubt && known.is_some_and(|known| known.is_listed() && known.permission() == permission);
        if is_done {
            self.make_ready(cx, &[member]);
        }
        is_done
    }

    // The next part.

    pub(super) fn has_split_to_send(&self, now: Instant) -> bool {
        self.splits.lists.iter().any(|split| self.is_sendable(split, now))
    }

    fn is_sendable(&self, split: &Split, now: Instant) -> bool {
        let has_next = || match &split.sample {
            Some(sample) => !sample.waiting.is_empty() || !self.is_any_undecided(sample),
            None => !split.members.is_empty(),
        };
        split.sendable_from().is_some_and(|from| from <= now) && has_next()
    }

    /// Takes out what can be sent now: the split and the members to send. Splits whose members have all moved on are dropped.
    pub(super) fn next_of_splits(&mut self, cx: &mut Context<'_>) -> Option<(Split, Vec<Key<Account>>)> {
        self.settle_samples(cx);
        let mut splits = core::mem::take(&mut self.splits.lists);
        splits.retain_mut(|split| {
            let permission = split.permission;
            let stays = |member: &Key<Account>| self.is_in_split(*member, permission);
            split.members.retain(stays);
            let is_sampling = split.sample.as_mut().is_some_and(|sample| {
                sample.waiting.retain(stays);
                !sample.waiting.is_empty() || self.is_any_undecided(sample)
            });
            is_sampling || !split.members.is_empty()
        });
        // The newest first: a part is finished before its other half, so that few accounts are split at a time.
        let chosen = splits.iter().rposition(|split| self.is_sendable(split, cx.now));
        let chosen = chosen.map(|place| splits.remove(place));
        self.splits.put_before(splits);
        let mut split = chosen?;
        let mut len_max = cx.lane.batch_max;
        if split.permission == Permission::Share {
            len_max = len_max.min(self.share_room(cx));
        }
        if len_max == 0 {
            // There is no room for shares: these wait with the others, in order of arrival.
            for member in split.members.into_iter().chain(split.sample.into_iter().flat_map(|sample| sample.waiting)) {
                if self.is_in_split(member, Permission::Share) {
                    self.store.set_ready(member, Permission::Share);
                }
            }
            self.quota_due(cx);
            return None;
        }
        let members = split.take_next(len_max);
        Some((split, members))
    }

    fn is_in_split(&self, member: Key<Account>, permission: Permission) -> bool {
        self.store.stage(member) == Some(Stage::Split) && self.store.requested(member) == Some(permission)
    }

    // Samples.

    fn is_any_undecided(&self, sample: &Sample) -> bool {
        let is_undecided = |stage| matches!(stage, Stage::Split | Stage::InFlight | Stage::Checking);
        sample.tried.iter().any(|&tried| self.store.stage(tried).is_some_and(is_undecided))
    }

    /// Ends samples whose accounts are all decided, and all samples once a write was accepted. If every account of a sample
    /// was refused and no write was ever accepted, the rest of the list fails too.
    pub(super) fn settle_samples(&mut self, cx: &mut Context<'_>) {
        let mut refused_lists = Vec::new();
        let mut splits = core::mem::take(&mut self.splits.lists);
        for split in &mut splits {
            let Some(sample) = &mut split.sample else { continue };
            let is_undecided = self.is_any_undecided(sample);
            if self.writes.is_any_accepted() {
                split.members.append(&mut sample.waiting);
                if !sample.refused.is_empty() || is_undecided {
                    split.fault = Fault::Unknown;
                }
                split.sample = None;
            } else if sample.waiting.is_empty() && !is_undecided {
                if sample.refused.len() == SAMPLE_SIZE {
                    refused_lists.push((core::mem::take(&mut split.members), split.permission, split.failure.clone()));
                }
                split.sample = None;
            }
        }
        // Failing may begin operations that are added to splits, so the lists are put back first.
        self.splits.put_before(splits);
        for (members, permission, failure) in refused_lists {
            for member in members {
                if self.is_in_split(member, permission) {
                    self.fail_unless_applied(cx, member, failure.clone());
                }
            }
        }
    }

    /// An account was finally refused alone. It counts for the samples of lists that were refused with the same code.
    pub(super) fn count_sample(&mut self, account: Key<Account>, code: &str) {
        for split in self.splits.lists.iter_mut().filter(|split| *split.failure.code == *code) {
            if let Some(sample) = split.sample.as_mut().filter(|sample| sample.tried.contains(&account)) {
                sample.refused.push(account);
            }
        }
    }

    /// Failures during an outage do not count.
    pub(crate) fn forgive_attempts(&mut self, cx: &Context<'_>) {
        self.listings.forgive_attempts();
        for split in &mut self.splits.lists {
            split.failures = 0;
            for &member in &split.members {
                self.store.forgive_attempts(member);
            }
        }
        // An operation whose last try failed waits for a listing, and is tried again if that does not show it done.
        for account in self.listings.waiting().to_vec() {
            let history = self.store.contains(account).then(|| self.store.get_history_mut(account)).flatten();
            if history.is_some_and(History::forgive_final_failure) {
                self.store.forgive_attempts(account);
                self.schedule_forgetting(cx, account);
                for sample in self.splits.lists.iter_mut().filter_map(|split| split.sample.as_mut()) {
                    sample.refused.retain(|&refused| refused != account);
                }
            }
        }
    }
}

impl Split {
    /// Takes the second half as a split of its own. One more failure of either half is again the second in a row.
    fn take_second_half(&mut self) -> Self {
        let second = self.members.split_off(self.members.len() / 2);
        self.failures = LIST_FAILURES_MAX - 1;
        let mut other = Self::new(self.permission, second, self.failure.clone());
        (other.after, other.failures) = (self.after, self.failures);
        other
    }
}
