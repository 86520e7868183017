//! A dry run: the requested state of each image, compared with its listing.

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

/// An image of a lane.
pub type PlannedImage = (LaneId, Region, ImageId);

/// The requested state of all images. Holds each account of each image once, so its size depends on these and not on the
/// number of jobs.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The images in order.
    pub images: BTreeMap<PlannedImage, RequestedState>,
}

/// The requested state of an image after all jobs. Of contradictory jobs the last one counts.
#[derive(Clone, Debug, Default)]
pub struct RequestedState {
    accounts: BTreeMap<AccountId, Permission>,
    /// Whether a SYNC removes all other accounts.
    removes_others: bool,
    /// Whether the last SYNC may exceed the cancel limit.
    force: bool,
}

/// The change that an image needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlannedChange {
    /// Accounts that it would be shared with.
    pub share: usize,
    /// Accounts that it would be cancelled for.
    pub cancel: usize,
    /// Accounts that are in the requested state already.
    pub unchanged: usize,
    /// Write requests, if none is refused.
    pub requests: usize,
    /// Accounts that should be shared with and exceed the image's cap.
    pub over_cap: usize,
    /// Whether a SYNC would be refused because it exceeds the cancel limit.
    pub exceeds_cancel_limit: bool,
}

impl Plan {
    /// Adds a job of a lane.
    pub fn add(&mut self, lane: LaneId, job: &Job) {
        let requested = self.images.entry((lane, job.region, job.image_id)).or_default();
        if job.mode == Mode::Sync {
            *requested = RequestedState { removes_others: true, force: job.force, ..RequestedState::default() };
        }
        requested.accounts.extend(job.account_ids.iter().map(|account| (*account, job.mode.permission())));
    }
}

impl PlannedChange {
    /// Returns how many accounts should have the image and do not.
    #[must_use]
    pub const fn missing(&self) -> usize {
        self.share + self.over_cap
    }

    /// Whether the image is shared as requested.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.missing() == 0 && self.cancel == 0
    }
}

impl RequestedState {
    /// Returns the change that an image needs which is shared with these accounts.
    #[must_use]
    pub fn against(&self, shared: &[AccountId], lane: &LaneLimits, limits: &Limits) -> PlannedChange {
        let shared: BTreeSet<AccountId> = shared.iter().copied().collect();
        let mut change = PlannedChange::default();
        for (account, permission) in &self.accounts {
            match (permission, shared.contains(account)) {
                (Permission::Share, false) => change.share += 1,
                (Permission::Cancel, true) => change.cancel += 1,
                (Permission::Share, true) | (Permission::Cancel, false) => change.unchanged += 1,
            }
        }
        if self.removes_others {
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
    fn check(jobs: &[Job], shared: impl IntoIterator<Item = u64>, expected: PlannedChange) {
        let mut plan = Plan::default();
        jobs.iter().for_each(|job| plan.add(LaneId(0), job));
        assert_eq!(plan.images.len(), 1);
        let requested = plan.images.values().next().unwrap();
        assert_eq!(requested.against(&ids(shared), &LaneLimits::default(), &Limits::default()), expected);
    }

    #[test]
    fn requested_state_is_compared_with_the_listing() {
        let jobs = [job(Mode::Share, 10_000..10_060), job(Mode::Cancel, 20_000..20_002)];
        let expected = PlannedChange { share: 55, cancel: 1, unchanged: 6, requests: 3, ..PlannedChange::default() };
        check(&jobs, (10_000..10_005).chain([20_001, 30_000]), expected);
    }

    #[test]
    fn last_of_contradictory_jobs_counts() {
        let (share, cancel) = (job(Mode::Share, [10_001]), job(Mode::Cancel, [10_001]));
        check(&[share.clone(), cancel.clone()], [], PlannedChange { unchanged: 1, ..PlannedChange::default() });
        check(&[cancel, share], [], PlannedChange { share: 1, requests: 1, ..PlannedChange::default() });
    }

    #[test]
    fn sync_removes_others_and_replaces_earlier_jobs() {
        let jobs = [job(Mode::Cancel, [10_001]), job(Mode::Sync, [10_001, 10_002]), job(Mode::Share, [10_009])];
        let expected = PlannedChange { share: 1, cancel: 1, unchanged: 2, requests: 2, ..PlannedChange::default() };
        check(&jobs, [10_001, 10_002, 10_003], expected);
    }

    #[test]
    fn sync_that_cancels_more_than_half_needs_force() {
        let sync = job(Mode::Sync, [10_001]);
        let expected = PlannedChange {
            cancel: 2,
            unchanged: 1,
            requests: 1,
            exceeds_cancel_limit: true,
            ..PlannedChange::default()
        };
        check(std::slice::from_ref(&sync), [10_001, 10_002, 10_003], expected);
        let forced = Job { force: true, ..sync };
        check(&[forced], [10_001, 10_002, 10_003], PlannedChange { exceeds_cancel_limit: false, ..expected });
    }

    #[test]
    fn accounts_above_the_cap_are_counted() {
        let expected = PlannedChange { share: 1, requests: 1, over_cap: 2, ..PlannedChange::default() };
        check(&[job(Mode::Share, 20_000..20_003)], 10_000..10_499, expected);
    }
}
