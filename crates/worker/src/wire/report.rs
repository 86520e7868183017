//! A report as JSON: the outcome of one job for each account of each image.
//!
//! A report has up to four forms, each shorter than the one before, because a broker may refuse long messages. The first
//! has the RequestId of each change and failure, the second omits those of changes, the third has one failure per code, the
//! last counts accounts and names none.

use std::{borrow::Cow, collections::BTreeMap, fs, mem, sync::Arc};

use imageshare_core::{
    ids::{AccountId, ImageId, Region, RequestId},
    text::printable,
};
use imageshare_engine::{
    job::{AcceptedWrite, AccountOutcome, Failure, Report as EngineReport},
    time::Instant,
};
use jiff::{SignedDuration, Timestamp, Unit};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{images::JobImage, job::Identity, mode::Permission, rejection::Rejection};

/// Characters of a failure's message.
pub const MESSAGE_CHARS_MAX: usize = 200;

/// Bytes of the longest report that is published. It is below the length of the longest job, 1 MiB.
pub const REPORT_LEN_MAX: usize = 768 * 1024;

/// Bytes of a published report besides its accounts: members, labels, a few failures.
const REPORT_LEN_BASE: usize = 16 * 1024;

/// Bytes of a published report for each of its accounts: the id, and a share of the failures.
const REPORT_LEN_PER_ACCOUNT: usize = 96;

/// Bytes of a published report for each image after the first: its names, and a failure.
const REPORT_LEN_PER_IMAGE: usize = 512;

/// Characters of the reason in the shortest form of a report.
const SHORT_REASON_CHARS_MAX: usize = 200;

/// The outcome of one job. Its JSON is that of `WrittenReport`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The job's name.
    pub job_id: Option<String>,
    /// The lane that carried it out; for a rejected job, the requested lane.
    pub lane: Option<String>,
    /// The requested change.
    pub permission: Option<Permission>,
    /// The outcome as one word.
    pub status: Status,
    /// Why a job was rejected: member, problem, expectation.
    pub reason: Option<String>,
    /// The outcomes of each image, in the order of the job. Empty if the report of several images is truncated.
    pub images: Vec<ImageOutcomes>,
    /// The number of accounts with each outcome, if the report would be too long with their lists. Then these are empty.
    pub truncated: Option<Counts>,
    /// Accounts that the job named more than once for an image, counted each further time.
    pub duplicates: u32,
    /// Write requests that carried an account of this job.
    pub requests: u32,
    /// Whether an earlier delivery may have been worked on.
    pub redelivered: bool,
    /// When the job was delivered.
    pub received_at: Timestamp,
    /// When it was finished.
    pub finished_at: Timestamp,
    /// The labels of the job.
    pub labels: BTreeMap<String, String>,
    /// The worker, `host:pid`.
    pub worker: String,
}

/// The outcomes of one image. The members and their order are the wire format.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageOutcomes {
    /// The image; `None` if the job is rejected and it could not be read.
    pub image_id: Option<ImageId>,
    /// The region of the image; `None` for the same reason.
    pub region: Option<Region>,
    /// Accounts for which a write was sent and that are now in the requested state.
    pub changed: Vec<AccountId>,
    /// Accounts that were in the requested state before this delivery.
    pub unchanged: Vec<AccountId>,
    /// Accounts whose share a SYNC cancelled, since they are not in its list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled: Option<Vec<AccountId>>,
    /// Accounts that are not known to be in the requested state, grouped by code and request.
    pub failed: Vec<FailureGroup>,
    /// The requests that changed the accounts of `changed` and `cancelled`, as far as their responses arrived.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changed_by: Vec<AcceptedRequest>,
}

/// A report as JSON: the members and their order are the wire format. The outcomes of one image are members of the report,
/// those of several images are in the list `images`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenReport<'a> {
    job_id: Option<Cow<'a, str>>,
    lane: Option<Cow<'a, str>>,
    // The inner value is null in the report of a rejected job without a readable image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    image_id: Option<Option<ImageId>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    region: Option<Option<Region>>,
    permission: Option<Permission>,
    status: Status,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    images: Option<Cow<'a, [ImageOutcomes]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<Cow<'a, [AccountId]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unchanged: Option<Cow<'a, [AccountId]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancelled: Option<Cow<'a, [AccountId]>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    failed: Option<Cow<'a, [FailureGroup]>>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    changed_by: Cow<'a, [AcceptedRequest]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    truncated: Option<Counts>,
    duplicates: u32,
    requests: u32,
    redelivered: bool,
    #[serde(serialize_with = "with_millis")]
    received_at: Timestamp,
    #[serde(serialize_with = "with_millis")]
    finished_at: Timestamp,
    labels: Cow<'a, BTreeMap<String, String>>,
    worker: Cow<'a, str>,
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
    /// The text was not a job, or no lane serves the job.
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

