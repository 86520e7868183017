//! The deliveries without a report, and the order in which they get one.
//!
//! A delivery has a number for each of its images. Under these numbers the engine settles the images one by one, so that
//! the outcomes of each account of each image are in the order of the deliveries. A delivery is finished when all of its
//! images are settled.
//!
//! So a later delivery for one of these images could be finished first. If it were acknowledged, and the process ended, the
//! broker would redeliver the earlier delivery alone, and its change would replace the later one. Therefore a later
//! delivery waits for each unfinished delivery that has several images and shares an image with it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
    time::SystemTime,
};

use imageshare_core::ids::{ImageId, Region};
use imageshare_engine::{
    io::{DeliveryId, LaneId},
    job::{Job, Mode, Report},
};

use crate::lane_messages::outcomes;

/// The low bits of a delivery's number count the images of all deliveries; the bits above them are its lane. No process
/// reaches 2^40 images or 2^24 lanes.
const COUNT_BITS: u32 = 40;

type LaneImage = (LaneId, Region, ImageId);

/// The deliveries without a report, by the number of their first image. Those of a lane are together, in the order in which
/// they arrived.
#[derive(Debug)]
pub(super) struct OutstandingJobs<I> {
    jobs: BTreeMap<DeliveryId, OutstandingJob<I>>,
    /// Accounts that the jobs of each lane name.
    accounts: BTreeMap<LaneId, usize>,
    /// The last delivery with several images that names an image.
    last: BTreeMap<LaneImage, DeliveryId>,
    /// Images of all deliveries that were received.
    received: u64,
    /// Deliveries with gathered reports whose images are all settled: the next place in the order of finishing.
    finished: u64,
    /// Outcomes of images whose delivery has no report yet.
    outcomes: usize,
}

/// A delivery without a report.
#[derive(Debug)]
struct OutstandingJob<I> {
    identity: I,
    mode: Mode,
    /// Accounts that its job names.
    accounts: usize,
    received_at: SystemTime,
    /// Of a delivery with several images, or one that waits for another. Most deliveries have one image and wait for none.
    gathered: Option<Box<GatheredReports>>,
}

/// The reports of the images of a delivery until it gets its own.
#[derive(Debug)]
struct GatheredReports {
    images: Box<[LaneImage]>,
    /// The report of each image that is settled.
    reports: Vec<Option<Report>>,
    unsettled: usize,
    /// The place in the order of finishing, once all images are settled.
    finished: Option<u64>,
    /// Earlier deliveries that it waits for.
    waits_for: usize,
    /// Later deliveries that wait for it.
    followers: Vec<DeliveryId>,
}

/// A delivery that gets its report.
#[derive(Debug)]
pub(super) struct FinishedJob<I> {
    pub(super) identity: I,
    pub(super) lane: LaneId,
    pub(super) mode: Mode,
    pub(super) received_at: SystemTime,
    /// The outcomes for each image, in the order of the delivery.
    pub(super) reports: Vec<Report>,
}

impl<I> OutstandingJobs<I> {
    pub(super) const fn new() -> Self {
        Self {
            jobs: BTreeMap::new(),
            accounts: BTreeMap::new(),
            last: BTreeMap::new(),
            received: 0,
            finished: 0,
            outcomes: 0,
        }
    }

    /// Returns the number of deliveries.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// Returns the number of outcomes of images whose delivery has no report yet.
    pub(super) const fn outcomes(&self) -> usize {
        self.outcomes
    }

