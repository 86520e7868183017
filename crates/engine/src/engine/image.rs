//! What is kept of an image: its accounts, what is known of it, and what is under way.

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

use super::{account::Account, backlog::Backlog, group::Group, lane::Kind, sync::Sync, ticket::Ticket};
use crate::{
    arena::Key,
    io::{CallId, LaneId},
    job::Failure,
    time::{Instant, Millis},
};

/// One image of one lane and region.
#[derive(Debug)]
pub(super) struct Image {
    pub(super) lane: LaneId,
    pub(super) region: Region,
    pub(super) id: ImageId,
    pub(super) accounts: BTreeMap<AccountId, Key<Account>>,
    /// Operations that may be sent, in order of arrival.
    pub(super) ready_cancels: BTreeSet<(u64, Key<Account>)>,
    pub(super) ready_shares: BTreeSet<(u64, Key<Account>)>,
    /// Operations that wait for a reading; some may have moved on.
    pub(super) checking: Vec<Key<Account>>,
    /// Operations being isolated, the newest group last.
    pub(super) groups: Vec<Group>,
    /// Whether the last write came from a group: then a full list of others goes first.
    pub(super) group_had_turn: bool,
    /// When an account that waits for the end of a doubt has to be looked at again.
    pub(super) wakes: BTreeSet<(Instant, Key<Account>)>,
    /// When an account may be forgotten. About in order of time: one that stands behind a later one is forgotten with
    /// that one, which harms nobody.
    pub(super) forgettable: VecDeque<(Instant, Key<Account>)>,
    /// When a ticket expires.
    pub(super) deadlines: BTreeSet<(Instant, Key<Ticket>)>,
    /// Tickets that are done but for a write that may still be applied, and until when.
    pub(super) doubtful: BTreeSet<(Instant, Key<Ticket>)>,
    pub(super) reading: Option<Reading>,
    pub(super) read: Reads,
    /// The write in flight.
    pub(super) write: Option<CallId>,
    /// No write before this moment.
    pub(super) write_after: Instant,
    /// When the last write was answered.
    pub(super) last_write: Option<Instant>,
    /// When that write began: it was applied no earlier, and maybe long before it was answered.
    pub(super) last_write_began: Instant,
    /// Whether a write was ever accepted.
    pub(super) accepted: bool,
    pub(super) busy: Option<Busy>,
    pub(super) query: Option<CallId>,
    pub(super) denied: Option<Denied>,
    pub(super) quota: Quota,
    /// Whether a ticket of this image came again since the lane came up.
    pub(super) redelivered: bool,
    /// Accounts with wishes that are done provisionally.
    pub(super) provisional: BTreeSet<Key<Account>>,
    /// What is still to be done to many accounts, in order. Nothing is sent and no other job begins before that.
    pub(super) backlogs: VecDeque<Backlog>,
    /// Tickets of a lane that was lost, until their wishes are dropped; some stand there more than once.
    pub(super) lost_tickets: Vec<Key<Ticket>>,
    pub(super) sync: Option<Sync>,
    /// Tickets that wait for a SYNC before them or for a backlog, or are a SYNC.
    pub(super) behind: VecDeque<Key<Ticket>>,
    /// Tickets whose wishes are in hand.
    pub(super) held: u32,
    /// Accounts with an operation.
    pub(super) pending: u32,
    /// Calls about it that were not answered yet, probes included.
    pub(super) calls: u32,
    /// Whether it stands in the lane's queue for each kind of call.
    pub(super) queued: [bool; 3],
    /// When the engine looks at it again, as it stands in the agenda.
    pub(super) alarm: Option<Instant>,
}

/// Who has the image, as an answer said.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) began: Instant,
    /// Sorted.
    pub(super) accounts: Vec<AccountId>,
    /// Whether an account that is not listed is known not to have the image.
    pub(super) complete: bool,
}

