//! A report as it is written: what became of one job, account by account.

use std::{collections::BTreeMap, fs};

use imageshare_core::ids::{AccountId, ImageId, Region};
use imageshare_engine::job::{AccountOutcome, Failure, Report as EngineReport};
use jiff::{Timestamp, Unit};
use serde::{Deserialize, Serialize};

use super::{job::Identity, mode::Permission, rejection::Rejection};

/// What became of one job. The members and their order are the wire format.
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
    /// What was wished.
    pub permission: Option<Permission>,
    /// The outcome as one word.
    pub status: Status,
    /// Of a rejected job: which member, what was found, what is allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Accounts for which a write was sent and that are now as wished.
    pub changed: Vec<AccountId>,
    /// Accounts that were as wished when this delivery first looked.
    pub unchanged: Vec<AccountId>,
    /// Of a SYNC: accounts that had the image, were not in the list, and have it no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<Vec<AccountId>>,
    /// Accounts that are not known to be as wished, each with the reason.
    pub failed: Vec<FailedAccount>,
    /// Accounts that the job named more than once, counted each further time.
    pub duplicates: u32,
    /// Write requests that carried an account of this job.
    pub requests: u32,
    /// Whether the job may have been worked on before.
    pub redelivered: bool,
    /// When the job came in.
    pub received_at: Timestamp,
    /// When it was done.
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
    /// No account is as wished.
    Failed,
    /// It was no job, or one that no lane takes.
    Rejected,
}

/// An account that is not known to be as wished.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedAccount {
    /// The account.
    pub account_id: AccountId,
    /// An error code of the API, or one of our own, which begin with `Local.`.
    pub code: String,
    /// For people, in one line.
    pub message: String,
    /// The request that was refused, where there is one.
    pub request_id: Option<String>,
}

/// When and by whom a job was done.
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
        let (mut changed, mut unchanged, mut cancelled, mut failed) = (vec![], vec![], vec![], vec![]);
        for &(account_id, ref outcome) in &report.outcomes {
            match outcome {
                AccountOutcome::Changed => changed.push(account_id),
                AccountOutcome::Unchanged => unchanged.push(account_id),
                AccountOutcome::Failed(failure) => failed.push(FailedAccount::new(account_id, failure)),
            }
        }
        for &(account_id, ref outcome) in &report.cancelled {
            match outcome {
                AccountOutcome::Changed | AccountOutcome::Unchanged => cancelled.push(account_id),
                AccountOutcome::Failed(failure) => failed.push(FailedAccount::new(account_id, failure)),
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
            failed,
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
            duplicates: 0,
            requests: 0,
            redelivered: circumstances.redelivered,
            received_at: to_millis(circumstances.received_at),
            finished_at: to_millis(circumstances.finished_at),
            labels: known.labels.clone(),
            worker: circumstances.worker,
        }
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

impl FailedAccount {
    fn new(account_id: AccountId, failure: &Failure) -> Self {
        Self {
            account_id,
            code: failure.code.to_string(),
            message: failure.message.to_string(),
            request_id: failure.request_id.map(|id| id.to_string()),
        }
    }
}

/// `host:pid` of this process; the host as the system or the variable HOSTNAME names it.
#[must_use]
pub fn worker_name() -> String {
    let of_system = fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = of_system.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let host = imageshare_core::text::printable(host.trim(), 253);
    format!("{}:{}", if host.is_empty() { "localhost" } else { &host }, std::process::id())
}

/// Finer than a millisecond says nothing about a call over a network.
fn to_millis(time: Timestamp) -> Timestamp {
    // Fails only beside the ends of time, where the time is as good unrounded.
    time.round(Unit::Millisecond).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use imageshare_core::ids::RequestId;

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
    fn a_report_has_exactly_the_members_of_the_manual_in_their_order() {
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
                r#""status":"partial","changed":["10001"],"unchanged":["10003"],"failed":[{"account_id":"10002","#,
                r#""code":"InvalidAccountId.NotFound","message":"no such account","request_id":"71e69b56"}],"#,
                r#""duplicates":1,"requests":3,"redelivered":false,"received_at":"2026-11-24T04:00:00.123Z","#,
                r#""finished_at":"2026-11-24T04:00:03Z","labels":{"a":"b"},"worker":"host:17"}"#
            )
        );
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn a_sync_says_what_it_cancelled() {
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
    fn the_status_follows_from_the_accounts() {
        check(&[AccountOutcome::Changed, AccountOutcome::Unchanged], Status::Succeeded);
        check(&[AccountOutcome::Unchanged, failure()], Status::Partial);
        check(&[AccountOutcome::Changed, failure()], Status::Partial);
        check(&[failure()], Status::Failed);
    }

    #[test]
    fn a_rejected_job_has_its_reason_and_null_where_nothing_could_be_read() {
        let text = r#"{"image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":"share","account_ids":[10001]}"#;
        let defaults = Defaults { job_id: "line-3".to_owned(), region: None };
        let rejection =
            job::parse(text.as_bytes(), &defaults).unwrap_err().at(Place { file: "jobs.ndjson".into(), line: 3 });
        let report = Report::of_rejection(&rejection, circumstances());
        let text = serde_json::to_string(&report).unwrap();
        let reason = r#"jobs.ndjson line 3: permission: found \"share\", allowed is SHARE, CANCEL or SYNC in capitals"#;
        assert!(
            text.starts_with(&format!(
                r#"{{"job_id":"line-3","lane":null,"image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":null,"status":"rejected","reason":"{reason}","changed":[],"#
            )),
            "{text}"
        );
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
    }

    #[test]
    fn a_worker_is_a_host_and_a_process() {
        let name = worker_name();
        let (host, process) = name.rsplit_once(':').unwrap();
        assert!(!host.is_empty() && process == std::process::id().to_string(), "{name}");
    }
}
