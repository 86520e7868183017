//! Jobs whose reports are waited for.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use imageshare_worker::wire::{Identity, Images, JobImage, Known, Permission, Report};

/// Jobs that are waited for at most; then no more are read.
const JOBS_MAX: usize = 1_000_000;

/// The jobs that were published and have no report.
#[derive(Clone, Default)]
pub(super) struct Awaited(Arc<(Mutex<Jobs>, Condvar)>);

#[derive(Default)]
struct Jobs {
    /// Jobs of one name in their order.
    by_name: HashMap<Name, Vec<Job>>,
    /// The names of the lanes of all of them.
    lanes: Vec<String>,
    count: usize,
}

struct Job {
    accounts: u64,
    /// Its place in [`Jobs::lanes`].
    lane: usize,
    /// Its images, if it has several.
    images: Option<Images>,
}

/// What tells a job's report from others: names such as `line-1` are not ours alone.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Name {
    job_id: String,
    /// `None` of a job with several images. Its report may be too long to name them.
    image: Option<JobImage>,
    permission: Permission,
}

impl Awaited {
    /// Adds a job of a lane, when there is room. Has to come before it is published: its report may be quicker than its
    /// confirm.
    pub(super) fn add(&self, identity: &Identity, lane: &str, accounts: u64) {
        let (jobs, changed) = &*self.0;
        let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let has_no_room = |jobs: &mut Jobs| jobs.count >= JOBS_MAX;
        let mut jobs = changed.wait_while(jobs, has_no_room).unwrap_or_else(PoisonError::into_inner);
        let lane = jobs.lanes.iter().position(|name| name == lane).unwrap_or_else(|| {
            jobs.lanes.push(lane.to_owned());
            jobs.lanes.len() - 1
        });
        let images = if identity.images.len() > 1 { Some(identity.images.clone()) } else { None };
        jobs.by_name.entry(Name::of(identity)).or_default().push(Job { accounts, lane, images });
        jobs.count += 1;
    }

    /// The accounts of the job that this report is of, if it is waited for. The first report of a job counts.
    pub(super) fn take(&self, report: &Report) -> Option<u64> {
        let image = match report.images.as_slice() {
            [image] => Some(JobImage { region: image.region?, image_id: image.image_id? }),
            _ => None,
        };
        let name = Name { job_id: report.job_id.clone()?, image, permission: report.permission? };
        self.take_name(&name)
    }

    /// The same for a job that has no report.
    pub(super) fn take_job(&self, identity: &Identity) -> Option<u64> {
        self.take_name(&Name::of(identity))
    }

    /// Takes all jobs of a lane: what is known of each, and its accounts.
    pub(super) fn take_lane(&self, lane: &str) -> Vec<(Known, u64)> {
        let mut jobs = self.lock();
        let Some(place) = jobs.lanes.iter().position(|name| name == lane) else { return Vec::new() };
        let mut taken = Vec::new();
        jobs.by_name.retain(|name, of_name| {
            of_name.retain_mut(|job| {
                let is_of_lane = job.lane == place;
                if is_of_lane {
                    taken.push((name.known(lane, job.images.take()), job.accounts));
                }
                !is_of_lane
            });
            !of_name.is_empty()
        });
        jobs.count -= taken.len();
        self.0.1.notify_all();
        taken
    }

    /// The lanes with jobs that are waited for.
    pub(super) fn lanes(&self) -> Vec<String> {
        let jobs = self.lock();
        let mut is_awaited = vec![false; jobs.lanes.len()];
        for job in jobs.by_name.values().flatten() {
            if let Some(lane) = is_awaited.get_mut(job.lane) {
                *lane = true;
            }
        }
        jobs.lanes.iter().zip(is_awaited).filter(|(_, is_awaited)| *is_awaited).map(|(lane, _)| lane.clone()).collect()
    }

    /// How many there are.
    pub(super) fn jobs(&self) -> usize {
        self.lock().count
    }

    fn take_name(&self, name: &Name) -> Option<u64> {
        let mut jobs = self.lock();
        let of_name = jobs.by_name.get_mut(name)?;
        let Job { accounts, .. } = of_name.remove(0);
        if of_name.is_empty() {
            jobs.by_name.remove(name);
        }
        jobs.count -= 1;
        self.0.1.notify_all();
        Some(accounts)
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Name {
    fn of(identity: &Identity) -> Self {
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
