//! A job's JSON.

use imageshare_core::ids::AccountId;
use imageshare_worker::wire::{
    Defaults, Job, Rejection,
    job::{self, ACCOUNTS_MAX, JOB_BYTES_MAX, LABEL_KEY_LEN_MAX, LABEL_VALUE_LEN_MAX, LABELS_MAX},
};
use serde_json::Value;

use crate::{shown::assert_shown, source::documents};

/// Maximum length of a rejection in characters: that of a report's `reason`.
const REASON_CHARS_MAX: usize = 2_000;

/// Checks jobs as JSON. An accepted job is within its bounds, agrees with a plain `serde_json` reading, and survives writing
/// and parsing. A rejection is printable and not truncated.
///
/// # Panics
/// If a property does not hold.
pub fn job(data: &[u8]) {
    documents(data).for_each(check_document);
}

fn check_document(data: &[u8]) {
    for region in [None, Some("ap-tokyo".parse().expect("it is a region"))] {
        let defaults = Defaults { job_id: "line-7".to_owned(), region };
        match job::parse(data, &defaults) {
            Ok(job) => {
                check_job(&job);
                check_plain(&job, data, &defaults);
            }
            Err(rejection) => check_rejection(&rejection),
        }
    }
}

/// Checks the bounds of an accepted job.
pub(crate) fn check_job(job: &Job) {
    let Job { identity, account_ids, expires_at, force } = job;
    assert!(job::is_job_id(&identity.job_id));
    assert!(identity.lane.as_deref().is_none_or(job::is_lane_name));
    assert!((1..=ACCOUNTS_MAX).contains(&account_ids.len()) && identity.labels.len() <= LABELS_MAX);
    for (key, value) in &identity.labels {
        assert!((1..=LABEL_KEY_LEN_MAX).contains(&key.len()) && value.len() <= LABEL_VALUE_LEN_MAX);
        assert!(!key.contains(char::is_control) && !value.contains(char::is_control));
    }
    let text = job::write(identity, account_ids.iter().copied(), *expires_at, *force);
    let other = Defaults { job_id: "another".to_owned(), region: None };
    if text.len() <= JOB_BYTES_MAX {
        assert_eq!(job::parse(&text, &other).as_ref(), Ok(job), "{}", String::from_utf8_lossy(&text));
    }
}

/// A text that was refused, by whichever way.
pub(crate) fn check_rejection(rejection: &Rejection) {
    assert_shown(&rejection.to_string(), REASON_CHARS_MAX);
    assert_eq!(rejection.reason(), rejection.to_string());
    let known = &rejection.known;
    assert!(known.job_id.as_deref().is_none_or(job::is_job_id));
    assert!(known.lane.as_deref().is_none_or(job::is_lane_name));
    assert!(known.labels.len() <= LABELS_MAX);
}

fn check_plain(job: &Job, data: &[u8], defaults: &Defaults) {
    let plain: Value = serde_json::from_slice(data).expect("a job is JSON");
    let member = |names: &[&str]| names.iter().find_map(|name| plain.get(name));
    let text = |names: &[&str]| member(names).and_then(Value::as_str);
    // An empty optional text counts as absent, and so does null.
    let filled = |names: &[&str]| text(names).filter(|text| !text.is_empty());
    let identity = &job.identity;
    assert_eq!(filled(&["job_id"]).unwrap_or(&defaults.job_id), identity.job_id);
    assert_eq!(filled(&["lane"]), identity.lane.as_deref());
    assert_eq!(text(&["image_id", "ImageId"]), Some(identity.image_id.as_str()));
    let default = defaults.region.as_ref().map(|region| region.as_str());
    assert_eq!(filled(&["region", "Region"]).or(default), Some(identity.region.as_str()));
    assert_eq!(text(&["permission", "Permission"]), Some(identity.permission.as_str()));
    let accounts = member(&["account_ids", "AccountIds"]).and_then(Value::as_array).expect("a job has a list");
    let account = |value: &Value| match value {
        Value::String(text) => text.trim().parse().ok(),
        number => number.as_u64(),
    };
    let found: Vec<_> = accounts.iter().map(account).collect();
    assert_eq!(job.account_ids.iter().map(|id: &AccountId| Some(id.get())).collect::<Vec<_>>(), found);
    assert_eq!(member(&["force"]).and_then(Value::as_bool).unwrap_or_default(), job.force);
    assert_eq!(filled(&["expires_at"]).is_some(), job.expires_at.is_some());
    let labels = member(&["labels"]).and_then(Value::as_object);
    let found = labels.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
    let held = identity.labels.iter().map(|(key, value)| (key.as_str(), Some(value.as_str())));
    assert!(held.eq(found), "labels");
}
