//! The messages that are published for a delivery: its report, a dead letter for what failed, and a copy of the report if
//! the publisher asked for one.

use std::time::SystemTime;

use bytes::Bytes;
use imageshare_amqp::{Message, PERSISTENT};
use imageshare_core::{ids::AccountId, text::printable};
use imageshare_engine::job::{AccountOutcome, Failure, Report as EngineReport};
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable, ShortString},
};

use super::{
    JobEnvelope, ReplyAddress,
    delivery::{InvalidMessage, TRACEPARENT, traceparent},
    passed_properties::without_broker_properties,
    topology,
};
use crate::{
    lane_messages::{SettledJob, outcomes},
    wire::{Defaults, Identity, Images, Permission, Rejection, Report, job, report::Circumstances},
};

/// The headers of a dead letter. What a publisher wrote under these names is dropped.
pub mod headers {
    /// The first code with which an account failed. Missing if the message was rejected.
    pub const CODE: &str = "imageshare-code";
    /// The reason as one printable line.
    pub const DETAIL: &str = "imageshare-detail";
    /// The lane from whose queue it came.
    pub const LANE: &str = "imageshare-lane";
    /// The reason as one word: `failed` or `rejected`.
    pub const REASON: &str = "imageshare-reason";
    /// When it was written (RFC 3339).
    pub const TIME: &str = "imageshare-time";
    /// Bytes of the whole body, if the dead letter holds only its beginning. Such a dead letter is not a job.
    pub const TRUNCATED: &str = "imageshare-truncated";
    /// The worker that wrote it, `host:pid`.
    pub const WORKER: &str = "imageshare-worker";
}

/// Characters of [`headers::DETAIL`].
const DETAIL_CHARS_MAX: usize = 500;

/// Bytes of a body that a truncated dead letter keeps.
const TRUNCATED_LEN_MAX: usize = 4096;

/// Bytes of a dead letter of a job besides its accounts.
const DEAD_LETTER_LEN_BASE: usize = 16 * 1024;

/// Bytes of an account in a dead letter: 19 digits, quotes, a comma.
const DEAD_LETTER_LEN_PER_ACCOUNT: usize = 22;

/// Bytes of an image in a dead letter: at most 68 of region and id, and the names of three members.
const DEAD_LETTER_LEN_PER_IMAGE: usize = 128;

/// The messages for one delivery.
#[derive(Debug)]
pub struct OutgoingMessages {
    /// The report.
    pub report: Message,
    /// The dead letter, if something failed.
    pub dead_letter: Option<Message>,
    /// The recipient of a copy, sent after the broker confirms the report.
    pub reply: Option<Box<ReplyAddress>>,
}

/// The greatest lengths that the bodies of the messages can have, in bytes. Room for them is reserved before they are
/// written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) report: usize,
    /// `None` if there will be no dead letter.
    pub(super) dead_letter: Option<usize>,
}

impl Lengths {
    /// The lengths for a job that was carried out, by the reports of its images.
    pub(super) fn from_job(reports: &[EngineReport]) -> Self {
        let accounts: usize = reports.iter().map(|report| report.outcomes.len()).sum();
        let dead_letter =
            DEAD_LETTER_LEN_BASE + reports.len() * DEAD_LETTER_LEN_PER_IMAGE + accounts * DEAD_LETTER_LEN_PER_ACCOUNT;
        let is_dead = reports.iter().any(|report| first_failure(report).is_some());
        Self { report: report_len_max(reports), dead_letter: is_dead.then_some(dead_letter) }
    }

    /// The lengths for an invalid message.
    pub(super) fn from_invalid(message: &InvalidMessage) -> Self {
        Self { report: rejected_len_max(&message.rejection), dead_letter: Some(message.body.len()) }
    }
}

/// The lane and worker that a report names.
#[derive(Clone, Copy, Debug)]
pub struct Reporter<'a> {
    /// The lane's name.
    pub lane: &'a str,
    /// `host:pid`.
    pub worker: &'a str,
}

impl OutgoingMessages {
    /// The messages for a job that was carried out.
    #[must_use]
    pub fn from_job(settled: SettledJob<Box<JobEnvelope>>, reporter: Reporter<'_>) -> Self {
        let SettledJob { identity: envelope, reports, received_at, finished_at, engine_epoch, .. } = settled;
        let trace = envelope.traceparent.as_deref();
        let dead_letter = dead_letter(&envelope, &reports, reporter);
        let circumstances = Circumstances {
            redelivered: envelope.redelivered,
            received_at: timestamp(received_at),
            finished_at: timestamp(finished_at),
            worker: reporter.worker.to_owned(),
        };
        let len_max = report_len_max(&reports);
        let report = Report::of_job(envelope.identity, reporter.lane, &reports, timestamp(engine_epoch), circumstances);
        Self::from_report(report, len_max, dead_letter, reporter.lane, trace, envelope.reply)
    }

