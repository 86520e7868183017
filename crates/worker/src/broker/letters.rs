//! What is published for a delivery: its report, a dead letter where something is left of it, a copy of the report for
//! whoever asked for one.

use std::time::SystemTime;

use imageshare_core::text::printable;
use imageshare_engine::job::{AccountOutcome, Report as EngineReport};
use jiff::Timestamp;
use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldArray, FieldTable, ShortString},
};

use super::{
    Envelope, Message, Reply,
    delivery::{NoJob, TRACEPARENT, traceparent},
    publisher::PERSISTENT,
    topology,
};
use crate::{
    driver::Settled,
    wire::{Permission, Report, job, report::Circumstances},
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
    /// Who wrote it, `host:pid`.
    pub const WORKER: &str = "imageshare-worker";
}

/// Characters of the line that says why.
const DETAIL_CHARS_MAX: usize = 500;

/// Bytes of headers of a message that are passed on with it. With more, ours would no longer find room in a frame of
/// AMQP, and a message that cannot be published would come back for ever.
const HEADERS_LEN_MAX: usize = 32 * 1024;

/// How the names of our own headers begin.
const OURS: &str = "imageshare-";

/// Headers that the broker acts on. Passed on, these would send the dead letter elsewhere, or be refused.
const ACTED_ON: [&str; 4] = ["BCC", "CC", "x-delay", "x-delivery-count"];

/// What is published for one delivery.
#[derive(Debug)]
pub struct Letters {
    /// Its report. Only its confirm counts.
    pub report: Message,
    /// What is left of it, where something is.
    pub dead_letter: Option<Message>,
    /// A copy of the report for whoever asked for one.
    pub reply: Option<Message>,
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
    pub fn of_job(settled: Settled<Box<Envelope>>, desk: Desk<'_>) -> Self {
        let Settled { identity: envelope, report, received_at, finished_at, .. } = settled;
        let trace = envelope.traceparent.as_deref();
        let dead_letter = dead_letter(&envelope, &report, desk);
        let circumstances = Circumstances {
            redelivered: envelope.redelivered,
            received_at: timestamp(received_at),
            finished_at: timestamp(finished_at),
            worker: desk.worker.to_owned(),
        };
        let report = Report::of_job(envelope.identity, desk.lane, &report, circumstances);
        Self::of_report(&report, dead_letter, desk.lane, trace, envelope.reply.as_deref())
    }

    /// Of what is no job.
    #[must_use]
    pub fn of_no_job(no_job: NoJob, desk: Desk<'_>) -> Self {
        let NoJob { redelivered, received_at, rejection, body, properties, reply, .. } = no_job;
        let circumstances = Circumstances {
            redelivered,
            received_at: timestamp(received_at),
            finished_at: Timestamp::now(),
            worker: desk.worker.to_owned(),
        };
        let report = Report::of_rejection(&rejection, circumstances);
        let trace = traceparent(&properties).map(str::to_owned);
        let why = Why { reason: "rejected", code: None, detail: rejection.reason() };
        let dead_letter = dead(untouched(&properties), body, &why, desk);
        Self::of_report(&report, Some(dead_letter), desk.lane, trace.as_deref(), reply.as_deref())
    }

    fn of_report(
        report: &Report,
        dead_letter: Option<Message>,
        lane: &str,
        trace: Option<&str>,
        reply: Option<&Reply>,
    ) -> Self {
        let body = serde_json::to_vec(report).expect("a report is texts, numbers and lists of them");
        let id: ShortString = report.job_id.as_deref().map(short).unwrap_or_default();
        let headers = trace.map(|trace| {
            let mut headers = FieldTable::default();
            headers.insert(TRACEPARENT.into(), text(trace));
            headers
        });
        let with_headers = |message: Message| match &headers {
            Some(headers) => message.with_headers(headers.clone()),
            None => message,
        };
        let reply = reply.map(|reply| {
            let mut copy = with_headers(Message::json("", short(&reply.to), id.clone(), body.clone()));
            if let Some(correlation_id) = &reply.correlation_id {
                copy.properties = copy.properties.with_correlation_id(short(correlation_id));
            }
            copy
        });
        let key = short(&format!("{lane}.{}", report.status.as_str()));
        Self { report: with_headers(Message::json(topology::REPORTS, key, id, body)), dead_letter, reply }
    }
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
    Message { exchange: topology::DEAD.into(), routing_key: topology::DEAD.into(), properties, body }
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
        let is_passed = |name: &str| !ACTED_ON.contains(&name) && !name.starts_with(OURS);
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
        driver::Epoch,
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
        let settled = Settled {
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
        let reply = reply.unwrap();
        assert_eq!((reply.exchange.as_str(), reply.routing_key.as_str()), ("", "answers"));
        assert_eq!(reply.properties.correlation_id().as_ref().unwrap().as_str(), "c");
        assert_eq!(reply.body, report.body);
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
        let body = String::from_utf8(dead.body).unwrap();
        assert!(body.contains(r#""account_ids":["10001","10002","10003"]"#), "{body}");
    }

    #[test]
    fn what_is_no_job_goes_on_with_its_bytes_and_without_what_the_broker_would_act_on() {
        let mut headers = FieldTable::default();
        for name in ["CC", "BCC", "x-delivery-count", "x-delay", "imageshare-code", "imageshare-lane", "own"] {
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
