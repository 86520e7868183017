//! An image: its jobs and accounts, what is known of it, and what is under way. It sees no lane, no other image and no queue.

mod account;
mod answers;
mod backlog;
mod busy;
mod decide;
mod denied;
mod group;
mod items;
mod leave;
mod listing;
mod quota;
mod report;
mod split;
mod sync;
mod takeover;
mod ticket;
mod write;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId, Region},
};

pub(crate) use self::ticket::Ticket;
use self::{
    account::{Account, History, Wish},
    backlog::Backlog,
    group::Group,
    sync::Sync,
    write::Write,
};
use crate::{
    arena::{Arena, Key},
    call::Kind,
    context::Context,
    io::{CallId, LaneId},
    job::{Failure, local},
    time::{Instant, Millis},
};

/// The name of an image: an image id belongs to a region, and is used by the credential of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ImageName {
    pub(crate) lane: LaneId,
    pub(crate) region: Region,
    pub(crate) id: ImageId,
}

/// One image of one lane and region.
#[derive(Debug)]
pub(crate) struct Image {
    name: ImageName,
    store: Store,
    /// Operations that may be sent, in order of arrival.
    ready_cancels: BTreeSet<(u64, Key<Account>)>,
    ready_shares: BTreeSet<(u64, Key<Account>)>,
    /// Operations that wait for a reading; some may have moved on.
    checking: Vec<Key<Account>>,
    /// Operations being isolated, the newest group last.
    groups: Vec<Group>,
    /// Whether the last write came from a group: then a full list of others goes first.
    group_had_turn: bool,
    /// When an account that waits for the end of a doubt has to be looked at again.
    wakes: BTreeSet<(Instant, Key<Account>)>,
    /// When an account may be forgotten. About in order of time: one that stands behind a later one is forgotten with
    /// that one, which harms nobody.
    forgettable: VecDeque<(Instant, Key<Account>)>,
    /// When a ticket expires.
    deadlines: BTreeSet<(Instant, Key<Ticket>)>,
    /// Tickets that are done but for a write that may still be applied, and until when.
    doubtful: BTreeSet<(Instant, Key<Ticket>)>,
    reading: Option<Reading>,
    read: Reads,
    /// The write in flight.
    write: Option<Write>,
    /// No write before this moment.
    write_after: Instant,
    /// When the last write was answered.
    last_write: Option<Instant>,
    /// When that write began: it was applied no earlier, and maybe long before it was answered.
    last_write_began: Instant,
    /// Whether a write was ever accepted.
    accepted: bool,
    busy: Option<Busy>,
    query: Option<CallId>,
    denied: Option<Denied>,
    quota: Quota,
    /// Whether a ticket of this image came again since the lane came up.
    redelivered: bool,
    /// Accounts with wishes that are done provisionally.
    provisional: BTreeSet<Key<Account>>,
    /// What is still to be done to many accounts, in order. Nothing is sent and no other job begins before that.
    backlogs: VecDeque<Backlog>,
    /// Tickets of a lane that was lost, until their wishes are dropped; some stand there more than once.
    lost_tickets: Vec<Key<Ticket>>,
    sync: Option<Sync>,
    /// Tickets that wait for a SYNC before them or for a backlog, or are a SYNC.
    behind: VecDeque<Key<Ticket>>,
    /// Tickets whose wishes are in hand.
    held: u32,
    /// Jobs that may be settled.
    finished: VecDeque<Key<Ticket>>,
}

/// The accounts of an image, its jobs, and what links them.
#[derive(Debug)]
struct Store {
    by_id: BTreeMap<AccountId, Key<Account>>,
    accounts: Arena<Account>,
    wishes: Arena<Wish>,
    histories: Arena<History>,
    tickets: Arena<Ticket>,
    failures: BTreeMap<Key<Wish>, Arc<Failure>>,
    /// Accounts with an operation.
    pending: usize,
}