/// The state of reading.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// A reading is wanted that begins no earlier than this.
    pub(super) wanted: Option<Instant>,
    pub(super) in_flight: Option<CallId>,
    /// No reading before this moment.
    pub(super) after: Instant,
    pub(super) attempts: u32,
    /// The last listing was refused.
    pub(super) refused: Option<RefusedListing>,
}

/// A listing that was refused, or failed as often as it is tried.
#[derive(Debug)]
pub(super) struct RefusedListing {
    pub(super) began: Instant,
    /// It was made for the tickets that stood before this place in arrival.
    pub(super) seq: u64,
    /// When it was refused.
    pub(super) at: Instant,
    /// Until then work goes on without a listing.
    pub(super) until: Instant,
    pub(super) failure: Arc<Failure>,
    /// Whether a SYNC that it was made for fails by it, and does not wait to ask again.
    pub(super) is_final: bool,
}

/// The image is occupied or not ready.
#[derive(Debug)]
pub(super) struct Busy {
    /// When this process first saw it so.
    pub(super) since: Instant,
    /// When a response last showed it so.
    pub(super) seen: Instant,
    /// When to ask again; `None` while a write may try.
    pub(super) ask: Option<Instant>,
    /// How often a write found it busy.
    pub(super) rounds: u32,
    /// The write that found it so.
    pub(super) call: CallId,
    /// The response to that write.
    pub(super) failure: Arc<Failure>,
}

/// The key may not do what the image needs.
#[derive(Debug)]
pub(super) struct Denied {
    /// A write, or the listing that a SYNC needs.
    pub(super) kind: Kind,
    /// Since when it has been refused again and again, with others permitted in between.
    pub(super) since: Instant,
    /// How often that was.
    pub(super) refusals: u32,
    /// When it was refused last.
    pub(super) last: Instant,
    pub(super) pause: Millis,
    pub(super) again: Instant,
}

/// How many accounts the image is shared with and may be.
#[derive(Debug, Default)]
pub(super) struct Quota {
    /// Accounts that have it, as far as known from the reading and our writes since.
    pub(super) present: u32,
    /// A cap that refusals taught.
    pub(super) learned: Option<LearnedCap>,
    /// The most accounts it was seen shared with.
    pub(super) seen: u32,
    /// The longest list of shares to try after an unforeseen refusal.
    pub(super) list_max: Option<u32>,
    /// Single accounts refused in a row.
    pub(super) singles: u32,
}

/// A cap that refusals taught: as many accounts as had the image, by our count.
#[derive(Debug)]
pub(super) struct LearnedCap {
    pub(super) cap: u32,
    pub(super) until: Instant,
    /// Whether the count was complete. If not, a new listing comes before any failure by this cap.
    pub(super) is_certain: bool,
}

impl Image {
    pub(super) fn new(lane: LaneId, region: Region, id: ImageId) -> Self {
        Self {
            lane,
            region,
            id,
            accounts: BTreeMap::new(),
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
            pending: 0,
            calls: 0,
            queued: [false; 3],
            alarm: None,
        }
    }

    pub(super) const fn ready(&self, permission: Permission) -> &BTreeSet<(u64, Key<Account>)> {
        match permission {
            Permission::Cancel => &self.ready_cancels,
            Permission::Share => &self.ready_shares,
        }
    }

    pub(super) const fn ready_mut(&mut self, permission: Permission) -> &mut BTreeSet<(u64, Key<Account>)> {
        match permission {
            Permission::Cancel => &mut self.ready_cancels,
            Permission::Share => &mut self.ready_shares,
        }
    }

    /// Whether any ticket names it.
    pub(super) fn in_hand(&self) -> bool {
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
pub(super) fn failure(
    code: &str,
    message: impl Into<Box<str>>,
    request_id: Option<imageshare_core::ids::RequestId>,
) -> Arc<Failure> {
    Arc::new(Failure { code: code.into(), message: message.into(), request_id })
}
