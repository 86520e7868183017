//! Proof that the judge detects errors: a recorded round is good, and each kind of falsification of it is detected.

use super::{
    judge::{Problem, Rule, judge},
    record::{Failure, Job, Kind, Outcome, Record, Report, Request},
};

/// A recorded round with redelivered jobs, unknown accounts, SYNCs and full images.
fn good() -> Record {
    Record::parse(&serde_json::from_str(include_str!("recorded.json")).unwrap())
}

#[test]
fn good_round_has_no_problem() {
    let record = good();
    let problems = judge(&record);
    assert!(problems.is_empty(), "{problems:#?}");
    let codes: Vec<&str> = record.reports.iter().flat_map(Report::failed).map(|(_, failure)| &*failure.code).collect();
    assert!(["InvalidAccountId.NotFound", "Local.OverQuota"].iter().all(|code| codes.contains(code)), "{codes:?}");
    assert!(record.reports.iter().any(|report| report.redelivered), "jobs were redelivered");
}

/// Applies a falsification to the good round wherever it fits. The judge must detect each with these words.
#[track_caller]
fn check(rule: Rule, words: &str, falsify: impl Fn(&mut Record, usize) -> Option<()>) {
    let good = good();
    let mut detected = 0;
    for place in 0..good.reports.len() {
        let mut record = good.clone();
        if falsify(&mut record, place).is_none() {
            continue;
        }
        let problems = judge(&record);
        let is_meant = |problem: &Problem| problem.rule == rule && problem.text.contains(words);
        assert!(problems.iter().any(is_meant), "{place}: {words:?} is not among {problems:#?}");
        detected += 1;
    }
    assert!(detected > 0, "{words}: nothing was falsified");
}

/// Replaces the first outcome of a report that fits by another one.
fn replace(
    record: &mut Record,
    place: usize,
    fits: impl Fn(&Record, &Report, u64, &Outcome) -> bool,
    by: &Outcome,
) -> Option<()> {
    let report = &record.reports[place];
    let at = report.outcomes.iter().position(|(account, outcome)| fits(record, report, *account, outcome))?;
    record.reports[place].outcomes[at].1 = by.clone();
    Some(())
}

fn failure(code: &str, request_id: Option<&str>) -> Outcome {
    Outcome::Failed(Failure { code: code.to_owned(), request_id: request_id.map(str::to_owned) })
}

fn is_unknown(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(failure) if failure.code == "InvalidAccountId.NotFound")
}

fn job_of<'a>(record: &'a Record, report: &Report) -> &'a Job {
    &record.jobs[record.job(&report.job_id).unwrap()]
}

/// Flips an account of the image of a report in the end state.
fn flip(record: &mut Record, place: usize) -> Option<()> {
    let Report { image, outcomes, .. } = record.reports[place].clone();
    let (account, _) = outcomes.first()?;
    let accounts = record.last.get_mut(&image)?;
    if !accounts.remove(account) {
        accounts.insert(*account);
    }
    Some(())
}

#[test]
fn losses_are_detected() {
    check(Rule::Lost, "still hold 1", |record, _| {
        record.left = 1;
        Some(())
    });
    check(Rule::Lost, "has no report", |record, place| {
        let id = record.reports[place].job_id.clone();
        record.reports.retain(|report| report.job_id != id);
        Some(())
    });
    check(Rule::Lost, "no dead letter", |record, place| {
        record.reports[place].failed().next()?;
        let id = record.reports[place].job_id.clone();
        record.dead.retain(|letter| letter.job_id != id);
        Some(())
    });
    check(Rule::Lost, "was never published", |record, place| {
        let report = Report { job_id: "another".into(), ..record.reports[place].clone() };
        record.reports.push(report);
        Some(())
    });
}