/// Who has the image, as an answer said.
#[derive(Debug)]
pub(super) struct Reading {
    began: Instant,
    /// Sorted.
    accounts: Vec<AccountId>,
    /// Whether an account that is not listed is known not to have the image.
    complete: bool,
}

/// The state of reading.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// A reading is wanted that begins no earlier than this.
    wanted: Option<Instant>,
    in_flight: Option<CallId>,
    /// No reading before this moment.
    after: Instant,
    attempts: u32,
    /// The last listing was refused.
    refused: Option<RefusedListing>,
}

/// A listing that was refused, or failed as often as it is tried.
#[derive(Debug)]
pub(super) struct RefusedListing {
    began: Instant,
    /// It was made for the tickets that stood before this place in arrival.
    seq: u64,
    /// When it was refused.
    at: Instant,
    /// Until then work goes on without a listing.
    until: Instant,
    failure: Arc<Failure>,
    /// Whether a SYNC that it was made for fails by it, and does not wait to ask again.
    is_final: bool,
}

/// The image is occupied or not ready.
#[derive(Debug)]
pub(super) struct Busy {
    /// When this process first saw it so.
    since: Instant,
    /// When a response last showed it so.
    seen: Instant,
    /// When to ask again; `None` while a write may try.
    ask: Option<Instant>,
    /// How often a write found it busy.
    rounds: u32,
    /// The write that found it so.
    call: CallId,
    /// The response to that write.
    failure: Arc<Failure>,
}

/// The key may not do what the image needs.
#[derive(Debug)]
pub(crate) struct Denied {
    /// A write, or the listing that a SYNC needs.
    kind: Kind,
    /// Since when it has been refused again and again, with others permitted in between.
    since: Instant,
    /// How often that was.
    refusals: u32,
    /// When it was refused last.
    last: Instant,
    pause: Millis,
    again: Instant,
}

/// How many accounts the image is shared with and may be.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// Accounts that have it, as far as known from the reading and our writes since.
    present: u32,
    /// A cap that refusals taught.
    learned: Option<LearnedCap>,
    /// The most accounts it was seen shared with.
    seen: u32,
    /// The longest list of shares to try after an unforeseen refusal.
    list_max: Option<u32>,
    /// Single accounts refused in a row.
    singles: u32,
}

/// A cap that refusals taught: as many accounts as had the image, by our count.
#[derive(Debug)]
pub(super) struct LearnedCap {
    cap: u32,
    until: Instant,
    /// Whether the count was complete. If not, a new listing comes before any failure by this cap.
    is_certain: bool,
}

impl Image {
    pub(crate) fn new(name: ImageName) -> Self {
        Self {
            name,
            store: Store {
                by_id: BTreeMap::new(),
                accounts: Arena::new(),
                wishes: Arena::new(),
                histories: Arena::new(),
                tickets: Arena::new(),
                failures: BTreeMap::new(),
                pending: 0,
            },
            ready_cancels: BTreeSet::new(),
            ready_shares: BTreeSet::new(),
            checking: Vec::new(),
            groups: Vec::new(),
            group_had_turn: false,
            wakes: BTreeSet::new(),
            forgettable: VecDeque::new(),
            deadlines: BTreeSet::new(),
            doubtful: BTreeSet::new(),
            reading: None,
            read: Reads::default(),
            write: None,
            write_after: Instant::default(),
            last_write: None,
            last_write_began: Instant::default(),
            accepted: false,
            busy: None,
            query: None,
            denied: None,
            quota: Quota::default(),
            redelivered: false,
            provisional: BTreeSet::new(),
            backlogs: VecDeque::new(),
            lost_tickets: Vec::new(),
            sync: None,
            behind: VecDeque::new(),
            held: 0,
            finished: VecDeque::new(),
        }
    }

    pub(crate) const fn name(&self) -> ImageName {
        self.name
    }

