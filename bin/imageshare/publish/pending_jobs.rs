//! Published jobs that have no report yet.

use std::{collections::HashMap, sync::Arc};

use imageshare_worker::wire::{Identity, Images, JobImage, Known, Permission, Report};
use parking_lot::{Condvar, Mutex, MutexGuard};

/// The most jobs that wait for a report. At this number, reading of further jobs pauses.
const JOBS_MAX: usize = 1_000_000;

/// The published jobs that have no report yet.
#[derive(Clone, Default)]
pub(super) struct PendingJobs(Arc<(Mutex<Jobs>, Condvar)>);

#[derive(Default)]
struct Jobs {
    /// Jobs with the same key, in their order.
    by_key: HashMap<JobKey, Vec<PendingJob>>,
    /// The names of all their lanes.
    lanes: Vec<String>,
    count: usize,
}

struct PendingJob {
    accounts: u64,
    /// The index in [`Jobs::lanes`].
    lane: usize,
    /// The images of a job that has several.
    images: Option<Images>,
}

/// Matches a report with its job. The id alone is not enough: other publishers use ids such as `line-1` too.
#[derive(Clone, PartialEq, Eq, Hash)]
struct JobKey {
    job_id: String,
    /// `None` for a job with several images, because its report may be too long to name them.
    image: Option<JobImage>,
    permission: Permission,
}

impl PendingJobs {
    /// Adds a job of a lane; blocks while there are [`JOBS_MAX`]. Call it before the job is published: the report may
    /// arrive earlier than the confirm.
    pub(super) fn add(&self, identity: &Identity, lane: &str, accounts: u64) {
        let (jobs, changed) = &*self.0;
        let mut jobs = jobs.lock();
        changed.wait_while(&mut jobs, |jobs| jobs.count >= JOBS_MAX);
        let lane = jobs.lanes.iter().position(|name| name == lane).unwrap_or_else(|| {
            jobs.lanes.push(lane.to_owned());
            jobs.lanes.len() - 1
        });
        let images = if identity.images.len() > 1 { Some(identity.images.clone()) } else { None };
        jobs.by_key.entry(JobKey::new(identity)).or_default().push(PendingJob { accounts, lane, images });
        jobs.count += 1;
    }

    /// Removes the job of a report and returns the number of its accounts. Returns `None` for a report of another
    /// publisher's job, and for a second report of one job.
    pub(super) fn take_reported(&self, report: &Report) -> Option<u64> {
        let images = report.images.iter().map(|of| Some(JobImage { region: of.region?, image_id: of.image_id? }));
        let images: Vec<JobImage> = images.collect::<Option<_>>()?;
        let image = if let [image] = *images.as_slice() { Some(image) } else { None };
        self.take(&JobKey { job_id: report.job_id.clone()?, image, permission: report.permission? }, &images)
    }

    /// Removes a job that the broker dropped and returns the number of its accounts.
    pub(super) fn take_dropped(&self, identity: &Identity) -> Option<u64> {
        self.take(&JobKey::new(identity), &identity.images.iter().copied().collect::<Vec<_>>())
    }

    /// Removes all jobs of a lane. Returns each with the number of its accounts.
    pub(super) fn take_lane(&self, lane: &str) -> Vec<(Known, u64)> {
        let mut jobs = self.lock();
        let Some(index) = jobs.lanes.iter().position(|name| name == lane) else { return Vec::new() };
        let mut taken = Vec::new();
        jobs.by_key.retain(|key, of_key| {
            of_key.retain_mut(|job| {
                let is_of_lane = job.lane == index;
                if is_of_lane {
                    taken.push((key.known(lane, job.images.take()), job.accounts));
                }
                !is_of_lane
            });
            !of_key.is_empty()
        });
        jobs.count -= taken.len();
        self.0.1.notify_all();
        taken
    }

    /// Returns the lanes that have pending jobs.
    pub(super) fn lanes(&self) -> Vec<String> {
        let jobs = self.lock();
        let mut is_pending = vec![false; jobs.lanes.len()];
        for job in jobs.by_key.values().flatten() {
            if let Some(lane) = is_pending.get_mut(job.lane) {
                *lane = true;
            }
        }
        jobs.lanes.iter().zip(is_pending).filter(|(_, is_pending)| *is_pending).map(|(lane, _)| lane.clone()).collect()
    }

    /// Returns the number of pending jobs.
    pub(super) fn count(&self) -> usize {
        self.lock().count
    }

    /// Removes the first job with this key and these images. A truncated report of several images names none.
    fn take(&self, key: &JobKey, images: &[JobImage]) -> Option<u64> {
        let mut jobs = self.lock();
        let of_key = jobs.by_key.get_mut(key)?;
        let is_of_images =
            |job: &PendingJob| images.is_empty() || job.images.as_ref().is_none_or(|of_job| of_job.iter().eq(images));
        let place = of_key.iter().position(is_of_images)?;
        let PendingJob { accounts, .. } = of_key.remove(place);
        if of_key.is_empty() {
            jobs.by_key.remove(key);
        }
        jobs.count -= 1;
        self.0.1.notify_all();
        Some(accounts)
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.0.0.lock()
    }
}

impl JobKey {
    fn new(identity: &Identity) -> Self {
        let Identity { job_id, images, permission, .. } = identity;
        Self { job_id: job_id.clone(), image: images.single(), permission: *permission }
    }

    fn known(&self, lane: &str, images: Option<Images>) -> Known {
        let Self { job_id, image, permission } = self;
        Known {
            job_id: Some(job_id.clone()),
            lane: Some(lane.to_owned()),
            image_id: image.map(|image| image.image_id),
            region: image.map(|image| image.region),
            images,
            permission: Some(*permission),
            labels: Default::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(images: &[&str]) -> Identity {
        let image = |id: &&str| JobImage { region: "ap-tokyo".parse().unwrap(), image_id: id.parse().unwrap() };
        Identity {
            job_id: "line-1".to_owned(),
            lane: None,
            images: Images::new(images.iter().map(image).collect::<Vec<_>>()).unwrap(),
            permission: Permission::Share,
            labels: Default::default(),
        }
    }

    #[test]
    fn job_of_other_images_is_not_taken() {
        let pending = PendingJobs::default();
        pending.add(&identity(&["img-aaaa", "img-bbbb"]), "default", 7);
        assert_eq!(pending.take_dropped(&identity(&["img-aaaa", "img-cccc"])), None);
        assert_eq!(pending.take_dropped(&identity(&["img-aaaa"])), None);
        assert_eq!(pending.take_dropped(&identity(&["img-aaaa", "img-bbbb"])), Some(7));
        assert_eq!(pending.count(), 0);
    }
}
