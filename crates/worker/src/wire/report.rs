//! A report as it is written: the outcome of one job for each account.
//!
//! A report has up to three forms, each shorter than the one before, because a broker may refuse long messages. The first
//! names each failure with its RequestId, the second has one failure per code, the last counts accounts and names none.

use std::{collections::BTreeMap, fs, sync::Arc};

use imageshare_core::{
    ids::{AccountId, ImageId, Region, RequestId},
    text::printable,
};
use imageshare_engine::job::{AccountOutcome, Failure, Report as EngineReport};
use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize, Serializer};

use super::{job::Identity, mode::Permission, rejection::Rejection};

/// Characters of a failure's message.
pub const MESSAGE_CHARS_MAX: usize = 200;

/// Bytes of the longest report that is published. It is below the length of the longest job, 1 MiB.
pub const REPORT_LEN_MAX: usize = 768 * 1024;

/// Bytes of a published report besides its accounts: members, labels, a few failures.
const REPORT_LEN_BASE: usize = 16 * 1024;

/// Bytes of a published report for each of its accounts: the id, and a share of the failures.
const REPORT_LEN_PER_ACCOUNT: usize = 96;

/// Characters of the reason in the shortest form of a report.
const SHORT_REASON_CHARS_MAX: usize = 200;

/// The outcome of one job. The members and their order are the wire format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// The job's name.
    pub job_id: Option<String>,
    /// The lane that it was carried out on; of a rejected one, the lane that it named.
    pub lane: Option<String>,
    /// The image.
    pub image_id: Option<ImageId>,
    /// The region the image lives in.
    pub region: Option<Region>,
    /// The requested change.
    pub permission: Option<Permission>,
    /// The outcome as one word.
    pub status: Status,
    /// Of a rejected job: which member, what is wrong, what is expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Accounts for which a write was sent and that are now in the requested state.
    pub changed: Vec<AccountId>,
    /// Accounts that were in the requested state before this delivery.
    pub unchanged: Vec<AccountId>,
    /// Of a SYNC: accounts that had the image, were not in the list, and have it no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<Vec<AccountId>>,
    /// Accounts that are not known to be in the requested state, grouped by code and request.
    pub failed: Vec<FailureGroup>,
    /// The lengths of the lists above, if the report would be too long with their content. Then they are empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<Counts>,
    /// Accounts that the job named more than once, counted each further time.
    pub duplicates: u32,
    /// Write requests that carried an account of this job.
    pub requests: u32,
    /// Whether the job may have been worked on before.
    pub redelivered: bool,
    /// When the job came in.
    #[serde(serialize_with = "with_millis")]
    pub received_at: Timestamp,
    /// When it was done.
    #[serde(serialize_with = "with_millis")]
    pub finished_at: Timestamp,
    /// The job's own, echoed.
    pub labels: BTreeMap<String, String>,
    /// Who did it, `host:pid`.
    pub worker: String,
}

/// The outcome of a job as one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No account failed.
    Succeeded,
    /// Some accounts failed and some did not.
    Partial,
    /// No account is in the requested state.
    Failed,
    /// It was no job, or one that no lane takes.
    Rejected,
}

/// Accounts that failed with one code in one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureGroup {
    /// An error code of the API, or one of our own, which begin with `Local.`.
    pub code: String,
    /// The message of the first of these failures, in one line of at most [`MESSAGE_CHARS_MAX`] characters.
    pub message: String,
    /// The id of the refused request; `None` without one, or if failures of several requests share this group.
    pub request_id: Option<String>,
    /// The accounts, in the order of the job.
    pub account_ids: Vec<AccountId>,
}

/// How many accounts have each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// As in [`Report::changed`].
    pub changed: u64,
    /// As in [`Report::unchanged`].
    pub unchanged: u64,
    /// As in [`Report::cancelled`].
    pub cancelled: u64,
    /// Accounts in the groups of [`Report::failed`].
    pub failed: u64,
}

/// When a job was done, and by which worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Whether the job may have been worked on before.
    pub redelivered: bool,
    /// When the job came in. Kept to the millisecond.
    pub received_at: Timestamp,
    /// When it was done. Kept to the millisecond.
    pub finished_at: Timestamp,
    /// Who did it, as [`worker_name`] says.
    pub worker: String,
}

