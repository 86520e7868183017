//! A job's JSON.

use imageshare_worker::wire::{
    Defaults, IMAGES_MAX, Images, Job, JobImage, Rejection,
    job::{self, ACCOUNTS_MAX, JOB_BYTES_MAX, LABEL_KEY_LEN_MAX, LABEL_VALUE_LEN_MAX, LABELS_MAX},
};
use serde_json::Value;

use crate::{assert_shown, source::documents};

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
    assert!((1..=IMAGES_MAX).contains(&identity.images.len()) && account_ids.len() == identity.images.len());
    assert_eq!(Images::new(&*identity.images).as_ref(), Ok(&identity.images), "none twice");
    assert!((1..=ACCOUNTS_MAX).contains(&job.accounts()) && account_ids.iter().all(|list| !list.is_empty()));
    assert!(identity.labels.len() <= LABELS_MAX);
    for (key, value) in &identity.labels {
        assert!((1..=LABEL_KEY_LEN_MAX).contains(&key.len()) && value.len() <= LABEL_VALUE_LEN_MAX);
        assert!(!key.contains(char::is_control) && !value.contains(char::is_control));
    }
    let text = job::write(identity, account_ids, *expires_at, *force);
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
    let plain_images = member(&["images"]).and_then(Value::as_array);
    let plain_images = plain_images.map_or_else(|| vec![&plain], |images| images.iter().collect());
    assert_eq!(plain_images.len(), identity.images.len());
    let common = filled_list(&plain);
    for ((plain, image), account_ids) in plain_images.into_iter().zip(&*identity.images).zip(&job.account_ids) {
        check_image(plain, *image, defaults);
        let accounts = filled_list(plain).or(common).expect("an image has a list, or the job");
        let plain: Vec<_> = accounts.iter().map(account).collect();
        assert_eq!(account_ids.iter().map(|id| Some(id.get())).collect::<Vec<_>>(), plain);
    }
    assert_eq!(text(&["permission", "Permission"]), Some(identity.permission.as_str()));
    assert_eq!(member(&["force"]).and_then(Value::as_bool).unwrap_or_default(), job.force);
    assert_eq!(filled(&["expires_at"]).is_some(), job.expires_at.is_some());
    let labels = member(&["labels"]).and_then(Value::as_object);
    let plain = labels.into_iter().flatten().map(|(key, value)| (key.as_str(), value.as_str()));
    let held = identity.labels.iter().map(|(key, value)| (key.as_str(), Some(value.as_str())));
    assert!(held.eq(plain), "labels");
}

/// Checks region and id of an image, which are members of the job or of an element of `images`.
fn check_image(plain: &Value, image: JobImage, defaults: &Defaults) {
    let text = |names: [&str; 2]| names.iter().find_map(|name| plain.get(name)).and_then(Value::as_str);
    assert_eq!(text(["image_id", "ImageId"]), Some(image.image_id.as_str()));
    let default = defaults.region.as_ref().map(|region| region.as_str());
    let region = text(["region", "Region"]).filter(|text| !text.is_empty());
    assert_eq!(region.or(default), Some(image.region.as_str()));
}

/// Returns the list of accounts of a job or an image, if it has one.
fn filled_list(plain: &Value) -> Option<&Vec<Value>> {
    ["account_ids", "AccountIds"].iter().find_map(|name| plain.get(name)).and_then(Value::as_array)
}

fn account(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        number => number.as_u64(),
    }
}
