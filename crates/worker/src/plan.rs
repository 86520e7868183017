//! What jobs would do, without doing it: wishes summed up for each image, set against who has it.

use std::collections::{BTreeMap, BTreeSet};

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId, Region},
};
use imageshare_engine::{
    io::LaneId,
    job::{Job, Mode},
    limits::{LaneLimits, Limits},
};

/// An image as a lane reaches it.
pub type Target = (LaneId, Region, ImageId);

/// The wishes of all jobs. Holds every account of every image once, so it grows with them and not with the jobs.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The images in order, each with what is wished of it.
    pub images: BTreeMap<Target, Wishes>,
}

/// What is wished of an image in the end: of jobs that contradict each other the last one counts.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    accounts: BTreeMap<AccountId, Permission>,
    /// After a SYNC: whoever is not named goes.
    others_go: bool,
    /// Whether the last SYNC said that it may cancel however many it takes.
    force: bool,
}

/// What would be done to an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Accounts it would be shared with.
    pub share: usize,
    /// Accounts it would be taken back from.
    pub cancel: usize,
    /// Accounts that are as wished already.
    pub unchanged: usize,
    /// Write requests, when none is refused.
    pub requests: usize,
    /// Accounts that are to be shared with and would not fit under the image's cap.
    pub over_cap: usize,
    /// Whether a SYNC would be refused because it cancels too much of the list.
    pub exceeds_cancel_limit: bool,
}

impl Plan {
    /// Adds a job that goes to this lane.
    pub fn add(&mut self, lane: LaneId, job: &Job) {
        let wishes = self.images.entry((lane, job.region, job.image_id)).or_default();
        if job.mode == Mode::Sync {
            *wishes = Wishes { others_go: true, force: job.force, ..Wishes::default() };
        }
        wishes.accounts.extend(job.account_ids.iter().map(|account| (*account, job.mode.permission())));
    }
}

impl Wishes {
    /// What would be done to an image that these accounts have.
    #[must_use]
    pub fn against(&self, shared: &[AccountId], lane: &LaneLimits, limits: &Limits) -> Change {
        let shared: BTreeSet<AccountId> = shared.iter().copied().collect();
        let mut change = Change::default();
        for (account, permission) in &self.accounts {
            match (permission, shared.contains(account)) {
                (Permission::Share, false) => change.share += 1,
                (Permission::Cancel, true) => change.cancel += 1,
                (Permission::Share, true) | (Permission::Cancel, false) => change.unchanged += 1,
            }
        }
        if self.others_go {
            change.cancel += shared.iter().filter(|account| !self.accounts.contains_key(account)).count();
            let allowed = shared.len() * usize::try_from(limits.cancel_limit_percent).unwrap_or(usize::MAX);
            change.exceeds_cancel_limit = !self.force && change.cancel * 100 > allowed;
        }
        let cap = usize::try_from(limits.cap).unwrap_or(usize::MAX);
        change.over_cap = (shared.len() + change.share).saturating_sub(change.cancel + cap).min(change.share);
        change.share -= change.over_cap;
        let batch = usize::try_from(lane.batch).unwrap_or(usize::MAX).max(1);
        change.requests = change.share.div_ceil(batch) + change.cancel.div_ceil(batch);
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<AccountId> {
        numbers.into_iter().map(|number| AccountId::new(number).unwrap()).collect()
    }

    fn job(mode: Mode, numbers: impl IntoIterator<Item = u64>) -> Job {
        Job {
            region: "ap-singapore".parse().unwrap(),
            image_id: "img-6pb6lrmy".parse().unwrap(),
            mode,
            account_ids: ids(numbers).into(),
            deadline: None,
            force: false,
            redelivered: false,
        }
    }

    #[track_caller]
    fn check(jobs: &[Job], shared: impl IntoIterator<Item = u64>, expected: Change) {
        let mut plan = Plan::default();
        jobs.iter().for_each(|job| plan.add(LaneId(0), job));
        assert_eq!(plan.images.len(), 1);
        let wishes = plan.images.values().next().unwrap();
        assert_eq!(wishes.against(&ids(shared), &LaneLimits::default(), &Limits::default()), expected);
    }

    #[test]
    fn wishes_are_set_against_who_has_the_image() {
        let jobs = [job(Mode::Share, 10_000..10_060), job(Mode::Cancel, 20_000..20_002)];
        let expected = Change { share: 55, cancel: 1, unchanged: 6, requests: 3, ..Change::default() };
        check(&jobs, (10_000..10_005).chain([20_001, 30_000]), expected);
    }

    #[test]
    fn of_contradictory_jobs_the_last_one_counts() {
        let (share, cancel) = (job(Mode::Share, [10_001]), job(Mode::Cancel, [10_001]));
        check(&[share.clone(), cancel.clone()], [], Change { unchanged: 1, ..Change::default() });
        check(&[cancel, share], [], Change { share: 1, requests: 1, ..Change::default() });
    }

    #[test]
    fn a_sync_takes_back_what_it_does_not_name_and_what_came_before_it_does_not_count() {
        let jobs = [job(Mode::Cancel, [10_001]), job(Mode::Sync, [10_001, 10_002]), job(Mode::Share, [10_009])];
        let expected = Change { share: 1, cancel: 1, unchanged: 2, requests: 2, ..Change::default() };
        check(&jobs, [10_001, 10_002, 10_003], expected);
    }

    #[test]
    fn a_sync_that_cancels_more_than_half_needs_force() {
        let sync = job(Mode::Sync, [10_001]);
        let expected = Change { cancel: 2, unchanged: 1, requests: 1, exceeds_cancel_limit: true, ..Change::default() };
        check(std::slice::from_ref(&sync), [10_001, 10_002, 10_003], expected);
        let forced = Job { force: true, ..sync };
        check(&[forced], [10_001, 10_002, 10_003], Change { exceeds_cancel_limit: false, ..expected });
    }

    #[test]
    fn what_does_not_fit_under_the_cap_is_counted() {
        let expected = Change { share: 1, requests: 1, over_cap: 2, ..Change::default() };
        check(&[job(Mode::Share, 20_000..20_003)], 10_000..10_499, expected);
    }
}
