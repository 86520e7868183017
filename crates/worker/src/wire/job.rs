//! A job as JSON: one object, checked member by member.

use std::{collections::BTreeMap, str};

use imageshare_core::{
    UnixSeconds,
    ids::{AccountId, AccountIdError, ImageId, Region},
    text::excerpt,
};
use imageshare_engine::{job::Job as EngineJob, time::Instant};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    images::{self, Images, JobImage},
    mode::Permission,
    rejection::{Known, Rejection},
    sheet,
    value::{self, Value},
};

/// Account ids that a job may name, counted for each of its images. Repeated ones count.
pub const ACCOUNTS_MAX: usize = 10_000;

/// Bytes of a job's text.
pub const JOB_BYTES_MAX: usize = 1024 * 1024;

/// Characters of a job's id, all printable ASCII.
pub const JOB_ID_LEN_MAX: usize = 128;

/// Labels of a job.
pub const LABELS_MAX: usize = 16;

/// Bytes of a label's key, which has at least one.
pub const LABEL_KEY_LEN_MAX: usize = 63;

/// Bytes of a label's value.
pub const LABEL_VALUE_LEN_MAX: usize = 256;

/// Characters of a lane's name.
pub const LANE_LEN_MAX: usize = 63;

/// The members of a job and their aliases, in the order of their checks and of [`JobMembers`].
pub(super) const MEMBERS: [&[&str]; 10] = [
    &["job_id"],
    &["lane"],
    &["image_id", "ImageId"],
    &["region", "Region"],
    &["images"],
    &["permission", "Permission"],
    &["account_ids", "AccountIds"],
    &["labels"],
    &["expires_at"],
    &["force"],
];

/// Members that a job must have. `images` may replace the first, and account ids of each image the last.
const REQUIRED: [&str; 3] = ["image_id", "permission", "account_ids"];

pub(super) const ALLOWED_ACCOUNT: &str = "a root account id of 5 to 19 digits without a leading zero";
pub(super) const ALLOWED_IMAGE: &str = "img- followed by 4 to 32 lowercase letters or digits";
pub(super) const ALLOWED_REGION: &str = "a region id such as ap-singapore, at most 32 characters";
const ALLOWED_PERMISSION: &str = "SHARE, CANCEL or SYNC in capitals";
const ALLOWED_TIME: &str = "a time such as 2026-11-24T04:00:00Z (RFC 3339)";

/// A list of accounts for each image of a job.
pub type AccountLists = Box<[Box<[AccountId]>]>;

/// A valid job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// The members that its report repeats.
    pub identity: Identity,
    /// A list for each image, in their order, each with at least one account in the order of the job. All together have at
    /// most [`ACCOUNTS_MAX`], repeated ones included.
    pub account_ids: AccountLists,
    /// When it expires: no request for it is begun after this moment.
    pub expires_at: Option<Timestamp>,
    /// Whether a SYNC may cancel more shares than the cancel limit allows.
    pub force: bool,
}

/// The members of a job that its report repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The id, 1 to [`JOB_ID_LEN_MAX`] printable ASCII characters.
    pub job_id: String,
    /// The requested lane, if any.
    pub lane: Option<String>,
    /// The images.
    pub images: Images,
    /// The requested change.
    pub permission: Permission,
    /// The publisher's own labels.
    pub labels: BTreeMap<String, String>,
}

/// The values of members that a job lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// The job id: the id of the message, or the line of the file.
    pub job_id: String,
    /// The region; `None` if each job must have one.
    pub region: Option<Region>,
}

impl Job {
    /// Returns the number of its accounts, counted for each of its images.
    #[must_use]
    pub fn accounts(&self) -> usize {
        self.account_ids.iter().map(|list| list.len()).sum()
    }

    /// Returns the identity for the report, and the engine's jobs, one for each image. `deadline` is `expires_at` on the
    /// driver's clock.
    #[must_use]
    pub fn into_parts(self, deadline: Option<Instant>, redelivered: bool) -> (Identity, Vec<EngineJob>) {
        let (mode, force) = (self.identity.permission.into(), self.force);
        let of_image = |(&JobImage { region, image_id }, account_ids)| EngineJob {
            region,
            image_id,
            mode,
            account_ids,
            deadline,
            force,
            redelivered,
        };
        let jobs = self.identity.images.iter().zip(self.account_ids).map(of_image).collect();
        (self.identity, jobs)
    }
}

