//! What is published for a delivery: its report, a dead letter where something is left of it, a copy of the report for
//! whoever asked for one.

use std::time::SystemTime;

use bytes::Bytes;
use imageshare_amqp::{Message, PERSISTENT};
use imageshare_core::text::printable;
use imageshare_engine::job::{AccountOutcome, Report as EngineReport};
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray, FieldTable, ShortString},
};

use super::{
    Envelope, Reply,
    delivery::{NoJob, TRACEPARENT, traceparent},
    topology,
};
use crate::{
    lane_messages::SettledJob,
    wire::{Defaults, Permission, Report, job, report::Circumstances},
};

/// The headers of a dead letter. Whatever a publisher wrote under these names is gone.
pub mod headers {
    /// The first code with which an account failed; not there if it was rejected.
    pub const CODE: &str = "imageshare-code";
    /// Why, for people, in one printable line.
    pub const DETAIL: &str = "imageshare-detail";
    /// The lane from whose queue it came.
    pub const LANE: &str = "imageshare-lane";
    /// Why, in one word: `failed` or `rejected`.
    pub const REASON: &str = "imageshare-reason";
    /// Bytes of the whole body, if the dead letter holds only its beginning. Such a dead letter is not a job.
    pub const TRUNCATED: &str = "imageshare-truncated";
    /// Who wrote it, `host:pid`.
    pub const WORKER: &str = "imageshare-worker";
}

/// Characters of the line that says why.
const DETAIL_CHARS_MAX: usize = 500;

/// Bytes of headers of a message that are passed on with it. With more, ours would no longer find room in a frame of
/// AMQP, and a message that cannot be published would come back for ever.
const HEADERS_LEN_MAX: usize = 32 * 1024;

/// Bytes of a body that a truncated dead letter keeps at most.
const TRUNCATED_LEN_MAX: usize = 4096;

/// Bytes of a dead letter of a job besides its accounts.
const DEAD_LETTER_LEN_BASE: usize = 16 * 1024;

/// Bytes of an account in a dead letter: 19 digits, quotes, a comma.
const DEAD_LETTER_LEN_PER_ACCOUNT: usize = 22;

/// How the names of our own headers begin.
const OURS: &str = "imageshare-";

/// Headers that the broker acts on or writes. Passed on, these would send the message elsewhere, be refused, or count
/// deliveries of another message.
const ACTED_ON: [&str; 5] = ["BCC", "CC", "x-acquired-count", "x-delay", "x-delivery-count"];

/// How the names begin of the headers in which the broker says what it dropped. Passed on, they would make a dead letter of
/// ours look like one of the broker's.
const DEATHS: [&str; 3] = ["x-death", "x-first-death-", "x-last-death-"];

/// What is published for one delivery.
#[derive(Debug)]
pub struct Letters {
    /// Its report. Only its confirm counts.
    pub report: Message,
    /// What is left of it, where something is.
    pub dead_letter: Option<Message>,
    /// Where a copy of the report goes once it is confirmed.
    pub reply: Option<Box<Reply>>,
}

/// Bytes that letters may take, reserved before they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lengths {
    pub(super) report: usize,
    /// Of the dead letter, if there will be one.
    pub(super) dead_letter: Option<usize>,
}

impl Lengths {
    /// Of a job that was carried out.
    pub(super) fn of_job(report: &EngineReport) -> Self {
        let outcomes = report.outcomes.len() + report.cancelled.len();
        let mut all = report.outcomes.iter().chain(&report.cancelled);
        let is_dead = all.any(|(_, outcome)| matches!(outcome, AccountOutcome::Failed(_)));
        let dead_letter = DEAD_LETTER_LEN_BASE + report.outcomes.len() * DEAD_LETTER_LEN_PER_ACCOUNT;
        Self { report: Report::len_max(outcomes), dead_letter: is_dead.then_some(dead_letter) }
    }

    /// Of what is no job.
    pub(super) fn of_no_job(no_job: &NoJob) -> Self {
        Self { report: Report::len_max(0), dead_letter: Some(no_job.body.len()) }
    }
}

/// Where and by whom it was done.
#[derive(Clone, Copy, Debug)]
pub struct Desk<'a> {
    /// The lane's name.
    pub lane: &'a str,
    /// `host:pid`.
    pub worker: &'a str,
}