    /// The messages for an invalid message.
    #[must_use]
    pub fn from_invalid(message: InvalidMessage, reporter: Reporter<'_>) -> Self {
        let InvalidMessage { redelivered, received_at, rejection, body, len, properties, reply, .. } = message;
        let circumstances = Circumstances {
            redelivered,
            received_at: timestamp(received_at),
            finished_at: Timestamp::now(),
            worker: reporter.worker.to_owned(),
        };
        let report = Report::of_rejection(&rejection, circumstances);
        let len_max = rejected_len_max(&rejection);
        let trace = traceparent(&properties).map(str::to_owned);
        let cause = Cause { reason: "rejected", code: None, detail: rejection.reason() };
        let whole_len = (len > body.len() as u64).then_some(len);
        let mut dead_letter = dead(without_broker_properties(&properties), body, &cause, reporter);
        if let Some(len) = whole_len {
            let mut headers = dead_letter.properties.headers().clone().unwrap_or_default();
            headers.insert(headers::TRUNCATED.into(), text(&len.to_string()));
            dead_letter.properties = dead_letter.properties.with_headers(headers);
        }
        Self::from_report(report, len_max, Some(dead_letter), reporter.lane, trace.as_deref(), reply)
    }

    fn from_report(
        report: Report,
        len_max: usize,
        dead_letter: Option<Message>,
        lane: &str,
        trace: Option<&str>,
        reply: Option<Box<ReplyAddress>>,
    ) -> Self {
        let id: ShortString = report.job_id.as_deref().map(short).unwrap_or_default();
        let key = short(&format!("{lane}.{}", report.status.as_str()));
        let message = Message::json(topology::REPORTS, key, id, report.write(len_max));
        let report = match trace {
            Some(trace) => {
                let mut headers = FieldTable::default();
                headers.insert(TRACEPARENT.into(), text(trace));
                message.with_headers(headers)
            }
            None => message,
        };
        Self { report, dead_letter, reply }
    }
}

/// Returns how long the report of a job with these reports of its images may be.
fn report_len_max(reports: &[EngineReport]) -> usize {
    Report::len_max(reports.len(), reports.iter().map(outcomes).sum())
}

/// Returns how long the report of a rejected job may be.
fn rejected_len_max(rejection: &Rejection) -> usize {
    Report::len_max(rejection.known.images.as_ref().map_or(1, |images| images.len()), 0)
}

/// Returns the copy of a report for its requester, in the form in which the report was confirmed.
pub(super) fn reply_copy(report: &Message, reply: &ReplyAddress) -> Message {
    let properties = match &reply.correlation_id {
        Some(correlation_id) => report.properties.clone().with_correlation_id(short(correlation_id)),
        None => report.properties.clone(),
    };
    Message { exchange: "".into(), routing_key: short(&reply.to), properties, body: report.body.clone() }
}

/// Returns the report or dead letter with a body of at most `len_max` bytes, or the shortest possible one. Returns `None` if
/// the body cannot be shorter, or the message is of another kind.
pub(super) fn shorten(message: &Message, len_max: usize) -> Option<Message> {
    let shorter = match message.exchange.as_str() {
        topology::REPORTS => {
            let report: Report = serde_json::from_slice(&message.body).ok()?;
            Message { body: report.write(len_max).into(), ..message.clone() }
        }
        topology::DEAD => shorten_dead_letter(message, len_max),
        _ => return None,
    };
    (shorter.body.len() < message.body.len()).then_some(shorter)
}

