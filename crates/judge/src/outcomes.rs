//! Checks the outcomes in reports against the requests and effects in the sandbox's log.

use std::collections::{BTreeMap, BTreeSet};

use crate::record::{
    JobKind, JobReport, LoggedRequest, Micros, PublishedJob, Record, ReportedFailure, ReportedOutcome, Timeline,
};

/// Tolerance between the times of reports and of the sandbox: rounding to milliseconds, and two clocks.
const SLACK: Micros = 5_000;

/// Whether a code means that a SYNC would cancel too many accounts.
pub(crate) fn is_cancel_limit(code: &str) -> bool {
    code == "Local.CancelLimit"
}

/// The outcome of one account in one report.
struct ReportedItem<'a> {
    report: &'a JobReport,
    /// The index of its job in publish order.
    place: usize,
    /// Whether the job requests that the account is shared.
    shared: bool,
    /// `None` for an account that is in neither the list nor the report of a SYNC.
    outcome: Option<&'a ReportedOutcome>,
}

/// Checks every outcome of every report.
pub(crate) fn check(record: &Record, timeline: &Timeline, problems: &mut Vec<String>) {
    let mut stories: BTreeMap<(&str, u64, &str), Vec<ReportedItem<'_>>> = BTreeMap::new();
    let mut reports: Vec<(Micros, usize, &JobReport)> = Vec::new();
    for report in &record.reports {
        if let Some(place) = record.job(&report.job_id) {
            reports.push((report.received, place, report));
        }
    }
    reports.sort_by_key(|&(received, place, _)| (received, place));
    for (_, place, report) in reports {
        let job = &record.jobs[place];
        for (account, outcome) in &report.outcomes {
            let shared = job.kind == JobKind::Share || (job.kind == JobKind::Sync && job.accounts.contains(account));
            let item = ReportedItem { report, place, shared, outcome: Some(outcome) };
            stories.entry((&job.image, *account, &report.worker)).or_default().push(item);
        }
        if job.kind == JobKind::Sync && !report.failed_as_a_whole() {
            for account in known_accounts(record, &job.image) {
                if !job.accounts.contains(&account) && report.outcome(account).is_none() {
                    let item = ReportedItem { report, place, shared: false, outcome: None };
                    stories.entry((&job.image, account, &report.worker)).or_default().push(item);
                }
            }
        }
    }
    for ((image, account, worker), items) in stories {
        let story =
            Story { record, timeline, image, account, host: record.hosts.get(worker).map_or("", String::as_str) };
        story.check(&items, problems);
    }
}

/// Returns the accounts that occur in jobs or in the initial state of an image.
fn known_accounts(record: &Record, image: &str) -> BTreeSet<u64> {
    let named = record.jobs.iter().filter(|job| job.image == image).flat_map(|job| &job.accounts);
    named.chain(record.initial.get(image).into_iter().flatten()).copied().collect()
}

/// The outcomes that one worker reports for one account of an image.
struct Story<'a> {
    record: &'a Record,
    timeline: &'a Timeline,
    image: &'a str,
    account: u64,
    /// The `Host` header of the worker.
    host: &'a str,
}