    /// Does what is due. Is called after every change, since one may make another thing due.
    pub(crate) fn run_due(&mut self, cx: &mut Context<'_>) {
        self.work_off(cx);
        if self.has_backlog() {
            return;
        }
        while self.wakes.first().is_some_and(|&(at, _)| at <= cx.now)
            && let Some((_, account)) = self.wakes.pop_first()
        {
            self.wake(cx, account);
        }
        while self.forgettable.front().is_some_and(|&(at, _)| at <= cx.now)
            && let Some((_, account)) = self.forgettable.pop_front()
        {
            self.forget_account(cx, account);
        }
        while !cx.work.is_much()
            && let Some(&(at, ticket)) = self.deadlines.first().filter(|&&(at, _)| at <= cx.now)
        {
            self.deadlines.remove(&(at, ticket));
            self.expire_unbegun(cx, ticket);
            self.expire_ticket(cx, ticket);
        }
        self.admit_behind(cx);
        while let Some(&(at, ticket)) = self.doubtful.first().filter(|&&(at, _)| at <= cx.now) {
            self.doubtful.remove(&(at, ticket));
            self.finished.push_back(ticket);
        }
        self.busy_due(cx);
        self.quota_due(cx);
        self.settle_samples(cx);
        // Last, since an operation that has just failed leaves the last word to the one before it.
        self.guard_due(cx);
    }

    /// When an image has to be looked at again if nothing happens.
    pub(crate) fn next_moment(&self, cx: &Context<'_>) -> Option<Instant> {
        if self.is_expiry_due(cx) || self.has_backlog() || self.next_to_admit().is_some() {
            return Some(cx.now);
        }
        let groups = self.groups.iter().filter_map(Group::sendable_from);
        let busy = self.busy.as_ref();
        let moments = [
            self.wakes.first().map(|&(at, _)| at),
            self.forgettable.front().map(|&(at, _)| at),
            self.deadlines.first().map(|&(at, _)| at),
            self.doubtful.first().map(|&(at, _)| at),
            self.read.wanted.map(|from| from.max(self.read.after)),
            Some(self.write_after),
            busy.and_then(|busy| busy.ask),
            busy.map(|busy| busy.since + cx.lane.image_wait),
            self.denied.as_ref().map(|denied| denied.again),
            self.read.refused.as_ref().map(|refused| refused.until),
            self.quota.learned.as_ref().map(|learned| learned.until),
            self.guard_from(cx),
        ];
        moments.into_iter().flatten().chain(groups).filter(|&at| at > cx.now && at < Instant::NEVER).min()
    }

    /// Whether the deadline of a job has come and its items are not expired yet.
    fn is_expiry_due(&self, cx: &Context<'_>) -> bool {
        self.deadlines.first().is_some_and(|&(at, _)| at <= cx.now)
    }

    /// Whether nothing of it need be kept.
    pub(crate) fn is_forgettable(&self, cx: &Context<'_>) -> bool {
        let learned = self.busy.is_some()
            || self.unreadable(cx.now).is_some()
            || self.quota.learned.as_ref().is_some_and(|learned| learned.until > cx.now);
        !learned && !self.in_hand() && self.store.by_id.is_empty()
    }

    /// Jobs that are not settled, those of a lost lane included that are not dropped yet.
    pub(crate) const fn jobs(&self) -> usize {
        self.store.tickets.len()
    }

    /// Items that are held.
    pub(crate) const fn items(&self) -> usize {
        self.store.wishes.len()
    }

    /// Accounts with an operation.
    pub(crate) const fn pending(&self) -> usize {
        self.store.pending
    }

    /// Jobs in hand: those that began and those that wait.
    pub(crate) fn held_jobs(&self) -> usize {
        self.held as usize + self.behind.len()
    }

    /// Whether this job is still held; its place in arrival tells it from a later one under the same key.
    pub(crate) fn holds(&self, job: Key<Ticket>, seq: u64) -> bool {
        self.store.tickets.get(job).is_some_and(|held| held.seq == seq)
    }

    /// Whether no write is in flight.
    pub(crate) const fn may_write(&self) -> bool {
        self.write.is_none()
    }

    /// Whether no listing is in flight.
    pub(crate) const fn may_read(&self) -> bool {
        self.read.in_flight.is_none()
    }