    /// Inserts a delivery with a job for each of its images. Returns the number of the first one; those of the others
    /// follow.
    pub(super) fn insert(&mut self, lane: LaneId, identity: I, received_at: SystemTime, jobs: &[Job]) -> DeliveryId {
        let id = DeliveryId(deliveries(lane).start.0 + self.received);
        self.received += jobs.len() as u64;
        let images = || jobs.iter().map(|job| (lane, job.region, job.image_id));
        let earlier: BTreeSet<DeliveryId> = images().filter_map(|image| self.last.get(&image)).copied().collect();
        for job in &earlier {
            let gathered = self.jobs.get_mut(job).and_then(|job| job.gathered.as_mut());
            gathered.expect("a delivery with several images gathers reports").followers.push(id);
        }
        let has_several = jobs.len() > 1;
        if has_several {
            self.last.extend(images().map(|image| (image, id)));
        }
        let gathers = has_several || !earlier.is_empty();
        let gathered = gathers.then(|| GatheredReports {
            images: images().collect(),
            reports: vec![None; jobs.len()],
            unsettled: jobs.len(),
            finished: None,
            waits_for: earlier.len(),
            followers: Vec::new(),
        });
        let accounts = jobs.iter().map(|job| job.account_ids.len()).sum();
        *self.accounts.entry(lane).or_default() += accounts;
        let mode = jobs.first().map_or(Mode::Share, |job| job.mode);
        let gathered = gathered.map(Box::new);
        self.jobs.insert(id, OutstandingJob { identity, mode, accounts, received_at, gathered });
        id
    }

    /// Records that an image of a delivery is settled. Calls `finish` with every delivery that gets its report now, in the
    /// order in which they must be acknowledged.
    pub(super) fn settle(&mut self, image: DeliveryId, report: Report, mut finish: impl FnMut(FinishedJob<I>)) {
        let Some((&id, job)) = self.jobs.range_mut(..=image).next_back() else { return };
        let Ok(index) = usize::try_from(image.0 - id.0) else { return };
        let Some(gathered) = &mut job.gathered else {
            // A higher index belongs to a delivery that was removed: `id` is only the closest number below it.
            if index == 0 {
                let (finished, _) = self.remove(id, vec![report]);
                finish(finished);
            }
            return;
        };
        let Some(slot @ None) = gathered.reports.get_mut(index) else { return };
        self.outcomes += outcomes(&report);
        *slot = Some(report);
        gathered.unsettled -= 1;
        if gathered.unsettled > 0 {
            return;
        }
        gathered.finished = Some(self.finished);
        self.finished += 1;
        if gathered.waits_for > 0 {
            return;
        }
        // In the order of their release. This keeps the order of each account: of two deliveries for it, the earlier
        // one never waits for a later delivery than the other one does.
        let mut released = VecDeque::from([id]);
        while let Some(id) = released.pop_front() {
            let (finished, followers) = self.remove(id, Vec::new());
            finish(finished);
            let mut next: Vec<_> = followers.into_iter().filter_map(|id| self.release(id)).collect();
            next.sort_unstable();
            released.extend(next.into_iter().map(|(_, id)| id));
        }
    }

    /// Records that an earlier delivery has its report. Returns a delivery that waits for no other now, and is finished, with
    /// its place in the order of finishing.
    fn release(&mut self, id: DeliveryId) -> Option<(u64, DeliveryId)> {
        let gathered = self.jobs.get_mut(&id)?.gathered.as_mut()?;
        gathered.waits_for -= 1;
        let finished = gathered.finished.filter(|_| gathered.waits_for == 0)?;
        Some((finished, id))
    }

    /// Removes a delivery that gets its report, from `reports` or from those that it gathered. Returns the deliveries that
    /// wait for it too.
    fn remove(&mut self, id: DeliveryId, mut reports: Vec<Report>) -> (FinishedJob<I>, Vec<DeliveryId>) {
        let job = self.jobs.remove(&id).expect("the caller found it");
        let lane = lane_of(id);
        if let Some(accounts) = self.accounts.get_mut(&lane) {
            *accounts -= job.accounts;
        }
        let mut followers = Vec::new();
        if let Some(gathered) = job.gathered {
            reports.extend(gathered.reports.into_iter().flatten());
            self.outcomes -= reports.iter().map(outcomes).sum::<usize>();
            for image in gathered.images {
                if self.last.get(&image) == Some(&id) {
                    self.last.remove(&image);
                }
            }
            followers = gathered.followers;
        }
        let OutstandingJob { identity, mode, received_at, .. } = job;
        (FinishedJob { identity, lane, mode, received_at, reports }, followers)
    }