impl Letters {
    /// Of a job that was carried out.
    #[must_use]
    pub fn of_job(settled: SettledJob<Box<Envelope>>, desk: Desk<'_>) -> Self {
        let SettledJob { identity: envelope, report, received_at, finished_at, .. } = settled;
        let trace = envelope.traceparent.as_deref();
        let dead_letter = dead_letter(&envelope, &report, desk);
        let circumstances = Circumstances {
            redelivered: envelope.redelivered,
            received_at: timestamp(received_at),
            finished_at: timestamp(finished_at),
            worker: desk.worker.to_owned(),
        };
        let len_max = Report::len_max(report.outcomes.len() + report.cancelled.len());
        let report = Report::of_job(envelope.identity, desk.lane, &report, circumstances);
        Self::of_report(report, len_max, dead_letter, desk.lane, trace, envelope.reply)
    }

    /// Of what is no job.
    #[must_use]
    pub fn of_no_job(no_job: NoJob, desk: Desk<'_>) -> Self {
        let NoJob { redelivered, received_at, rejection, body, len, properties, reply, .. } = no_job;
        let circumstances = Circumstances {
            redelivered,
            received_at: timestamp(received_at),
            finished_at: Timestamp::now(),
            worker: desk.worker.to_owned(),
        };
        let report = Report::of_rejection(&rejection, circumstances);
        let trace = traceparent(&properties).map(str::to_owned);
        let why = Why { reason: "rejected", code: None, detail: rejection.reason() };
        let whole_len = (len > body.len() as u64).then_some(len);
        let mut dead_letter = dead(untouched(&properties), body, &why, desk);
        if let Some(len) = whole_len {
            let mut headers = dead_letter.properties.headers().clone().unwrap_or_default();
            headers.insert(headers::TRUNCATED.into(), text(&len.to_string()));
            dead_letter.properties = dead_letter.properties.with_headers(headers);
        }
        Self::of_report(report, Report::len_max(0), Some(dead_letter), desk.lane, trace.as_deref(), reply)
    }

