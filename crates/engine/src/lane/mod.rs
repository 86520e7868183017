//! A lane: its pace, its state, and the account of its key. It refers to images by their keys only.

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
    state::{Closed, ClosedJobs, LaneState},
    streak::Streak,
};
pub(crate) use self::{judge::JudgedCall, permitted::Permitted, slots::Slots};
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
    service: Service,
    up_at: Instant,
    slots: [Slots; 3],
    in_flight: u32,
    images: BTreeSet<Key<Entry>>,
    /// Jobs that are not settled.
    jobs: u32,
    permitted: Permitted,
    key: KeyOwner,
    /// The kind of call that the credential was refreshed for, until one of that kind is good, and when.
    refreshed: Option<(Kind, Instant)>,
    /// When the clock was corrected, until a call is good.
    clock_corrected: Option<Instant>,
    streak: Streak,
    batch: BatchSearch,
    /// Lists that were split.
    splits: u64,
    /// Jobs in order of arrival, if there is a lease. Some may be settled.
    arrivals: VecDeque<Arrival>,
    /// Its moment on the schedule.
    alarm: Option<Instant>,
}

/// Whether jobs are delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    /// From `LaneUp` until the lane is lost or requeued.
    Serving,
    /// The same, and no more jobs are delivered.
    Full,
    Ended,
}

/// A change of a lane that concerns its images or the driver.
#[derive(Debug)]
pub(crate) enum Change {
    Notice(Notice),
    /// Calls are made again.
    Opened,
    /// The key is permitted some calls: what it was refused is tried again.
    Permitted,
    /// The endpoint does not respond: the failed tries so far do not count.
    Outage,
    RefreshCredential,
}

/// A job and when it arrived. Its place in arrival distinguishes it from a later one under the same key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Instant,
    pub(crate) image: Key<Entry>,
    pub(crate) job: Key<HeldJob>,
    pub(crate) seq: u64,
}

/// What happens to a job that is delivered now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Intake {
    /// It is carried out.
    Take,
    /// It was under way when the lane was lost, or is requeued with the others.
    Ignore,
    /// It is reported as not attempted, with this message.
    Refuse(Box<str>),
}

/// What a lane does when its moment has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    /// It was closed for too long, for this reason: its unfinished jobs end.
    EndJobs(CloseReason, Box<str>),
    /// The lease of its oldest job ends.
    Leave,
}