/// Keeps a job whole if it fits with accounts as numbers, and the beginning of anything else.
fn shorten_dead_letter(message: &Message, len_max: usize) -> Message {
    let mut headers = message.properties.headers().clone().unwrap_or_default();
    let is_whole = !headers.contains_key(headers::TRUNCATED);
    let defaults = Defaults { job_id: String::new(), region: None };
    let job = if is_whole { job::parse(&message.body, &defaults).ok() } else { None };
    // A job without an id of its own has that of its message, which a shorter body would lose.
    let job = job.filter(|job| !job.identity.job_id.is_empty()).map(|job| job::write_short(&job));
    if let Some(body) = job.filter(|body| body.len() <= len_max) {
        return Message { body: body.into(), ..message.clone() };
    }
    if is_whole {
        headers.insert(headers::TRUNCATED.into(), text(&message.body.len().to_string()));
    }
    let body = message.body.slice(..message.body.len().min(len_max).min(TRUNCATED_LEN_MAX));
    // A copy, so that the whole body is freed.
    let body = Bytes::copy_from_slice(&body);
    Message { properties: message.properties.clone().with_headers(headers), body, ..message.clone() }
}

/// Why there is a dead letter.
struct Cause {
    reason: &'static str,
    code: Option<String>,
    detail: String,
}

/// Returns the dead letter of a job: its images with failed accounts, each with only those accounts. A SYNC keeps all
/// accounts of such an image, since it names every account that the image must be shared with. Returns `None` if no
/// account failed.
fn dead_letter(envelope: &JobEnvelope, reports: &[EngineReport], reporter: Reporter<'_>) -> Option<Message> {
    let Identity { job_id, lane, images, permission, labels } = &envelope.identity;
    let is_kept =
        |outcome: &AccountOutcome| matches!(outcome, AccountOutcome::Failed(_)) || *permission == Permission::Sync;
    let (mut failed_images, mut account_ids, mut first) = (Vec::new(), Vec::new(), None);
    for (image, report) in images.iter().zip(reports) {
        let Some((account, failure)) = first_failure(report) else { continue };
        let kept = report.outcomes.iter().filter(|(_, outcome)| is_kept(outcome)).map(|(account, _)| *account);
        failed_images.push(*image);
        account_ids.push(kept.collect());
        first.get_or_insert((image, account, failure));
    }
    let (image, account, failure) = first?;
    let identity = Identity {
        job_id: job_id.clone(),
        lane: lane.clone(),
        images: Images::new(failed_images).expect("these are images of a job, and not all of them are missing"),
        permission: *permission,
        labels: labels.clone(),
    };
    let body = job::write(&identity, &account_ids, envelope.expires_at, envelope.force);
    let detail = format!("{account}: {}: {}", failure.code, failure.message);
    let cause = Cause {
        reason: "failed",
        code: Some(failure.code.to_string()),
        detail: if images.len() > 1 { format!("{image}: {detail}") } else { detail },
    };
    let properties =
        BasicProperties::default().with_content_type("application/json".into()).with_message_id(short(job_id));
    let properties = match envelope.traceparent.as_deref() {
        None => properties,
        Some(trace) => {
            let mut headers = FieldTable::default();
            headers.insert(TRACEPARENT.into(), text(trace));
            properties.with_headers(headers)
        }
    };
    Some(dead(properties, body, &cause, reporter))
}

fn first_failure(report: &EngineReport) -> Option<(AccountId, &Failure)> {
    report.outcomes.iter().chain(&report.cancelled).find_map(|(account, outcome)| match outcome {
        AccountOutcome::Failed(failure) => Some((*account, &**failure)),
        AccountOutcome::Changed(_) | AccountOutcome::Unchanged => None,
    })
}

