//! What is kept of a lane: its pace, its calls, whether it is open.

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    vec::Vec,
};

use imageshare_core::Permission;

use super::{account::Account, image::Image, key::KeyOwner};
use crate::{
    arena::Key,
    io::{CallId, CloseReason, LaneId},
    job::Failure,
    limits::LaneLimits,
    pacer::Pacer,
    time::{Instant, Millis},
};

/// The kinds of calls, each paced by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Write,
    ReadShares,
    ReadImage,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Write, Self::ReadShares, Self::ReadImage];
}

/// One rate-limit bucket.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) limits: LaneLimits,
    pub(super) state: LaneState,
    /// Whether jobs come from it: from `LaneUp` until it is lost or given back.
    pub(super) serving: bool,
    /// Whether it takes no more jobs until it is up again.
    pub(super) full: bool,
    pub(super) up_at: Instant,
    pub(super) pacers: [Pacer; 3],
    /// Images that want a call of each kind, in turn.
    pub(super) queues: [VecDeque<Key<Image>>; 3],
    /// When each kind's next slot stands in the agenda.
    pub(super) armed: [Option<Instant>; 3],
    /// The call of each kind that is not yet written: the next waits for it.
    pub(super) unsent: [Option<CallId>; 3],
    pub(super) in_flight: u32,
    pub(super) images: BTreeSet<Key<Image>>,
    pub(super) tickets: u32,
    /// When the last write began that the key in use was permitted.
    pub(super) write_permitted: Option<Instant>,
    /// When the last listing began that it was permitted.
    pub(super) listing_permitted: Option<Instant>,
    /// Whose key is in use.
    pub(super) key: KeyOwner,
    /// The kind of call for which the credential was refreshed, until one of that kind is good, and when.
    pub(super) refreshed: Option<(Kind, Instant)>,
    /// When the clock was corrected, until a call is good.
    pub(super) clock_corrected: Option<Instant>,
    /// Calls in a row without a usable answer.
    pub(super) streak: Streak,
    pub(super) batch: BatchSearch,
    /// Lists that were split to find an account at fault.
    pub(super) splits: u64,
    /// Tickets in order of arrival, where there is a lease; some may be settled.
    pub(super) arrivals: VecDeque<Arrival>,
    pub(super) alarm: Option<Instant>,
}

/// Whether calls are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LaneState {
    /// Not ours.
    Down,
    Open,
    /// A credential was refused for this kind of call, in these words, and another one is being fetched.
    Refreshing(Kind, Box<str>),
    Closed(Closed),
    /// No new calls; when the last one in flight has ended, the lane leaves.
    Leaving,
    /// It left, in the way of one-shot commands: what comes now is not attempted.
    GivenUp(CloseReason),
}

/// A lane without calls but for one probe at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) reason: CloseReason,
    /// Since when nothing worked.
    pub(super) since: Instant,
    pub(super) detail: Box<str>,
    pub(super) pause: Millis,
    /// The kind of call that shows whether it works again.
    pub(super) probe: Kind,
    /// When to probe next; `None` while a probe is under way.
    pub(super) probe_at: Option<Instant>,
    /// Whether it is known that nothing works, or only suspected, which one probe decides.
    pub(super) certain: bool,
    /// Whether a probe has failed: then the tries of that time do not count.
    pub(super) outage: bool,
    /// Whether its jobs were given back already.
    pub(super) given_back: bool,
}

/// Calls in a row without a usable answer.
#[derive(Debug, Default)]
pub(super) struct Streak {
    pub(super) calls: u32,
    pub(super) since: Option<Instant>,
    /// Why the last one got none.
    pub(super) detail: Box<str>,
    /// Some of the images, as many as matter.
    pub(super) images: Vec<Key<Image>>,
}

/// The search for the longest list that the API takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct BatchSearch {
    /// The longest list that was accepted.
    accepted: u32,
    /// The shortest list that was refused for its length; 0 for none.
    refused: u32,
}

/// A call in flight.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: CallId,
    pub(super) lane: LaneId,
    /// The place in arrival of the first ticket that came after it began.
    pub(super) seq: u64,
    pub(super) image: Key<Image>,
    pub(super) kind: Kind,
    pub(super) probe: bool,
    pub(super) began: Instant,
    pub(super) sent: Option<Instant>,
    pub(super) write: Option<Write>,
}

