//! Rule 9: a lane is open, or closed with a reason.

use alloc::boxed::Box;

use imageshare_core::Class;

use super::{
    Engine,
    answers::detail,
    image::Image,
    lane::{Arrival, Call, Closed, Kind, Lane, LaneState, Streak},
};
use crate::{
    arena::Key,
    io::{Answer, CloseReason, Command, LaneId, Notice, Outcome},
    job::local,
    limits::{Ending, LaneLimits},
    pacer::Pacer,
    time::{Instant, Millis},
};

/// What a call says of its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    /// Endpoint, clock and credential are good.
    Good,
    /// Nothing usable came.
    NoAnswer,
    CredentialRefused,
    ClockRefused,
    /// The clock was corrected.
    Skewed,
}

impl Health {
    const fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Refused { class: Class::Credential, .. } => Self::CredentialRefused,
            Outcome::Refused { class: Class::Clock, .. } => Self::ClockRefused,
            Outcome::Unanswered { .. } => Self::NoAnswer,
            Outcome::Skewed => Self::Skewed,
            Outcome::Accepted(_) | Outcome::Refused { .. } => Self::Good,
        }
    }
}

/// Whether a write that ended so was past the question whether the key may do it.
const fn is_permitted(outcome: &Outcome) -> bool {
    match outcome {
        Outcome::Accepted(_) => true,
        Outcome::Refused { class, .. } => matches!(
            class,
            Class::Account
                | Class::AccountOrOther
                | Class::AlreadyDone
                | Class::BatchTooLarge
                | Class::Busy
                | Class::Image
                | Class::Quota
        ),
        Outcome::Skewed | Outcome::Unanswered { .. } => false,
    }
}

impl Lane {
    /// A call of the lane was answered, which may show what the key in use may do. A refusal that is about the request's
    /// own values shows nothing: they may be looked at before it is asked whether the key may do it.
    fn note_permitted(&mut self, call: &Call, outcome: &Outcome) {
        if call.id < self.key.first_call {
            return;
        }
        match (call.kind, outcome) {
            (Kind::Write, Outcome::Accepted(_))
            | (Kind::Write, Outcome::Refused { class: Class::AlreadyDone | Class::Busy | Class::Quota, .. }) => {
                self.write_permitted = self.write_permitted.max(Some(call.began));
                self.key.confirm();
            }
            (Kind::ReadShares, Outcome::Accepted(Answer::Shares(accounts))) => {
                self.listing_permitted = self.listing_permitted.max(Some(call.began));
                if !accounts.is_empty() {
                    self.key.confirm();
                }
            }
            _ => {}
        }
    }
}

impl Engine {
    const PROBE_PAUSE: Millis = Millis::from_secs(1);
    const PROBE_PAUSE_MAX: Millis = Millis::from_secs(60);

    pub(super) fn lane_up(&mut self, now: Instant, lane: LaneId, limits: LaneLimits) {
        let found = self.lanes.entry(lane).or_insert_with(|| Lane::new(limits, now));
        found.limits = limits;
        if found.serving {
            for (pacer, rate) in found.pacers.iter_mut().zip([limits.rate, limits.rate, limits.image_rate]) {
                pacer.set_limit(rate);
            }
            return;
        }
        found.serving = true;
        found.full = false;
        // One that was given back while it was closed stays so until a probe goes well.
        if !matches!(found.state, LaneState::Closed(_)) {
            found.state = LaneState::Open;
        }
        found.up_at = now;
        found.pacers = [limits.rate, limits.rate, limits.image_rate].map(|rate| Pacer::new(rate, now));
        found.write_permitted = None;
        found.listing_permitted = None;
        found.key.wait_anew(now);
        found.refreshed = None;
        found.clock_corrected = None;
        found.streak = Streak::default();
        if let LaneState::Closed(closed) = &mut found.state {
            closed.given_back = false;
            closed.since = now;
        }
        for image in found.images.clone() {
            self.images[image].redelivered = false;
            if self.limits.guard {
                self.distrust(image);
            }
        }
        self.forget_refused_listings(now, lane);
        self.check_key_of_lane(now, lane);
    }