impl Story<'_> {
    /// Follows the outcomes in the order in which the worker decided them. For each there must be a moment at which the
    /// account was as requested, and the moments must not go backwards. Taking the earliest moment each time finds such a
    /// sequence if there is one.
    fn check(&self, items: &[ReportedItem<'_>], problems: &mut Vec<String>) {
        let mut decided = Micros::MIN;
        let mut before: Option<&ReportedItem<'_>> = None;
        // When the first of consecutive jobs with the same request was received: the worker may send one request for all.
        let mut began = Micros::MIN;
        for (at, item) in items.iter().enumerate() {
            let JobReport { received, finished, .. } = *item.report;
            if before.is_some_and(|before| item.place <= before.place) {
                // The lane was lost, and its jobs were redelivered.
                (decided, before) = (Micros::MIN, None);
            }
            let continues =
                before.is_some_and(|before| before.shared == item.shared && before.report.finished + SLACK >= received);
            if !continues {
                began = received;
            }
            before = Some(item);
            let mut untrue = |text: String| {
                let (job, outcome, account) = (&item.report.job_id, item.outcome, self.account);
                problems.push(format!("untrue: {job} reports {outcome:?} for {account}: {text}"));
            };
            if let Some(ReportedOutcome::Failed(failure)) = item.outcome {
                // A later job with the same request may succeed meanwhile.
                let meanwhile = |later: &&ReportedItem<'_>| later.report.received <= finished;
                let is_retried = items[at + 1..].iter().take_while(meanwhile).any(|later| later.shared == item.shared);
                let done = if is_retried { Ok(()) } else { self.check_not_done(item, failure, began) };
                if let Err(text) = done.and_then(|()| self.check_failure(item, failure, began)) {
                    untrue(format!("{} ({text})", failure.code));
                }
                continue;
            }
            let mut from = decided.max(received - SLACK);
            if let Some(id) = item.report.changed_by(self.account)
                && let Err(text) = self.check_request(&self.record.jobs[item.place], id)
            {
                untrue(text);
            }
            if item.outcome == Some(&ReportedOutcome::Changed) {
                match self.first_write(item.shared, began, finished) {
                    // The account may have been as requested before, but not when the request was sent.
                    Some(request) => from = from.max(request.at),
                    None => {
                        untrue("the worker sent no request".to_owned());
                        continue;
                    }
                }
            }
            let moment = self.timeline.first(self.image, self.account, item.shared, from);
            let Some((moment, by)) = moment.filter(|&(moment, _)| moment <= finished + SLACK) else {
                untrue("the account was not as requested between receipt and report".to_owned());
                continue;
            };
            // The worker's own request of this delivery, if it caused the state. An earlier job that reports the change
            // accounts for its request.
            let own = by.map(|place| &self.record.requests[place]);
            let own = own.filter(|by| by.host == self.host && by.at > received + SLACK);
            let own = own.filter(|by| !items[..at].iter().any(|earlier| earlier.accounts_for(by)));
            if let (Some(ReportedOutcome::Unchanged) | None, Some(own)) = (item.outcome, own) {
                untrue(format!("the worker's own request {} caused it", own.id));
                continue;
            }
            decided = moment;
        }
    }

    /// Returns the first request of the worker for the account that was in flight within a span.
    fn first_write(&self, shared: bool, from: Micros, to: Micros) -> Option<&LoggedRequest> {
        self.own_writes().find(|request| {
            let longest = if request.fault.is_some() { self.record.in_doubt } else { self.record.in_flight };
            request.share() == Some(shared) && request.at <= to + SLACK && request.at + longest >= from
        })
    }

    fn own_writes(&self) -> impl Iterator<Item = &LoggedRequest> {
        self.record
            .requests
            .iter()
            .filter(|request| request.host == self.host && request.writes(self.image, self.account))
    }

    /// Checks that the account could fail with this code.
    fn check_failure(&self, item: &ReportedItem<'_>, failure: &ReportedFailure, began: Micros) -> Result<(), String> {
        let ReportedFailure { code, request_id } = failure;
        let job = &self.record.jobs[item.place];
        let request = match request_id {
            None => None,
            Some(id) => Some(self.check_request(job, id)?),
        };
        if code.starts_with("Local.") {
            return self.check_local(item, job, code, began);
        }
        // The request that was refused may have carried no account of this job. The report then has no id.
        let request = match request {
            Some(request) => request,
            None => {
                let is_cause = |request: &&LoggedRequest| request.code == *code && request.share() == Some(item.shared);
                self.own_writes().find(is_cause).ok_or("the worker got no such response for the account")?
            }
        };
        if request.code != *code {
            return Err(format!("the response to {} was {}", request.id, request.code));
        }
        if request.at > item.report.finished + SLACK {
            return Err(format!("{} was sent after the report", request.id));
        }
        if code == "InvalidAccountId.NotFound" && !self.record.unknown.contains(&self.account) {
            return Err("the account exists".to_owned());
        }
        Ok(())
    }

    /// Checks that no request of the worker made a failed account as requested.
    fn check_not_done(&self, item: &ReportedItem<'_>, failure: &ReportedFailure, began: Micros) -> Result<(), String> {
        if failure.code == "Local.NoAnswer" || self.record.jobs[item.place].kind == JobKind::Sync {
            return Ok(());
        }
        let finished = item.report.finished;
        let is_done = |request: &&LoggedRequest| {
            request.share() == Some(item.shared)
                && request.effect().is_some_and(|effect| began <= effect && effect <= finished)
        };
        let still_is =
            || self.timeline.first(self.image, self.account, item.shared, finished) == Some((finished, None));
        match self.own_writes().find(is_done) {
            Some(request) if still_is() => Err(format!("the worker's own request {} made it as requested", request.id)),
            _ => Ok(()),
        }
    }

    /// Returns the request with an id, which the worker must have sent for this account, or for the image if it is a listing.
    fn check_request(&self, job: &PublishedJob, id: &str) -> Result<&LoggedRequest, String> {
        let request = self.record.requests.iter().find(|request| request.id == id);
        let request = request.ok_or_else(|| format!("the sandbox has no request {id}"))?;
        if request.host != self.host {
            return Err(format!("another worker sent {id}"));
        }
        if request.action != "DescribeImages" && request.image.as_deref() != Some(self.image) {
            return Err(format!("{id} was for {}", request.image.as_deref().unwrap_or("no image")));
        }
        let fits = job.kind == JobKind::Sync || request.share() == Some(job.kind == JobKind::Share);
        if request.share().is_some() && !(fits && request.accounts.contains(&self.account)) {
            return Err(format!("{id} was not for this account and permission"));
        }
        Ok(request)
    }

    /// Checks the condition of one of the worker's own codes.
    fn check_local(
        &self,
        item: &ReportedItem<'_>,
        job: &PublishedJob,
        code: &str,
        began: Micros,
    ) -> Result<(), String> {
        let JobReport { received, finished, .. } = *item.report;
        let states = self.timeline.states(self.image, received - SLACK, finished + SLACK);
        let holds = match code {
            "Local.OverQuota" => states.iter().any(|state| state.len() >= self.record.cap),
            // A write without a response, or an account that appeared during a SYNC.
            "Local.NoAnswer" => {
                let lost = |request: &LoggedRequest| {
                    request.at <= finished + SLACK && request.at + self.record.in_doubt >= began
                };
                let appeared = job.kind == JobKind::Sync
                    && !job.accounts.contains(&self.account)
                    && states.iter().any(|state| state.contains(&self.account));
                self.own_writes().any(lost) || appeared
            }
            code if is_cancel_limit(code) => {
                let exceeds = |state: &BTreeSet<u64>| state.difference(&job.accounts).count() > state.len() / 2;
                job.kind == JobKind::Sync && !job.force && item.report.failed_as_a_whole() && states.iter().any(exceeds)
            }
            _ => return Err("no fault of the rounds causes it".to_owned()),
        };
        if holds { Ok(()) } else { Err("its condition did not hold".to_owned()) }
    }
}

impl ReportedItem<'_> {
    /// Whether this job reports the change that a request made.
    fn accounts_for(&self, request: &LoggedRequest) -> bool {
        let JobReport { received, finished, .. } = *self.report;
        let span = received - SLACK..=finished + SLACK;
        self.outcome == Some(&ReportedOutcome::Changed)
            && request.share() == Some(self.shared)
            && span.contains(&request.at)
    }
}