/// Accounts that one request changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedRequest {
    /// The id of the request.
    pub request_id: Option<String>,
    /// When its response arrived.
    #[serde(serialize_with = "with_millis")]
    pub accepted_at: Timestamp,
    /// The accounts of the job that it changed, in the order of the job.
    pub account_ids: Vec<AccountId>,
}

/// The number of accounts with each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// As in [`ImageOutcomes::changed`].
    pub changed: u64,
    /// As in [`ImageOutcomes::unchanged`].
    pub unchanged: u64,
    /// As in [`ImageOutcomes::cancelled`].
    pub cancelled: u64,
    /// Accounts in the groups of [`ImageOutcomes::failed`].
    pub failed: u64,
}

impl Counts {
    /// Adds the outcomes of an image.
    fn add(self, image: &ImageOutcomes) -> Self {
        Self {
            changed: self.changed + image.changed.len() as u64,
            unchanged: self.unchanged + image.unchanged.len() as u64,
            cancelled: self.cancelled + image.cancelled.as_ref().map_or(0, Vec::len) as u64,
            failed: self.failed + image.failed.iter().map(|group| group.account_ids.len() as u64).sum::<u64>(),
        }
    }
}

/// When a job was finished, and by which worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// Whether an earlier delivery may have been worked on.
    pub redelivered: bool,
    /// When the job was delivered, to the millisecond.
    pub received_at: Timestamp,
    /// When it was finished, to the millisecond.
    pub finished_at: Timestamp,
    /// The worker, as [`worker_name`] returns it.
    pub worker: String,
}

impl Report {
    /// Returns the report of a job that this lane carried out, from the outcomes of each of its images.
    /// `engine_epoch` is the time at the engine's moment 0.
    #[must_use]
    pub fn of_job(
        identity: Identity,
        lane: &str,
        reports: &[EngineReport],
        engine_epoch: Timestamp,
        circumstances: Circumstances,
    ) -> Self {
        let is_sync = identity.permission == Permission::Sync;
        let of_image = |(image, report)| ImageOutcomes::new(image, report, is_sync, engine_epoch);
        Self {
            job_id: Some(identity.job_id),
            lane: Some(lane.to_owned()),
            permission: Some(identity.permission),
            status: Status::of(reports),
            reason: None,
            images: identity.images.iter().zip(reports).map(of_image).collect(),
            truncated: None,
            duplicates: reports.iter().map(|report| report.duplicates).sum(),
            requests: reports.iter().map(|report| report.requests).sum(),
            redelivered: circumstances.redelivered,
            received_at: to_millis(circumstances.received_at),
            finished_at: to_millis(circumstances.finished_at),
            labels: identity.labels,
            worker: circumstances.worker,
        }
    }

