//! Proof that the judge detects errors: a recorded round is good, and each falsification of it is detected.

use std::sync::LazyLock;

use super::{
    judge::{Problem, Rule, judge},
    record::{Failure, Job, Kind, Outcome, Record, Report, Request},
    timeline::Timeline,
};

/// A recorded round with redelivered jobs, unknown accounts, SYNCs and full images.
fn good() -> Record {
    static GOOD: LazyLock<Record> =
        LazyLock::new(|| Record::parse(&serde_json::from_str(include_str!("recorded.json")).unwrap()));
    GOOD.clone()
}

/// Falsifies the good round and expects a problem of this rule with these words.
#[track_caller]
fn check(rule: Rule, words: &str, falsify: impl FnOnce(&mut Record)) {
    let mut record = good();
    falsify(&mut record);
    let problems = judge(&record);
    let is_meant = |problem: &Problem| problem.rule == rule && problem.text.contains(words);
    assert!(problems.iter().any(is_meant), "{words:?} is not among {problems:#?}");
}

/// Returns the indexes of reports and outcomes for which a predicate holds.
fn outcomes(record: &Record, is_meant: impl Fn(&Outcome) -> bool) -> Vec<(usize, usize)> {
    let reports = (0..).zip(&record.reports);
    let places = reports.flat_map(|(place, report)| (0..report.outcomes.len()).map(move |at| (place, at)));
    places.filter(|&(place, at)| is_meant(&record.reports[place].outcomes[at].1)).collect()
}

/// Whether a job requests that an account is shared.
fn is_to_share(job: &Job, account: u64) -> bool {
    job.kind == Kind::Share || (job.kind == Kind::Sync && job.accounts.contains(&account))
}

fn job_of<'a>(record: &'a Record, report: &Report) -> &'a Job {
    &record.jobs[record.job(&report.job_id).unwrap()]
}

#[test]
fn good_round_has_no_problem() {
    let record = good();
    let problems = judge(&record);
    assert!(problems.is_empty(), "{problems:#?}");
    let codes: Vec<&str> = record.reports.iter().flat_map(Report::failed).map(|(_, failure)| &*failure.code).collect();
    for code in ["InvalidAccountId.NotFound", "Local.OverQuota"] {
        assert!(codes.contains(&code), "{code} is in the round");
    }
    let is_cancelled = |outcome: &Outcome| *outcome == Outcome::Cancelled;
    assert!(!outcomes(&record, is_cancelled).is_empty(), "a SYNC removed accounts");
    assert!(record.reports.iter().any(|report| report.redelivered), "jobs were redelivered");
}

#[test]
fn every_flipped_account_is_detected() {
    for (image, accounts) in good().last {
        let named = good().jobs.into_iter().filter(|job| job.image == image).flat_map(|job| job.accounts);
        for account in named.chain(accounts) {
            let flip = |record: &mut Record| {
                let set = record.last.get_mut(&image).unwrap();
                if !set.remove(&account) {
                    set.insert(account);
                }
            };
            check(Rule::EndState, "requested was", flip);
            check(Rule::EndState, "unlike in the sandbox's log", flip);
        }
    }
}

#[test]
fn foreign_write_is_detected() {
    let record = good();
    for (image, accounts) in record.last {
        for account in accounts {
            check(Rule::EndState, "requested was", |record| {
                record.last.get_mut(&image).unwrap().remove(&account);
                let at = record.requests.last().unwrap().at + 1;
                record.requests.push(Request {
                    id: "foreign".into(),
                    at,
                    host: "foreign".into(),
                    action: "ModifyImageSharePermission".into(),
                    code: "ok".into(),
                    fault: None,
                    effect: Some(at),
                    image: Some(image.clone()),
                    share: Some(false),
                    accounts: vec![account],
                });
            });
        }
    }
}

#[test]
fn every_dropped_report_is_detected() {
    for job in good().jobs {
        check(Rule::Lost, "has no report", |record| record.reports.retain(|report| report.job_id != job.id));
    }
}

#[test]
fn leftovers_and_missing_dead_letters_are_detected() {
    check(Rule::Lost, "still hold 1", |record| record.left = 1);
    for place in 0..good().dead.len() {
        let id = good().dead[place].job_id.clone();
        check(Rule::Lost, &id, |record| record.dead.retain(|letter| letter.job_id != id));
    }
    check(Rule::Lost, "was never published", |record| {
        let mut report = record.reports[0].clone();
        report.job_id = "another".into();
        record.reports.push(report);
    });
}

#[test]
fn changed_reported_as_unchanged_is_detected() {
    let record = good();
    let timeline = Timeline::new(&record);
    let mut found = 0;
    let changed = outcomes(&record, |outcome| *outcome == Outcome::Changed);
    for &(place, at) in &changed {
        let report = &record.reports[place];
        let (account, _) = report.outcomes[at];
        let is_shared = is_to_share(job_of(&record, report), account);
        let (moment, _) = timeline.first(&report.image, account, is_shared, report.received).unwrap();
        // If the request of an earlier job completed both, both outcomes are true.
        let earlier = record.reports.iter().filter(|other| {
            let other_job = job_of(&record, other);
            let is_same = other.image == report.image && other.outcome(account).is_some();
            is_same
                && is_to_share(other_job, account) == is_shared
                && record.job(&other.job_id) < record.job(&report.job_id)
        });
        if moment <= report.received + 5_000 || earlier.into_iter().any(|other| other.finished >= report.received) {
            continue;
        }
        found += 1;
        check(Rule::Untrue, "caused it", |record| record.reports[place].outcomes[at].1 = Outcome::Unchanged);
    }
    assert!(found >= 20, "{found} of {}", changed.len());
}