    /// A lane takes no more jobs until it is up again.
    pub(super) fn lane_full(&mut self, lane: LaneId) {
        if let Some(found) = self.lanes.get_mut(&lane) {
            found.full = true;
        }
    }

    /// Judges a lane by how one of its calls ended.
    pub(super) fn judge_lane(&mut self, now: Instant, call: &Call, outcome: &Outcome) {
        let health = Health::of(outcome);
        let is_about_key = matches!(outcome, Outcome::Refused { class, .. } if self.is_about_key(call, *class));
        let permitted = match call.kind {
            Kind::Write => is_permitted(outcome) && !is_about_key,
            Kind::ReadShares => matches!(outcome, Outcome::Accepted(_)) && self.is_denied_listing(call.image),
            Kind::ReadImage => false,
        };
        let found = self.lane(call.lane);
        let was_unproven = found.key.is_unproven(now);
        if health == Health::Good {
            found.streak = Streak::default();
            found.refreshed.take_if(|(kind, _)| *kind == call.kind);
            found.clock_corrected = None;
            found.note_permitted(call, outcome);
        }
        // Refusals that may have been the key's fault are judged anew once the key is known to be the right one.
        let is_key_proven = was_unproven && !found.key.is_unproven(now);
        if let LaneState::Closed(closed) = &found.state {
            if closed.reason == CloseReason::Account {
                // Only another key, or an operator, opens it.
                return;
            }
            let serves = match closed.reason {
                // Without jobs there is nothing to try by: the next ones will tell.
                _ if closed.given_back => true,
                CloseReason::Permission => permitted || is_key_proven,
                CloseReason::Credential => call.kind == closed.probe,
                CloseReason::Account | CloseReason::Clock | CloseReason::Endpoint => true,
            };
            if health == Health::Good && serves {
                let certain = closed.certain;
                self.open_lane(now, call.lane, certain);
                self.retry_denied(now, call.lane);
            } else if call.probe {
                self.probe_failed(now, call.lane, outcome);
            }
            return;
        }
        if is_key_proven {
            self.retry_denied(now, call.lane);
        }
        let found = self.lane(call.lane);
        // A call that was signed before the credential or the clock was mended says nothing of it now.
        let signed_since = |mended: Instant| call.began >= mended;
        match health {
            Health::Good => {}
            Health::NoAnswer => self.no_answer(now, call, outcome),
            Health::CredentialRefused => match found.refreshed {
                Some((_, at)) if !signed_since(at) => {}
                refreshed => self.credential_refused(now, call, refreshed.is_some(), outcome),
            },
            Health::ClockRefused => self.close_lane(now, call.lane, CloseReason::Clock, detail(outcome), now),
            Health::Skewed => match found.clock_corrected {
                Some(at) if signed_since(at) => {
                    self.close_lane(now, call.lane, CloseReason::Clock, detail(outcome), now);
                }
                Some(_) => {}
                None => found.clock_corrected = Some(now),
            },
        }
    }

    fn no_answer(&mut self, now: Instant, call: &Call, outcome: &Outcome) {
        let enough = self.lane(call.lane).streak.failed(call.image, call.began, detail(outcome));
        self.schedule_lane(call.lane);
        let found = self.lane(call.lane);
        if !enough || !found.is_open() {
            return;
        }
        let since = found.streak.since.unwrap_or(now);
        if found.streak.on_several_images() || call.kind == Kind::ReadImage {
            self.close_lane(now, call.lane, CloseReason::Endpoint, detail(outcome), since);
        } else {
            // Too few images to tell an endpoint from an image: one question decides.
            self.suspect_lane(now, call.lane, detail(outcome), since);
        }
    }

    fn credential_refused(&mut self, now: Instant, call: &Call, again: bool, outcome: &Outcome) {
        if !self.lane(call.lane).is_open() {
            return;
        }
        if again {
            return self.close_by(now, call.lane, CloseReason::Credential, call.kind, detail(outcome), now);
        }
        self.lane(call.lane).state = LaneState::Refreshing(call.kind, detail(outcome));
        self.commands.push_back(Command::RefreshCredential(call.lane));
    }