fn dead(properties: BasicProperties, body: Vec<u8>, cause: &Cause, reporter: Reporter<'_>) -> Message {
    let mut headers = properties.headers().clone().unwrap_or_default();
    let mut set = |name: &str, value: &str| {
        headers.insert(name.into(), text(value));
    };
    set(headers::LANE, reporter.lane);
    set(headers::REASON, cause.reason);
    if let Some(code) = &cause.code {
        set(headers::CODE, code);
    }
    set(headers::DETAIL, &printable(&cause.detail, DETAIL_CHARS_MAX));
    set(headers::TIME, &format!("{:.3}", Timestamp::now()));
    set(headers::WORKER, reporter.worker);
    let properties = properties.with_headers(headers).with_delivery_mode(PERSISTENT);
    Message {
        exchange: topology::DEAD.into(),
        routing_key: topology::DEAD.into(),
        properties,
        body: body.into_boxed_slice().into(),
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// Returns a short string of AMQP, truncated to 255 bytes. Names of lanes, jobs and queues are shorter.
fn short(text: &str) -> ShortString {
    text.get(..text.floor_char_boundary(usize::from(u8::MAX))).unwrap_or_default().into()
}

/// Returns the time, or the last one that can be written.
fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use imageshare_engine::{
        io::LaneId,
        job::{Failure, Mode},
    };

    use super::*;
    use crate::{lane_messages::Epoch, wire::JobImage};

    const REPORTER: Reporter<'_> = Reporter { lane: "asia", worker: "host:17" };
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn envelope(permission: &str) -> Box<JobEnvelope> {
        let text = format!(
            r#"{{"job_id":"j","image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":"{permission}","account_ids":[10001],"labels":{{"a":"b"}}}}"#
        );
        let job = job::parse(text.as_bytes(), &Defaults { job_id: String::new(), region: None }).unwrap();
        Box::new(JobEnvelope {
            epoch: Epoch(1),
            tag: 7,
            redelivered: false,
            identity: job.identity,
            published_at: None,
            expires_at: Some("2026-11-24T04:00:00Z".parse().unwrap()),
            force: false,
            reply: Some(Box::new(ReplyAddress { to: "answers".to_owned(), correlation_id: Some("c".to_owned()) })),
            traceparent: Some(TRACE.into()),
        })
    }

    /// Messages for a job with three accounts. The second one fails or does not.
    fn messages(permission: &str, fails: bool) -> OutgoingMessages {
        let failure =
            Failure { code: "InvalidAccountId.NotFound".into(), message: "no such account".into(), request_id: None };
        let second = if fails { AccountOutcome::Failed(Arc::new(failure)) } else { AccountOutcome::Unchanged };
        let outcomes =
            [(10_001, AccountOutcome::Changed(None)), (10_002, second), (10_003, AccountOutcome::Changed(None))];
        let outcomes = outcomes.into_iter().map(|(id, outcome)| (id.to_string().parse().unwrap(), outcome)).collect();
        let report = EngineReport { outcomes, cancelled: vec![], duplicates: 0, requests: 1 };
        let at = SystemTime::UNIX_EPOCH;
        let settled = SettledJob {
            identity: envelope(permission),
            lane: LaneId(0),
            mode: Mode::Share,
            reports: vec![report],
            received_at: at,
            finished_at: at,
            engine_epoch: at,
        };
        OutgoingMessages::from_job(settled, REPORTER)
    }

    fn header(message: &Message, name: &str) -> Option<String> {
        match message.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(String::from_utf8(text.as_bytes().to_vec()).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn report_is_routed_by_lane_and_status() {
        let OutgoingMessages { report, dead_letter, reply } = messages("SHARE", false);
        assert_eq!((report.exchange.as_str(), report.routing_key.as_str()), ("imageshare.reports", "asia.succeeded"));
        assert_eq!(report.properties.message_id().as_ref().unwrap().as_str(), "j");
        assert_eq!(report.properties.delivery_mode(), &Some(2));
        assert_eq!(header(&report, TRACEPARENT).as_deref(), Some(TRACE));
        assert_eq!(dead_letter, None);
        let copy = reply_copy(&report, &reply.unwrap());
        assert_eq!((copy.exchange.as_str(), copy.routing_key.as_str()), ("", "answers"));
        assert_eq!(copy.properties.correlation_id().as_ref().unwrap().as_str(), "c");
        assert_eq!(header(&copy, TRACEPARENT).as_deref(), Some(TRACE));
        assert_eq!(copy.body, report.body);
    }

    #[test]
    fn dead_letter_contains_failed_accounts() {
        let OutgoingMessages { report, dead_letter, .. } = messages("SHARE", true);
        let dead = dead_letter.unwrap();
        assert_eq!(report.routing_key.as_str(), "asia.partial");
        assert_eq!((dead.exchange.as_str(), dead.routing_key.as_str()), ("imageshare.dead", "imageshare.dead"));
        let body = r#"{"job_id":"j","image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":"SHARE","account_ids":["10002"],"labels":{"a":"b"},"expires_at":"2026-11-24T04:00:00Z"}"#;
        assert_eq!(str::from_utf8(&dead.body).unwrap(), body);
        assert!(job::parse(&dead.body, &Defaults { job_id: String::new(), region: None }).is_ok());
        let value = |name| header(&dead, name);
        assert_eq!(value(headers::LANE).as_deref(), Some("asia"));
        assert_eq!(value(headers::REASON).as_deref(), Some("failed"));
        assert_eq!(value(headers::CODE).as_deref(), Some("InvalidAccountId.NotFound"));
        assert_eq!(value(headers::DETAIL).as_deref(), Some("10002: InvalidAccountId.NotFound: no such account"));
        assert_eq!(value(headers::WORKER).as_deref(), Some("host:17"));
        assert_eq!(value(TRACEPARENT).as_deref(), Some(TRACE));
    }

    /// Returns the dead letter of a job with three images and two accounts each. `failed` has the indices of image and
    /// account.
    fn dead_letter_of_images(permission: &str, failed: &[(usize, usize)]) -> Message {
        let image = |id: &str| JobImage { region: "ap-tokyo".parse().unwrap(), image_id: id.parse().unwrap() };
        let images = ["img-aaaa", "img-bbbb", "img-cccc"].map(image);
        let failure = Failure { code: "InternalError".into(), message: "m".into(), request_id: None };
        let failure = AccountOutcome::Failed(Arc::new(failure));
        let outcome = |place| if failed.contains(&place) { failure.clone() } else { AccountOutcome::Changed(None) };
        let report = |image| EngineReport {
            outcomes: (0..2).map(|nth| (format!("1000{nth}").parse().unwrap(), outcome((image, nth)))).collect(),
            cancelled: vec![],
            duplicates: 0,
            requests: 1,
        };
        let mut envelope = envelope(permission);
        envelope.identity.images = Images::new(images).unwrap();
        dead_letter(&envelope, &[0, 1, 2].map(report), REPORTER).unwrap()
    }

    #[track_caller]
    fn check_accounts(dead: &Message, expected: &[(&str, &[&str])]) {
        let job = job::parse(&dead.body, &Defaults { job_id: String::new(), region: None }).unwrap();
        let texts = |list: &[AccountId]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        let images = job.identity.images.iter().zip(&job.account_ids);
        let left: Vec<_> = images.map(|(image, list)| (image.image_id.to_string(), texts(list))).collect();
        let expected = expected.iter().map(|(image, list)| (image.to_string(), list.iter().map(ToString::to_string)));
        assert_eq!(left, expected.map(|(image, list)| (image, list.collect())).collect::<Vec<_>>());
    }

    #[test]
    fn dead_letter_has_failures_per_image() {
        let dead = dead_letter_of_images("SHARE", &[(0, 1), (2, 0), (2, 1)]);
        check_accounts(&dead, &[("img-aaaa", &["10001"]), ("img-cccc", &["10000", "10001"])]);
        let detail = "ap-tokyo:img-aaaa: 10001: InternalError: m";
        assert_eq!(header(&dead, headers::DETAIL).as_deref(), Some(detail));
        check_accounts(&dead_letter_of_images("SHARE", &[(1, 0)]), &[("img-bbbb", &["10000"])]);
        let sync = dead_letter_of_images("SYNC", &[(0, 1), (2, 0)]);
        check_accounts(&sync, &[("img-aaaa", &["10000", "10001"]), ("img-cccc", &["10000", "10001"])]);
        assert!(str::from_utf8(&sync.body).unwrap().contains(r#""account_ids":["10000","10001"],"labels""#));
    }

    #[test]
    fn dead_letter_of_sync_has_all_accounts() {
        let dead = messages("SYNC", true).dead_letter.unwrap();
        let body = String::from_utf8(dead.body.to_vec()).unwrap();
        assert!(body.contains(r#""account_ids":["10001","10002","10003"]"#), "{body}");
    }

    #[test]
    fn invalid_message_is_passed_on_without_broker_properties() {
        let mut headers = FieldTable::default();
        let acted_on = [
            "CC",
            "BCC",
            "x-acquired-count",
            "x-delivery-count",
            "x-delay",
            "x-death",
            "x-first-death-queue",
            "x-last-death-reason",
        ];
        for name in acted_on.into_iter().chain(["imageshare-code", "imageshare-lane", "own"]) {
            headers.insert(name.into(), text("theirs"));
        }
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_message_id("m".into())
            .with_type("t".into())
            .with_expiration("0".into())
            .with_user_id("publisher".into())
            .with_reply_to("amq.rabbitmq.reply-to".into())
            .with_delivery_mode(1);
        let body = b"\xff\x00{".to_vec();
        let invalid = InvalidMessage {
            tag: 7,
            redelivered: true,
            received_at: SystemTime::now(),
            rejection: Rejection::of_text("found nonsense\u{1b}"),
            reason: "text",
            body: body.clone(),
            len: body.len() as u64,
            properties,
            reply: None,
        };
        let OutgoingMessages { report, dead_letter, reply } = OutgoingMessages::from_invalid(invalid, REPORTER);
        assert_eq!((report.routing_key.as_str(), reply), ("asia.rejected", None));
        let dead = dead_letter.unwrap();
        assert_eq!(dead.body, body);
        let properties = &dead.properties;
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "m");
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "t");
        assert_eq!((properties.expiration(), properties.user_id(), properties.reply_to()), (&None, &None, &None));
        assert_eq!(properties.delivery_mode(), &Some(2));
        let names: Vec<&str> =
            properties.headers().as_ref().unwrap().inner().keys().map(|name| name.as_str()).collect();
        let ours = ["detail", "lane", "reason", "time", "worker"].map(|name| format!("imageshare-{name}"));
        assert_eq!(names, [ours.each_ref().map(String::as_str).as_slice(), &["own"]].concat());
        assert_eq!(header(&dead, headers::DETAIL).as_deref(), Some("found nonsense "));
        assert_eq!(header(&dead, headers::LANE).as_deref(), Some("asia"));
    }

    #[test]
    fn messages_fit_in_their_room() {
        let OutgoingMessages { report, dead_letter, .. } = messages("SHARE", true);
        let engine = EngineReport { outcomes: vec![], cancelled: vec![], duplicates: 0, requests: 0 };
        let Lengths { report: len, dead_letter: of_dead } = Lengths::from_job(&[engine]);
        assert!(report.body.len() <= len && of_dead.is_none());
        assert!(dead_letter.unwrap().body.len() <= DEAD_LETTER_LEN_BASE);
    }

    #[test]
    fn shortened_report_has_counts() {
        let report = messages("SHARE", true).report;
        let shorter = shorten(&report, report.body.len() - 1).unwrap();
        assert_eq!((&shorter.exchange, &shorter.routing_key), (&report.exchange, &report.routing_key));
        assert_eq!(shorter.properties, report.properties);
        let read: Report = serde_json::from_slice(&shorter.body).unwrap();
        assert_eq!(read.truncated.unwrap().failed, 1);
        let shortest = shorten(&report, 0).unwrap();
        assert_eq!(shorten(&shortest, 0), None);
    }

    #[test]
    fn shortened_dead_letter_is_a_job() {
        let dead = messages("SHARE", true).dead_letter.unwrap();
        let shorter = shorten(&dead, dead.body.len() - 1).unwrap();
        assert_eq!(shorter.properties, dead.properties);
        let parse = |body: &[u8]| job::parse(body, &Defaults { job_id: String::new(), region: None }).unwrap();
        assert_eq!(parse(&shorter.body), parse(&dead.body));
    }

    #[test]
    fn truncated_dead_letter_names_its_length() {
        let dead = messages("SHARE", true).dead_letter.unwrap();
        let len = dead.body.len();
        let truncated = shorten(&dead, 50).unwrap();
        assert_eq!(truncated.body, dead.body[..50]);
        assert_eq!(header(&truncated, headers::TRUNCATED), Some(len.to_string()));
        assert_eq!(header(&truncated, headers::REASON).as_deref(), Some("failed"));
        let again = shorten(&truncated, 10).unwrap();
        assert_eq!((again.body.len(), header(&again, headers::TRUNCATED)), (10, Some(len.to_string())));
        let empty = shorten(&again, 0).unwrap();
        assert_eq!(shorten(&empty, 0), None);
    }

    #[test]
    fn other_message_is_not_shortened() {
        let message = Message::json(topology::EXCHANGE, "asia".into(), "m".into(), b"{}".to_vec());
        assert_eq!(shorten(&message, 1), None);
    }

    #[test]
    fn dead_letter_names_length_of_message() {
        let invalid = InvalidMessage {
            tag: 7,
            redelivered: false,
            received_at: SystemTime::now(),
            rejection: Rejection::of_text("found too much"),
            reason: "text",
            body: b"the beginning".to_vec(),
            len: 21_000_000,
            properties: BasicProperties::default(),
            reply: None,
        };
        let dead = OutgoingMessages::from_invalid(invalid, REPORTER).dead_letter.unwrap();
        assert_eq!(header(&dead, headers::TRUNCATED).as_deref(), Some("21000000"));
        assert_eq!(dead.body.as_ref(), b"the beginning");
    }

    #[test]
    fn short_string_is_cut_between_characters() {
        assert_eq!(short("abc").as_str(), "abc");
        assert_eq!(short(&"é".repeat(200)).as_str().len(), 254);
    }
}
