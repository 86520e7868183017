//! A lane: its pace, whether it is open, whose key it uses. It sees no image but by key.

mod batch;
mod judge;
mod key;
mod permitted;
mod slots;
mod state;
mod streak;

use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};

use self::{
    batch::BatchSearch,
    key::KeyOwner,
    slots::Slots,
    state::{Closed, ClosedJobs, LaneState},
    streak::Streak,
};
pub(crate) use self::{judge::JudgedCall, permitted::Permitted};
use crate::{
    LaneStatus,
    arena::Key,
    call::Kind,
    context::LaneFacts,
    image::HeldJob,
    images::Entry,
    io::{CallId, CloseReason, Notice},
    limits::{LaneLimits, Limits, PROBE_PAUSE_MAX, PROBE_PAUSE_MIN},
    policy::Unfinished,
    time::{Instant, Millis},
};

/// One rate-limit bucket.
#[derive(Debug)]
pub(crate) struct Lane {
    unfinished: Unfinished,
    limits: LaneLimits,
    state: LaneState,
    /// Whether jobs come from it: from `LaneUp` until it is lost or requeued.
    serving: bool,
    /// Whether it takes no more jobs until it is up again.
    full: bool,
    up_at: Instant,
    slots: [Slots; 3],
    in_flight: u32,
    images: BTreeSet<Key<Entry>>,
    /// Jobs that are held.
    jobs: u32,
    /// What the key in use was permitted.
    permitted: Permitted,
    key: KeyOwner,
    /// The kind of call for which the credential was refreshed, until one of that kind is good, and when.
    refreshed: Option<(Kind, Instant)>,
    /// When the clock was corrected, until a call is good.
    clock_corrected: Option<Instant>,
    streak: Streak,
    batch: BatchSearch,
    /// Lists that were split to find an account at fault.
    splits: u64,
    /// Jobs in order of arrival, where there is a lease; some may be settled.
    arrivals: VecDeque<Arrival>,
    /// The lane's next moment, as it is on the schedule.
    alarm: Option<Instant>,
}

/// A change of a lane that concerns its images or the driver.
#[derive(Debug)]
pub(crate) enum Change {
    Notice(Notice),
    /// Calls are made again.
    Opened,
    /// The key may do something after all: what it was refused is tried again.
    Permitted,
    /// Nothing worked for a time: tries of that time do not count.
    Outage,
    RefreshCredential,
}

/// A job and when it came; its place in arrival tells it from a later one under the same key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) image: Key<Entry>,
    pub(crate) job: Key<HeldJob>,
    pub(crate) seq: u64,
}

/// What becomes of a job that is delivered now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Intake {
    /// It is worked on.
    Take,
    /// It was on its way when the lane was lost, or is requeued with those that are held.
    Ignore,
    /// It is reported as not attempted, for this reason.
    Refuse(Box<str>),
}

/// What a lane does when its moment has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// Its jobs are requeued, and it goes on probing.
    Requeue,
    /// All its jobs are reported.
    GiveUp(CloseReason, Box<str>),
    /// The job that is held longest has been held long enough.
    Leave,
}