/// Writes a job with a list of accounts for each image, as [`parse`] reads it.
#[must_use]
pub fn write(
    identity: &Identity,
    account_ids: &[Box<[AccountId]>],
    expires_at: Option<Timestamp>,
    force: bool,
) -> Vec<u8> {
    write_with(identity, account_ids, expires_at, force)
}

/// Writes a job as [`write`] does, but with account ids as numbers, which is the shortest form that [`parse`] reads.
#[must_use]
pub(crate) fn write_short(job: &Job) -> Vec<u8> {
    let numbers = |list: &[AccountId]| list.iter().map(|account| account.get()).collect();
    let account_ids: Vec<Box<[u64]>> = job.account_ids.iter().map(|list| numbers(list)).collect();
    write_with(&job.identity, &account_ids, job.expires_at, job.force)
}

fn write_with<A: Serialize + PartialEq>(
    identity: &Identity,
    account_ids: &[Box<[A]>],
    expires_at: Option<Timestamp>,
    force: bool,
) -> Vec<u8> {
    let single = identity.images.single();
    // One list for all images is written once.
    let common = account_ids.first().filter(|first| account_ids.iter().all(|list| list == *first)).map(|list| &**list);
    let of_image = |(image, list): (&JobImage, _)| WrittenImage {
        region: image.region,
        image_id: image.image_id,
        account_ids: if common.is_some() { None } else { Some(list) },
    };
    let images = || identity.images.iter().zip(account_ids.iter().map(|list| &**list)).map(of_image).collect();
    let written = WrittenJob {
        job_id: &identity.job_id,
        lane: identity.lane.as_deref(),
        image_id: single.map(|image| image.image_id),
        region: single.map(|image| image.region),
        images: if single.is_some() { None } else { Some(images()) },
        permission: identity.permission,
        account_ids: common,
        labels: &identity.labels,
        expires_at,
        force,
    };
    serde_json::to_vec(&written).expect("a job is texts, numbers and lists of them")
}

/// The members of a job in the order of [`MEMBERS`].
#[derive(Serialize)]
struct WrittenJob<'a, A> {
    job_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    lane: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_id: Option<ImageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    region: Option<Region>,
    #[serde(skip_serializing_if = "Option::is_none")]
    images: Option<Vec<WrittenImage<'a, A>>>,
    permission: Permission,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_ids: Option<&'a [A]>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "is_false")]
    force: bool,
}

/// One of several images of a job.
#[derive(Serialize)]
struct WrittenImage<'a, A> {
    region: Region,
    image_id: ImageId,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_ids: Option<&'a [A]>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes members so")]
const fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Parses a job.
///
/// # Errors
/// If the text is not a job: the first problem, with the members that are valid nevertheless.
pub fn parse(body: &[u8], defaults: &Defaults) -> Result<Job, Rejection> {
    if body.len() > JOB_BYTES_MAX {
        return Err(unreadable(defaults, too_long()));
    }
    let text = str::from_utf8(body).map_err(|error| unreadable(defaults, not_utf8(body, error)))?;
    let mut slots = JobMembers([const { None }; MEMBERS.len()]);
    let read = value::read_members(text, &MEMBERS, &mut slots.0);
    let rejected = |(member, problem): (Option<String>, String)| Rejection {
        place: None,
        member,
        problem,
        known: Box::new(slots.known(defaults)),
    };
    read.map_err(|malformed| rejected((malformed.member, malformed.problem)))?;
    slots.job(defaults).map_err(|problem| rejected((Some(problem.member), problem.problem)))
}

/// Returns the rejection of an unreadable text.
pub(super) fn unreadable(defaults: &Defaults, problem: String) -> Rejection {
    let known = Known { job_id: Some(defaults.job_id.clone()), ..Known::default() };
    Rejection { known: Box::new(known), ..Rejection::of_text(problem) }
}

/// Returns the rejection of a text of `len` bytes whose beginning was kept.
#[must_use]
pub fn too_long_text(defaults: &Defaults, len: u64) -> Rejection {
    unreadable(defaults, format!("{len} bytes (expected at most {JOB_BYTES_MAX})"))
}

