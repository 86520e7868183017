//! The record of one round: jobs, reports, dead letters, and the requests and states of the sandbox. It contains nothing
//! from the log, status or metrics of a worker.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Microseconds since 1970.
pub(super) type Micros = i64;

/// Which accounts have each image.
pub(super) type Shares = BTreeMap<String, BTreeSet<u64>>;

/// All that the judge receives.
#[derive(Clone, Debug)]
pub(super) struct Record {
    /// In publish order. The broker confirmed every one.
    pub(super) jobs: Vec<Job>,
    /// `job_id`s of messages that are not valid jobs.
    pub(super) invalid: BTreeSet<String>,
    pub(super) reports: Vec<Report>,
    pub(super) dead: Vec<DeadLetter>,
    /// In the order of arrival.
    pub(super) requests: Vec<Request>,
    pub(super) initial: Shares,
    pub(super) last: Shares,
    /// Messages that are still in the queues of the lanes.
    pub(super) left: u64,
    /// The `Host` header of each worker, by its process id.
    pub(super) hosts: BTreeMap<String, String>,
    /// Accounts that do not exist.
    pub(super) unknown: BTreeSet<u64>,
    /// How many accounts an image may be shared with.
    pub(super) cap: usize,
    /// How long a request may be in flight if the sandbox answers it normally.
    pub(super) in_flight: Micros,
    /// How long a request with a fault may be in flight or in doubt.
    pub(super) in_doubt: Micros,
    /// Whether every job must succeed.
    pub(super) is_calm: bool,
    /// How many accounts of an image a worker may write although they are as requested; `None` if the faults set no bound.
    pub(super) repeats_max: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Share,
    Cancel,
    Sync,
}

#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) id: String,
    pub(super) image: String,
    pub(super) kind: Kind,
    pub(super) accounts: BTreeSet<u64>,
    pub(super) force: bool,
    pub(super) expires: Option<Micros>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Changed,
    Unchanged,
    /// Removed by a SYNC.
    Cancelled,
    Failed(Failure),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) code: String,
    pub(super) request_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) job_id: String,
    pub(super) image: String,
    pub(super) status: String,
    pub(super) outcomes: Vec<(u64, Outcome)>,
    pub(super) redelivered: bool,
    pub(super) received: Micros,
    pub(super) finished: Micros,
    /// The process id of the worker.
    pub(super) worker: String,
}

#[derive(Clone, Debug)]
pub(super) struct DeadLetter {
    pub(super) job_id: String,
    pub(super) reason: String,
    pub(super) code: Option<String>,
    pub(super) accounts: BTreeSet<u64>,
}

#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) id: String,
    pub(super) at: Micros,
    pub(super) host: String,
    pub(super) action: String,
    pub(super) code: String,
    pub(super) fault: Option<String>,
    /// When it took effect; `None` if it did not.
    pub(super) effect: Option<Micros>,
    pub(super) image: Option<String>,
    /// Of a write: whether it is a SHARE.
    pub(super) share: Option<bool>,
    pub(super) accounts: Vec<u64>,
}

impl Record {
    /// Reads a record as [`round`](super::round) writes it.
    #[track_caller]
    pub(super) fn parse(raw: &Value) -> Self {
        let hosts = raw["hosts"].as_object().unwrap().iter().map(|(pid, host)| (pid.clone(), text(host))).collect();
        Self {
            jobs: list(&raw["jobs"]).map(Job::parse).collect(),
            invalid: list(&raw["invalid"]).map(text).collect(),
            reports: list(&raw["reports"]).map(Report::parse).collect(),
            dead: list(&raw["dead"]).map(DeadLetter::parse).collect(),
            requests: list(&raw["requests"]).map(Request::parse).collect(),
            initial: shares(&raw["initial"]),
            last: shares(&raw["last"]),
            left: raw["left"].as_u64().unwrap(),
            hosts,
            unknown: accounts(&raw["unknown"]),
            cap: usize::try_from(raw["cap"].as_u64().unwrap()).unwrap(),
            in_flight: raw["in_flight"].as_i64().unwrap(),
            in_doubt: raw["in_doubt"].as_i64().unwrap(),
            is_calm: raw["calm"] == true,
            repeats_max: raw["repeats_max"].as_u64(),
        }
    }

    /// Returns the index of a job in publish order.
    pub(super) fn job(&self, id: &str) -> Option<usize> {
        self.jobs.iter().position(|job| job.id == id)
    }
}