impl Report {
    /// The report of a job that was carried out on the lane of this name.
    #[must_use]
    pub fn of_job(identity: Identity, lane: &str, report: &EngineReport, circumstances: Circumstances) -> Self {
        let (mut changed, mut unchanged, mut cancelled) = (vec![], vec![], vec![]);
        let mut failed = Grouping::default();
        for &(account_id, ref outcome) in &report.outcomes {
            match outcome {
                AccountOutcome::Changed => changed.push(account_id),
                AccountOutcome::Unchanged => unchanged.push(account_id),
                AccountOutcome::Failed(failure) => failed.add(account_id, failure),
            }
        }
        for &(account_id, ref outcome) in &report.cancelled {
            match outcome {
                AccountOutcome::Changed | AccountOutcome::Unchanged => cancelled.push(account_id),
                AccountOutcome::Failed(failure) => failed.add(account_id, failure),
            }
        }
        Self {
            job_id: Some(identity.job_id),
            lane: Some(lane.to_owned()),
            image_id: Some(identity.image_id),
            region: Some(identity.region),
            permission: Some(identity.permission),
            status: Status::of(report),
            reason: None,
            changed,
            unchanged,
            cancelled: (identity.permission == Permission::Sync).then_some(cancelled),
            failed: failed.groups,
            truncated: None,
            duplicates: report.duplicates,
            requests: report.requests,
            redelivered: circumstances.redelivered,
            received_at: to_millis(circumstances.received_at),
            finished_at: to_millis(circumstances.finished_at),
            labels: identity.labels,
            worker: circumstances.worker,
        }
    }

    /// The report of what was no job, or of a job that no lane takes.
    #[must_use]
    pub fn of_rejection(rejection: &Rejection, circumstances: Circumstances) -> Self {
        let known = &*rejection.known;
        Self {
            job_id: known.job_id.clone(),
            lane: known.lane.clone(),
            image_id: known.image_id,
            region: known.region,
            permission: known.permission,
            status: Status::Rejected,
            reason: Some(rejection.reason()),
            changed: vec![],
            unchanged: vec![],
            cancelled: (known.permission == Some(Permission::Sync)).then(Vec::new),
            failed: vec![],
            truncated: None,
            duplicates: 0,
            requests: 0,
            redelivered: circumstances.redelivered,
            received_at: to_millis(circumstances.received_at),
            finished_at: to_millis(circumstances.finished_at),
            labels: known.labels.clone(),
            worker: circumstances.worker,
        }
    }

    /// How many accounts have each outcome, whatever the form of the report.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.truncated.unwrap_or_else(|| Counts {
            changed: self.changed.len() as u64,
            unchanged: self.unchanged.len() as u64,
            cancelled: self.cancelled.as_ref().map_or(0, Vec::len) as u64,
            failed: self.failed.iter().map(|group| group.account_ids.len() as u64).sum(),
        })
    }

    /// Bytes that the published report of a job with this many outcomes may have: in proportion to the job, so that a
    /// broker that accepted the job accepts its report, and at most [`REPORT_LEN_MAX`].
    #[must_use]
    pub fn len_max(outcomes: usize) -> usize {
        (REPORT_LEN_BASE + outcomes.saturating_mul(REPORT_LEN_PER_ACCOUNT)).min(REPORT_LEN_MAX)
    }

    /// The report as JSON, in the longest of its forms that has at most `len_max` bytes; if none has, in the shortest.
    #[must_use]
    pub fn write(mut self, len_max: usize) -> Vec<u8> {
        loop {
            let text = serde_json::to_vec(&self).expect("a report is texts, numbers and lists of them");
            if text.len() <= len_max || !self.shorten() {
                return text;
            }
        }
    }

    /// Takes the next shorter form. Returns false if this is the shortest.
    fn shorten(&mut self) -> bool {
        if self.merge_by_code() {
            return true;
        }
        let is_short = |reason: &String| reason.chars().count() <= SHORT_REASON_CHARS_MAX;
        if self.truncated.is_some() && self.labels.is_empty() && self.reason.as_ref().is_none_or(is_short) {
            return false;
        }
        if self.truncated.is_none() {
            self.truncated = Some(self.counts());
        } else {
            self.labels.clear();
            self.reason = self.reason.as_ref().map(|reason| printable(reason, SHORT_REASON_CHARS_MAX));
        }
        (self.changed, self.unchanged, self.failed) = (vec![], vec![], vec![]);
        self.cancelled = self.cancelled.as_ref().map(|_| vec![]);
        true
    }

    /// Leaves one group of failures for each code. Returns false if it was so already.
    fn merge_by_code(&mut self) -> bool {
        let before = self.failed.len();
        let mut by_code: BTreeMap<String, usize> = BTreeMap::new();
        let mut merged: Vec<FailureGroup> = Vec::new();
        for group in self.failed.drain(..) {
            match by_code.get(&group.code).and_then(|place| merged.get_mut(*place)) {
                Some(first) => {
                    first.request_id = None;
                    first.account_ids.extend(group.account_ids);
                }
                None => {
                    by_code.insert(group.code.clone(), merged.len());
                    merged.push(group);
                }
            }
        }
        self.failed = merged;
        self.failed.len() < before
    }
}