/// Returns the problem of a text that is longer than a job may be.
pub(super) fn too_long() -> String {
    format!("more than {JOB_BYTES_MAX} bytes (expected at most {JOB_BYTES_MAX})")
}

/// Returns where a text stops being UTF-8, or the format that it has instead.
pub(super) fn not_utf8(body: &[u8], error: str::Utf8Error) -> String {
    if let Some(format) = foreign_format(body) {
        return format.to_owned();
    }
    let byte = body.get(error.valid_up_to()).copied().unwrap_or_default();
    format!("invalid byte 0x{byte:02x} at byte {} (expected UTF-8)", error.valid_up_to())
}

/// Returns the format of a file that is not UTF-8, by its first bytes.
pub(super) fn foreign_format(beginning: &[u8]) -> Option<&'static str> {
    Some(match beginning {
        [0x1f, 0x8b, ..] => "compressed with gzip (expected plain UTF-8; unpack it with gunzip)",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "compressed with zstd (expected plain UTF-8; unpack it with unzstd)",
        [b'P', b'K', 3, 4, ..] | [0xd0, 0xcf, 0x11, 0xe0, ..] => {
            "a workbook or a ZIP archive (expected plain UTF-8; save the sheet as CSV UTF-8)"
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [1..=255, 0, 1..=255, 0, ..] | [0, 1..=255, 0, 1..=255, ..] => {
            "text in UTF-16 (expected UTF-8; save it as CSV UTF-8, or convert it with iconv -f UTF-16 -t UTF-8)"
        }
        _ => return None,
    })
}

/// Returns whether a text can be the name of a lane: `^[a-z0-9][a-z0-9-]{0,62}$`.
#[must_use]
pub fn is_lane_name(text: &str) -> bool {
    text.len() <= LANE_LEN_MAX
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A member and its problem.
pub(super) struct MemberProblem {
    pub(super) member: String,
    pub(super) problem: String,
}

/// The values of [`MEMBERS`].
struct JobMembers<'a>([Option<Value<'a>>; MEMBERS.len()]);

