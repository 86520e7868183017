//! The engine: lanes, images, the calls in flight and the schedule. It passes each input to its lane or image, and their
//! effects to the others.

mod calls;
mod lanes;

#[cfg(test)]
mod tests;

use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};

use crate::{
    arena::Key,
    call::{Call, Kind},
    context::{Context, Effect, ExpiredFailures, Work},
    image::{Image, ImageName, failure},
    images::{Entry, Images},
    io::{CallId, CloseReason, Command, DeliveryId, Input, LaneId},
    job::{AccountOutcome, Job, Report, local},
    lane::{Arrival, Intake, Lane},
    limits::Limits,
    policy::Policy,
    random::Random,
    refusals::Refusals,
    schedule::{Alarm, Schedule},
    time::Instant,
};

/// All share jobs of a process. See the [crate] page for how to drive it.
#[derive(Debug)]
pub struct Engine {
    policy: Policy,
    limits: Limits,
    random: Random,
    now: Instant,
    lanes: BTreeMap<LaneId, Lane>,
    images: Images,
    refusals: Refusals,
    expired: ExpiredFailures,
    calls: BTreeMap<CallId, Call>,
    next_call: u64,
    next_seq: u64,
    schedule: Schedule,
    /// Images with jobs that may be settled.
    finishing: VecDeque<Key<Entry>>,
    commands: VecDeque<Command>,
    work: Work,
    /// Effects of images that are not applied yet.
    effects: Vec<Effect>,
    jobs: usize,
    items: usize,
    draining: bool,
}

/// Whether a lane makes calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneStatus {
    /// Not up.
    Down,
    /// It makes calls. It may pause for another credential, for the account of its key, or for a query that decides
    /// whether to close it.
    Open,
    /// It makes no calls except probes, for that reason. No call was good since that moment.
    Closed(Instant, CloseReason),
    /// No new calls; its jobs are about to end.
    Leaving,
    /// It was closed for too long, and its jobs were reported.
    GivenUp(CloseReason),
}

/// The numbers of a lane at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LaneNumbers {
    /// Writes a second now, at most the lane's limit.
    pub write_rate: f64,
    /// DescribeImageSharePermission requests a second now.
    pub read_rate: f64,
    /// DescribeImages requests a second now.
    pub image_rate: f64,
    /// Accounts that the next request may contain: the lane's limit, or fewer after the API refused a longer list.
    pub batch: u32,
    /// Accounts with an operation. Those of a job that waits behind a SYNC have none yet.
    pub operations: usize,
    /// How often a list was split since the engine was made.
    pub splits: u64,
}

impl Engine {
    /// Two places in arrival a job: the cancels of a SYNC come before its shares.
    const SEQ_STEP: u64 = 2;

    /// An engine without lanes. The seed decides every random choice.
    #[must_use]
    pub fn new(policy: Policy, limits: Limits, seed: u64) -> Self {
        Self {
            policy,
            work: Work { done: 0, max: limits.work },
            limits,
            random: Random::new(seed),
            now: Instant::default(),
            // Maps in order of keys: what the engine does must follow from the seed and the inputs alone.
            lanes: BTreeMap::new(),
            images: Images::new(),
            refusals: Refusals::default(),
            expired: ExpiredFailures::new(),
            calls: BTreeMap::new(),
            next_call: 0,
            next_seq: 0,
            schedule: Schedule::default(),
            finishing: VecDeque::new(),
            commands: VecDeque::new(),
            effects: Vec::new(),
            jobs: 0,
            items: 0,
            draining: false,
        }
    }