/// Failures on their way into groups, in the order of the first account of each.
#[derive(Default)]
struct Grouping {
    groups: Vec<FailureGroup>,
    places: BTreeMap<(Box<str>, Option<RequestId>), usize>,
    /// The failure before, and its group: those of one request follow each other and are one value.
    last: Option<(Arc<Failure>, usize)>,
}

impl Grouping {
    fn add(&mut self, account_id: AccountId, failure: &Arc<Failure>) {
        let place = match &self.last {
            Some((last, place)) if Arc::ptr_eq(last, failure) => *place,
            _ => {
                let place = self.place(failure);
                self.last = Some((Arc::clone(failure), place));
                place
            }
        };
        if let Some(group) = self.groups.get_mut(place) {
            group.account_ids.push(account_id);
        }
    }

    fn place(&mut self, failure: &Failure) -> usize {
        let next = self.groups.len();
        let place = *self.places.entry((failure.code.clone(), failure.request_id)).or_insert(next);
        if place == next {
            self.groups.push(FailureGroup {
                code: failure.code.to_string(),
                message: printable(&failure.message, MESSAGE_CHARS_MAX),
                request_id: failure.request_id.map(|id| id.to_string()),
                account_ids: Vec::new(),
            });
        }
        place
    }
}

impl Status {
    /// The outcome of a job that was carried out.
    #[must_use]
    pub fn of(report: &EngineReport) -> Self {
        let mut outcomes = report.outcomes.iter().chain(&report.cancelled).map(|(_, outcome)| outcome);
        let failed = |outcome: &AccountOutcome| matches!(outcome, AccountOutcome::Failed(_));
        let Some(first) = outcomes.next().map(failed) else { return Self::Succeeded };
        match (first, outcomes.any(|outcome| failed(outcome) != first)) {
            (false, false) => Self::Succeeded,
            (true, false) => Self::Failed,
            (_, true) => Self::Partial,
        }
    }

    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Partial => "partial",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }
}

/// `host:pid` of this process; the host as the system or the variable HOSTNAME names it.
#[must_use]
pub fn worker_name() -> String {
    let of_system = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = of_system.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let host = printable(host.trim(), 253);
    format!("{}:{}", if host.is_empty() { "localhost" } else { &host }, std::process::id())
}

/// Writes a time with three digits of milliseconds, so that the times of all reports have one length and sort as text.
fn with_millis<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