/// What a write carries.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) permission: Permission,
    pub(super) members: Vec<Key<Account>>,
    pub(super) origin: Origin,
}

/// Where the operations of a write came from.
#[derive(Debug)]
pub(super) enum Origin {
    /// From the ready ones.
    Ready,
    /// From a group; these are its other members.
    Group(super::group::Group),
}

impl Lane {
    /// Calls in a row without a usable answer that close a lane.
    pub(super) const STREAK_MAX: u32 = 5;
    /// On how many images they must be.
    pub(super) const STREAK_IMAGES: usize = 3;

    pub(super) fn new(limits: LaneLimits, now: Instant) -> Self {
        let pacers = [limits.rate, limits.rate, limits.image_rate].map(|rate| Pacer::new(rate, now));
        Self {
            limits,
            state: LaneState::Down,
            serving: false,
            full: false,
            up_at: now,
            pacers,
            queues: [const { VecDeque::new() }; 3],
            armed: [None; 3],
            unsent: [None; 3],
            in_flight: 0,
            images: BTreeSet::new(),
            tickets: 0,
            write_permitted: None,
            listing_permitted: None,
            key: KeyOwner::default(),
            refreshed: None,
            clock_corrected: None,
            streak: Streak::default(),
            batch: BatchSearch::default(),
            splits: 0,
            arrivals: VecDeque::new(),
            alarm: None,
        }
    }

    /// Whether calls are made.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.state, LaneState::Open) && self.key.wait_until.is_none()
    }

    pub(super) fn batch_max(&self) -> usize {
        self.batch.next(self.limits.batch) as usize
    }
}

impl BatchSearch {
    /// The length to send: what is settled until it is refused, then halfway between what went and what did not.
    pub(super) fn next(self, settled: u32) -> u32 {
        let searched =
            if self.refused == 0 { settled } else { self.accepted.midpoint(self.refused).max(self.accepted) };
        searched.min(settled).max(1)
    }

    pub(super) fn accepted(&mut self, len: u32) {
        self.accepted = self.accepted.max(len);
        if self.refused <= self.accepted {
            // What was too long once is taken now: the API's limit has changed.
            self.refused = 0;
        }
    }

    pub(super) fn refused(&mut self, len: u32) {
        self.refused = if self.refused == 0 { len } else { self.refused.min(len) };
        if self.accepted >= self.refused {
            self.accepted = self.refused - 1;
        }
    }
}

impl Streak {
    /// A call got no usable answer. Gives whether that is enough to close the lane, or to suspect that it must be.
    pub(super) fn failed(&mut self, image: Key<Image>, began: Instant, detail: Box<str>) -> bool {
        self.calls += 1;
        self.detail = detail;
        self.since = self.since.or(Some(began));
        if self.images.len() < Lane::STREAK_IMAGES && !self.images.contains(&image) {
            self.images.push(image);
        }
        self.calls >= Lane::STREAK_MAX
    }

    pub(super) fn on_several_images(&self) -> bool {
        self.images.len() >= Lane::STREAK_IMAGES
    }
}

/// A ticket and when it came; its place in arrival tells it from a later one under the same key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) at: Instant,
    pub(super) ticket: Key<super::ticket::Ticket>,
    pub(super) seq: u64,
}

/// All calls in flight.
pub(super) type Calls = BTreeMap<CallId, Call>;

/// A refusal that is remembered for jobs that come back.
#[derive(Debug)]
pub(super) struct Remembered {
    pub(super) until: Instant,
    pub(super) failure: Arc<Failure>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_search_for_the_longest_list_ends_at_it() {
        for longest in 1..=50 {
            let mut search = BatchSearch::default();
            let mut tries = 0;
            loop {
                let len = search.next(50);
                if len <= longest {
                    search.accepted(len);
                } else {
                    search.refused(len);
                }
                tries += 1;
                assert!(tries < 20, "{longest}");
                if search.next(50) == len && len <= longest {
                    break;
                }
            }
            assert_eq!(search.next(50), longest);
        }
    }

    #[test]
    fn a_limit_that_rises_or_falls_is_followed() {
        let mut search = BatchSearch::default();
        search.refused(50);
        search.accepted(25);
        search.refused(20);
        assert!(search.next(50) < 20);
        search.accepted(49);
        assert_eq!(search.next(50), 50);
    }
}