    /// Returns the report of an invalid job, or of one that no lane serves.
    #[must_use]
    pub fn of_rejection(rejection: &Rejection, circumstances: Circumstances) -> Self {
        let known = &*rejection.known;
        let of_image = |image_id, region| ImageOutcomes {
            image_id,
            region,
            cancelled: (known.permission == Some(Permission::Sync)).then(Vec::new),
            ..ImageOutcomes::default()
        };
        Self {
            job_id: known.job_id.clone(),
            lane: known.lane.clone(),
            permission: known.permission,
            status: Status::Rejected,
            reason: Some(rejection.reason()),
            images: match &known.images {
                Some(images) => images.iter().map(|image| of_image(Some(image.image_id), Some(image.region))).collect(),
                None => vec![of_image(known.image_id, known.region)],
            },
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

    /// Returns the number of accounts with each outcome, in each form of the report. An account counts for each image.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.truncated.unwrap_or_else(|| self.images.iter().fold(Counts::default(), Counts::add))
    }

    /// Returns how many bytes the report of a job with this number of images and outcomes may have, at most
    /// [`REPORT_LEN_MAX`]. The bound is in proportion to the job: a broker that accepted the job accepts the report.
    #[must_use]
    pub fn len_max(images: usize, outcomes: usize) -> usize {
        let further_images = images.saturating_sub(1).saturating_mul(REPORT_LEN_PER_IMAGE);
        let accounts = outcomes.saturating_mul(REPORT_LEN_PER_ACCOUNT);
        REPORT_LEN_BASE.saturating_add(further_images).saturating_add(accounts).min(REPORT_LEN_MAX)
    }

    /// Returns the report as JSON, in the longest of its forms with at most `len_max` bytes, or else in the shortest.
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
        if self.drop_requests() || self.merge_by_code() {
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
        match self.images.as_mut_slice() {
            [image] => image.clear(),
            _ => self.images.clear(),
        }
        true
    }

    /// Drops the requests that changed accounts. Returns whether there were any.
    fn drop_requests(&mut self) -> bool {
        let dropped = |is_any: bool, image: &mut ImageOutcomes| !mem::take(&mut image.changed_by).is_empty() | is_any;
        self.images.iter_mut().fold(false, dropped)
    }

    /// Leaves one group of failures for each image and code. Returns whether that changed anything.
    fn merge_by_code(&mut self) -> bool {
        // Every image is merged.
        self.images.iter_mut().fold(false, |is_merged, image| image.merge_by_code() | is_merged)
    }

    /// Returns the form that is written.
    fn written(&self) -> WrittenReport<'_> {
        let single = match self.images.as_slice() {
            [image] => Some(image),
            _ => None,
        };
        WrittenReport {
            job_id: self.job_id.as_deref().map(Cow::from),
            lane: self.lane.as_deref().map(Cow::from),
            image_id: single.map(|image| image.image_id),
            region: single.map(|image| image.region),
            permission: self.permission,
            status: self.status,
            reason: self.reason.as_deref().map(Cow::from),
            images: if single.is_some() { None } else { Some(Cow::from(&self.images)) },
            changed: single.map(|image| Cow::from(&image.changed)),
            unchanged: single.map(|image| Cow::from(&image.unchanged)),
            cancelled: single.and_then(|image| image.cancelled.as_ref()).map(Cow::from),
            failed: single.map(|image| Cow::from(&image.failed)),
            changed_by: single.map(|image| Cow::from(&image.changed_by)).unwrap_or_default(),
            truncated: self.truncated,
            duplicates: self.duplicates,
            requests: self.requests,
            redelivered: self.redelivered,
            received_at: self.received_at,
            finished_at: self.finished_at,
            labels: Cow::Borrowed(&self.labels),
            worker: Cow::from(&self.worker),
        }
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.written().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Report {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = WrittenReport::deserialize(deserializer)?;
        let images = match (written.images, written.changed, written.unchanged, written.failed) {
            (Some(images), None, None, None) => images.into_owned(),
            (None, Some(changed), Some(unchanged), Some(failed)) => vec![ImageOutcomes {
                image_id: written.image_id.flatten(),
                region: written.region.flatten(),
                changed: changed.into_owned(),
                unchanged: unchanged.into_owned(),
                cancelled: written.cancelled.map(Cow::into_owned),
                failed: failed.into_owned(),
                changed_by: written.changed_by.into_owned(),
            }],
            _ => return Err(de::Error::custom("the outcomes are incomplete (expected images, or those of one image)")),
        };
        Ok(Self {
            job_id: written.job_id.map(Cow::into_owned),
            lane: written.lane.map(Cow::into_owned),
            permission: written.permission,
            status: written.status,
            reason: written.reason.map(Cow::into_owned),
            images,
            truncated: written.truncated,
            duplicates: written.duplicates,
            requests: written.requests,
            redelivered: written.redelivered,
            received_at: written.received_at,
            finished_at: written.finished_at,
            labels: written.labels.into_owned(),
            worker: written.worker.into_owned(),
        })
    }
}

impl ImageOutcomes {
    fn new(image: &JobImage, report: &EngineReport, is_sync: bool, engine_epoch: Timestamp) -> Self {
        let (mut changed, mut unchanged, mut cancelled) = (vec![], vec![], vec![]);
        let (mut failed, mut changed_by) = (Grouping::default(), RequestGrouping::new(engine_epoch));
        for &(account_id, ref outcome) in &report.outcomes {
            match outcome {
                AccountOutcome::Changed(write) => {
                    changed_by.add(account_id, write.as_ref());
                    changed.push(account_id);
                }
                AccountOutcome::Unchanged => unchanged.push(account_id),
                AccountOutcome::Failed(failure) => failed.add(account_id, failure),
            }
        }
        for &(account_id, ref outcome) in &report.cancelled {
            match outcome {
                AccountOutcome::Changed(write) => {
                    changed_by.add(account_id, write.as_ref());
                    cancelled.push(account_id);
                }
                AccountOutcome::Unchanged => cancelled.push(account_id),
                AccountOutcome::Failed(failure) => failed.add(account_id, failure),
            }
        }
        Self {
            image_id: Some(image.image_id),
            region: Some(image.region),
            changed,
            unchanged,
            cancelled: is_sync.then_some(cancelled),
            failed: failed.groups,
            changed_by: changed_by.requests,
        }
    }