impl Lane {
    pub(crate) fn new(unfinished: Unfinished, limits: LaneLimits, now: Instant) -> Self {
        Self {
            unfinished,
            limits,
            state: LaneState::Down,
            serving: false,
            full: false,
            up_at: now,
            slots: Kind::ALL.map(|kind| Slots::new(limits.rate_of(kind), now)),
            in_flight: 0,
            images: BTreeSet::new(),
            jobs: 0,
            permitted: Permitted::default(),
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

    /// Jobs come from the lane from now on, or its limits changed. Returns whether it was down before.
    pub(crate) fn up(&mut self, now: Instant, limits: LaneLimits) -> bool {
        self.limits = limits;
        if self.serving {
            for kind in Kind::ALL {
                self.slots[kind as usize].set_limit(limits.rate_of(kind));
            }
            return false;
        }
        self.serving = true;
        self.full = false;
        self.up_at = now;
        for kind in Kind::ALL {
            self.slots[kind as usize].restart(limits.rate_of(kind), now);
        }
        self.permitted = Permitted::default();
        self.key.wait_anew(now);
        self.refreshed = None;
        self.clock_corrected = None;
        self.streak = Streak::default();
        // One that was requeued while it was closed stays so until a probe goes well.
        match self.state.closed_mut() {
            Some(closed) => {
                closed.jobs = ClosedJobs::Held;
                closed.since = now;
            }
            None => self.state = LaneState::Open,
        }
        true
    }

    /// The lane takes no more jobs until it is up again.
    pub(crate) const fn set_full(&mut self) {
        self.full = true;
    }

    pub(crate) const fn status(&self) -> LaneStatus {
        match &self.state {
            LaneState::Down => LaneStatus::Down,
            LaneState::Open | LaneState::Refreshing(..) | LaneState::Suspect(_) => LaneStatus::Open,
            LaneState::Closed(closed) => LaneStatus::Closed(closed.since, closed.reason),
            LaneState::Leaving => LaneStatus::Leaving,
            LaneState::GivenUp(reason) => LaneStatus::GivenUp(*reason),
        }
    }

    /// Whether calls are made.
    pub(crate) const fn is_open(&self) -> bool {
        matches!(self.state, LaneState::Open) && self.key.wait_until().is_none()
    }

    pub(crate) fn batch_max(&self) -> usize {
        self.batch.next(self.limits.batch) as usize
    }

    pub(crate) fn facts(&self, now: Instant, image_wait: Millis) -> LaneFacts {
        LaneFacts {
            batch_max: self.batch_max(),
            up_at: self.up_at,
            own_account: self.key.account(),
            is_key_unproven: self.key.is_unproven(now),
            permitted: self.permitted,
            image_wait,
        }
    }

    /// Calls of this kind a second that are allowed now.
    pub(crate) fn rate(&self, now: Instant, kind: Kind) -> f64 {
        self.slots[kind as usize].rate(now)
    }

    pub(crate) const fn splits(&self) -> u64 {
        self.splits
    }

    /// A list was split, to find an account at fault.
    pub(crate) const fn count_split(&mut self) {
        self.splits += 1;
    }

    pub(crate) fn list_accepted(&mut self, len: usize) {
        self.batch.accepted(u32::try_from(len).unwrap_or(u32::MAX));
    }

    pub(crate) fn list_too_long(&mut self, len: usize) -> Notice {
        self.batch.refused(u32::try_from(len).unwrap_or(u32::MAX));
        Notice::BatchReduced(u32::try_from(self.batch_max()).unwrap_or(u32::MAX))
    }

    // Images and jobs.

    pub(crate) const fn images(&self) -> &BTreeSet<Key<Entry>> {
        &self.images
    }

    /// The keys of its images, for a loop that changes them.
    pub(crate) fn image_keys(&self) -> Vec<Key<Entry>> {
        self.images.iter().copied().collect()
    }

    pub(crate) fn add_image(&mut self, image: Key<Entry>) {
        self.images.insert(image);
    }

    pub(crate) fn remove_image(&mut self, image: Key<Entry>) {
        self.images.remove(&image);
    }

    /// What becomes of a job that is delivered now.
    pub(crate) fn intake(&self) -> Intake {
        if !self.serving {
            return Intake::Ignore;
        }
        match (&self.state, self.unfinished) {
            (LaneState::GivenUp(reason), _) => {
                Intake::Refuse(alloc::format!("the lane is closed ({})", reason.as_str()).into())
            }
            // While a call is in flight the earlier ones are not settled: it waits with them.
            (LaneState::Leaving, Unfinished::Report) if self.in_flight == 0 => {
                Intake::Refuse("the command was ended".into())
            }
            (LaneState::Leaving, Unfinished::Requeue) => Intake::Ignore,
            _ => Intake::Take,
        }
    }

    /// A job begins to be held. A closed lane that had none had nothing to probe by, and has now.
    pub(crate) fn add_job(&mut self, now: Instant, arrival: Option<Arrival>) {
        if self.jobs == 0 {
            self.probe_at(now);
        }
        self.jobs += 1;
        self.arrivals.extend(arrival);
    }

    pub(crate) const fn job_settled(&mut self) {
        self.jobs -= 1;
    }

    /// The jobs are no longer ours.
    pub(crate) fn forget_jobs(&mut self) {
        self.serving = false;
        self.jobs = 0;
        self.arrivals.clear();
        for slots in &mut self.slots {
            slots.clear();
        }
    }

    pub(crate) const fn permitted(&self) -> Permitted {
        self.permitted
    }

    /// How many jobs are held, if that is all that the window allows.
    pub(crate) const fn full_window(&self, window: u32) -> Option<u32> {
        // A full lane gets no more jobs, so its window is what it holds.
        if self.jobs >= window || (self.full && self.jobs > 0) { Some(self.jobs) } else { None }
    }

    // Calls.

    /// Whether a call of this kind may be made.
    pub(crate) fn may_call(&self, kind: Kind) -> bool {
        self.is_open() && !self.slots[kind as usize].is_taken() && self.in_flight < self.limits.concurrency
    }

    /// Whether the next slot of this kind has come.
    pub(crate) fn has_slot(&self, now: Instant, kind: Kind) -> bool {
        self.slots[kind as usize].next() <= now
    }

    /// Whether a probe of this kind may be sent now.
    pub(crate) fn may_probe(&self, now: Instant, kind: Kind) -> bool {
        self.slots[kind as usize].is_free(now)
    }

    pub(crate) fn enqueue(&mut self, image: Key<Entry>, kind: Kind) {
        self.slots[kind as usize].push(image);
    }

    pub(crate) fn dequeue(&mut self, kind: Kind) -> Option<Key<Entry>> {
        self.slots[kind as usize].pop()
    }

    /// Returns the next slot of a kind if it has to be put on the schedule.
    pub(crate) fn arm(&mut self, kind: Kind) -> Option<Instant> {
        if self.may_call(kind) { self.slots[kind as usize].arm() } else { None }
    }

    /// A slot on the schedule has come.
    pub(crate) fn disarm(&mut self, kind: Kind) {
        self.slots[kind as usize].disarm();
    }

    pub(crate) fn call_begins(&mut self, call: CallId, kind: Kind) {
        self.in_flight += 1;
        self.slots[kind as usize].begin(call);
    }

    /// A request was written: its slot is taken. Returns whether the next one of its kind may be armed.
    pub(crate) fn call_written(&mut self, now: Instant, call: CallId, kind: Kind) -> bool {
        self.slots[kind as usize].written(now, call)
    }

    pub(crate) const fn has_calls(&self) -> bool {
        self.in_flight > 0
    }

    // The state.

    pub(crate) const fn is_down_or_given_up(&self) -> bool {
        matches!(self.state, LaneState::Down | LaneState::GivenUp(_))
    }

    pub(crate) const fn is_leaving(&self) -> bool {
        matches!(self.state, LaneState::Leaving)
    }

    pub(crate) fn leave(&mut self) {
        self.state = LaneState::Leaving;
    }

    pub(crate) fn go_down(&mut self) {
        self.state = LaneState::Down;
    }

    pub(crate) fn give_up(&mut self, reason: CloseReason) {
        self.state = LaneState::GivenUp(reason);
    }

    /// Its jobs were requeued while it was closed.
    pub(crate) const fn jobs_requeued(&mut self) {
        if let Some(closed) = self.state.closed_mut() {
            closed.jobs = ClosedJobs::Requeued;
        }
    }

    /// Whether it is closed, and for so long that its jobs are requeued.
    pub(crate) fn is_closed_too_long(&self, now: Instant, limits: &Limits) -> bool {
        self.unfinished == Unfinished::Requeue
            && self.state.leaves_at(self.unfinished, limits).is_some_and(|at| at <= now)
    }

    /// Whether it is closed because nothing in hand was permitted.
    pub(crate) fn is_closed_for_permission(&self) -> bool {
        self.state.closed().is_some_and(|closed| closed.reason == CloseReason::Permission)
    }

    pub(crate) fn is_plainly_open(&self) -> bool {
        self.state == LaneState::Open
    }

    // The schedule.

    pub(crate) const fn alarm(&self) -> Option<Instant> {
        self.alarm
    }

    pub(crate) const fn set_alarm(&mut self, at: Option<Instant>) -> Option<Instant> {
        core::mem::replace(&mut self.alarm, at)
    }

    /// When something about the lane is due if nothing happens. `is_held` tells whether a job is still held.
    pub(crate) fn next_moment(&mut self, limits: &Limits, is_held: impl Fn(&Arrival) -> bool) -> Option<Instant> {
        let waits = self.key.wait_until();
        let moments = match &self.state {
            LaneState::Closed(closed) | LaneState::Suspect(closed) => {
                [self.state.leaves_at(self.unfinished, limits), closed.probe_at, waits]
            }
            LaneState::Open | LaneState::Refreshing(..) => {
                [self.leased_until(limits, is_held), self.silent_until(limits), waits]
            }
            LaneState::Down | LaneState::Leaving | LaneState::GivenUp(_) => [None; 3],
        };
        moments.into_iter().flatten().min()
    }

    /// The first moment after now that does not wait for calls in flight, which are looked at when they end.
    pub(crate) fn next_moment_after(&self, now: Instant) -> Option<Instant> {
        let probe_at = self.state.closed().and_then(|closed| closed.probe_at);
        [probe_at, self.key.wait_until()].into_iter().flatten().filter(|&at| at > now).min()
    }

    /// Until when the job that is held longest may be held.
    fn leased_until(&mut self, limits: &Limits, is_held: impl Fn(&Arrival) -> bool) -> Option<Instant> {
        let lease = limits.lease?;
        while self.arrivals.front().is_some_and(|arrival| !is_held(arrival)) {
            self.arrivals.pop_front();
        }
        self.arrivals.front().map(|arrival| arrival.at + lease)
    }

    /// Until when a one-shot command waits for a lane from which nothing usable has come, although there were too few
    /// calls to close it.
    fn silent_until(&self, limits: &Limits) -> Option<Instant> {
        let since = self.streak.since()?;
        (self.unfinished == Unfinished::Report).then_some(since + limits.closed_for)
    }

    /// What is due now, apart from a probe.
    pub(crate) fn due(
        &mut self,
        now: Instant,
        limits: &Limits,
        is_held: impl Fn(&Arrival) -> bool,
        changes: &mut Vec<Change>,
    ) -> Due {
        let is_past = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        match &self.state {
            LaneState::Closed(closed) | LaneState::Suspect(closed) => {
                if !is_past(self.state.leaves_at(self.unfinished, limits)) {
                    return Due::Nothing;
                }
                let (reason, detail) = (closed.reason, closed.detail.clone());
                match self.unfinished {
                    Unfinished::Report => {
                        if matches!(self.state, LaneState::Suspect(_)) {
                            changes.push(Change::Notice(Notice::Closed { reason, detail: detail.clone() }));
                        }
                        Due::GiveUp(reason, detail)
                    }
                    Unfinished::Requeue if self.in_flight == 0 => Due::Requeue,
                    Unfinished::Requeue => Due::Nothing,
                }
            }
            LaneState::Open | LaneState::Refreshing(..) if is_past(self.silent_until(limits)) => {
                let (since, detail) = (self.streak.since().unwrap_or(now), Box::<str>::from(self.streak.detail()));
                self.close(now, CloseReason::Endpoint, detail.clone(), since, changes);
                Due::GiveUp(CloseReason::Endpoint, detail)
            }
            LaneState::Open | LaneState::Refreshing(..) => {
                let is_over = self.unfinished == Unfinished::Requeue && is_past(self.leased_until(limits, is_held));
                if is_over { Due::Leave } else { Due::Nothing }
            }
            LaneState::Down | LaneState::Leaving | LaneState::GivenUp(_) => Due::Nothing,
        }
    }

    // Probes.

    /// The kind of the probe that is due now, if one is. Where it has to wait for its slot, it is due then.
    pub(crate) fn take_probe(&mut self, now: Instant, is_draining: bool) -> Option<Kind> {
        let closed = self.state.closed_mut()?;
        if closed.probe_at.is_none_or(|at| at > now) {
            return None;
        }
        // Without jobs there is nothing to write or to list.
        let kind = if closed.has_jobs() { closed.probe } else { Kind::ReadImage };
        let slots = &self.slots[kind as usize];
        let slot = self.key.wait_until().unwrap_or_default().max(slots.next());
        closed.probe_at = if slots.is_taken() || is_draining {
            Some(now + PROBE_PAUSE_MIN)
        } else {
            Some(slot).filter(|&at| at > now)
        };
        closed.probe_at.is_none().then_some(kind)
    }

    /// There was nothing to probe by: it is tried again much later.
    pub(crate) fn probe_impossible(&mut self, now: Instant) {
        if let Some(closed) = self.state.closed_mut() {
            closed.probe_at = Some(now + PROBE_PAUSE_MAX);
        }
    }

    /// Probes at this moment, unless a probe is in flight.
    pub(crate) fn probe_at(&mut self, at: Instant) {
        if let Some(closed) = self.state.closed_mut()
            && closed.probe_at.is_some()
        {
            closed.probe_at = Some(at);
        }
    }
}

impl LaneLimits {
    /// The limit of a kind of calls, in requests a second.
    fn rate_of(&self, kind: Kind) -> f64 {
        match kind {
            Kind::Write | Kind::ReadShares => self.rate,
            Kind::ReadImage => self.image_rate,
        }
    }
}