/// Finer than a millisecond says nothing about a call over a network.
fn to_millis(time: Timestamp) -> Timestamp {
    // Fails only beside the ends of time, where the time is as good unrounded.
    time.round(Unit::Millisecond).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Defaults, Place, job};

    fn id(number: u64) -> AccountId {
        AccountId::new(number).unwrap()
    }

    fn identity(permission: &str) -> Identity {
        let text = format!(
            r#"{{"job_id":"j","image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":"{permission}","account_ids":[10001],"labels":{{"a":"b"}}}}"#
        );
        job::parse(text.as_bytes(), &Defaults { job_id: String::new(), region: None }).unwrap().identity
    }

    fn circumstances() -> Circumstances {
        Circumstances {
            redelivered: false,
            received_at: "2026-11-24T04:00:00.1234567Z".parse().unwrap(),
            finished_at: "2026-11-24T04:00:03Z".parse().unwrap(),
            worker: "host:17".to_owned(),
        }
    }

    fn failure() -> AccountOutcome {
        AccountOutcome::Failed(Arc::new(Failure {
            code: "InvalidAccountId.NotFound".into(),
            message: "no such account".into(),
            request_id: RequestId::new("71e69b56"),
        }))
    }

    #[test]
    fn report_members_equal_the_manual() {
        let outcomes = vec![
            (id(10_001), AccountOutcome::Changed),
            (id(10_002), failure()),
            (id(10_003), AccountOutcome::Unchanged),
        ];
        let report = EngineReport { outcomes, cancelled: vec![], duplicates: 1, requests: 3 };
        let report = Report::of_job(identity("SHARE"), "default", &report, circumstances());
        let text = serde_json::to_string(&report).unwrap();
        assert_eq!(
            text,
            concat!(
                r#"{"job_id":"j","lane":"default","image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":"SHARE","#,
                r#""status":"partial","changed":["10001"],"unchanged":["10003"],"failed":[{"#,
                r#""code":"InvalidAccountId.NotFound","message":"no such account","request_id":"71e69b56","#,
                r#""account_ids":["10002"]}],"#,
                r#""duplicates":1,"requests":3,"redelivered":false,"received_at":"2026-11-24T04:00:00.123Z","#,
                r#""finished_at":"2026-11-24T04:00:03.000Z","labels":{"a":"b"},"worker":"host:17"}"#
            )
        );
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn sync_says_what_it_cancelled() {
        let report = EngineReport {
            outcomes: vec![(id(10_001), AccountOutcome::Unchanged)],
            cancelled: vec![(id(10_002), AccountOutcome::Changed), (id(10_003), failure())],
            duplicates: 0,
            requests: 1,
        };
        let report = Report::of_job(identity("SYNC"), "default", &report, circumstances());
        assert_eq!(report.cancelled, Some(vec![id(10_002)]));
        assert_eq!((report.failed.len(), report.status), (1, Status::Partial));
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains(r#""unchanged":["10001"],"cancelled":["10002"],"failed":"#), "{text}");
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[track_caller]
    fn check(outcomes: &[AccountOutcome], status: Status) {
        let outcomes = (10_001..).map(id).zip(outcomes.iter().cloned()).collect();
        let report = EngineReport { outcomes, cancelled: vec![], duplicates: 0, requests: 0 };
        assert_eq!(Report::of_job(identity("SHARE"), "default", &report, circumstances()).status, status);
    }

    #[test]
    fn status_follows_from_accounts() {
        check(&[AccountOutcome::Changed, AccountOutcome::Unchanged], Status::Succeeded);
        check(&[AccountOutcome::Unchanged, failure()], Status::Partial);
        check(&[AccountOutcome::Changed, failure()], Status::Partial);
        check(&[failure()], Status::Failed);
    }

    #[test]
    fn rejected_job_has_reason_and_nulls() {
        let text = r#"{"image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":"share","account_ids":[10001]}"#;
        let defaults = Defaults { job_id: "line-3".to_owned(), region: None };
        let rejection =
            job::parse(text.as_bytes(), &defaults).unwrap_err().at(Place { file: "jobs.ndjson".into(), line: 3 });
        let report = Report::of_rejection(&rejection, circumstances());
        let text = serde_json::to_string(&report).unwrap();
        let reason =
            r#"jobs.ndjson:3: permission: invalid value \"share\" (expected SHARE, CANCEL or SYNC in capitals)"#;
        assert!(
            text.starts_with(&format!(
                r#"{{"job_id":"line-3","lane":null,"image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":null,"status":"rejected","reason":"{reason}","changed":[],"#
            )),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    /// The report of a SHARE whose accounts failed with these codes in these requests.
    fn failed(failures: impl IntoIterator<Item = (&'static str, &'static str)>) -> Report {
        let failed = |(code, request_id): (&str, &str)| {
            let request_id = RequestId::new(request_id);
            AccountOutcome::Failed(Arc::new(Failure { code: code.into(), message: "m".into(), request_id }))
        };
        let outcomes = (1_000_000_000_000_000_000..).map(id).zip(failures.into_iter().map(failed)).collect();
        let report = EngineReport { outcomes, cancelled: vec![], duplicates: 0, requests: 0 };
        Report::of_job(identity("SHARE"), "default", &report, circumstances())
    }

    #[track_caller]
    fn check_groups(report: &Report, expected: &[(&str, Option<&str>, &[u64])]) {
        let first = 1_000_000_000_000_000_000;
        let groups: Vec<_> = report.failed.iter().collect();
        assert_eq!(groups.len(), expected.len(), "{groups:?}");
        for (group, (code, request_id, accounts)) in groups.into_iter().zip(expected) {
            assert_eq!((group.code.as_str(), group.request_id.as_deref()), (*code, *request_id));
            assert_eq!(group.account_ids, accounts.iter().map(|n| id(first + n)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn failures_are_grouped_by_code_and_request() {
        let report = failed([("A", "r1"), ("A", "r1"), ("B", "r1"), ("A", "r2"), ("A", "r1")]);
        check_groups(&report, &[("A", Some("r1"), &[0, 1, 4]), ("B", Some("r1"), &[2]), ("A", Some("r2"), &[3])]);
    }

    #[test]
    fn long_report_has_one_failure_per_code() {
        let report = failed([("A", "r1"), ("B", "r2"), ("A", "r3")]);
        let whole = report.clone().write(usize::MAX);
        assert_eq!(serde_json::from_slice::<Report>(&whole).unwrap(), report);
        let merged = report.write(whole.len() - 1);
        assert!(merged.len() < whole.len());
        check_groups(&serde_json::from_slice(&merged).unwrap(), &[("A", None, &[0, 2]), ("B", Some("r2"), &[1])]);
    }

    #[test]
    fn shortest_report_has_only_counts() {
        let report = failed([("A", "r1"), ("B", "r2")]);
        let counts = Counts { failed: 2, ..Counts::default() };
        let merged = report.clone().write(usize::MAX).len();
        let truncated: Report = serde_json::from_slice(&report.clone().write(merged - 1)).unwrap();
        assert_eq!((truncated.truncated, truncated.failed.len(), truncated.labels.len()), (Some(counts), 0, 1));
        let shortest: Report = serde_json::from_slice(&report.clone().write(0)).unwrap();
        assert_eq!((shortest.truncated, shortest.counts(), shortest.labels.len()), (Some(counts), counts, 0));
        assert_eq!((shortest.job_id, shortest.status), (report.job_id, Status::Failed));
    }

    #[test]
    fn longest_report_fits_where_its_job_fits() {
        const REQUEST: &str = "71e69b56-6a35-4f5c-9bd6-7f7d8f9a0b1c";
        for (accounts, codes) in [(10_000, 1), (10_000, 3), (1, 1), (50, 50)] {
            let codes: Vec<&'static str> = (0..codes).map(|n| &*format!("InvalidAccountId.Code{n}").leak()).collect();
            let requests = (0..).map(|n: usize| &*format!("{REQUEST}-{n}").leak());
            let report = failed(codes.iter().copied().cycle().zip(requests).take(accounts));
            let len_max = Report::len_max(accounts);
            let text = report.write(len_max);
            assert!(text.len() <= len_max && len_max < 1024 * 1024, "{} bytes", text.len());
            let read: Report = serde_json::from_slice(&text).unwrap();
            assert_eq!((read.truncated, read.counts().failed), (None, accounts as u64));
        }
    }

    #[test]
    fn rejected_report_is_shortened_too() {
        let text = format!(r#"{{"labels":{{"a":"b"}},"permission":"SYNC","{}":1}}"#, "x".repeat(60));
        let defaults = Defaults { job_id: "j".to_owned(), region: None };
        let mut rejection = job::parse(text.as_bytes(), &defaults).unwrap_err();
        rejection.problem = "long ".repeat(300);
        let report = Report::of_rejection(&rejection, circumstances());
        let shortest = report.clone().write(0);
        assert!(shortest.len() < 1024, "{} bytes", shortest.len());
        let read: Report = serde_json::from_slice(&shortest).unwrap();
        assert_eq!((read.status, read.cancelled), (Status::Rejected, Some(vec![])));
        assert!(report.reason.unwrap().starts_with(&read.reason.unwrap()));
    }

    #[test]
    fn worker_is_a_host_and_process() {
        let name = worker_name();
        let (host, process) = name.rsplit_once(':').unwrap();
        assert!(!host.is_empty() && process == std::process::id().to_string(), "{name}");
    }
}