impl JobMembers<'_> {
    /// Returns the job, or the first problem in the order of [`MEMBERS`].
    fn job(&self, defaults: &Defaults) -> Result<Job, MemberProblem> {
        let job_id = self.read("job_id", job_id)?.unwrap_or_else(|| defaults.job_id.clone());
        let lane = self.read("lane", lane)?;
        let images = self.images(defaults)?;
        let permission =
            self.required("permission", |value| value.parsed::<Permission>(ALLOWED_PERMISSION), ALLOWED_PERMISSION)?;
        let account_ids = self.account_ids(&images)?;
        let labels = self.get("labels").map_or_else(|| Ok(BTreeMap::new()), labels)?;
        let expires_at = self.read("expires_at", time)?;
        let force = self.read("force", |value| force(value, permission))?.unwrap_or(false);
        let identity = Identity { job_id, lane, images, permission, labels };
        Ok(Job { identity, account_ids, expires_at, force })
    }

    /// Returns the image, or the list of images.
    fn images(&self, defaults: &Defaults) -> Result<Images, MemberProblem> {
        let Some(images) = self.get("images") else {
            let image_id = self.required("image_id", |value| value.parsed(ALLOWED_IMAGE), ALLOWED_IMAGE)?;
            let region = self.read("region", |value| value.parsed(ALLOWED_REGION))?.or(defaults.region);
            let region = region.ok_or_else(|| missing("region", ALLOWED_REGION))?;
            return Ok(JobImage { region, image_id }.into());
        };
        if let Some(member) = ["image_id", "region"].into_iter().find(|member| self.is_given(member)) {
            let problem = format!("set together with {member} (expected region and image_id in each of the images)");
            return Err(MemberProblem { member: "images".to_owned(), problem });
        }
        images::read(images, defaults.region)
    }

    /// Returns the accounts of each image.
    fn account_ids(&self, images: &Images) -> Result<AccountLists, MemberProblem> {
        let problem = |problem: String| MemberProblem { member: "account_ids".to_owned(), problem };
        let own = self.get("images").map(images::read_account_ids).transpose()?.flatten();
        match own {
            Some(own) if !self.is_given("account_ids") => return Ok(own),
            Some(_) => {
                let expected = "expected account ids of the job, or of each of its images";
                return Err(problem(format!("set together with account ids of the images ({expected})")));
            }
            None => {}
        }
        let list = account_ids("account_ids", self.get("account_ids"))?;
        if list.len() * images.len() > ACCOUNTS_MAX {
            return Err(problem(format!(
                "{} account ids for each of {} images (expected at most {ACCOUNTS_MAX} for all images)",
                list.len(),
                images.len()
            )));
        }
        Ok(vec![list; images.len()].into())
    }

    /// Returns the valid members.
    fn known(&self, defaults: &Defaults) -> Known {
        let images = self.get("images").map(|images| images::read(images, defaults.region));
        Known {
            job_id: self.read("job_id", job_id).ok().flatten().or_else(|| Some(defaults.job_id.clone())),
            lane: self.read("lane", lane).ok().flatten(),
            image_id: self.read("image_id", |value| value.parsed(ALLOWED_IMAGE)).ok().flatten(),
            region: self
                .read("region", |value| value.parsed(ALLOWED_REGION))
                .map_or(None, |read| read.or(defaults.region).filter(|_| images.is_none())),
            images: images.and_then(Result::ok),
            permission: self.read("permission", |value| value.parsed(ALLOWED_PERMISSION)).ok().flatten(),
            labels: self.get("labels").and_then(|value| labels(value).ok()).unwrap_or_default(),
        }
    }

    /// Returns the value of a member. An optional member that is null or an empty text counts as absent: the
    /// serializers of typed languages write absent values so.
    fn get(&self, member: &str) -> Option<&Value<'_>> {
        let index = MEMBERS.iter().position(|names| names.first() == Some(&member));
        let value = index.and_then(|index| self.0.get(index))?.as_ref()?;
        let is_absent = match value {
            Value::Null => !REQUIRED.contains(&member),
            Value::Text(text) => text.is_empty() && ["job_id", "lane", "region", "expires_at"].contains(&member),
            _ => false,
        };
        (!is_absent).then_some(value)
    }

    /// Returns whether a member has a value other than null and an empty text.
    fn is_given(&self, member: &str) -> bool {
        self.get(member).is_some_and(|value| !matches!(value, Value::Null) && value.text() != Some(""))
    }

    fn read<T>(
        &self,
        member: &str,
        read: impl Fn(&Value<'_>) -> Result<T, String>,
    ) -> Result<Option<T>, MemberProblem> {
        let read = self.get(member).map(read).transpose();
        read.map_err(|problem| MemberProblem { member: member.to_owned(), problem })
    }

    fn required<T>(
        &self,
        member: &str,
        read: impl Fn(&Value<'_>) -> Result<T, String>,
        allowed: &str,
    ) -> Result<T, MemberProblem> {
        self.read(member, read)?.ok_or_else(|| missing(member, allowed))
    }
}

fn missing(member: &str, allowed: &str) -> MemberProblem {
    MemberProblem { member: member.to_owned(), problem: format!("missing (expected {allowed})") }
}

fn job_id(value: &Value<'_>) -> Result<String, String> {
    value
        .text()
        .filter(|text| is_job_id(text))
        .map(Into::into)
        .ok_or_else(|| format!("invalid value {value} (expected 1 to {JOB_ID_LEN_MAX} printable ASCII characters)"))
}

/// Returns whether a text can be a job id: 1 to [`JOB_ID_LEN_MAX`] printable ASCII characters, spaces included.
#[must_use]
pub fn is_job_id(text: &str) -> bool {
    (1..=JOB_ID_LEN_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ')
}

fn lane(value: &Value<'_>) -> Result<String, String> {
    value.text().filter(|text| is_lane_name(text)).map(Into::into).ok_or_else(|| {
        format!(
            "invalid value {value} (expected a lane's name of 1 to {LANE_LEN_MAX} lowercase letters, digits and hyphens)"
        )
    })
}

/// Reads a list of accounts, the value of the member of this name.
pub(super) fn account_ids(member: &str, value: Option<&Value<'_>>) -> Result<Box<[AccountId]>, MemberProblem> {
    let problem = |problem: String| MemberProblem {
        member: member.to_owned(),
        problem: format!("{problem} (expected 1 to {ACCOUNTS_MAX} account ids)"),
    };
    let elements = match value {
        Some(Value::Array(elements)) => elements,
        Some(other) => return Err(problem(format!("invalid value {other}"))),
        None => return Err(problem("missing".to_owned())),
    };
    match elements.len() {
        0 => return Err(problem("empty list".to_owned())),
        1..=ACCOUNTS_MAX => {}
        more => return Err(problem(format!("{more} account ids"))),
    }
    let read = |(index, value): (usize, &Value<'_>)| {
        account_id(value).map_err(|problem| MemberProblem { member: format!("{member}[{index}]"), problem })
    };
    elements.iter().enumerate().map(read).collect()
}

/// Parses an account id, a text or a number. A number must have plain digits: the account of `1e9` would be a guess.
pub(super) fn account_id(value: &Value<'_>) -> Result<AccountId, String> {
    match *value {
        Value::Natural(number) => AccountId::new(number).map_err(|error| error.to_string()),
        Value::Text(ref text) => parse_account_id(text),
        _ => value.parsed(ALLOWED_ACCOUNT),
    }
}

/// Parses an account id. If a spreadsheet changed it, the error names the change and the remedy.
pub(super) fn parse_account_id(text: &str) -> Result<AccountId, String> {
    text.parse().map_err(|error: AccountIdError| match sheet::damage(text.trim()) {
        Some(damage) => format!("invalid value {}, {damage}", excerpt(text)),
        None => error.to_string(),
    })
}

fn labels(value: &Value<'_>) -> Result<BTreeMap<String, String>, MemberProblem> {
    let problem = |member: String, problem: &str, expected: &str| MemberProblem {
        member,
        problem: format!("{problem} (expected {expected})"),
    };
    let of_all = |fault: &str| {
        problem("labels".to_owned(), fault, &format!("an object of at most {LABELS_MAX} labels with string values"))
    };
    let Value::Object(pairs) = value else { return Err(of_all(&format!("invalid value {value}"))) };
    if pairs.len() > LABELS_MAX {
        return Err(of_all(&format!("{} labels", pairs.len())));
    }
    let mut labels = BTreeMap::new();
    for (key, value) in pairs {
        let member = format!("labels[{}]", excerpt(key));
        if !(1..=LABEL_KEY_LEN_MAX).contains(&key.len()) || key.contains(char::is_control) {
            let expected = format!("1 to {LABEL_KEY_LEN_MAX} bytes without control characters");
            return Err(problem(member, &format!("invalid key of {} bytes", key.len()), &expected));
        }
        let is_allowed = |text: &&str| text.len() <= LABEL_VALUE_LEN_MAX && !text.contains(char::is_control);
        let Some(text) = value.text().filter(is_allowed) else {
            let expected = format!("a string of at most {LABEL_VALUE_LEN_MAX} bytes without control characters");
            return Err(problem(member, &format!("invalid value {value}"), &expected));
        };
        if labels.insert(key.to_string(), text.to_owned()).is_some() {
            return Err(problem(member, "set twice", "once"));
        }
    }
    Ok(labels)
}

fn time(value: &Value<'_>) -> Result<Timestamp, String> {
    let time = value.text().and_then(UnixSeconds::from_rfc3339);
    time.map(timestamp).ok_or_else(|| format!("invalid value {value} (expected {ALLOWED_TIME})"))
}

/// Converts a time of RFC 3339. Times beyond the last one of the library, on the last day of the year 9999, become that one.
fn timestamp((seconds, nanos): (UnixSeconds, u32)) -> Timestamp {
    let (seconds, nanos) = (i64::try_from(seconds.get()), i32::try_from(nanos));
    let time = seconds.ok().zip(nanos.ok()).and_then(|(seconds, nanos)| Timestamp::new(seconds, nanos).ok());
    time.unwrap_or(Timestamp::MAX)
}

fn force(value: &Value<'_>, permission: Permission) -> Result<bool, String> {
    let &Value::Bool(force) = value else { return Err(format!("invalid value {value} (expected true or false)")) };
    if force && permission != Permission::Sync {
        return Err(format!("set with {permission} (expected only with SYNC)"));
    }
    Ok(force)
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