#[test]
fn unchanged_reported_as_changed_is_detected() {
    let record = good();
    let mut found = 0;
    for (place, at) in outcomes(&record, |outcome| *outcome == Outcome::Unchanged) {
        let report = &record.reports[place];
        let (account, _) = report.outcomes[at];
        if record.requests.iter().any(|request| request.writes(&report.image, account)) {
            continue;
        }
        found += 1;
        check(Rule::Untrue, "sent no request", |record| record.reports[place].outcomes[at].1 = Outcome::Changed);
    }
    assert!(found > 0);
}

#[test]
fn false_success_is_detected() {
    let record = good();
    let failed = outcomes(
        &record,
        |outcome| matches!(outcome, Outcome::Failed(failure) if failure.code == "InvalidAccountId.NotFound"),
    );
    assert!(!failed.is_empty());
    for (place, at) in failed {
        for outcome in [Outcome::Changed, Outcome::Unchanged] {
            check(Rule::Untrue, "it was not so", |record| record.reports[place].outcomes[at].1 = outcome);
        }
    }
}

#[test]
fn invented_or_foreign_request_id_is_detected() {
    let record = good();
    let is_refused = |outcome: &Outcome| matches!(outcome, Outcome::Failed(Failure { request_id: Some(_), .. }));
    let refused = outcomes(&record, is_refused);
    assert!(!refused.is_empty());
    for (place, at) in refused {
        let set = |id: String| {
            move |record: &mut Record| {
                if let Outcome::Failed(failure) = &mut record.reports[place].outcomes[at].1 {
                    failure.request_id = Some(id);
                }
            }
        };
        check(Rule::Untrue, "has no request", set("0af3-invented".into()));
        let (account, _) = record.reports[place].outcomes[at];
        let image = &record.reports[place].image;
        let other = record.requests.iter().find(|request| request.share.is_some() && !request.writes(image, account));
        check(Rule::Untrue, "(", set(other.unwrap().id.clone()));
    }
}

#[test]
fn failure_without_cause_is_detected() {
    let record = good();
    for (place, at) in outcomes(&record, |outcome| *outcome == Outcome::Changed) {
        for code in ["Local.Expired", "Local.NotAttempted", "Local.CancelLimit", "InvalidAccountId.NotFound"] {
            check(Rule::Untrue, code, |record| {
                let failure = Failure { code: code.into(), request_id: None };
                record.reports[place].outcomes[at].1 = Outcome::Failed(failure);
            });
        }
    }
}

#[test]
fn conflicting_duplicate_report_is_detected() {
    for (place, at) in outcomes(&good(), |outcome| *outcome == Outcome::Changed) {
        check(Rule::Untrue, "two reports of one delivery differ", |record| {
            let mut report = record.reports[place].clone();
            report.outcomes[at].1 = Outcome::Unchanged;
            record.reports.push(report);
        });
    }
}

#[test]
fn omitted_account_is_detected() {
    for (place, at) in outcomes(&good(), |_| true) {
        let words = if good().reports[place].outcomes[at].1 == Outcome::Cancelled { "absence" } else { "no outcome" };
        // An account that is not in the list of a SYNC and failed may be omitted.
        let report = &good().reports[place];
        let (account, outcome) = &report.outcomes[at];
        if matches!(outcome, Outcome::Failed(_)) && !job_of(&good(), report).accounts.contains(account) {
            continue;
        }
        check(Rule::Untrue, words, |record| drop(record.reports[place].outcomes.remove(at)));
    }
}

#[test]
fn wrong_order_is_detected() {
    let record = good();
    let accounts = record.jobs.iter().flat_map(|job| job.accounts.iter().map(move |account| (&job.image, *account)));
    let mut found = 0;
    for (image, account) in accounts {
        let jobs = (0..).zip(&record.jobs).filter(|(_, job)| job.image == *image && job.accounts.contains(&account));
        let jobs: Vec<(usize, &Job)> = jobs.collect();
        let [.., (before, first), (place, last)] = jobs[..] else { continue };
        let failed = |job: &Job| {
            record.reports.iter().any(|report| {
                report.job_id == job.id && matches!(report.outcome(account), Some(Outcome::Failed(_)) | None)
            })
        };
        let is_last = record.jobs[place..].iter().all(|job| job.kind != Kind::Sync || job.image != *image);
        let kinds = [first.kind, last.kind];
        if kinds.contains(&Kind::Sync) || kinds[0] == kinds[1] || failed(first) || failed(last) || !is_last {
            continue;
        }
        found += 1;
        check(Rule::EndState, "requested was", |record| record.jobs.swap(before, place));
    }
    assert!(found > 0);
}
