//! What a lane sets off in its images: it comes up, opens, closes, probes and leaves.

use alloc::vec::Vec;

use super::Engine;
use crate::{
    arena::Key,
    call::Kind,
    context::Context,
    image::{Image, NotPermitted, failure},
    io::{CallId, CloseReason, Command, LaneId},
    job::{Failure, local},
    lane::{Arrival, Change, Due, Lane},
    limits::{Ending, LaneLimits},
    schedule::{Alarm, Entry},
    time::Instant,
};

impl Engine {
    pub(super) fn lane_up(&mut self, lane: LaneId, limits: LaneLimits) {
        let now = self.now;
        if !self.lanes.entry(lane).or_insert_with(|| Lane::new(limits, now)).up(now, limits) {
            return;
        }
        self.for_images(lane, |image, cx| image.lane_up(cx));
        self.for_images(lane, Image::forget_refused_listing);
        self.check_owner(lane, |_, _| {});
    }

    /// The jobs of a lane are no longer ours.
    pub(super) fn lane_lost(&mut self, lane: LaneId) {
        if !self.lanes.contains_key(&lane) {
            return;
        }
        self.forget_jobs(lane);
        self.lane(lane).go_down();
        self.schedule_lane(lane);
    }

    pub(super) fn drain(&mut self) {
        self.draining = true;
        for lane in self.lanes.keys().copied().collect::<Vec<_>>() {
            self.leave(lane);
        }
    }

    /// No new calls on a lane; it leaves when the last one in flight has ended.
    pub(super) fn leave(&mut self, lane: LaneId) {
        if let Some(found) = self.lanes.get_mut(&lane).filter(|lane| !lane.is_down_or_given_up()) {
            found.leave();
            self.lane_call_ended(lane);
        }
    }

    /// A call of a lane ended: if the lane waits for the last one, to leave or to requeue its jobs, that may be now.
    pub(super) fn lane_call_ended(&mut self, lane: LaneId) {
        let found = &self.lanes[&lane];
        if found.has_calls() {
            return;
        }
        if found.is_closed_too_long(self.now, &self.limits) {
            self.requeue_closed(lane);
            self.schedule_lane(lane);
        } else if found.is_leaving() {
            match self.limits.ending {
                Ending::GiveBack => {
                    self.requeue(lane);
                    self.lane(lane).go_down();
                }
                Ending::Report => self.abandon(lane, "the command was ended"),
            }
        }
    }

    /// Returns the jobs of a lane to where they came from. What is finished is settled first, and stands before the end
    /// in the order of commands.
    fn requeue(&mut self, lane: LaneId) {
        self.settle_lane(lane);
        self.forget_jobs(lane);
        self.commands.push_back(Command::GiveBack(lane));
    }

    /// A lane was closed too long: its jobs are requeued, and it goes on probing.
    fn requeue_closed(&mut self, lane: LaneId) {
        self.requeue(lane);
        self.lane(lane).jobs_requeued();
    }

    fn settle_lane(&mut self, lane: LaneId) {
        for image in self.image_keys_of(lane) {
            self.enter(image, Image::settle_all);
        }
    }

    /// Forgets all jobs of a lane without a report. What is known of its images stays.
    fn forget_jobs(&mut self, lane: LaneId) {
        self.lane(lane).forget_jobs();
        for image in self.image_keys_of(lane) {
            self.images[image].queued = [false; 3];
            self.visit(image, |image, cx| image.forget_jobs(cx));
        }
    }

    /// Settles every job of a lane: what was not tried is reported so.
    fn abandon(&mut self, lane: LaneId, why: &str) {
        let not_attempted = failure(local::NOT_ATTEMPTED, why, None);
        let message = alloc::format!("a write was sent and it is not known whether it was applied; {why}");
        let no_answer = failure(local::NO_ANSWER, message, None);
        for image in self.image_keys_of(lane) {
            self.enter(image, |image, cx| image.abandon(cx, &not_attempted, &no_answer));
        }
        self.settle_lane(lane);
        self.set_lane_alarm(lane, None);
    }