impl Job {
    fn parse(job: &Value) -> Self {
        let kind = match job["permission"].as_str() {
            Some("SHARE") => Kind::Share,
            Some("CANCEL") => Kind::Cancel,
            Some("SYNC") => Kind::Sync,
            _ => panic!("{job}"),
        };
        Self {
            id: text(&job["job_id"]),
            image: text(&job["image_id"]),
            kind,
            accounts: accounts(&job["account_ids"]),
            force: job["force"] == true,
            expires: job["expires_at"].as_str().map(|_| time(&job["expires_at"])),
        }
    }
}

impl Report {
    fn parse(report: &Value) -> Self {
        let mut outcomes = Vec::new();
        for (member, outcome) in
            [("changed", Outcome::Changed), ("unchanged", Outcome::Unchanged), ("cancelled", Outcome::Cancelled)]
        {
            outcomes.extend(list(&report[member]).map(|account| (number(account), outcome.clone())));
        }
        for failure in list(&report["failed"]) {
            let outcome = Outcome::Failed(Failure {
                code: text(&failure["code"]),
                request_id: failure["request_id"].as_str().map(str::to_owned),
            });
            // One account, or a group of accounts with the same failure.
            let one = failure.get("account_id").into_iter();
            let accounts = one.chain(list(&failure["account_ids"])).map(number);
            outcomes.extend(accounts.map(|account| (account, outcome.clone())));
        }
        let worker = text(&report["worker"]);
        Self {
            job_id: text(&report["job_id"]),
            image: text(&report["image_id"]),
            status: text(&report["status"]),
            outcomes,
            redelivered: report["redelivered"] == true,
            received: time(&report["received_at"]),
            finished: time(&report["finished_at"]),
            worker: worker.rsplit(':').next().unwrap().to_owned(),
        }
    }

    pub(super) fn outcome(&self, account: u64) -> Option<&Outcome> {
        self.outcomes.iter().find(|(named, _)| *named == account).map(|(_, outcome)| outcome)
    }

    /// The accounts that failed, with the reason.
    pub(super) fn failed(&self) -> impl Iterator<Item = (u64, &Failure)> {
        self.outcomes.iter().filter_map(|(account, outcome)| match outcome {
            Outcome::Failed(failure) => Some((*account, failure)),
            _ => None,
        })
    }

    /// Whether every account failed. A SYNC may then have changed nothing at all.
    pub(super) fn failed_as_a_whole(&self) -> bool {
        self.outcomes.iter().all(|(_, outcome)| matches!(outcome, Outcome::Failed(_)))
    }
}

impl DeadLetter {
    fn parse(letter: &Value) -> Self {
        Self {
            job_id: text(&letter["body"]["job_id"]),
            reason: text(&letter["reason"]),
            code: letter["code"].as_str().map(str::to_owned),
            accounts: accounts(&letter["body"]["account_ids"]),
        }
    }
}

impl Request {
    fn parse(entry: &Value) -> Self {
        let at = time(&entry["time"]);
        let late = &entry["late"];
        let effect = if entry["code"] == "ok" { Some(at) } else { (late["code"] == "ok").then(|| time(&late["time"])) };
        let share = entry["permission"].as_str().map(|permission| permission == "SHARE");
        Self {
            id: text(&entry["request_id"]),
            at,
            host: text(&entry["host"]),
            action: text(&entry["action"]),
            code: text(&entry["code"]),
            fault: entry["fault"].as_str().map(str::to_owned),
            effect: effect.filter(|_| share.is_some()),
            image: entry["image_id"].as_str().map(str::to_owned),
            share,
            accounts: list(&entry["accounts"]).map(number).collect(),
        }
    }

    /// Whether it is a write to an account of an image.
    pub(super) fn writes(&self, image: &str, account: u64) -> bool {
        self.share.is_some() && self.image.as_deref() == Some(image) && self.accounts.contains(&account)
    }
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_str().and_then(|id| id.parse().ok()).unwrap_or_else(|| panic!("account id {value}"))
}

fn accounts(value: &Value) -> BTreeSet<u64> {
    list(value).map(number).collect()
}

fn shares(value: &Value) -> Shares {
    value.as_object().unwrap().iter().map(|(image, set)| (image.clone(), accounts(set))).collect()
}

fn time(value: &Value) -> Micros {
    let time: jiff::Timestamp =
        value.as_str().and_then(|time| time.parse().ok()).unwrap_or_else(|| panic!("time {value}"));
    time.as_microsecond()
}