    /// Returns how many accounts the jobs of a lane name.
    pub(super) fn accounts(&self, lane: LaneId) -> usize {
        self.accounts.get(&lane).copied().unwrap_or_default()
    }

    /// Returns whether a lane has no outstanding delivery.
    pub(super) fn has_none(&self, lane: LaneId) -> bool {
        self.jobs.range(deliveries(lane)).next().is_none()
    }

    /// Removes the deliveries of a lane. Returns their identities in the order in which they arrived.
    pub(super) fn remove_lane(&mut self, lane: LaneId) -> Vec<I> {
        self.accounts.remove(&lane);
        self.last.retain(|(image_lane, ..), _| *image_lane != lane);
        let removed = self.jobs.extract_if(deliveries(lane), |_, _| true);
        let lost = |job: OutstandingJob<I>| {
            let reports = job.gathered.into_iter().flat_map(|gathered| gathered.reports).flatten();
            self.outcomes -= reports.map(|report| outcomes(&report)).sum::<usize>();
            job.identity
        };
        removed.map(|(_, job)| job).map(lost).collect()
    }

    /// Returns when the oldest delivery of a lane arrived.
    pub(super) fn oldest(&self, lane: LaneId) -> Option<SystemTime> {
        self.jobs.range(deliveries(lane)).next().map(|(_, job)| job.received_at)
    }
}

/// Returns the numbers of a lane's deliveries.
fn deliveries(lane: LaneId) -> Range<DeliveryId> {
    let from = |lane: u64| DeliveryId(lane << COUNT_BITS);
    from(lane.0.into())..from(u64::from(lane.0) + 1)
}