    /// Another credential is in use from now on.
    pub(super) fn credential_fresh(&mut self, lane: LaneId) {
        let (now, first_call) = (self.now, CallId(self.next_call));
        let Some(found) = self.lanes.get_mut(&lane) else { return };
        found.key_replaced(now, first_call);
        self.for_images(lane, |image, cx| {
            image.forget_refusals_of_key();
            image.forget_refused_listing(cx);
        });
        if self.lane(lane).credential_fresh(now) {
            self.resume(lane);
        }
        self.schedule_lane(lane);
    }

    /// Changes what is known of the account of a lane's key, and closes or opens the lane by it.
    pub(super) fn check_owner(&mut self, lane: LaneId, learn: impl FnOnce(&mut Lane, Instant)) {
        let now = self.now;
        learn(self.lanes.entry(lane).or_insert_with(|| Lane::new(LaneLimits::default(), now)), now);
        let mut goes_on = false;
        self.change_lane(lane, |lane, now, changes| goes_on = lane.check_owner(now, changes));
        if goes_on {
            self.resume(lane);
        }
    }

    /// Changes a lane, and carries on what that means for its images and the driver.
    pub(super) fn change_lane(&mut self, lane: LaneId, change: impl FnOnce(&mut Lane, Instant, &mut Vec<Change>)) {
        let now = self.now;
        let Some(found) = self.lanes.get_mut(&lane) else { return };
        let mut changes = Vec::new();
        change(found, now, &mut changes);
        for change in changes {
            match change {
                Change::Notice(notice) => self.commands.push_back(Command::Notice(lane, notice)),
                Change::Opened => {
                    self.for_images(lane, Image::forget_refused_listing);
                    self.resume(lane);
                }
                Change::Permitted => self.for_images(lane, Image::retry_refused),
                Change::Outage => self.for_images(lane, |image, _| image.forgive_attempts()),
                Change::RefreshCredential => self.commands.push_back(Command::RefreshCredential(lane)),
            }
        }
        self.schedule_lane(lane);
    }

    /// Lets all images of a lane go on.
    fn resume(&mut self, lane: LaneId) {
        for image in self.image_keys_of(lane) {
            self.reschedule(image);
        }
        for kind in Kind::ALL {
            self.arm(lane, kind);
        }
        self.schedule_lane(lane);
    }

    /// Closes a lane if every image in hand is refused for want of a permission, and nothing was permitted since the
    /// first of these refusals.
    pub(super) fn close_if_none_permitted(&mut self, lane: LaneId, refused: &Failure) {
        let found = &self.lanes[&lane];
        let in_hand = self.images_of(lane).filter(|image| image.in_hand());
        let denied: Option<Vec<&NotPermitted>> = in_hand.map(Image::not_permitted).collect();
        let Some(denied) = denied else { return };
        let Some(first) = denied.iter().map(|denied| denied.since()).min() else { return };
        let facts = found.facts(self.now, self.limits.image_wait);
        let is_any_permitted =
            denied.iter().any(|denied| facts.permitted_since(denied.kind(), first, self.now).is_some());
        if found.is_plainly_open() && !is_any_permitted {
            let detail = alloc::format!("{}: {}", refused.code, refused.message);
            self.change_lane(lane, |lane, now, changes| {
                lane.close(now, CloseReason::Permission, detail.into(), now, changes);
            });
        }
    }

    /// Sets a lane's next moment.
    pub(super) fn schedule_lane(&mut self, lane: LaneId) {
        let images = &self.images;
        let is_held = |arrival: &Arrival| {
            images.get(arrival.image).is_some_and(|entry| entry.image.holds(arrival.job, arrival.seq))
        };
        let Some(found) = self.lanes.get_mut(&lane) else { return };
        let next = found.next_moment(&self.limits, is_held);
        self.set_lane_alarm(lane, next);
    }

    fn set_lane_alarm(&mut self, lane: LaneId, at: Option<Instant>) {
        let standing = self.lane(lane).set_alarm(at);
        self.schedule.replace(standing, at, Alarm::Lane(lane));
    }

