//! What the changes of a lane mean for its images: it comes up, opens, closes, probes and leaves.

use alloc::vec::Vec;

use super::Engine;
use crate::{
    arena::Key,
    call::{Kind, Purpose},
    context::{Context, UnfinishedFailures},
    image::{Image, NotPermitted, failure},
    images::Entry,
    io::{CallId, CloseReason, Command, LaneId},
    job::{Failure, local},
    lane::{Change, Due, Lane},
    limits::LaneLimits,
    policy::Unfinished,
    schedule::Alarm,
    time::Instant,
};

impl Engine {
    pub(super) fn lane_up(&mut self, lane: LaneId, limits: LaneLimits) {
        let (now, unfinished) = (self.now, self.policy.unfinished);
        if !self.lanes.entry(lane).or_insert_with(|| Lane::new(unfinished, limits, now)).up(now, limits) {
            return;
        }
        // Also the images that have no jobs now: what is known about them is from before as well.
        self.for_images(lane, Image::lane_up);
        self.check_owner(lane, |_, _| {});
    }

    /// The jobs of a lane belong to another worker.
    pub(super) fn lane_lost(&mut self, lane: LaneId) {
        if !self.lanes.contains_key(&lane) {
            return;
        }
        self.forget_jobs(lane);
        self.lane(lane).go_down();
        self.schedule_lane(lane);
    }

    /// Ends a lane: no new calls; its jobs end when the last call in flight has ended.
    pub(super) fn leave(&mut self, id: LaneId) {
        if let Some(lane) = self.lanes.get_mut(&id).filter(|lane| !lane.is_down_or_given_up()) {
            lane.leave();
            self.lane_call_ended(id);
        }
    }

    /// A call of a lane ended. The lane may have waited for its last call, to leave or to requeue its jobs.
    pub(super) fn lane_call_ended(&mut self, id: LaneId) {
        let lane = &self.lanes[&id];
        if lane.has_calls() {
            return;
        }
        if lane.is_leaving() || lane.is_closed_too_long(self.now, &self.limits) {
            self.end_jobs(id, "the command was ended");
        }
    }

    /// Ends all unfinished jobs of a lane, in the one way that the policy has. What is finished is settled first. A closed lane
    /// that is requeued still probes.
    fn end_jobs(&mut self, lane: LaneId, why: &str) {
        // The state first, so that no image queues a call while its jobs end.
        self.lane(lane).end_jobs();
        match self.policy.unfinished {
            Unfinished::Requeue => {
                // The next worker would have to find out again what is known here, so finished jobs are reported first.
                for image in self.lane(lane).image_keys() {
                    self.enter(image, Image::settle_all);
                }
                self.forget_jobs(lane);
                self.commands.push_back(Command::Requeue(lane));
            }
            Unfinished::Report => {
                let in_doubt = alloc::format!("a write was sent and it is not known whether it was applied; {why}");
                let failures = UnfinishedFailures {
                    not_attempted: failure(local::NOT_ATTEMPTED, why, None),
                    no_answer: failure(local::NO_ANSWER, in_doubt, None),
                };
                self.for_images(lane, |image, cx| image.report_unfinished(cx, &failures));
            }
        }
        self.schedule_lane(lane);
    }

    /// Forgets all jobs of a lane without a report. What is known about its images is kept.
    fn forget_jobs(&mut self, lane: LaneId) {
        self.lane(lane).forget_jobs();
        for image in self.lane(lane).image_keys() {
            // The lane's queues were cleared with its jobs.
            self.images.entry(image).queued = [false; 3];
            self.visit(image, |image, cx| image.forget_jobs(cx));
        }
    }

    /// Another credential is in use from now on.
    pub(super) fn credential_fresh(&mut self, id: LaneId) {
        let (now, first_call) = (self.now, CallId(self.next_call));
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        lane.key_replaced(now, first_call);
        // Refusals of the former key show nothing about the new one. This includes a refused listing: a SYNC would
        // otherwise wait for the pause that it caused.
        self.for_images(id, |image, cx| {
            image.forget_refusals_of_key();
            image.forget_refused_listing(cx);
        });
        if self.lane(id).credential_fresh(now) {
            self.resume(id);
        }
        self.schedule_lane(id);
    }

    /// Changes what is known about the account of a lane's key, and closes or opens the lane accordingly.
    pub(super) fn check_owner(&mut self, lane: LaneId, change: impl FnOnce(&mut Lane, Instant)) {
        let (now, unfinished) = (self.now, self.policy.unfinished);
        change(self.lanes.entry(lane).or_insert_with(|| Lane::new(unfinished, LaneLimits::default(), now)), now);
        let mut continues = false;
        self.change_lane(lane, |lane, now, changes| continues = lane.check_owner(now, changes));
        if continues {
            self.resume(lane);
        }
    }

    /// Changes a lane, and applies what that means for its images and the driver.
    pub(super) fn change_lane(&mut self, id: LaneId, change: impl FnOnce(&mut Lane, Instant, &mut Vec<Change>)) {
        let now = self.now;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        // Collected first: applying a change takes the whole engine.
        let mut changes = Vec::new();
        change(lane, now, &mut changes);
        self.lane_changed(id, changes);
    }

