//! Jobs whose reports are waited for.

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

use imageshare_core::ids::{ImageId, Region};
use imageshare_worker::wire::{Identity, Permission, Report};

/// Jobs that are waited for at most; then no more are read.
const JOBS_MAX: usize = 1_000_000;

/// The jobs that were published and have no report.
#[derive(Clone, Default)]
pub(super) struct Awaited(Arc<(Mutex<Jobs>, Condvar)>);

#[derive(Default)]
struct Jobs {
    /// The accounts of each; jobs of one name in their order.
    by_name: HashMap<Name, Vec<u64>>,
    count: usize,
}

/// What tells a job's report from others: names such as `line-1` are not ours alone.
#[derive(PartialEq, Eq, Hash)]
struct Name {
    job_id: String,
    image_id: ImageId,
    region: Region,
    permission: Permission,
}

impl Awaited {
    /// Adds a job, when there is room. Has to come before it is published: its report may be quicker than its confirm.
    pub(super) fn add(&self, identity: &Identity, accounts: u64) {
        let (jobs, changed) = &*self.0;
        let jobs = jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let has_no_room = |jobs: &mut Jobs| jobs.count >= JOBS_MAX;
        let mut jobs = changed.wait_while(jobs, has_no_room).unwrap_or_else(PoisonError::into_inner);
        let Identity { job_id, image_id, region, permission, .. } = identity.clone();
        let name = Name { job_id, image_id, region, permission };
        jobs.by_name.entry(name).or_default().push(accounts);
        jobs.count += 1;
    }

    /// The accounts of the job that this report is of, if it is waited for. The first report of a job counts.
    pub(super) fn take(&self, report: &Report) -> Option<u64> {
        let name = Name {
            job_id: report.job_id.clone()?,
            image_id: report.image_id?,
            region: report.region?,
            permission: report.permission?,
        };
        let mut jobs = self.lock();
        let of_name = jobs.by_name.get_mut(&name)?;
        let accounts = of_name.remove(0);
        if of_name.is_empty() {
            jobs.by_name.remove(&name);
        }
        jobs.count -= 1;
        self.0.1.notify_all();
        Some(accounts)
    }

    /// How many there are.
    pub(super) fn jobs(&self) -> usize {
        self.lock().count
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