    pub(super) fn credential_fresh(&mut self, now: Instant, lane: LaneId) {
        if !self.lanes.contains_key(&lane) {
            return;
        }
        self.key_replaced(now, lane);
        for image in self.lane(lane).images.clone() {
            self.images[image].denied = None;
        }
        self.forget_refused_listings(now, lane);
        let found = self.lane(lane);
        match &found.state {
            LaneState::Refreshing(kind, _) => {
                found.refreshed = Some((*kind, now));
                found.state = LaneState::Open;
                self.resume(now, lane);
            }
            // A better credential is there: no reason to wait for the next probe.
            LaneState::Closed(closed) if matches!(closed.reason, CloseReason::Credential | CloseReason::Permission) => {
                self.probe_at(lane, now);
            }
            LaneState::Open => self.resume(now, lane),
            _ => {}
        }
    }

    pub(super) fn credential_broken(&mut self, now: Instant, lane: LaneId) {
        if let Some(LaneState::Refreshing(kind, refused)) = self.lanes.get(&lane).map(|lane| &lane.state) {
            let (kind, detail) = (*kind, alloc::format!("{refused} (and no other credential is there)"));
            self.close_by(now, lane, CloseReason::Credential, kind, detail.into(), now);
        }
    }

    /// Closes a lane: no calls but one probe at a time.
    pub(super) fn close_lane(
        &mut self,
        now: Instant,
        lane: LaneId,
        reason: CloseReason,
        detail: Box<str>,
        since: Instant,
    ) {
        let probe = if reason == CloseReason::Permission { Kind::Write } else { Kind::ReadImage };
        self.close_by(now, lane, reason, probe, detail, since);
    }

    /// The same, and calls of this kind show whether it works again.
    fn close_by(
        &mut self,
        now: Instant,
        lane: LaneId,
        reason: CloseReason,
        probe: Kind,
        detail: Box<str>,
        since: Instant,
    ) {
        if matches!(self.lane(lane).state, LaneState::Down | LaneState::Leaving | LaneState::GivenUp(_)) {
            return;
        }
        self.notice(lane, Notice::Closed { reason, detail: detail.clone() });
        let pause = Self::PROBE_PAUSE;
        // Nothing that is sent with another account's key shows whether the right one is there.
        let probe_at = (reason != CloseReason::Account).then_some(now + pause);
        let closed =
            Closed { reason, since, detail, pause, probe, probe_at, certain: true, outage: false, given_back: false };
        self.lane(lane).state = LaneState::Closed(closed);
        self.schedule_lane(lane);
    }

    /// Stops a lane until one probe has told whether anything works.
    fn suspect_lane(&mut self, now: Instant, lane: LaneId, detail: Box<str>, since: Instant) {
        self.lane(lane).state = LaneState::Closed(Closed {
            reason: CloseReason::Endpoint,
            since,
            detail,
            pause: Self::PROBE_PAUSE,
            probe: Kind::ReadImage,
            probe_at: Some(now),
            certain: false,
            outage: false,
            given_back: false,
        });
        self.schedule_lane(lane);
    }

    pub(super) fn open_lane(&mut self, now: Instant, lane: LaneId, announced: bool) {
        self.lane(lane).state = LaneState::Open;
        if announced {
            self.notice(lane, Notice::Opened);
        }
        self.forget_refused_listings(now, lane);
        self.resume(now, lane);
    }

    /// Lets all images of a lane go on.
    pub(super) fn resume(&mut self, now: Instant, lane: LaneId) {
        for image in self.lane(lane).images.clone() {
            self.touch(now, image);
        }
        for kind in Kind::ALL {
            self.arm(lane, kind);
        }
        self.schedule_lane(lane);
    }

    fn probe_failed(&mut self, now: Instant, lane: LaneId, outcome: &Outcome) {
        let LaneState::Closed(closed) = &mut self.lane(lane).state else { return };
        if !matches!(outcome, Outcome::Accepted(_)) {
            closed.detail = detail(outcome);
        }
        closed.probe_at = Some(now + closed.pause);
        closed.pause = Millis(closed.pause.0 * 2).min(Self::PROBE_PAUSE_MAX);
        let first = !core::mem::replace(&mut closed.outage, true);
        let sure = !core::mem::replace(&mut closed.certain, true);
        let (reason, detail) = (closed.reason, closed.detail.clone());
        if sure {
            self.notice(lane, Notice::Closed { reason, detail });
        }
        if first && reason == CloseReason::Endpoint {
            self.forgive_attempts(lane);
        }
        self.schedule_lane(lane);
    }

