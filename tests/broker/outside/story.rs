//! The story of one account of an image: all that a record contains about it.

use super::{
    judge::Problem,
    record::{Kind, Micros, Record},
};

/// Returns the jobs, requests and reports of the account that a problem is about, in order of time.
pub(super) fn of(record: &Record, problem: &Problem) -> String {
    let Some((image, account)) = &problem.about else { return String::new() };
    let mut lines: Vec<(Micros, String)> = Vec::new();
    for request in record.requests.iter().filter(|request| request.image.as_ref() == Some(image)) {
        if request.share.is_some() && !request.accounts.contains(account) {
            continue;
        }
        let what = match request.share {
            Some(true) => "SHARE",
            Some(false) => "CANCEL",
            None => &request.action,
        };
        let fault = request.fault.as_deref().map(|fault| format!(" ({fault})")).unwrap_or_default();
        let (count, code, host, id) = (request.accounts.len(), &request.code, &request.host, &request.id);
        lines.push((request.at, format!("{host} {what} of {count}: {code}{fault} {id}")));
        if let Some(effect) = request.effect.filter(|&effect| effect != request.at) {
            lines.push((effect, format!("{host} {what} takes effect {id}")));
        }
    }
    for report in record.reports.iter().filter(|report| report.image == *image) {
        let of_job = record.job(&report.job_id).map(|place| &record.jobs[place]);
        let is_sync = of_job.is_some_and(|job| job.kind == Kind::Sync);
        let outcome = report.outcome(*account);
        if outcome.is_none() && !is_sync {
            continue;
        }
        let host = record.hosts.get(&report.worker).map_or("?", String::as_str);
        let again = if report.redelivered { " (redelivered)" } else { "" };
        lines.push((report.received, format!("{host} receives {}{again}", report.job_id)));
        lines.push((report.finished, format!("{host} reports {}: {outcome:?}", report.job_id)));
    }
    lines.sort();
    let begin = lines.first().map_or(0, |(at, _)| *at);
    let jobs = record.jobs.iter().filter(|job| job.image == *image);
    let jobs = jobs.filter(|job| job.accounts.contains(account) || job.kind == Kind::Sync).map(|job| {
        let listed = if job.accounts.contains(account) { "with it" } else { "without it" };
        format!("  published: {} {:?} {listed}, of {}", job.id, job.kind, job.accounts.len())
    });
    let at_first = record.initial.get(image).is_some_and(|accounts| accounts.contains(account));
    let head = format!("  {account} of {image}, shared at first: {at_first}");
    let lines = lines.iter().map(|(at, line)| format!("  {:>8.3} s {line}", (at - begin) as f64 / 1e6));
    [head].into_iter().chain(jobs).chain(lines).collect::<Vec<_>>().join("\n")
}