    fn lane_changed(&mut self, lane: LaneId, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Notice(notice) => self.commands.push_back(Command::Notice(lane, notice)),
                Change::Opened => {
                    self.for_images(lane, Image::forget_refused_listing);
                    self.arm_all(lane);
                }
                Change::Permitted => self.for_images(lane, Image::retry_refused),
                // The tries were used up by the endpoint and not by these accounts.
                Change::Outage => self.for_images(lane, |image, cx| image.forgive_attempts(cx)),
                Change::RefreshCredential => self.commands.push_back(Command::RefreshCredential(lane)),
            }
        }
        self.schedule_lane(lane);
    }

    /// Lets all images of a lane make calls again.
    fn resume(&mut self, lane: LaneId) {
        for image in self.lane(lane).image_keys() {
            self.reschedule(image);
        }
        self.arm_all(lane);
    }

    /// Closes a lane if the key is not permitted any image with jobs, and nothing was permitted since the first of these
    /// refusals.
    pub(super) fn close_if_none_permitted(&mut self, id: LaneId, refused: &Failure) {
        let lane = &self.lanes[&id];
        let in_hand = self.images.of(lane).filter(|image| image.in_hand());
        let denied: Option<Vec<&NotPermitted>> = in_hand.map(Image::not_permitted).collect();
        // An image that was not refused yet may be permitted: the lane stays open to try it.
        let Some(denied) = denied else { return };
        let Some(first) = denied.iter().map(|denied| denied.since()).min() else { return };
        // If another image was permitted meanwhile, the refusals are about images and not about the key.
        let is_any_permitted = denied.iter().any(|denied| lane.permitted().since(denied.kind(), first, self.now));
        if lane.is_plainly_open() && !is_any_permitted {
            let detail = alloc::format!("{}: {}", refused.code, refused.message);
            self.change_lane(id, |lane, now, changes| {
                lane.close(now, CloseReason::Permission, detail.into(), now, changes);
            });
        }
    }

    /// Sets a lane's next moment.
    pub(super) fn schedule_lane(&mut self, id: LaneId) {
        let images = &self.images;
        let Some(lane) = self.lanes.get_mut(&id) else { return };
        let next = lane.next_moment(&self.limits, |arrival| images.is_held(arrival));
        self.set_lane_alarm(id, next);
    }

    fn set_lane_alarm(&mut self, lane: LaneId, at: Option<Instant>) {
        let standing = self.lane(lane).set_alarm(at);
        self.schedule.replace(standing, at, Alarm::Lane(lane));
    }

    /// A lane's moment has come: it leaves, ends its jobs, or probes.
    pub(super) fn lane_due(&mut self, id: LaneId) {
        let now = self.now;
        if self.lane(id).is_owner_overdue(now) {
            self.check_owner(id, Lane::owner_unknown);
        }
        let images = &self.images;
        let mut changes = Vec::new();
        let lane = self.lanes.get_mut(&id).expect("a lane that has an alarm exists");
        let due = lane.due(now, &self.limits, |arrival| images.is_held(arrival), &mut changes);
        self.lane_changed(id, changes);
        match due {
            Due::Nothing => {}
            Due::EndJobs(reason, detail) => {
                self.end_jobs(id, &alloc::format!("the lane is closed ({}): {detail}", reason.as_str()));
            }
            Due::Leave => self.leave(id),
        }
        // After `due`, which may have requeued the jobs: then the probe queries a state instead of writing.
        self.probe(id);
        self.schedule_lane(id);
        // Never a past moment: what waits for calls in flight is done when they end.
        let lane = self.lane(id);
        if lane.alarm().is_some_and(|at| at <= now) {
            let next = lane.next_moment_after(now);
            self.set_lane_alarm(id, next);
        }
    }

    /// Sends the probe that is due, if one is. If no image has anything to write, one that awaits its listing shows what the key
    /// is permitted.
    fn probe(&mut self, id: LaneId) {
        let now = self.now;
        let Some(kind) = self.lane(id).take_probe(now) else { return };
        let lane = &self.lanes[&id];
        let to_list = || self.images.awaiting_listing(lane).filter(|&image| self.images.image(image).may_list());
        let mut targets = Vec::new();
        match kind {
            Kind::Write => {
                let to_write = self.images.by_refusal(lane).into_iter();
                targets
                    .extend(to_write.filter(|&image| self.images.image(image).may_write()).map(|image| (image, kind)));
                let listing = to_list().filter(|_| lane.slots(Kind::ReadShares).is_free(now));
                // Last, since a listing shows nothing about the permission to write.
                targets.extend(listing.map(|image| (image, Kind::ReadShares)));
            }
            Kind::ReadShares | Kind::ReadImage => {
                let listing = to_list().filter(|_| kind == Kind::ReadShares);
                let image = listing.or_else(|| self.images.to_ask(lane));
                let may_list = |image: Key<Entry>| kind == Kind::ReadShares && self.images.image(image).may_list();
                targets.extend(image.map(|image| (image, if may_list(image) { kind } else { Kind::ReadImage })));
            }
        }
        // The first one with something to send is the probe.
        if !targets.into_iter().any(|(image, kind)| self.begin_call(image, kind, Purpose::Probe)) {
            self.lane(id).probe_impossible(now);
        }
    }

    pub(super) fn for_images(&mut self, lane: LaneId, mut call: impl FnMut(&mut Image, &mut Context<'_>)) {
        for image in self.lane(lane).image_keys() {
            self.visit(image, &mut call);
        }
    }
}