fn lane_of(delivery: DeliveryId) -> LaneId {
    LaneId(u32::try_from(delivery.0 >> COUNT_BITS).expect("24 bits are left"))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(second: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(second)
    }

    /// One job for each of these images, each with two accounts.
    fn jobs(images: &[&str]) -> Vec<Job> {
        let job = |image: &&str| Job {
            region: "ap-singapore".parse().unwrap(),
            image_id: format!("img-{image}{image}{image}{image}").parse().unwrap(),
            mode: Mode::Share,
            account_ids: [10_001, 10_002].map(|id| id.to_string().parse().unwrap()).into(),
            deadline: None,
            force: false,
            redelivered: false,
        };
        images.iter().map(job).collect()
    }

    fn report(requests: u32) -> Report {
        Report { outcomes: vec![], cancelled: vec![], duplicates: 0, requests }
    }

    /// Outstanding jobs whose identities are numbers.
    struct Kit(OutstandingJobs<u64>);

    impl Kit {
        fn take(&mut self, lane: u32, identity: u64, images: &[&str]) -> DeliveryId {
            self.0.insert(LaneId(lane), identity, at(identity), &jobs(images))
        }

        /// Settles the image with this index of a delivery. Returns the deliveries that get their report.
        fn settle(&mut self, delivery: DeliveryId, index: u64) -> Vec<u64> {
            let mut finished = Vec::new();
            self.0.settle(DeliveryId(delivery.0 + index), report(0), |job| finished.push(job.identity));
            finished
        }
    }

    const NONE: [u64; 0] = [];

    fn kit() -> Kit {
        Kit(OutstandingJobs::new())
    }

    #[test]
    fn jobs_of_lane_keep_their_order() {
        let mut kit = kit();
        let [first, _, third, _] =
            [(1, 10), (0, 11), (1, 12), (2, 13)].map(|(lane, second)| kit.take(lane, second, &["a"]));
        assert_eq!((kit.0.oldest(LaneId(1)), kit.0.oldest(LaneId(3))), (Some(at(10)), None));
        assert_eq!((kit.0.accounts(LaneId(1)), kit.0.accounts(LaneId(3))), (4, 0));
        assert_eq!(kit.settle(first, 0), [10]);
        assert_eq!(kit.settle(first, 0), NONE, "once");
        assert_eq!(kit.0.oldest(LaneId(1)), Some(at(12)));
        assert_eq!((kit.0.accounts(LaneId(1)), kit.0.has_none(LaneId(1))), (2, false));
        assert_eq!(kit.0.remove_lane(LaneId(1)), [12]);
        assert_eq!((kit.0.accounts(LaneId(1)), kit.0.has_none(LaneId(1))), (0, true));
        assert_eq!(kit.settle(third, 0), NONE);
        assert_eq!((kit.0.len(), kit.0.oldest(LaneId(0)), kit.0.oldest(LaneId(2))), (2, Some(at(11)), Some(at(13))));
    }

    #[test]
    fn job_of_several_images_is_settled_once() {
        let mut kit = kit();
        let job = kit.take(0, 1, &["a", "b", "c"]);
        assert_eq!((kit.0.accounts(LaneId(0)), kit.0.len()), (6, 1));
        assert_eq!((kit.settle(job, 2), kit.settle(job, 0), kit.settle(job, 0)), (vec![], vec![], vec![]));
        let mut finished = Vec::new();
        kit.0.settle(DeliveryId(job.0 + 1), report(7), |job| finished.push(job));
        let [FinishedJob { identity: 1, lane: LaneId(0), reports, .. }] = &finished[..] else { panic!("{finished:?}") };
        assert_eq!(reports.iter().map(|report| report.requests).collect::<Vec<_>>(), [0, 7, 0]);
        assert!(kit.0.has_none(LaneId(0)) && kit.0.last.is_empty());
    }

    #[test]
    fn later_job_for_an_image_waits() {
        let mut kit = kit();
        let before = kit.take(0, 1, &["a"]);
        let several = kit.take(0, 2, &["a", "b"]);
        let [second, first, other] = [(3, "a"), (4, "a"), (5, "c")].map(|(id, image)| kit.take(0, id, &[image]));
        let other_lane = kit.take(1, 6, &["a"]);
        assert_eq!(kit.settle(several, 0), NONE);
        assert_eq!((kit.settle(first, 0), kit.settle(second, 0)), (vec![], vec![]));
        assert_eq!(
            (kit.settle(before, 0), kit.settle(other, 0), kit.settle(other_lane, 0)),
            (vec![1], vec![5], vec![6])
        );
        assert_eq!(kit.settle(several, 1), [2, 4, 3], "in the order in which they were settled");
        let after = kit.take(0, 7, &["a"]);
        assert_eq!(kit.settle(after, 0), [7]);
    }

    #[test]
    fn waiting_jobs_follow_in_order() {
        let mut kit = kit();
        let first = kit.take(0, 1, &["a", "b"]);
        let single = kit.take(0, 2, &["b"]);
        let second = kit.take(0, 3, &["b", "c"]);
        let last = kit.take(0, 4, &["c"]);
        for (delivery, index) in [(last, 0), (first, 0), (second, 1), (single, 0), (second, 0)] {
            assert_eq!(kit.settle(delivery, index), NONE);
        }
        assert_eq!(kit.settle(first, 1), [1, 2, 3, 4]);
    }

    #[test]
    fn lost_lane_holds_nothing() {
        let mut kit = kit();
        let several = kit.take(0, 1, &["a", "b"]);
        let later = kit.take(0, 2, &["a"]);
        let outcome =
            |id: u64| (id.to_string().parse().unwrap(), imageshare_engine::job::AccountOutcome::Changed(None));
        let report = Report { outcomes: vec![outcome(10_001), outcome(10_002)], ..report(1) };
        kit.0.settle(several, report, |job| panic!("{job:?}"));
        assert_eq!((kit.settle(later, 0), kit.0.outcomes()), (vec![], 2));
        assert_eq!((kit.0.remove_lane(LaneId(0)), kit.0.outcomes()), (vec![1, 2], 0));
        assert_eq!(kit.settle(several, 1), NONE);
        let again = kit.take(0, 3, &["a"]);
        assert_eq!(kit.settle(again, 0), [3]);
    }
}
