//! What must hold at every step and at the end, whatever the world does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use imageshare_core::{
    Permission,
    ids::{AccountId, ImageId},
};
use imageshare_engine::{
    io::{Action, CallId},
    job::{AccountOutcome, Job, Mode, Report},
    time::Instant,
};
use imageshare_sandbox::ledger::Ledger;

/// Watches a run.
#[derive(Debug, Default)]
pub struct Checker {
    /// What was found wrong; a run with any is a failure.
    pub violations: Vec<String>,
    batch_max: usize,
    rates: [u32; 3],
    writes: BTreeMap<CallId, ImageId>,
    sent: [VecDeque<u64>; 3],
    settled: BTreeMap<usize, Report>,
    /// Images that somebody else changed: what is said of them cannot be held against the engine.
    disturbed: BTreeSet<ImageId>,
}

impl Checker {
    /// A checker for a lane with these limits.
    #[must_use]
    pub fn new(batch_max: u32, rate: u32, image_rate: u32) -> Self {
        Self { batch_max: batch_max as usize, rates: [rate, rate, image_rate], ..Self::default() }
    }

    /// The engine wants a call.
    pub fn called(&mut self, call: CallId, action: &Action) {
        let Action::Modify { image_id, account_ids, .. } = action else { return };
        if self.writes.values().any(|image| image == image_id) {
            self.wrong(format!("{call:?}: a second write in flight on {image_id}"));
        }
        self.writes.insert(call, *image_id);
        if account_ids.is_empty() || account_ids.len() > self.batch_max {
            self.wrong(format!(
                "{call:?}: a list of {} accounts, allowed are 1 to {}",
                account_ids.len(),
                self.batch_max
            ));
        }
        let different: BTreeSet<_> = account_ids.iter().collect();
        if different.len() != account_ids.len() {
            self.wrong(format!("{call:?}: an account twice in one list"));
        }
    }

    /// A request of this kind was written.
    pub fn sent(&mut self, now: u64, kind: usize) {
        let limit = self.rates[kind] as usize;
        let times = &mut self.sent[kind];
        times.push_back(now);
        if times.len() > limit {
            let first = times.pop_front().unwrap_or_default();
            if now < first + 1000 {
                self.wrong(format!("{} requests of one action between {first} and {now}", limit + 1));
            }
        }
    }

    /// A call ended.
    pub fn answered(&mut self, call: CallId) {
        self.writes.remove(&call);
    }

    /// The process is gone, and with it what it had in flight as far as it knows.
    pub fn killed(&mut self) {
        self.writes.clear();
    }

    /// Somebody else changed who has the image.
    pub fn disturbed(&mut self, image: ImageId) {
        self.disturbed.insert(image);
    }

    /// The acknowledgement of a settled job was not applied: it comes again, and is settled again.
    pub fn comes_again(&mut self, job: usize) {
        self.settled.remove(&job);
    }

    /// Whether a job is settled.
    #[must_use]
    pub fn is_settled(&self, job: usize) -> bool {
        self.settled.contains_key(&job)
    }

    /// The reports so far, by job.
    #[must_use]
    pub const fn reports(&self) -> &BTreeMap<usize, Report> {
        &self.settled
    }

    /// A job is settled. `late` are the writes that a process before sent and that may still land.
    pub fn settle(&mut self, jobs: &[(Instant, Job)], job: usize, report: Report, delivered: usize, ledger: &Ledger) {
        let found = &jobs[job].1;
        let mut seen = BTreeSet::new();
        let wished: Vec<_> = found.account_ids.iter().copied().filter(|&account| seen.insert(account)).collect();
        let told: Vec<_> = report.outcomes.iter().map(|&(account, _)| account).collect();
        if wished != told {
            self.wrong(format!("job {job}: outcomes for {told:?}, wished were {wished:?}"));
        }
        let repeats = found.account_ids.len() - wished.len();
        if report.duplicates as usize != repeats {
            self.wrong(format!("job {job}: {} duplicates counted, there were {repeats}", report.duplicates));
        }
        for (earlier, (_, other)) in jobs[..job].iter().enumerate() {
            let related = other.image_id == found.image_id && other.account_ids.iter().any(|a| seen.contains(a));
            if related && !self.is_settled(earlier) {
                self.wrong(format!("job {job} is settled before job {earlier}, which names one of its accounts"));
            }
        }
        for (account, permission, outcome) in told_of(found.mode, &report) {
            let failed = is_failed(outcome);
            let overtaken = (job + 1..delivered).any(|later| wishes_of(&jobs[later].1, found.image_id, account));
            let state = Permission::of_presence(ledger.is_shared(found.image_id, account));
            let told = !failed && !overtaken && !self.disturbed.contains(&found.image_id);
            if told && state != permission {
                self.wrong(format!("job {job}: {account} is said to be {permission} ({outcome:?}) and is {state}"));
            }
        }
        if self.settled.insert(job, report).is_some() {
            self.wrong(format!("job {job} is settled twice"));
        }
    }

    /// Nothing is left to happen: the world is as the last wish of each account asked, where that was not said to have
    /// failed.
    pub fn finish(&mut self, jobs: &[(Instant, Job)], ledger: &Ledger) {
        let mut last: BTreeMap<(ImageId, AccountId), (usize, Permission, bool)> = BTreeMap::new();
        for (nth, (_, job)) in jobs.iter().enumerate() {
            let Some(report) = self.settled.get(&nth) else {
                self.violations.push(format!("job {nth} was never settled"));
                continue;
            };
            if job.mode == Mode::Sync {
                // Nobody else has the image then, but that is said only of those whom this delivery had to cancel. A
                // SYNC of which nothing went well says nothing of the others.
                let began = told_of(job.mode, report).any(|(_, _, outcome)| !is_failed(outcome));
                last.retain(|(image, _), _| *image != job.image_id || began);
                let others = last.iter_mut().filter(|((image, _), _)| *image == job.image_id);
                others.for_each(|(_, wish)| *wish = (nth, Permission::Cancel, false));
            }
            for (account, permission, outcome) in told_of(job.mode, report) {
                let failed = is_failed(outcome);
                last.insert((job.image_id, account), (nth, permission, failed));
            }
        }
        for ((image, account), (job, permission, failed)) in last {
            let state = Permission::of_presence(ledger.is_shared(image, account));
            let told = !failed && !self.disturbed.contains(&image);
            if told && state != permission {
                self.wrong(format!("at the end {account} of {image} is {state}, job {job} asked for {permission}"));
            }
        }
    }

    /// Something is wrong.
    pub fn wrong(&mut self, what: String) {
        self.violations.push(what);
    }
}

/// Every account a report speaks of, with what was wished of it.
fn told_of(mode: Mode, report: &Report) -> impl Iterator<Item = (AccountId, Permission, &AccountOutcome)> {
    let wished = report.outcomes.iter().map(move |(account, outcome)| (*account, mode.permission(), outcome));
    let gone = report.cancelled.iter().map(|(account, outcome)| (*account, Permission::Cancel, outcome));
    wished.chain(gone)
}

const fn is_failed(outcome: &AccountOutcome) -> bool {
    matches!(outcome, AccountOutcome::Failed(_))
}

/// Whether a job may wish something for an account of an image. A SYNC has a wish for every account.
fn wishes_of(job: &Job, image: ImageId, account: AccountId) -> bool {
    job.image_id == image && (job.mode == Mode::Sync || job.account_ids.contains(&account))
}