    /// Empties its lists.
    fn clear(&mut self) {
        (self.changed, self.unchanged, self.failed, self.changed_by) = (vec![], vec![], vec![], vec![]);
        self.cancelled = self.cancelled.as_ref().map(|_| vec![]);
    }

    /// Leaves one group of failures for each code. Returns whether that changed anything.
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

/// Collects failures in groups, in the order of the first account of each.
#[derive(Default)]
struct Grouping {
    groups: Vec<FailureGroup>,
    places: BTreeMap<(Box<str>, Option<RequestId>), usize>,
    /// The last failure and its group: accounts of one request follow each other and share their failure.
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

/// Changed accounts on their way into the requests that changed them, in the order of the first account of each.
struct RequestGrouping {
    engine_epoch: Timestamp,
    requests: Vec<AcceptedRequest>,
    /// The accounts of one request share one value.
    places: BTreeMap<*const AcceptedWrite, usize>,
}

impl RequestGrouping {
    const fn new(engine_epoch: Timestamp) -> Self {
        Self { engine_epoch, requests: Vec::new(), places: BTreeMap::new() }
    }

    fn add(&mut self, account_id: AccountId, write: Option<&Arc<AcceptedWrite>>) {
        let Some(write) = write else { return };
        let next = self.requests.len();
        let place = *self.places.entry(Arc::as_ptr(write)).or_insert(next);
        if place == next {
            let AcceptedWrite { request_id, at: Instant(millis) } = **write;
            let since = SignedDuration::from_millis(i64::try_from(millis).unwrap_or(i64::MAX));
            let accepted_at = to_millis(self.engine_epoch.saturating_add(since).unwrap_or(Timestamp::MAX));
            let request_id = request_id.map(|id| id.to_string());
            self.requests.push(AcceptedRequest { request_id, accepted_at, account_ids: Vec::new() });
        }
        if let Some(request) = self.requests.get_mut(place) {
            request.account_ids.push(account_id);
        }
    }
}

impl Status {
    /// Returns the status of a job that was carried out, from the outcomes of each of its images.
    #[must_use]
    pub fn of(reports: &[EngineReport]) -> Self {
        let all = reports.iter().flat_map(|report| report.outcomes.iter().chain(&report.cancelled));
        let mut outcomes = all.map(|(_, outcome)| outcome);
        let failed = |outcome: &AccountOutcome| matches!(outcome, AccountOutcome::Failed(_));
        let Some(first) = outcomes.next().map(failed) else { return Self::Succeeded };
        match (first, outcomes.any(|outcome| failed(outcome) != first)) {
            (false, false) => Self::Succeeded,
            (true, false) => Self::Failed,
            (_, true) => Self::Partial,
        }
    }

    /// Returns the word.
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

/// Returns `host:pid` of this process, with the host name of the system or of the variable HOSTNAME.
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

/// Rounds to milliseconds: a call over a network is not measured more exactly.
fn to_millis(time: Timestamp) -> Timestamp {
    // Fails only at the end of the range, where the time stays as it is.
    time.round(Unit::Millisecond).unwrap_or(time)
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