impl Lane {
    pub(crate) fn new(unfinished: Unfinished, limits: LaneLimits, now: Instant) -> Self {
        Self {
            unfinished,
            limits,
            state: LaneState::Down,
            service: Service::Ended,
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

    /// Jobs are delivered from now on, or the limits changed. Returns whether the lane was down before.
    pub(crate) fn up(&mut self, now: Instant, limits: LaneLimits) -> bool {
        self.limits = limits;
        if self.service != Service::Ended {
            // The lane was up already: its pace and its state continue.
            // Restarting the pace would forget a rate that throttling has lowered.
            for kind in Kind::ALL {
                self.slots[kind as usize].set_limit(limits.rate_of(kind));
            }
            return false;
        }
        self.service = Service::Serving;
        self.up_at = now;
        for kind in Kind::ALL {
            self.slots[kind as usize].restart(limits.rate_of(kind), now);
        }
        // Policies and keys may have changed while another worker had the lane.
        self.permitted = Permitted::default();
        self.key.wait_anew(now);
        self.refreshed = None;
        self.clock_corrected = None;
        self.streak = Streak::default();
        // A lane that was requeued while it was closed stays closed until a probe is good.
        match self.state.closed_mut() {
            Some(closed) => {
                closed.jobs = ClosedJobs::Held;
                closed.since = now;
            }
            None => self.state = LaneState::Open,
        }
        true
    }

    /// No more jobs are delivered until the lane is up again.
    pub(crate) fn set_full(&mut self) {
        if self.service == Service::Serving {
            self.service = Service::Full;
        }
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
            is_open: self.is_open(),
            batch_max: self.batch_max(),
            up_at: self.up_at,
            own_account: self.key.account(),
            key_trust: self.key.trust(now),
            permitted: self.permitted,
            image_wait,
        }
    }

    pub(crate) const fn slots(&self, kind: Kind) -> &Slots {
        &self.slots[kind as usize]
    }

    pub(crate) const fn slots_mut(&mut self, kind: Kind) -> &mut Slots {
        &mut self.slots[kind as usize]
    }

    pub(crate) const fn splits(&self) -> u64 {
        self.splits
    }

    /// A list was split.
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

    /// Decides about a job that is delivered now.
    pub(crate) fn intake(&self) -> Intake {
        if self.service == Service::Ended {
            return Intake::Ignore;
        }
        match (&self.state, self.unfinished) {
            (LaneState::GivenUp(reason), _) => {
                Intake::Refuse(alloc::format!("the lane is closed ({})", reason.as_str()).into())
            }
            // While a call is in flight, earlier jobs are not settled: it waits with them.
            (LaneState::Leaving, Unfinished::Report) if self.in_flight == 0 => {
                Intake::Refuse("the command was ended".into())
            }
            (LaneState::Leaving, Unfinished::Requeue) => Intake::Ignore,
            _ => Intake::Take,
        }
    }

    /// A job arrived. A closed lane without jobs had nothing to probe with, and has now.
    pub(crate) fn add_job(&mut self, now: Instant, arrival: Option<Arrival>) {
        // Waiting for the next probe could take minutes, and the lane may work again already.
        if self.jobs == 0 {
            self.probe_at(now);
        }
        self.jobs += 1;
        self.arrivals.extend(arrival);
    }

    pub(crate) const fn job_settled(&mut self) {
        self.jobs -= 1;
    }

    /// All jobs are dropped, and no more are delivered.
    pub(crate) fn forget_jobs(&mut self) {
        self.service = Service::Ended;
        self.jobs = 0;
        self.arrivals.clear();
        for slots in &mut self.slots {
            slots.clear();
        }
    }

    pub(crate) const fn permitted(&self) -> Permitted {
        self.permitted
    }

    /// The number of jobs, if the window is full.
    pub(crate) fn full_window(&self, window: u32) -> Option<u32> {
        // A full lane receives no more jobs, so its window is the jobs that it holds.
        let is_full = self.jobs >= window || (self.service == Service::Full && self.jobs > 0);
        is_full.then_some(self.jobs)
    }

    // Calls.

    /// Whether a call of this kind may be made.
    pub(crate) fn may_call(&self, kind: Kind) -> bool {
        self.is_open() && !self.slots[kind as usize].is_taken() && self.in_flight < self.limits.concurrency
    }

    /// Returns the next slot of a kind if it has to be put on the schedule.
    pub(crate) fn arm(&mut self, kind: Kind) -> Option<Instant> {
        if self.may_call(kind) { self.slots[kind as usize].arm() } else { None }
    }

    pub(crate) fn call_begins(&mut self, call: CallId, kind: Kind) {
        self.in_flight += 1;
        self.slots[kind as usize].begin(call);
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

    /// All its unfinished jobs end, as the policy decides.
    pub(crate) fn end_jobs(&mut self) {
        // The end of its jobs does not open a closed lane: probes find out when the reason is gone.
        match (&mut self.state, self.unfinished) {
            (LaneState::Closed(closed) | LaneState::Suspect(closed), Unfinished::Requeue) => {
                closed.jobs = ClosedJobs::Requeued;
            }
            (LaneState::Closed(closed) | LaneState::Suspect(closed), Unfinished::Report) => {
                self.state = LaneState::GivenUp(closed.reason);
            }
            (LaneState::Leaving, Unfinished::Requeue) => self.state = LaneState::Down,
            (LaneState::Leaving, Unfinished::Report) => {}
            (LaneState::Down | LaneState::Open | LaneState::Refreshing(..) | LaneState::GivenUp(_), _) => {}
        }
    }

    /// Whether it is closed for so long that its jobs are requeued once the last call in flight has ended.
    pub(crate) fn is_closed_too_long(&self, now: Instant, limits: &Limits) -> bool {
        self.unfinished == Unfinished::Requeue
            && self.state.leaves_at(self.unfinished, limits).is_some_and(|at| at <= now)
    }

    /// Whether it is closed because none of the pending writes was permitted.
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

    /// When something about the lane is due if nothing happens. `is_held` returns whether a job is unsettled.
    pub(crate) fn next_moment(&mut self, limits: &Limits, is_held: impl Fn(&Arrival) -> bool) -> Option<Instant> {
        // The wait ends without an answer too, so it is a moment in every state that makes calls.
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

    /// The first later moment that does not wait for calls in flight; their end is handled when it comes.
    pub(crate) fn next_moment_after(&self, now: Instant) -> Option<Instant> {
        let probe_at = self.state.closed().and_then(|closed| closed.probe_at);
        [probe_at, self.key.wait_until()].into_iter().flatten().filter(|&at| at > now).min()
    }

    /// When the lease of the oldest job ends.
    fn leased_until(&mut self, limits: &Limits, is_held: impl Fn(&Arrival) -> bool) -> Option<Instant> {
        let lease = limits.lease?;
        // Jobs are settled in almost any order, so settled ones are found only when they are at the front.
        while self.arrivals.front().is_some_and(|arrival| !is_held(arrival)) {
            self.arrivals.pop_front();
        }
        self.arrivals.front().map(|arrival| arrival.at + lease)
    }

    /// When a one-shot command gives up a lane without a usable response that made too few calls to be closed.
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
                        // A suspected lane was not announced as closed, and no probe will do it any more.
                        if matches!(self.state, LaneState::Suspect(_)) {
                            changes.push(Change::Notice(Notice::Closed { reason, detail: detail.clone() }));
                        }
                        Due::EndJobs(reason, detail)
                    }
                    Unfinished::Requeue if self.in_flight == 0 => Due::EndJobs(reason, detail),
                    Unfinished::Requeue => Due::Nothing,
                }
            }
            LaneState::Open | LaneState::Refreshing(..) if is_past(self.silent_until(limits)) => {
                let (since, detail) = (self.streak.since().unwrap_or(now), Box::<str>::from(self.streak.detail()));
                self.close(now, CloseReason::Endpoint, detail.clone(), since, changes);
                Due::EndJobs(CloseReason::Endpoint, detail)
            }
            LaneState::Open | LaneState::Refreshing(..) => {
                let is_over = self.unfinished == Unfinished::Requeue && is_past(self.leased_until(limits, is_held));
                if is_over { Due::Leave } else { Due::Nothing }
            }
            LaneState::Down | LaneState::Leaving | LaneState::GivenUp(_) => Due::Nothing,
        }
    }

    // Probes.

    /// The kind of the probe that is due now, if one is. A probe that waits for its slot is due then.
    pub(crate) fn take_probe(&mut self, now: Instant) -> Option<Kind> {
        let closed = self.state.closed_mut()?;
        if closed.probe_at.is_none_or(|at| at > now) {
            return None;
        }
        // Without jobs there is nothing to write or to list.
        let kind = if closed.has_jobs() { closed.probe } else { Kind::ReadImage };
        let slots = &self.slots[kind as usize];
        let slot = self.key.wait_until().unwrap_or_default().max(slots.next());
        // The next slot is unknown until the call before it is written, so the probe asks again later.
        closed.probe_at =
            if slots.is_taken() { Some(now + PROBE_PAUSE_MIN) } else { Some(slot).filter(|&at| at > now) };
        closed.probe_at.is_none().then_some(kind)
    }

    /// No probe was possible: the next one is much later.
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