    /// A lane's moment has come: it leaves, or probes.
    pub(super) fn lane_due(&mut self, lane: LaneId) {
        let now = self.now;
        if self.lane(lane).is_owner_overdue(now) {
            self.check_owner(lane, Lane::owner_unknown);
        }
        let images = &self.images;
        let is_held = |arrival: &Arrival| {
            images.get(arrival.image).is_some_and(|entry| entry.image.holds(arrival.job, arrival.seq))
        };
        let mut changes = Vec::new();
        let found = self.lanes.get_mut(&lane).expect("a lane that has an alarm exists");
        let due = found.due(now, &self.limits, is_held, &mut changes);
        self.change_lane(lane, |_, _, all| *all = changes);
        match due {
            Due::Nothing => {}
            Due::Requeue => self.requeue_closed(lane),
            Due::GiveUp(reason, detail) => {
                self.lane(lane).give_up(reason);
                let why = alloc::format!("the lane is closed ({}): {detail}", reason.as_str());
                return self.abandon(lane, &why);
            }
            Due::Leave => self.leave(lane),
        }
        self.probe(lane);
        self.schedule_lane(lane);
        // Never a moment that has passed: what waits for calls in flight is looked at when they end.
        let found = self.lane(lane);
        if found.alarm().is_some_and(|at| at <= now) {
            let next = found.next_moment_after(now);
            self.set_lane_alarm(lane, next);
        }
    }

    /// Sends the probe that is due, if one is.
    fn probe(&mut self, lane: LaneId) {
        let (now, draining) = (self.now, self.draining);
        let Some(kind) = self.lane(lane).take_probe(now, draining) else { return };
        let is_sent = match kind {
            Kind::Write => self.probe_by_write(lane) || self.probe_by_listing(lane),
            Kind::ReadShares => self.probe_by_first(lane, kind),
            Kind::ReadImage => self.probe_by_first(lane, kind),
        };
        if !is_sent {
            self.lane(lane).probe_impossible(now);
        }
    }

    fn probe_by_write(&mut self, lane: LaneId) -> bool {
        let images = self.images_to_probe(lane);
        images.into_iter().any(|image| self.images[image].image.may_write() && self.begin_probe(image, Kind::Write))
    }

    /// Where no image has anything to write, one whose listing was refused shows what the key may do.
    fn probe_by_listing(&mut self, lane: LaneId) -> bool {
        let is_free = self.lanes[&lane].may_probe(self.now, Kind::ReadShares);
        match self.listing_to_probe(lane).filter(|&image| is_free && self.images[image].image.may_read()) {
            Some(image) => self.begin_probe(image, Kind::ReadShares),
            None => false,
        }
    }

    /// Probes by a listing call: of an image with jobs if there is one.
    fn probe_by_first(&mut self, lane: LaneId, kind: Kind) -> bool {
        let awaited = if kind == Kind::ReadShares { self.listing_to_probe(lane) } else { None };
        let keys = self.lanes[&lane].images();
        let in_hand = || keys.iter().copied().find(|&image| self.images[image].image.in_hand());
        let Some(image) = awaited.or_else(in_hand).or_else(|| keys.first().copied()) else { return false };
        let may_read = self.images[image].image.may_read();
        let kind = if kind == Kind::ReadShares && may_read { Kind::ReadShares } else { Kind::ReadImage };
        self.begin_probe(image, kind)
    }

    /// An image of a closed lane whose listing is awaited. First those that can have nothing to write before that, then
    /// those whose refused listing shows whether the key may read again.
    fn listing_to_probe(&self, lane: LaneId) -> Option<Key<Entry>> {
        self.images_to_probe(lane).into_iter().find(|&image| self.images[image].image.awaits_listing())
    }

    /// The images of a lane, those first that were refused longest ago: each has its turn to show what the key may do.
    fn images_to_probe(&self, lane: LaneId) -> Vec<Key<Entry>> {
        let mut images = self.image_keys_of(lane);
        images.sort_by_key(|&image| self.images[image].image.not_permitted().map(NotPermitted::again));
        images
    }

    fn image_keys_of(&self, lane: LaneId) -> Vec<Key<Entry>> {
        self.lanes.get(&lane).map(|lane| lane.images().iter().copied().collect()).unwrap_or_default()
    }

    fn for_images(&mut self, lane: LaneId, mut call: impl FnMut(&mut Image, &mut Context<'_>)) {
        for image in self.image_keys_of(lane) {
            self.visit(image, &mut call);
        }
    }
}