    /// Tries of a time when nothing worked do not count.
    fn forgive_attempts(&mut self, lane: LaneId) {
        for image in self.lane(lane).images.clone() {
            let found = &mut self.images[image];
            found.read.attempts = 0;
            found.read.refused.take_if(|refused| *refused.failure.code == *local::NO_ANSWER);
            for group in &mut found.groups {
                group.failures = 0;
                for &member in &group.members {
                    if let Some(account) = self.accounts.get_mut(member).filter(|account| account.image == image) {
                        account.attempts = 0;
                    }
                }
            }
        }
    }

    pub(super) fn probe_at(&mut self, lane: LaneId, at: Instant) {
        if let LaneState::Closed(closed) = &mut self.lane(lane).state
            && closed.probe_at.is_some()
        {
            closed.probe_at = Some(at);
        }
        self.schedule_lane(lane);
    }

    /// Sets a lane's next moment.
    pub(super) fn schedule_lane(&mut self, lane: LaneId) {
        let leased = self.leased_until(lane);
        let Some(found) = self.lanes.get(&lane) else { return };
        let waits = found.key.wait_until;
        let moments = match &found.state {
            LaneState::Closed(closed) => [self.leaves_at(closed), closed.probe_at, waits],
            LaneState::Open | LaneState::Refreshing(..) => [leased, self.silent_until(lane), waits],
            LaneState::Down | LaneState::Leaving | LaneState::GivenUp(_) => [None; 3],
        };
        self.set_lane_alarm(lane, moments.into_iter().flatten().min());
    }

    /// Until when the ticket that is held longest may be held.
    fn leased_until(&mut self, lane: LaneId) -> Option<Instant> {
        let lease = self.limits.lease?;
        let tickets = &self.tickets;
        let found = self.lanes.get_mut(&lane)?;
        let is_held = |arrival: &Arrival| tickets.get(arrival.ticket).is_some_and(|held| held.seq == arrival.seq);
        while found.arrivals.front().is_some_and(|arrival| !is_held(arrival)) {
            found.arrivals.pop_front();
        }
        found.arrivals.front().map(|arrival| arrival.at + lease)
    }

    /// When a closed lane leaves. One of which that is only suspected has nowhere to go back to in a worker.
    fn leaves_at(&self, closed: &Closed) -> Option<Instant> {
        let leaves = !closed.given_back && (closed.certain || self.limits.ending == Ending::Report);
        leaves.then_some(closed.since + self.limits.closed_for)
    }

    /// Until when a one-shot command waits for a lane from which nothing usable has come, although there were too few
    /// calls to close it.
    fn silent_until(&self, lane: LaneId) -> Option<Instant> {
        let since = self.lanes.get(&lane)?.streak.since?;
        (self.limits.ending == Ending::Report).then_some(since + self.limits.closed_for)
    }

    /// A lane's moment has come: it leaves, or probes.
    pub(super) fn lane_due(&mut self, now: Instant, lane: LaneId) {
        self.key_due(now, lane);
        let ending = self.limits.ending;
        let leased = self.leased_until(lane);
        let silent = self.silent_until(lane).is_some_and(|until| until <= now);
        let found = self.lane(lane);
        match found.state.clone() {
            LaneState::Closed(closed) => {
                let idle = found.in_flight == 0;
                let leaves = self.leaves_at(&closed).is_some_and(|at| at <= now);
                match ending {
                    Ending::Report if leaves => {
                        let Closed { reason, detail, certain, .. } = closed;
                        if !certain {
                            self.notice(lane, Notice::Closed { reason, detail: detail.clone() });
                        }
                        return self.give_up(now, lane, reason, &detail);
                    }
                    Ending::GiveBack if leaves && idle => self.give_back_closed(now, lane),
                    _ => {}
                }
                if closed.probe_at.is_some_and(|at| at <= now) {
                    self.probe(now, lane);
                }
            }
            LaneState::Open | LaneState::Refreshing(..) if silent => {
                let (since, detail) = (found.streak.since.unwrap_or(now), found.streak.detail.clone());
                self.close_lane(now, lane, CloseReason::Endpoint, detail.clone(), since);
                return self.give_up(now, lane, CloseReason::Endpoint, &detail);
            }
            LaneState::Open | LaneState::Refreshing(..) => {
                if leased.is_some_and(|until| until <= now) && ending == Ending::GiveBack {
                    self.leave(now, lane);
                }
            }
            LaneState::Down | LaneState::Leaving | LaneState::GivenUp(_) => {}
        }
        self.schedule_after(now, lane);
    }