#[test]
fn wrong_end_states_are_detected() {
    check(Rule::EndState, "requested was", flip);
    check(Rule::EndState, "unlike in the sandbox's log", flip);
    // A write that no worker sent.
    check(Rule::EndState, "requested was", |record, place| {
        let image = record.reports[place].image.clone();
        let account = record.last.get_mut(&image)?.pop_first()?;
        let at = record.requests.last()?.at + 1;
        record.requests.push(Request {
            id: "foreign".into(),
            at,
            host: "foreign".into(),
            action: "ModifyImageSharePermission".into(),
            code: "ok".into(),
            fault: None,
            effect: Some(at),
            image: Some(image),
            share: Some(false),
            accounts: vec![account],
        });
        Some(())
    });
    // Two jobs that were done in the wrong order.
    check(Rule::EndState, "requested was", |record, place| {
        let report = &record.reports[place];
        let (image, (account, outcome)) = (&report.image, report.outcomes.first()?);
        let later = record.job(&report.job_id)?;
        let names = |job: &Job| job.image == *image && job.accounts.contains(account);
        let earlier = record.jobs[..later].iter().rposition(names)?;
        let kinds = [record.jobs[earlier].kind, record.jobs[later].kind];
        let is_last =
            !record.jobs[later + 1..].iter().any(|job| names(job) || (job.kind == Kind::Sync && job.image == *image));
        let is_done = |id: &str| {
            let mut reports = record.reports.iter().filter(|report| report.job_id == id);
            reports.all(|report| report.outcome(*account).is_some_and(|outcome| !matches!(outcome, Outcome::Failed(_))))
        };
        let is_plain = !kinds.contains(&Kind::Sync) && kinds[0] != kinds[1] && !matches!(outcome, Outcome::Failed(_));
        let are_done = is_done(&record.jobs[earlier].id) && is_done(&record.jobs[later].id);
        (is_plain && is_last && are_done).then(|| record.jobs.swap(earlier, later))
    });
}

#[test]
fn untrue_outcomes_are_detected() {
    let changed = |_: &Record, _: &Report, _: u64, outcome: &Outcome| *outcome == Outcome::Changed;
    check(Rule::Untrue, "caused it", |record, place| {
        // The request of an earlier job may have completed both, so this one is the first of its account.
        let first = |record: &Record, report: &Report, account: u64, outcome: &Outcome| {
            let mut others =
                record.reports.iter().filter(|other| other.image == report.image && other.job_id != report.job_id);
            let is_apart = others.all(|other| other.outcome(account).is_none() || other.received > report.finished);
            let is_initial = record.initial[&report.image].contains(&account);
            let is_to_share = job_of(record, report).kind == Kind::Share;
            *outcome == Outcome::Changed && is_apart && is_to_share && !is_initial
        };
        replace(record, place, first, &Outcome::Unchanged)
    });
    check(Rule::Untrue, "sent no request", |record, place| {
        let unwritten = |record: &Record, report: &Report, account: u64, outcome: &Outcome| {
            let is_written = record.requests.iter().any(|request| request.writes(&report.image, account));
            *outcome == Outcome::Unchanged && !is_written
        };
        replace(record, place, unwritten, &Outcome::Changed)
    });
    for outcome in [Outcome::Changed, Outcome::Unchanged] {
        check(Rule::Untrue, "it was not so", |record, place| {
            replace(record, place, |_, _, _, outcome| is_unknown(outcome), &outcome)
        });
    }
    for code in ["Local.Expired", "Local.NotAttempted", "Local.CancelLimit", "InvalidAccountId.NotFound"] {
        check(Rule::Untrue, code, |record, place| replace(record, place, changed, &failure(code, None)));
    }
    let refused = |_: &Record, _: &Report, _: u64, outcome: &Outcome| {
        matches!(outcome, Outcome::Failed(Failure { request_id: Some(_), .. }))
    };
    let invented = failure("InvalidAccountId.NotFound", Some("0af3-invented"));
    check(Rule::Untrue, "has no request", |record, place| replace(record, place, refused, &invented));
    check(Rule::Untrue, "(", |record, place| {
        let image = record.reports[place].image.clone();
        let other =
            record.requests.iter().find(|request| request.share.is_some() && request.image.as_ref() != Some(&image))?;
        let foreign = failure("InvalidAccountId.NotFound", Some(&other.id.clone()));
        replace(record, place, refused, &foreign)
    });
    check(Rule::Untrue, "two reports of one delivery differ", |record, place| {
        let report = record.reports[place].clone();
        replace(record, place, changed, &Outcome::Unchanged)?;
        record.reports.push(report);
        Some(())
    });
    for (words, is_cancelled) in [("absence", true), ("no outcome", false)] {
        check(Rule::Untrue, words, |record, place| {
            let report = &record.reports[place];
            let fits = |(account, outcome): &(u64, Outcome)| {
                let is_listed = job_of(record, report).accounts.contains(account);
                if is_cancelled { *outcome == Outcome::Cancelled } else { is_listed }
            };
            let at = report.outcomes.iter().position(fits)?;
            record.reports[place].outcomes.remove(at);
            Some(())
        });
    }
}

#[test]
fn failures_and_repeats_of_calm_rounds_are_detected() {
    check(Rule::Calm, " is ", |record, place| {
        record.is_calm = true;
        (record.reports[place].status != "succeeded").then_some(())
    });
    check(Rule::Calm, "that were as requested", |record, _| {
        record.repeats_max = Some(0);
        let write =
            record.requests.iter().rfind(|request| request.share == Some(true) && request.code == "ok")?.clone();
        record.requests.push(write);
        Some(())
    });
}
