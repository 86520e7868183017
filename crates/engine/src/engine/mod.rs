//! The state machine: what it holds, the two calls that drive it, and its agenda. Each rule has a file of its own.

mod account;
mod answers;
mod backlog;
mod busy;
mod decide;
mod denied;
mod group;
mod guard;
mod image;
mod isolate;
mod key;
mod lane;
mod lanes;
mod leave;
mod numbers;
mod quota;
mod reading;
mod settle;
mod sync;
mod ticket;
mod tickets;
mod writes;

#[cfg(test)]
mod tests;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId, Region},
};

pub use self::numbers::LaneNumbers;

use self::{
    account::{Account, History, Wish},
    image::Image,
    lane::{Calls, Kind, Lane, LaneState, Remembered},
    ticket::Ticket,
};
use crate::{
    arena::{Arena, Key},
    io::{CallId, CloseReason, Command, Input, LaneId},
    job::Failure,
    limits::Limits,
    random::Random,
    time::{Instant, Millis},
};

/// All share jobs of a process. See the [crate] page for how to drive it.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    random: Random,
    now: Instant,
    lanes: BTreeMap<LaneId, Lane>,
    image_keys: BTreeMap<(LaneId, Region, ImageId), Key<Image>>,
    images: Arena<Image>,
    accounts: Arena<Account>,
    wishes: Arena<Wish>,
    histories: Arena<History>,
    tickets: Arena<Ticket>,
    failures: BTreeMap<Key<Wish>, Arc<Failure>>,
    /// The failure of every account whose job expired: one value for all of them, of which a job has up to 10,000.
    expired: Arc<Failure>,
    /// The same for an account of which a write may have been applied.
    expired_in_doubt: Arc<Failure>,
    remembered: BTreeMap<(LaneId, Region, ImageId, AccountId, Permission), Remembered>,
    remembered_order: VecDeque<(LaneId, Region, ImageId, AccountId, Permission)>,
    calls: Calls,
    next_call: u64,
    next_seq: u64,
    agenda: BTreeSet<(Instant, Alarm)>,
    /// Tickets that may be settled.
    finished: VecDeque<Key<Ticket>>,
    commands: VecDeque<Command>,
    /// Wishes that expired, began or were settled, and accounts that were looked at together, since the engine was last
    /// called.
    work: usize,
    draining: bool,
}

/// What is looked at when its time comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    Image(Key<Image>),
    Lane(LaneId),
    Slot(LaneId, Kind),
}

/// Whether calls are made on a lane, for the driver and for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneStatus {
    /// Not up.
    Down,
    /// Calls are made.
    Open,
    /// No calls but probes, since that moment and for that reason.
    Closed(Instant, CloseReason),
    /// No new calls; it is about to leave.
    Leaving,
    /// It was closed too long and its jobs were reported as not attempted.
    GivenUp(CloseReason),
}

impl Engine {
    /// How old a reading may be to call an account unchanged.
    const READING_AGE_MAX: Millis = Millis::from_secs(30);

    /// An engine without lanes. The seed decides every random choice.
    #[must_use]
    pub fn new(limits: Limits, seed: u64) -> Self {
        Self {
            limits: limits.in_milliseconds(),
            random: Random::new(seed),
            now: Instant::default(),
            lanes: BTreeMap::new(),
            image_keys: BTreeMap::new(),
            images: Arena::new(),
            accounts: Arena::new(),
            wishes: Arena::new(),
            histories: Arena::new(),
            tickets: Arena::new(),
            failures: BTreeMap::new(),
            expired: decide::expired_failure(false),
            expired_in_doubt: decide::expired_failure(true),
            remembered: BTreeMap::new(),
            remembered_order: VecDeque::new(),
            calls: Calls::new(),
            next_call: 0,
            next_seq: 0,
            agenda: BTreeSet::new(),
            finished: VecDeque::new(),
            commands: VecDeque::new(),
            work: 0,
            draining: false,
        }
    }

    /// Takes in something that happened at `now`. A time before an earlier one counts as that earlier one.
    ///
    /// Afterwards, [`poll`](Self::poll) until it answers [`Command::WaitUntil`] or [`Command::Idle`].
    pub fn handle(&mut self, now: Instant, input: Input) {
        let now = self.advance_clock(now);
        self.work = 0;
        match input {
            Input::LaneUp(lane, limits) => self.lane_up(now, lane, limits),
            Input::LaneLost(lane) => self.lane_lost(now, lane),
            Input::Leave(lane) if self.lanes.contains_key(&lane) => self.leave(now, lane),
            Input::Leave(_) => {}
            Input::Full(lane) => self.lane_full(lane),
            Input::Job { ticket, lane, job } => self.receive(now, ticket, lane, job),
            Input::Sent(call) => self.call_sent(now, call),
            Input::Answer { call, outcome } => self.answer(now, call, outcome),
            Input::CredentialFresh(lane) => self.credential_fresh(now, lane),
            Input::CredentialBroken(lane) => self.credential_broken(now, lane),
            Input::OwnAccount(lane, account) => self.own_account(now, lane, account),
            Input::OwnerUnknown(lane) => self.owner_unknown(now, lane),
            Input::ExpectAccount(lane, account) => self.expect_account(now, lane, account),
            Input::Limits(limits) => self.limits = limits.in_milliseconds(),
            Input::Drain => self.drain(now),
        }
    }