    /// Sets a lane's next moment, never one that has passed: what waits for calls in flight is looked at when they end.
    fn schedule_after(&mut self, now: Instant, lane: LaneId) {
        self.schedule_lane(lane);
        if self.lane(lane).alarm.is_some_and(|at| at <= now) {
            let found = self.lane(lane);
            let probe_at = match &found.state {
                LaneState::Closed(closed) => closed.probe_at,
                _ => None,
            };
            let next = [probe_at, found.key.wait_until].into_iter().flatten().filter(|&at| at > now).min();
            self.set_lane_alarm(lane, next);
        }
    }

    /// Sends one call that shows whether the lane works again.
    fn probe(&mut self, now: Instant, lane: LaneId) {
        let found = self.lane(lane);
        let LaneState::Closed(closed) = &found.state else { return };
        let kind = if closed.given_back { Kind::ReadImage } else { closed.probe };
        let slot = found.key.wait_until.unwrap_or_default().max(found.pacers[kind as usize].next());
        let busy = found.unsent[kind as usize].is_some();
        let later =
            if busy || self.draining { Some(now + Self::PROBE_PAUSE) } else { Some(slot).filter(|&at| at > now) };
        if later.is_some() {
            return self.set_probe(lane, later);
        }
        self.set_probe(lane, None);
        let sent = match kind {
            Kind::Write => self.probe_by_write(now, lane) || self.probe_by_listing(now, lane),
            Kind::ReadShares | Kind::ReadImage => match self.probe_image(lane, kind) {
                Some(image) if kind == Kind::ReadShares && self.images[image].read.in_flight.is_none() => {
                    self.send_read(now, image, true);
                    true
                }
                Some(image) => {
                    self.send_query(now, image, true);
                    true
                }
                None => false,
            },
        };
        if !sent {
            self.set_probe(lane, Some(now + Self::PROBE_PAUSE_MAX));
        }
    }

    fn probe_by_write(&mut self, now: Instant, lane: LaneId) -> bool {
        for image in self.images_to_probe(lane) {
            if self.images[image].write.is_none()
                && let Some(write) = self.choose_write(now, image)
            {
                self.send_write(now, image, write, true);
                return true;
            }
        }
        false
    }

    /// Where no image has anything to write, one whose listing was refused shows what the key may do.
    fn probe_by_listing(&mut self, now: Instant, lane: LaneId) -> bool {
        let found = self.lane(lane);
        let is_free =
            found.unsent[Kind::ReadShares as usize].is_none() && found.pacers[Kind::ReadShares as usize].next() <= now;
        match self.listing_to_probe(lane).filter(|&image| is_free && self.images[image].read.in_flight.is_none()) {
            Some(image) => self.send_read(now, image, true),
            None => return false,
        }
        true
    }

    fn set_probe(&mut self, lane: LaneId, at: Option<Instant>) {
        if let LaneState::Closed(closed) = &mut self.lane(lane).state {
            closed.probe_at = at;
        }
    }

    /// An image to ask about: one with jobs if there is one.
    fn probe_image(&mut self, lane: LaneId, kind: Kind) -> Option<Key<Image>> {
        if kind == Kind::ReadShares
            && let Some(image) = self.listing_to_probe(lane)
        {
            return Some(image);
        }
        let images = self.lane(lane).images.clone();
        images.iter().copied().find(|&image| self.images[image].in_hand()).or_else(|| images.first().copied())
    }
}