    /// Handles something that happened at `now`. If `now` is before the last one, that one is used.
    ///
    /// Call [`poll`](Self::poll) afterwards, until it returns [`Command::WaitUntil`] or [`Command::Idle`].
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.begin_turn(now);
        match input {
            Input::LaneUp(lane, limits) => self.lane_up(lane, limits),
            Input::LaneLost(lane) => self.lane_lost(lane),
            Input::Leave(lane) => self.leave(lane),
            // From now on busy images may be all that holds the lane up: see `is_blocked`.
            Input::Full(lane) => {
                if let Some(lane) = self.lanes.get_mut(&lane) {
                    lane.set_full();
                }
            }
            Input::Job { delivery, lane, job } => self.receive(delivery, lane, job),
            Input::Sent(call) => self.call_sent(call),
            Input::Answer { call, outcome } => self.answer(call, outcome),
            Input::CredentialRefreshed(lane) => self.credential_fresh(lane),
            // Only the lane is concerned: what its images were refused does not change.
            Input::RefreshFailed(lane) => self.change_lane(lane, Lane::credential_broken),
            Input::OwnAccount(lane, account) => self.check_owner(lane, |lane, now| lane.own_account(now, account)),
            Input::OwnerUnknown(lane) => self.check_owner(lane, Lane::owner_unknown),
            Input::ExpectAccount(lane, account) => {
                self.check_owner(lane, |lane, now| lane.expect_account(now, account));
            }
            Input::Limits(limits) => {
                let is_other_lag = limits.read_lag != self.limits.read_lag;
                self.limits = limits;
                self.work.max = self.limits.work;
                for lane in self.lanes.keys().copied().filter(|_| is_other_lag).collect::<Vec<_>>() {
                    self.for_images(lane, |image, cx| image.read_lag_changed(cx));
                }
            }
            Input::Drain => {
                self.draining = true;
                // Collected first: a lane that leaves may end its jobs at once, which takes the whole engine.
                for lane in self.lanes.keys().copied().collect::<Vec<_>>() {
                    self.leave(lane);
                }
            }
        }
    }

    /// Returns the next command. Calling it earlier or more often than needed is harmless. After much work it returns
    /// [`Command::WaitUntil`] with `now`, so that inputs can be handled before the rest.
    pub fn poll(&mut self, now: Instant) -> Command {
        self.begin_turn(now);
        loop {
            // First, so that the commands contain all that follows from the last input.
            self.settle_finished();
            if let Some(command) = self.commands.pop_front() {
                return command;
            }
            if self.work.is_much() {
                return Command::WaitUntil(self.now);
            }
            match self.schedule.first() {
                Some((at, alarm)) if at <= self.now => {
                    // Taken off first, since ringing may put the next moment of the same subject on the schedule.
                    self.schedule.pop();
                    self.ring(alarm);
                }
                Some((at, _)) => return Command::WaitUntil(at),
                None => return Command::Idle,
            }
        }
    }

    /// Returns the number of jobs that are not settled.
    #[must_use]
    pub const fn jobs(&self) -> usize {
        self.jobs
    }

    /// Returns the number of items that are held, which the driver bounds.
    #[must_use]
    pub const fn operations(&self) -> usize {
        self.items
    }

    /// Returns whether a lane makes calls.
    #[must_use]
    pub fn lane_status(&self, lane: LaneId) -> LaneStatus {
        self.lanes.get(&lane).map_or(LaneStatus::Down, Lane::status)
    }

    /// Returns the numbers of a lane as of the last input or poll; `None` if it was never up. Visits each image of the lane, so
    /// it is too slow for every turn.
    #[must_use]
    pub fn lane_numbers(&self, lane: LaneId) -> Option<LaneNumbers> {
        let lane = self.lanes.get(&lane)?;
        let [write_rate, read_rate, image_rate] = Kind::ALL.map(|kind| lane.slots(kind).rate(self.now));
        Some(LaneNumbers {
            write_rate,
            read_rate,
            image_rate,
            batch: u32::try_from(lane.batch_max()).unwrap_or(u32::MAX),
            operations: self.images.of(lane).map(Image::pending).sum(),
            splits: lane.splits(),
        })
    }

    /// Returns whether the lane's window is full and all its jobs wait for busy images.
    #[must_use]
    pub fn is_blocked(&self, lane: LaneId) -> bool {
        let (Some(window), Some(lane)) = (self.limits.window, self.lanes.get(&lane)) else { return false };
        let Some(jobs) = lane.full_window(window) else { return false };
        // Jobs of other images may finish and make room, so only a window of nothing but busy images is blocked.
        self.images.of(lane).filter(|image| image.is_busy()).map(Image::held_jobs).sum::<usize>() >= jobs as usize
    }

    fn begin_turn(&mut self, now: Instant) {
        // An earlier time must not move deadlines and paces backwards.
        self.now = self.now.max(now);
        self.work.done = 0;
    }

    fn ring(&mut self, alarm: Alarm) {
        match alarm {
            Alarm::Image(image) => {
                // It is off the schedule, so an equal next moment must be put there again.
                self.images.entry(image).alarm = None;
                self.reschedule(image);
            }
            Alarm::Lane(id) => {
                if let Some(lane) = self.lanes.get_mut(&id) {
                    lane.set_alarm(None);
                    self.lane_due(id);
                }
            }
            Alarm::Slot(id, kind) => {
                if let Some(lane) = self.lanes.get_mut(&id) {
                    lane.slots_mut(kind).disarm();
                    self.take_slot(id, kind);
                }
            }
        }
    }

    /// A job was delivered.
    fn receive(&mut self, id: DeliveryId, lane: LaneId, job: Job) {
        let Some(intake) = self.lanes.get(&lane).map(Lane::intake) else { return };
        match intake {
            Intake::Take => {}
            Intake::Ignore => return,
            Intake::Refuse(why) => return self.commands.push_back(refused_whole(id, &job, &why)),
        }
        let name = ImageName { lane, region: job.region, id: job.image_id };
        let image = self.images.find(name).unwrap_or_else(|| {
            let image = self.images.insert(name);
            self.lane(lane).add_image(image);
            image
        });
        // Never reused, so that a stale key of a job is recognized by its place in arrival.
        let seq = self.next_seq;
        self.next_seq += Self::SEQ_STEP;
        let held = self.enter(image, |image, cx| image.receive(cx, id, seq, job));
        let arrival = Arrival { at: self.now, image, job: held, seq };
        let is_leased = self.limits.lease.is_some();
        let is_new = self.images.image(image).not_permitted().is_none();
        let now = self.now;
        // Without a lease nothing reads the arrivals, and millions of them take memory.
        self.lane(lane).add_job(now, is_leased.then_some(arrival));
        // A lane that is closed for missing permissions opens for an image that was not tried yet.
        if is_new && self.lane(lane).is_closed_for_permission() {
            self.change_lane(lane, |lane, _, changes| lane.open(changes));
        } else {
            self.schedule_lane(lane);
        }
        self.reschedule(image);
    }

    /// Settles jobs, within the work of one call.
    fn settle_finished(&mut self) {
        while !self.work.is_much()
            && let Some(image) = self.finishing.pop_front()
        {
            if self.images.contains(image) {
                self.images.entry(image).is_finishing = false;
                self.visit(image, Image::settle_finished);
            }
        }
    }

    /// Calls into an image and reschedules it: any call may have changed its next moment and the calls that it wants.
    fn visit<T>(&mut self, image: Key<Entry>, call: impl FnOnce(&mut Image, &mut Context<'_>) -> T) -> T {
        let result = self.enter(image, call);
        self.reschedule(image);
        result
    }

    /// Calls into an image and applies the effects. The caller reschedules the image.
    fn enter<T>(&mut self, key: Key<Entry>, call: impl FnOnce(&mut Image, &mut Context<'_>) -> T) -> T {
        let image = self.images.image(key);
        let name = image.name();
        // Only a busy image needs this, and it takes a visit of all images.
        let is_blocked = image.is_busy() && self.is_blocked(name.lane);
        let image_wait = if is_blocked { self.limits.image_wait_blocked } else { self.limits.image_wait };
        let lane = self.lanes.get(&name.lane).expect("an image belongs to a lane that exists");
        let mut cx = Context {
            now: self.now,
            policy: self.policy,
            limits: &self.limits,
            lane: lane.facts(self.now, image_wait),
            next_seq: self.next_seq,
            random: &mut self.random,
            refusals: &mut self.refusals,
            expired: &self.expired,
            work: &mut self.work,
            effects: &mut self.effects,
        };
        // Counted by difference, so that no place inside an image has to keep the sums of the engine.
        let image = &mut self.images.entry(key).image;
        let before = (image.jobs(), image.items());
        let result = call(image, &mut cx);
        self.jobs = self.jobs + image.jobs() - before.0;
        self.items = self.items + image.items() - before.1;
        self.apply_effects(name);
        result
    }

    /// Applies effects of an image to its lane, and passes them to the driver.
    fn apply_effects(&mut self, name: ImageName) {
        if self.effects.is_empty() {
            return;
        }
        // Taken out, since an effect may need the whole engine. Put back below, to keep its memory.
        let mut effects = core::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            let lane = self.lanes.get_mut(&name.lane).expect("an image belongs to a lane that exists");
            match effect {
                Effect::Notice(notice) => self.commands.push_back(Command::Notice(name.lane, notice)),
                Effect::Settled(delivery, report) => {
                    lane.job_settled();
                    self.commands.push_back(Command::Settle { delivery, report });
                }
                Effect::ListAccepted(len) => lane.list_accepted(len),
                Effect::ListTooLong(len) => {
                    let notice = lane.list_too_long(len);
                    self.commands.push_back(Command::Notice(name.lane, notice));
                }
                Effect::Split => lane.count_split(),
                // It looks at all images of the lane, so it runs after the call into this one.
                Effect::NotPermitted(failure) => self.close_if_none_permitted(name.lane, &failure),
            }
        }
        self.effects = effects;
    }

    /// Does what is due for an image, puts it into the queues of the calls that it wants, and sets its next moment.
    fn reschedule(&mut self, key: Key<Entry>) {
        if !self.images.contains(key) {
            return;
        }
        let name = self.images.image(key).name();
        let lane = name.lane;
        // A closed lane still does what is due: deadlines and takeover checks do not wait for it to open.
        let may_call = self.lane(lane).is_open() && !self.draining;
        let (wanted, next, is_forgettable) = self.enter(key, |image, cx| {
            image.run_due(cx);
            let wanted = Kind::ALL.map(|kind| may_call && image.wants(cx, kind));
            (wanted, image.next_moment(cx), image.is_forgettable(cx))
        });
        for kind in Kind::ALL {
            // An image has one place in each queue, so that images take turns.
            if wanted[kind as usize] && !core::mem::replace(&mut self.images.entry(key).queued[kind as usize], true) {
                self.lane(lane).slots_mut(kind).push(key);
                self.arm(lane, kind);
            }
        }
        let entry = self.images.entry(key);
        let standing = core::mem::replace(&mut entry.alarm, next);
        self.schedule.replace(standing, next, Alarm::Image(key));
        if entry.image.finished() > 0 && !entry.is_finishing {
            entry.is_finishing = true;
            self.finishing.push_back(key);
        }
        // Its key may still be in a queue or in a call, which would then name another image.
        let is_idle = next.is_none() && entry.calls == 0 && !entry.is_finishing && !entry.queued.contains(&true);
        // One image stays, so that a lane that closes has something to probe with.
        if is_forgettable && is_idle && self.lane(lane).images().len() > 1 {
            self.images.remove(key);
            self.lane(lane).remove_image(key);
        }
    }

    fn lane(&mut self, lane: LaneId) -> &mut Lane {
        self.lanes.get_mut(&lane).expect("lanes are never removed, and only known ones are named inside")
    }
}

/// Settles a job that never begins: all its accounts fail.
fn refused_whole(id: DeliveryId, job: &Job, why: &str) -> Command {
    let failure = failure(local::NOT_ATTEMPTED, why, None);
    let mut report = Report { outcomes: Vec::new(), cancelled: Vec::new(), duplicates: 0, requests: 0 };
    let mut reported = BTreeSet::new();
    for &account_id in &job.account_ids {
        if reported.insert(account_id) {
            report.outcomes.push((account_id, AccountOutcome::Failed(failure.clone())));
        } else {
            report.duplicates += 1;
        }
    }
    Command::Settle { delivery: id, report: Box::new(report) }
}
