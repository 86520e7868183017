//! Judges a round of the outside checker (`tests/broker/outside`): nothing lost, correct end states, true reports.
//!
//! Three questions, answered from a [`Record`] alone:
//!
//! 1. **Lost?** Each job has a report, the queues are empty, and each failure has a dead letter.
//! 2. **Correct end state?** Each account is as the last job that succeeded for it requested.
//! 3. **True outcomes?** Each outcome of each report agrees with the requests and effects in the sandbox's log.
//!
//! A round with given faults also bounds failures and repeated writes.

#![allow(clippy::indexing_slicing, reason = "the indexes come from the record itself")]

mod outcomes;
mod record;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub use crate::record::Record;
use crate::record::{JobKind, JobReport, PublishedJob, RecordedDeadLetter, ReportedOutcome, Timeline};

/// Returns every broken promise of a round.
#[must_use]
pub fn judge(record: &Record) -> Vec<String> {
    let timeline = Timeline::new(record);
    let mut problems = Vec::new();
    lost(record, &mut problems);
    shapes(record, &mut problems);
    end_state(record, &timeline, &mut problems);
    outcomes::check(record, &timeline, &mut problems);
    calm(record, &mut problems);
    problems
}

fn reports_by_job(record: &Record) -> BTreeMap<&str, Vec<&JobReport>> {
    let mut reports: BTreeMap<&str, Vec<&JobReport>> = BTreeMap::new();
    for report in &record.reports {
        reports.entry(&report.job_id).or_default().push(report);
    }
    reports
}

/// Checks that nothing is lost: reports, queues, dead letters.
fn lost(record: &Record, problems: &mut Vec<String>) {
    let mut lost = |text| problems.push(format!("lost: {text}"));
    if record.left > 0 {
        lost(format!("the queues still hold {} messages", record.left));
    }
    let mut reports = reports_by_job(record);
    let mut dead: BTreeMap<&str, Vec<&RecordedDeadLetter>> = BTreeMap::new();
    for letter in &record.dead {
        dead.entry(&letter.body.job_id).or_default().push(letter);
    }
    for job in &record.jobs {
        let Some(reports) = reports.remove(&*job.id) else {
            lost(format!("{} has no report", job.id));
            continue;
        };
        let letters = dead.remove(&*job.id).unwrap_or_default();
        let failed: Vec<_> = reports.iter().flat_map(|report| report.failed()).collect();
        for &(account, failure) in &failed {
            // The dead letter of a SYNC contains its own list, not the accounts that it failed to remove.
            let holds = |letter: &&RecordedDeadLetter| {
                letter.body.accounts.contains(&account) || !job.accounts.contains(&account)
            };
            if !letters.iter().any(|letter| letter.reason == "failed" && letter.code.is_some() && holds(letter)) {
                let code = &failure.code;
                lost(format!("{}: {account} failed ({code}), no dead letter", job.id));
            }
        }
        // A worker that is killed between dead letter and report leaves a dead letter of a job that succeeds later.
        if failed.is_empty() && !letters.is_empty() && !reports.iter().any(|report| report.redelivered) {
            lost(format!("{} has a dead letter although nothing failed", job.id));
        }
    }
    for id in &record.invalid {
        let rejected =
            reports.remove(&**id).is_some_and(|reports| reports.iter().all(|report| report.status == "rejected"));
        let letters = dead.remove(&**id).unwrap_or_default();
        if !rejected || letters.is_empty() || letters.iter().any(|letter| letter.reason != "rejected") {
            lost(format!("{id}, an invalid message, was not rejected and dead-lettered"));
        }
    }
    for id in reports.keys().chain(dead.keys()) {
        lost(format!("{id:?} was never published, yet has a report or a dead letter"));
    }
}

/// Checks that no job failed, and that few writes had no effect.
fn calm(record: &Record, problems: &mut Vec<String>) {
    /// A listing of one of these lengths may be truncated and proves no absence, so a CANCEL after it is not a repetition.
    /// Neither is the first CANCEL after the next listing, which may have been in flight at that time.
    const TRUNCATED: [usize; 3] = [20, 50, 100];
    for report in record.reports.iter().filter(|report| record.is_calm && report.status != "succeeded") {
        problems.push(format!("calm: {} is {}", report.job_id, report.status));
    }
    let Some(repeats_max) = record.repeats_max else { return };
    let (mut state, mut unproven) = (record.initial.clone(), BTreeMap::new());
    let mut repeats: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for request in record.requests.iter().filter(|request| request.code == "ok") {
        let image = request.image.as_deref().unwrap_or_default();
        let shared = state.entry(image.to_owned()).or_default();
        match request.share() {
            None if TRUNCATED.contains(&shared.len()) => drop(unproven.insert(image, true)),
            None => drop(unproven.get_mut(image).map(|lasts| *lasts = false)),
            Some(share) => {
                let is_change = |account: &&u64| if share { shared.insert(**account) } else { shared.remove(*account) };
                let repeated = request.accounts.len() - request.accounts.iter().filter(is_change).count();
                let lasts = if share { None } else { unproven.get(image).copied() };
                if lasts == Some(false) {
                    unproven.remove(image);
                }
                if repeated > 0 && lasts.is_none() {
                    *repeats.entry((&request.host, image)).or_default() += repeated;
                }
            }
        }
    }
    for ((host, image), count) in repeats.into_iter().filter(|(_, count)| *count > repeats_max) {
        problems.push(format!("calm: {host} wrote {count} accounts of {image} that were as requested"));
    }
}