    /// The next thing to do. Calling it early or repeatedly does no harm. After much work it answers
    /// [`Command::WaitUntil`] this moment.
    pub fn poll(&mut self, now: Instant) -> Command {
        let now = self.advance_clock(now);
        self.work = 0;
        loop {
            self.settle_finished(now, self.limits.work);
            if let Some(command) = self.commands.pop_front() {
                return command;
            }
            if self.is_much_work() {
                return Command::WaitUntil(now);
            }
            match self.agenda.first() {
                Some(&(at, alarm)) if at <= now => {
                    self.agenda.pop_first();
                    self.ring(now, alarm);
                }
                Some(&(at, _)) => return Command::WaitUntil(at),
                None => return Command::Idle,
            }
        }
    }

    /// Tickets that are not settled.
    #[must_use]
    pub const fn tickets(&self) -> usize {
        self.tickets.len()
    }

    /// Wishes that are held: the size of what is in hand, which the driver bounds.
    #[must_use]
    pub const fn operations(&self) -> usize {
        self.wishes.len()
    }

    /// Whether calls are made on a lane.
    #[must_use]
    pub fn lane_status(&self, lane: LaneId) -> LaneStatus {
        match self.lanes.get(&lane).map(|lane| &lane.state) {
            None | Some(LaneState::Down) => LaneStatus::Down,
            Some(LaneState::Open | LaneState::Refreshing(..)) => LaneStatus::Open,
            Some(LaneState::Closed(closed)) if !closed.certain => LaneStatus::Open,
            Some(LaneState::Closed(closed)) => LaneStatus::Closed(closed.since, closed.reason),
            Some(LaneState::Leaving) => LaneStatus::Leaving,
            Some(LaneState::GivenUp(reason)) => LaneStatus::GivenUp(*reason),
        }
    }

    /// Whether the rest waits for the next call.
    const fn is_much_work(&self) -> bool {
        self.work >= self.limits.work
    }

    fn advance_clock(&mut self, now: Instant) -> Instant {
        self.now = self.now.max(now);
        self.now
    }

    fn ring(&mut self, now: Instant, alarm: Alarm) {
        match alarm {
            Alarm::Image(image) => {
                if let Some(found) = self.images.get_mut(image) {
                    found.alarm = None;
                    self.touch(now, image);
                }
            }
            Alarm::Lane(lane) => {
                if let Some(found) = self.lanes.get_mut(&lane) {
                    found.alarm = None;
                    self.lane_due(now, lane);
                }
            }
            Alarm::Slot(lane, kind) => {
                if let Some(found) = self.lanes.get_mut(&lane) {
                    found.armed[kind as usize] = None;
                    self.take_slot(now, lane, kind);
                }
            }
        }
    }

    /// Puts an image's next moment into the agenda, in place of the one that stood there.
    fn set_image_alarm(&mut self, image: Key<Image>, at: Option<Instant>) {
        let standing = core::mem::replace(&mut self.images[image].alarm, at);
        self.replace_alarm(standing, at, Alarm::Image(image));
    }

    fn set_lane_alarm(&mut self, lane: LaneId, at: Option<Instant>) {
        let Some(found) = self.lanes.get_mut(&lane) else { return };
        let standing = core::mem::replace(&mut found.alarm, at);
        self.replace_alarm(standing, at, Alarm::Lane(lane));
    }

    fn replace_alarm(&mut self, standing: Option<Instant>, at: Option<Instant>, alarm: Alarm) {
        if standing == at {
            return;
        }
        if let Some(standing) = standing {
            self.agenda.remove(&(standing, alarm));
        }
        if let Some(at) = at {
            self.agenda.insert((at, alarm));
        }
    }

    /// The pause before the next try after so many failed ones.
    fn pause(&mut self, failed: u32) -> Millis {
        let whole = self.whole_pause(failed);
        self.random.part_of(whole)
    }

    /// The longest that this pause can be.
    fn whole_pause(&self, failed: u32) -> Millis {
        let nth = failed.saturating_sub(1) as usize;
        self.limits.pauses.get(nth).or_else(|| self.limits.pauses.last()).copied().unwrap_or_default()
    }

    fn next_call_id(&mut self) -> CallId {
        let id = CallId(self.next_call);
        self.next_call += 1;
        id
    }

    fn lane(&mut self, lane: LaneId) -> &mut Lane {
        self.lanes.get_mut(&lane).expect("lanes are never removed, and only known ones are named inside")
    }

    fn notice(&mut self, lane: LaneId, notice: crate::io::Notice) {
        self.commands.push_back(Command::Notice(lane, notice));
    }

    fn report(&mut self, ticket: crate::io::TicketId, report: crate::job::Report) {
        self.commands.push_back(Command::Settle { ticket, report: Box::new(report) });
    }
}