    /// Whether jobs wait for a listing.
    pub(crate) fn awaits_listing(&self) -> bool {
        self.in_hand() && self.read.wanted.is_some()
    }

    /// Tries of a time when nothing worked do not count.
    pub(crate) fn forgive_attempts(&mut self) {
        self.read.attempts = 0;
        self.read.refused.take_if(|refused| *refused.failure.code == *local::NO_ANSWER);
        for group in &mut self.groups {
            group.failures = 0;
            for &member in &group.members {
                if let Some(account) = self.store.accounts.get_mut(member) {
                    account.attempts = 0;
                }
            }
        }
    }

    /// The lane came up: jobs of before are no longer ours.
    pub(crate) fn lane_up(&mut self, cx: &Context<'_>) {
        self.redelivered = false;
        if cx.limits.guard {
            self.distrust();
        }
    }

    /// Makes a wish the front of its account, or none.
    fn set_front(&mut self, account: Key<Account>, front: Option<Key<Wish>>) {
        let before = core::mem::replace(&mut self.store.accounts[account].front, front);
        self.store.pending = self.store.pending + usize::from(front.is_some()) - usize::from(before.is_some());
        if before.is_some() && front.is_none() {
            self.look_at_provisional(account);
        }
    }

    const fn ready(&self, permission: Permission) -> &BTreeSet<(u64, Key<Account>)> {
        match permission {
            Permission::Cancel => &self.ready_cancels,
            Permission::Share => &self.ready_shares,
        }
    }

    const fn ready_mut(&mut self, permission: Permission) -> &mut BTreeSet<(u64, Key<Account>)> {
        match permission {
            Permission::Cancel => &mut self.ready_cancels,
            Permission::Share => &mut self.ready_shares,
        }
    }

    /// Whether any ticket names it.
    pub(crate) fn in_hand(&self) -> bool {
        self.held > 0 || !self.behind.is_empty()
    }

    /// Asks for a reading that begins no earlier than `from`. Of several wishes the earliest counts: whoever needs a
    /// later one asks again.
    pub(super) fn want_reading(&mut self, from: Instant) {
        self.read.wanted = Some(self.read.wanted.map_or(from, |wanted| wanted.min(from)));
    }

    /// Why reading is not possible for now.
    pub(super) fn unreadable(&self, now: Instant) -> Option<&RefusedListing> {
        self.read.refused.as_ref().filter(|refused| refused.until > now)
    }
}

impl Reading {
    /// Listings of these lengths may have been cut (facts section 10, gap 6).
    const SUSPICIOUS_LENGTHS: [usize; 3] = [20, 50, 100];

    /// An empty listing by a key whose account is not known may be that of another account's image.
    pub(super) fn new(began: Instant, mut accounts: Vec<AccountId>, cap: u32, is_key_proven: bool) -> Self {
        accounts.sort_unstable();
        accounts.dedup();
        let is_whole = !Self::SUSPICIOUS_LENGTHS.contains(&accounts.len()) && accounts.len() < cap as usize;
        let complete = is_whole && (is_key_proven || !accounts.is_empty());
        Self { began, accounts, complete }
    }

    /// Whether the account has the image; `None` if the listing does not say.
    pub(super) fn shows(&self, account: AccountId) -> Option<bool> {
        let listed = self.accounts.binary_search(&account).is_ok();
        (listed || self.complete).then_some(listed)
    }
}

impl Quota {
    /// The cap as last learnt.
    pub(super) fn cap(&self, first_guess: u32, now: Instant) -> u32 {
        match &self.learned {
            Some(learned) if learned.until > now => learned.cap,
            _ => first_guess.max(self.seen),
        }
    }
}

/// A failure as the engine shares it between wishes.
pub(crate) fn failure(
    code: &str,
    message: impl Into<Box<str>>,
    request_id: Option<imageshare_core::ids::RequestId>,
) -> Arc<Failure> {
    Arc::new(Failure { code: code.into(), message: message.into(), request_id })
}