/// Checks that each report matches its job, names each account once, and is the only one of its delivery.
fn shapes(record: &Record, problems: &mut Vec<String>) {
    let mut deliveries: BTreeMap<(&str, &str, i64), &JobReport> = BTreeMap::new();
    for report in &record.reports {
        let Some(job) = record.job(&report.job_id).map(|place| &record.jobs[place]) else { continue };
        let mut untrue = |text: String| problems.push(format!("untrue: {}: {text}", job.id));
        if report.image != job.image {
            untrue(format!("the report names {}", report.image));
        }
        if !record.hosts.contains_key(&report.worker) {
            untrue(format!("the report is from process {}, which is not a worker of the round", report.worker));
        }
        let named: BTreeSet<u64> = report.outcomes.iter().map(|(account, _)| *account).collect();
        if named.len() != report.outcomes.len() {
            untrue("the report names an account twice".to_owned());
        }
        if let Some(account) = job.accounts.difference(&named).next() {
            untrue(format!("the report has no outcome for {account}"));
        }
        for (account, outcome) in &report.outcomes {
            let (is_listed, is_sync) = (job.accounts.contains(account), job.kind == JobKind::Sync);
            let fits = match outcome {
                ReportedOutcome::Changed | ReportedOutcome::Unchanged => is_listed,
                ReportedOutcome::Cancelled => is_sync && !is_listed,
                ReportedOutcome::Failed(_) => is_sync || is_listed,
            };
            if !fits {
                untrue(format!("{account} is {outcome:?}, which contradicts the job's list"));
            }
        }
        let failed = report.failed().count();
        let status = match (failed, report.outcomes.len() - failed) {
            (0, _) => "succeeded",
            (_, 0) => "failed",
            _ => "partial",
        };
        // One image of several may have another status than the job.
        if report.status != status && !(job.id.contains('/') && report.status == "partial") {
            untrue(format!("the status is {:?}, and {failed} of {} failed", report.status, report.outcomes.len()));
        }
        if report.received > report.finished {
            untrue("the report ends before it begins".to_owned());
        }
        let delivery = (&*report.job_id, &*report.worker, report.received);
        if deliveries.insert(delivery, report).is_some_and(|other| other.outcomes != report.outcomes) {
            untrue("two reports of one delivery differ".to_owned());
        }
    }
}

/// Whether an account must be shared; `None` if that depends on a write in doubt.
type Expected = Option<bool>;

/// Checks the end states.
fn end_state(record: &Record, timeline: &Timeline, problems: &mut Vec<String>) {
    let reports = reports_by_job(record);
    let images: BTreeSet<&String> =
        record.initial.keys().chain(record.last.keys()).chain(record.jobs.iter().map(|job| &job.image)).collect();
    for image in images {
        let (initial, last) = (record.initial.get(image), record.last.get(image));
        let jobs: Vec<&PublishedJob> = record.jobs.iter().filter(|job| job.image == *image).collect();
        let named = jobs.iter().flat_map(|job| &job.accounts).chain(initial.into_iter().flatten());
        let accounts: BTreeSet<u64> = named.chain(last.into_iter().flatten()).copied().collect();
        let replayed = timeline.last(image);
        for account in accounts {
            let is_shared = last.is_some_and(|last| last.contains(&account));
            let at_first = Some(initial.is_some_and(|initial| initial.contains(&account)));
            let expected = jobs.iter().fold(at_first, |before, job| {
                // A lost job is a problem of its own.
                after(record, before, job, account, reports.get(&*job.id)?)
            });
            let expected = expected.unwrap_or(is_shared);
            let words = |shared| if shared { "shared" } else { "not shared" };
            if expected != is_shared {
                let [is, was] = [is_shared, expected].map(words);
                problems.push(format!("end state: {image} is {is} with {account} (expected {was})"));
            }
            if replayed.contains(&account) != is_shared {
                let is = words(is_shared);
                problems.push(format!("end state: {image} is {is} with {account}, unlike in the sandbox's log"));
            }
        }
    }
}

/// Returns the state that an account must have after a job, given the failures in the reports of the job.
fn after(record: &Record, before: Expected, job: &PublishedJob, account: u64, reports: &[&JobReport]) -> Expected {
    let shared = match job.kind {
        JobKind::Share | JobKind::Cancel if !job.accounts.contains(&account) => return before,
        JobKind::Share => true,
        JobKind::Cancel => false,
        JobKind::Sync => job.accounts.contains(&account),
    };
    // Whether the account is as requested by the report; `None` if that is unknown.
    let done = |report: &&JobReport| match report.outcome(account) {
        Some(ReportedOutcome::Failed(failure)) => (failure.code != "Local.NoAnswer").then_some(false),
        Some(_) => Some(true),
        // A SYNC removes the accounts that are not in its list, unless it failed as a whole.
        None if !report.failed_as_a_whole() => Some(true),
        None => report.failed().all(|(_, failure)| outcomes::is_cancel_limit(&failure.code)).then_some(false),
    };
    // A write that took effect although its account is reported as failed is a problem of the report.
    let received = reports.iter().map(|report| report.received).min();
    let took_effect = || {
        let mut writes = record.requests.iter().filter(|request| request.writes(&job.image, account));
        writes.any(|request| request.share() == Some(shared) && request.effect() >= received)
    };
    let results: BTreeSet<Option<bool>> = reports.iter().map(done).collect();
    match results.into_iter().collect::<Vec<_>>()[..] {
        [Some(true)] => Some(shared),
        [Some(false)] if !took_effect() => before,
        // Both results of this job are the same.
        _ if before == Some(shared) => before,
        _ => None,
    }
}
