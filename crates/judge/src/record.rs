//! The record of one round: jobs, reports, dead letters, and the requests and states of the sandbox. It contains nothing
//! from the log, status or metrics of a worker. Beside it the states of every account over time, replayed from the effects in
//! the sandbox's log.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

/// Microseconds since 1970.
pub(crate) type Micros = i64;

/// Which accounts have each image.
pub(crate) type Shares = BTreeMap<String, BTreeSet<u64>>;

/// The input of the judge.
#[derive(Clone, Debug, Deserialize)]
pub struct Record {
    /// In publish order. The broker confirmed every one.
    pub(crate) jobs: Vec<PublishedJob>,
    /// `job_id`s of messages that are not valid jobs.
    pub(crate) invalid: BTreeSet<String>,
    pub(crate) reports: Vec<JobReport>,
    pub(crate) dead: Vec<RecordedDeadLetter>,
    /// In the order of arrival.
    pub(crate) requests: Vec<LoggedRequest>,
    pub(crate) initial: Shares,
    pub(crate) last: Shares,
    /// Messages that are still in the queues of the lanes.
    pub(crate) left: u64,
    /// The `Host` header of each worker, by its process id.
    pub(crate) hosts: BTreeMap<String, String>,
    /// Accounts that do not exist.
    pub(crate) unknown: BTreeSet<u64>,
    /// How many accounts an image may be shared with.
    pub(crate) cap: usize,
    /// How long a request may be in flight if the sandbox answers it normally.
    pub(crate) in_flight: Micros,
    /// How long a request with a fault may be in flight or in doubt.
    pub(crate) in_doubt: Micros,
    /// Whether every job must succeed.
    pub(crate) is_calm: bool,
    /// How many accounts of an image a worker may write although they are as requested; `None` if the faults set no bound.
    pub(crate) repeats_max: Option<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum JobKind {
    Share,
    Cancel,
    Sync,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct PublishedJob {
    #[serde(rename = "job_id")]
    pub(crate) id: String,
    #[serde(rename = "image_id")]
    pub(crate) image: String,
    #[serde(rename = "permission")]
    pub(crate) kind: JobKind,
    #[serde(rename = "account_ids", deserialize_with = "accounts")]
    pub(crate) accounts: BTreeSet<u64>,
    #[serde(default)]
    pub(crate) force: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReportedOutcome {
    Changed,
    Unchanged,
    /// Removed by a SYNC.
    Cancelled,
    Failed(ReportedFailure),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReportedFailure {
    pub(crate) code: String,
    pub(crate) request_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct JobReport {
    pub(crate) job_id: String,
    #[serde(rename = "image_id", default)]
    pub(crate) image: String,
    pub(crate) status: String,
    pub(crate) redelivered: bool,
    #[serde(rename = "received_at", deserialize_with = "time")]
    pub(crate) received: Micros,
    #[serde(rename = "finished_at", deserialize_with = "time")]
    pub(crate) finished: Micros,
    /// The process id of the worker.
    #[serde(deserialize_with = "process")]
    pub(crate) worker: String,
    /// The requests that changed accounts.
    #[serde(default)]
    pub(crate) changed_by: Vec<ReportedRequest>,
    #[serde(flatten, deserialize_with = "outcomes")]
    pub(crate) outcomes: Vec<(u64, ReportedOutcome)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct ReportedRequest {
    #[serde(rename = "request_id")]
    pub(crate) id: String,
    #[serde(rename = "account_ids", deserialize_with = "accounts")]
    pub(crate) accounts: BTreeSet<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RecordedDeadLetter {
    pub(crate) reason: String,
    pub(crate) code: Option<String>,
    /// For an invalid message, the members that are as in a job.
    pub(crate) body: DeadBody,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct DeadBody {
    pub(crate) job_id: String,
    #[serde(rename = "account_ids", deserialize_with = "accounts")]
    pub(crate) accounts: BTreeSet<u64>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LoggedRequest {
    #[serde(rename = "request_id")]
    pub(crate) id: String,
    #[serde(rename = "time", deserialize_with = "time")]
    pub(crate) at: Micros,
    pub(crate) host: String,
    pub(crate) action: String,
    pub(crate) code: String,
    pub(crate) fault: Option<String>,
    pub(crate) late: Option<LateEffect>,
    #[serde(rename = "image_id")]
    pub(crate) image: Option<String>,
    pub(crate) permission: Option<JobKind>,
    #[serde(deserialize_with = "accounts")]
    pub(crate) accounts: Vec<u64>,
}

/// The outcome of a write that takes effect later than its response.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct LateEffect {
    code: String,
    #[serde(deserialize_with = "time")]
    time: Micros,
}

impl Record {
    /// Reads a record as the outside checker writes it. What names several images is split into parts for one image each,
    /// whose `job_id` has the image too.
    ///
    /// # Errors
    ///
    /// A member is missing or has another type.
    pub fn parse(mut raw: Value) -> Result<Self, serde_json::Error> {
        let jobs = raw["jobs"].as_array().into_iter().flatten();
        let several = jobs.filter(|job| job["images"].is_array()).map(|job| job["job_id"].clone()).collect::<Vec<_>>();
        for (list, body) in [("jobs", ""), ("reports", ""), ("dead", "/body")] {
            if let Some(entries) = raw.get_mut(list).and_then(Value::as_array_mut) {
                *entries = entries.drain(..).flat_map(|entry| parts(entry, body, &several)).collect();
            }
        }
        serde_json::from_value(raw)
    }

    /// How many jobs, reports and requests it has.
    #[must_use]
    pub fn counts(&self) -> [usize; 3] {
        [self.jobs.len(), self.reports.len(), self.requests.len()]
    }

    /// Returns the index of a job in publish order.
    pub(crate) fn job(&self, id: &str) -> Option<usize> {
        self.jobs.iter().position(|job| job.id == id)
    }
}

impl JobReport {
    pub(crate) fn outcome(&self, account: u64) -> Option<&ReportedOutcome> {
        self.outcomes.iter().find(|(named, _)| *named == account).map(|(_, outcome)| outcome)
    }

    /// Returns the request that changed an account, if the report names it.
    pub(crate) fn changed_by(&self, account: u64) -> Option<&str> {
        let request = self.changed_by.iter().find(|request| request.accounts.contains(&account))?;
        Some(&request.id)
    }

    /// The accounts that failed, with the reason.
    pub(crate) fn failed(&self) -> impl Iterator<Item = (u64, &ReportedFailure)> {
        self.outcomes.iter().filter_map(|(account, outcome)| match outcome {
            ReportedOutcome::Failed(failure) => Some((*account, failure)),
            _ => None,
        })
    }

    /// Whether every account failed. A SYNC may then have changed nothing at all.
    pub(crate) fn failed_as_a_whole(&self) -> bool {
        self.outcomes.iter().all(|(_, outcome)| matches!(outcome, ReportedOutcome::Failed(_)))
    }
}

impl LoggedRequest {
    /// Whether a write is a SHARE; `None` for other requests.
    pub(crate) fn share(&self) -> Option<bool> {
        self.permission.map(|permission| permission == JobKind::Share)
    }

    /// Returns the time at which a write took effect, if it did.
    pub(crate) fn effect(&self) -> Option<Micros> {
        let late = self.late.as_ref().filter(|late| late.code == "ok").map(|late| late.time);
        let effect = if self.code == "ok" { Some(self.at) } else { late };
        effect.filter(|_| self.permission.is_some())
    }

    /// Whether it is a write to an account of an image.
    pub(crate) fn writes(&self, image: &str, account: u64) -> bool {
        self.permission.is_some() && self.image.as_deref() == Some(image) && self.accounts.contains(&account)
    }
}

/// Returns an entry of a record once for each of the images that its body names, if it is about one of these jobs. The dead
/// letter of a job that failed for one of its images names this image alone.
fn parts(entry: Value, body: &str, several: &[Value]) -> Vec<Value> {
    let Some(whole) = entry.pointer(body).filter(|whole| several.contains(&whole["job_id"])) else {
        return vec![entry];
    };
    let alone = [Value::Object(serde_json::Map::new())];
    let images = whole["images"].as_array().map_or(&alone[..], Vec::as_slice);
    let of_image = |image: &Value| {
        let mut part = entry.clone();
        if let (Some(Value::Object(members)), Value::Object(image)) = (part.pointer_mut(body), image) {
            members.extend(image.clone());
            let id = |name: &str| members.get(name).and_then(Value::as_str).unwrap_or_default();
            let job_id = [id("job_id"), id("image_id")].join("/");
            members.insert("job_id".to_owned(), job_id.into());
        }
        part
    };
    images.iter().map(of_image).collect()
}

fn accounts<'de, D: Deserializer<'de>, C: FromIterator<u64>>(raw: D) -> Result<C, D::Error> {
    Vec::<String>::deserialize(raw)?.iter().map(|id| id.parse().map_err(Error::custom)).collect()
}

fn time<'de, D: Deserializer<'de>>(raw: D) -> Result<Micros, D::Error> {
    let time = String::deserialize(raw)?.parse().map_err(Error::custom);
    time.map(jiff::Timestamp::as_microsecond)
}

fn process<'de, D: Deserializer<'de>>(raw: D) -> Result<String, D::Error> {
    let worker = String::deserialize(raw)?;
    Ok(worker.rsplit(':').next().unwrap_or_default().to_owned())
}

/// Parses the lists of a report.
fn outcomes<'de, D: Deserializer<'de>>(raw: D) -> Result<Vec<(u64, ReportedOutcome)>, D::Error> {
    let report = BTreeMap::<String, Value>::deserialize(raw)?;
    let list = |member: &str| report.get(member).and_then(Value::as_array).into_iter().flatten();
    let number = |id: &Value| id.as_str().and_then(|id| id.parse().ok()).ok_or_else(|| Error::custom("account"));
    let mut outcomes = Vec::new();
    for (member, outcome) in [
        ("changed", ReportedOutcome::Changed),
        ("unchanged", ReportedOutcome::Unchanged),
        ("cancelled", ReportedOutcome::Cancelled),
    ] {
        for account in list(member) {
            outcomes.push((number(account)?, outcome.clone()));
        }
    }
    for failure in list("failed") {
        let text = |member: &str| failure[member].as_str().map(str::to_owned);
        let outcome = ReportedOutcome::Failed(ReportedFailure {
            code: text("code").unwrap_or_default(),
            request_id: text("request_id"),
        });
        for account in failure["account_ids"].as_array().into_iter().flatten() {
            outcomes.push((number(account)?, outcome.clone()));
        }
    }
    Ok(outcomes)
}

/// The states of all images over a round.
pub(crate) struct Timeline {
    images: BTreeMap<String, Vec<ShareChange>>,
    initial: Shares,
}

/// A change of one account, by one request.
#[derive(Clone, Copy)]
struct ShareChange {
    at: Micros,
    account: u64,
    shared: bool,
    /// The index of the request in the log.
    request: usize,
}

impl Timeline {
    pub(crate) fn new(record: &Record) -> Self {
        let mut effects: Vec<(Micros, usize)> =
            (0..).zip(&record.requests).filter_map(|(place, request)| Some((request.effect()?, place))).collect();
        // Requests that took effect in the same microsecond did so in the order of arrival.
        effects.sort_unstable();
        let mut state = record.initial.clone();
        let mut images: BTreeMap<String, Vec<ShareChange>> = BTreeMap::new();
        for (at, place) in effects {
            let request = &record.requests[place];
            let (Some(image), Some(shared)) = (&request.image, request.share()) else { continue };
            let accounts = state.entry(image.clone()).or_default();
            for &account in &request.accounts {
                if if shared { accounts.insert(account) } else { accounts.remove(&account) } {
                    images.entry(image.clone()).or_default().push(ShareChange { at, account, shared, request: place });
                }
            }
        }
        Self { images, initial: record.initial.clone() }
    }

    /// Returns the first moment from `from` on at which an account has a state, with the index of the request that caused
    /// the state, if it did not have it at `from`.
    pub(crate) fn first(
        &self,
        image: &str,
        account: u64,
        shared: bool,
        from: Micros,
    ) -> Option<(Micros, Option<usize>)> {
        let mut now = self.initial.get(image).is_some_and(|accounts| accounts.contains(&account));
        for change in self.changes(image).iter().filter(|change| change.account == account) {
            if change.at > from {
                if now == shared {
                    return Some((from, None));
                }
                if change.shared == shared {
                    return Some((change.at, Some(change.request)));
                }
            }
            now = change.shared;
        }
        (now == shared).then_some((from, None))
    }

    /// Returns the accounts of an image at the beginning of a span and after each change within it.
    pub(crate) fn states(&self, image: &str, from: Micros, to: Micros) -> Vec<BTreeSet<u64>> {
        let mut state = self.initial.get(image).cloned().unwrap_or_default();
        let mut states = Vec::new();
        for change in self.changes(image).iter().take_while(|change| change.at <= to) {
            if change.at > from {
                states.push(state.clone());
            }
            if change.shared {
                state.insert(change.account)
            } else {
                state.remove(&change.account)
            };
        }
        states.push(state);
        states
    }

    /// Returns the accounts of an image at the end.
    pub(crate) fn last(&self, image: &str) -> BTreeSet<u64> {
        self.states(image, Micros::MAX, Micros::MAX).pop().unwrap_or_default()
    }

    fn changes(&self, image: &str) -> &[ShareChange] {
        self.images.get(image).map_or(&[], Vec::as_slice)
    }
}