    fn of_report(
        report: Report,
        len_max: usize,
        dead_letter: Option<Message>,
        lane: &str,
        trace: Option<&str>,
        reply: Option<Box<Reply>>,
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

/// A copy of a report, in the form in which it was confirmed, for whoever asked for one.
pub(super) fn courtesy(report: &Message, reply: &Reply) -> Message {
    let properties = match &reply.correlation_id {
        Some(correlation_id) => report.properties.clone().with_correlation_id(short(correlation_id)),
        None => report.properties.clone(),
    };
    Message { exchange: "".into(), routing_key: short(&reply.to), properties, body: report.body.clone() }
}

/// The same report or dead letter with a body of at most `len_max` bytes, or with the shortest one that there is. Returns
/// `None` if the body cannot be shorter, as in a message of another kind.
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

/// A job keeps all its accounts if there is room for them as numbers. Of anything else the beginning is kept.
fn shorten_dead_letter(message: &Message, len_max: usize) -> Message {
    let mut headers = message.properties.headers().clone().unwrap_or_default();
    let is_whole = !headers.contains_key(headers::TRUNCATED);
    let defaults = Defaults { job_id: String::new(), region: None };
    let job = if is_whole { job::parse(&message.body, &defaults).ok() } else { None };
    // A job without a name of its own is named by its message, so that a name would be lost.
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

/// Why something is dead.
struct Why {
    reason: &'static str,
    code: Option<String>,
    detail: String,
}

/// What is left of a job: the same with just the accounts that failed. A SYNC is left whole, since it says who has the
/// image and who has not.
fn dead_letter(envelope: &Envelope, report: &EngineReport, desk: Desk<'_>) -> Option<Message> {
    let first = report.outcomes.iter().chain(&report.cancelled).find_map(|(account, outcome)| match outcome {
        AccountOutcome::Failed(failure) => Some((*account, failure)),
        AccountOutcome::Changed | AccountOutcome::Unchanged => None,
    });
    let (account, failure) = first?;
    let is_left = |outcome: &AccountOutcome| {
        matches!(outcome, AccountOutcome::Failed(_)) || envelope.identity.permission == Permission::Sync
    };
    let left = report.outcomes.iter().filter(|(_, outcome)| is_left(outcome)).map(|(account, _)| *account);
    let body = job::write(&envelope.identity, left, envelope.expires_at, envelope.force);
    let why = Why {
        reason: "failed",
        code: Some(failure.code.to_string()),
        detail: format!("{account}: {}: {}", failure.code, failure.message),
    };
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_message_id(short(&envelope.identity.job_id));
    let properties = match envelope.traceparent.as_deref() {
        None => properties,
        Some(trace) => {
            let mut headers = FieldTable::default();
            headers.insert(TRACEPARENT.into(), text(trace));
            properties.with_headers(headers)
        }
    };
    Some(dead(properties, body, &why, desk))
}

fn dead(properties: BasicProperties, body: Vec<u8>, why: &Why, desk: Desk<'_>) -> Message {
    let mut headers = properties.headers().clone().unwrap_or_default();
    let mut set = |name: &str, value: &str| {
        headers.insert(name.into(), text(value));
    };
    set(headers::LANE, desk.lane);
    set(headers::REASON, why.reason);
    if let Some(code) = &why.code {
        set(headers::CODE, code);
    }
    set(headers::DETAIL, &printable(&why.detail, DETAIL_CHARS_MAX));
    set(headers::WORKER, desk.worker);
    let properties = properties.with_headers(headers).with_delivery_mode(PERSISTENT);
    Message {
        exchange: topology::DEAD.into(),
        routing_key: topology::DEAD.into(),
        properties,
        body: body.into_boxed_slice().into(),
    }
}

/// The properties of a message, but for those that the broker would act on: who published it, when it expires, what
/// kills it. It is passed on by somebody else, to stay.
pub(super) fn untouched(properties: &BasicProperties) -> BasicProperties {
    let mut kept = BasicProperties::default();
    let text = |value: &Option<ShortString>| value.clone();
    if let Some(value) = text(properties.content_type()) {
        kept = kept.with_content_type(value);
    }
    if let Some(value) = text(properties.content_encoding()) {
        kept = kept.with_content_encoding(value);
    }
    if let Some(value) = text(properties.correlation_id()) {
        kept = kept.with_correlation_id(value);
    }
    if let Some(value) = text(properties.message_id()) {
        kept = kept.with_message_id(value);
    }
    if let Some(value) = text(properties.kind()) {
        kept = kept.with_type(value);
    }
    if let Some(value) = text(properties.app_id()) {
        kept = kept.with_app_id(value);
    }
    if let Some(value) = *properties.timestamp() {
        kept = kept.with_timestamp(value);
    }
    if let Some(headers) = properties.headers().as_ref().filter(|headers| table_len(headers) <= HEADERS_LEN_MAX) {
        let is_passed = |name: &str| {
            !ACTED_ON.contains(&name) && !name.starts_with(OURS) && !DEATHS.iter().any(|death| name.starts_with(death))
        };
        let mut passed = FieldTable::default();
        for (name, value) in headers.inner().iter().filter(|(name, _)| is_passed(name.as_str())) {
            passed.insert(name.clone(), value.clone());
        }
        kept = kept.with_headers(passed);
    }
    kept
}

/// About the bytes of a table on the wire, never fewer.
fn table_len(table: &FieldTable) -> usize {
    table.inner().iter().map(|(name, value)| name.as_str().len() + 1 + value_len(value)).sum::<usize>() + 4
}

fn array_len(array: &FieldArray) -> usize {
    array.as_slice().iter().map(value_len).sum::<usize>() + 4
}

/// No value that is not named here has more than eight bytes.
fn value_len(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::ShortString(text) => text.as_str().len() + 1,
        AMQPValue::LongString(text) => text.len() + 4,
        AMQPValue::ByteArray(bytes) => bytes.as_slice().len() + 4,
        AMQPValue::FieldArray(array) => array_len(array),
        AMQPValue::FieldTable(table) => table_len(table),
        _ => 8,
    }
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// A short string of AMQP. Of what does not fit, which no lane, job or queue name does, the beginning.
fn short(text: &str) -> ShortString {
    text.get(..text.floor_char_boundary(usize::from(u8::MAX))).unwrap_or_default().into()
}

/// A time beyond what can be written is as good as the last one that can.
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
    use crate::{
        lane_messages::Epoch,
        wire::{Defaults, Rejection},
    };

    const DESK: Desk<'_> = Desk { lane: "asia", worker: "host:17" };
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn envelope(permission: &str) -> Box<Envelope> {
        let text = format!(
            r#"{{"job_id":"j","image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":"{permission}","account_ids":[10001],"labels":{{"a":"b"}}}}"#
        );
        let job = job::parse(text.as_bytes(), &Defaults { job_id: String::new(), region: None }).unwrap();
        Box::new(Envelope {
            epoch: Epoch(1),
            tag: 7,
            redelivered: false,
            identity: job.identity,
            expires_at: Some("2026-11-24T04:00:00Z".parse().unwrap()),
            force: false,
            reply: Some(Box::new(Reply { to: "answers".to_owned(), correlation_id: Some("c".to_owned()) })),
            traceparent: Some(TRACE.into()),
        })
    }

    /// Three accounts, of which the second one failed or did not.
    fn letters(permission: &str, fails: bool) -> Letters {
        let failure =
            Failure { code: "InvalidAccountId.NotFound".into(), message: "no such account".into(), request_id: None };
        let second = if fails { AccountOutcome::Failed(Arc::new(failure)) } else { AccountOutcome::Unchanged };
        let outcomes = [(10_001, AccountOutcome::Changed), (10_002, second), (10_003, AccountOutcome::Changed)];
        let outcomes = outcomes.into_iter().map(|(id, outcome)| (id.to_string().parse().unwrap(), outcome)).collect();
        let report = EngineReport { outcomes, cancelled: vec![], duplicates: 0, requests: 1 };
        let at = SystemTime::UNIX_EPOCH;
        let settled = SettledJob {
            identity: envelope(permission),
            lane: LaneId(0),
            mode: Mode::Share,
            report,
            received_at: at,
            finished_at: at,
        };
        Letters::of_job(settled, DESK)
    }

    fn header(message: &Message, name: &str) -> Option<String> {
        match message.properties.headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => Some(String::from_utf8(text.as_bytes().to_vec()).unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_report_goes_to_its_exchange_by_lane_and_status_with_the_trace_it_came_with() {
        let Letters { report, dead_letter, reply } = letters("SHARE", false);
        assert_eq!((report.exchange.as_str(), report.routing_key.as_str()), ("imageshare.reports", "asia.succeeded"));
        assert_eq!(report.properties.message_id().as_ref().unwrap().as_str(), "j");
        assert_eq!(report.properties.delivery_mode(), &Some(2));
        assert_eq!(header(&report, TRACEPARENT).as_deref(), Some(TRACE));
        assert_eq!(dead_letter, None);
        let copy = courtesy(&report, &reply.unwrap());
        assert_eq!((copy.exchange.as_str(), copy.routing_key.as_str()), ("", "answers"));
        assert_eq!(copy.properties.correlation_id().as_ref().unwrap().as_str(), "c");
        assert_eq!(header(&copy, TRACEPARENT).as_deref(), Some(TRACE));
        assert_eq!(copy.body, report.body);
    }

    #[test]
    fn what_is_left_of_a_job_is_a_job_of_the_accounts_that_failed() {
        let Letters { report, dead_letter, .. } = letters("SHARE", true);
        let dead = dead_letter.unwrap();
        assert_eq!(report.routing_key.as_str(), "asia.partial");
        assert_eq!((dead.exchange.as_str(), dead.routing_key.as_str()), ("imageshare.dead", "imageshare.dead"));
        let body = r#"{"job_id":"j","image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":"SHARE","account_ids":["10002"],"labels":{"a":"b"},"expires_at":"2026-11-24T04:00:00Z"}"#;
        assert_eq!(str::from_utf8(&dead.body).unwrap(), body);
        assert!(job::parse(&dead.body, &Defaults { job_id: String::new(), region: None }).is_ok());
        let found = |name| header(&dead, name);
        assert_eq!(found(headers::LANE).as_deref(), Some("asia"));
        assert_eq!(found(headers::REASON).as_deref(), Some("failed"));
        assert_eq!(found(headers::CODE).as_deref(), Some("InvalidAccountId.NotFound"));
        assert_eq!(found(headers::DETAIL).as_deref(), Some("10002: InvalidAccountId.NotFound: no such account"));
        assert_eq!(found(headers::WORKER).as_deref(), Some("host:17"));
        assert_eq!(found(TRACEPARENT).as_deref(), Some(TRACE));
    }

    #[test]
    fn what_is_left_of_a_sync_is_all_of_it() {
        let dead = letters("SYNC", true).dead_letter.unwrap();
        let body = String::from_utf8(dead.body.to_vec()).unwrap();
        assert!(body.contains(r#""account_ids":["10001","10002","10003"]"#), "{body}");
    }

    #[test]
    fn what_is_no_job_goes_on_with_its_bytes_and_without_what_the_broker_would_act_on() {
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
            .with_user_id("somebody".into())
            .with_reply_to("amq.rabbitmq.reply-to".into())
            .with_delivery_mode(1);
        let body = b"\xff\x00{".to_vec();
        let no_job = NoJob {
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
        let Letters { report, dead_letter, reply } = Letters::of_no_job(no_job, DESK);
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
        assert_eq!(names, ["imageshare-detail", "imageshare-lane", "imageshare-reason", "imageshare-worker", "own"]);
        assert_eq!(header(&dead, headers::DETAIL).as_deref(), Some("found nonsense "));
        assert_eq!(header(&dead, headers::LANE).as_deref(), Some("asia"));
    }

    #[test]
    fn letters_fit_in_what_is_reserved_for_them() {
        let Letters { report, dead_letter, .. } = letters("SHARE", true);
        let engine = EngineReport { outcomes: vec![], cancelled: vec![], duplicates: 0, requests: 0 };
        let Lengths { report: len, dead_letter: of_dead } = Lengths::of_job(&engine);
        assert!(report.body.len() <= len && of_dead.is_none());
        assert!(dead_letter.unwrap().body.len() <= DEAD_LETTER_LEN_BASE);
    }

    #[test]
    fn a_shortened_report_has_its_counts() {
        let report = letters("SHARE", true).report;
        let shorter = shorten(&report, report.body.len() - 1).unwrap();
        assert_eq!((&shorter.exchange, &shorter.routing_key), (&report.exchange, &report.routing_key));
        assert_eq!(shorter.properties, report.properties);
        let read: Report = serde_json::from_slice(&shorter.body).unwrap();
        assert_eq!(read.truncated.unwrap().failed, 1);
        let shortest = shorten(&report, 0).unwrap();
        assert_eq!(shorten(&shortest, 0), None);
    }

    #[test]
    fn a_shortened_dead_letter_is_still_a_job() {
        let dead = letters("SHARE", true).dead_letter.unwrap();
        let shorter = shorten(&dead, dead.body.len() - 1).unwrap();
        assert_eq!(shorter.properties, dead.properties);
        let parse = |body: &[u8]| job::parse(body, &Defaults { job_id: String::new(), region: None }).unwrap();
        assert_eq!(parse(&shorter.body), parse(&dead.body));
    }

    #[test]
    fn a_truncated_dead_letter_names_its_whole_length() {
        let dead = letters("SHARE", true).dead_letter.unwrap();
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
    fn a_message_of_another_kind_is_not_shortened() {
        let message = Message::json(topology::EXCHANGE, "asia".into(), "m".into(), b"{}".to_vec());
        assert_eq!(shorten(&message, 1), None);
    }

    #[test]
    fn dead_letter_says_how_long_a_cut_message_was() {
        let no_job = NoJob {
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
        let dead = Letters::of_no_job(no_job, DESK).dead_letter.unwrap();
        assert_eq!(header(&dead, headers::TRUNCATED).as_deref(), Some("21000000"));
        assert_eq!(dead.body.as_ref(), b"the beginning");
    }

    #[test]
    fn headers_that_leave_no_room_for_ours_are_left_behind() {
        let with = |len: usize| {
            let mut headers = FieldTable::default();
            headers.insert("own".into(), text(&"x".repeat(len)));
            untouched(&BasicProperties::default().with_headers(headers)).headers().is_some()
        };
        assert!(with(HEADERS_LEN_MAX - 100) && !with(HEADERS_LEN_MAX));
    }

    #[test]
    fn a_short_string_is_cut_between_characters() {
        assert_eq!(short("abc").as_str(), "abc");
        assert_eq!(short(&"é".repeat(200)).as_str().len(), 254);
    }
}
