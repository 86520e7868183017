//! A message of a lane's queue: a job with its envelope, or invalid.
//!
//! Nothing that a publisher wrote is trusted: not the body, not a header, not the destination of the reply.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use imageshare_amqp::{BrokerVersion, IncomingMessage};
use imageshare_core::tc3::HexDigest;
use imageshare_engine::io::LaneId;
use jiff::Timestamp;
use lapin::{BasicProperties, types::AMQPValue};

use super::topology;
use crate::{
    lane::Regions,
    lane_messages::{Delivery, Epoch},
    wire::{
        Defaults, Identity, Job, Rejection,
        job::{self, is_job_id},
    },
};

/// Digits of the body's hash in the id of a job without one.
const HASH_DIGITS: usize = 16;

/// The priority that RabbitMQ 4 gives to a message without one.
const DEFAULT_PRIORITY: u8 = 4;

/// How far a publisher's clock may be ahead of ours for its timestamp to count. Milliseconds in place of seconds are further.
const AHEAD_MAX: Duration = Duration::from_hours(24);

/// How long ago a timestamp may be to count. A job is worked on long before.
const AGE_MAX: Duration = Duration::from_hours(365 * 24);

/// The header of W3C Trace Context.
pub(super) const TRACEPARENT: &str = "traceparent";

/// A lane, as far as the broker is concerned.
#[derive(Clone, Debug)]
pub struct BrokerLane {
    /// Its number.
    pub id: LaneId,
    /// Its name, which is part of the name of its queue.
    pub name: String,
    /// The regions whose images it serves.
    pub regions: Regions,
}

/// What is kept of a message from its delivery to its acknowledgement: all but the accounts, which the engine has, and the
/// body, which is no longer needed.
#[derive(Clone, Debug)]
pub struct JobEnvelope {
    /// The subscription that delivered it.
    pub epoch: Epoch,
    /// The delivery tag, valid on that subscription only.
    pub tag: u64,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// What its report repeats.
    pub identity: Identity,
    /// When it was published, by the publisher's clock, if its timestamp is plausible.
    pub published_at: Option<SystemTime>,
    /// After this time no operation of it begins.
    pub expires_at: Option<Timestamp>,
    /// For SYNC: ignore the cancel limit.
    pub force: bool,
    /// Where a copy of the report goes.
    pub reply: Option<Box<ReplyAddress>>,
    /// W3C Trace Context of the publisher.
    pub traceparent: Option<Box<str>>,
}

/// Where a copy of a report goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyAddress {
    /// A queue that is not ours.
    pub to: String,
    /// The id by which the requester recognizes its answer.
    pub correlation_id: Option<String>,
}

/// A message that is not a job, or not for its lane. Its body is passed on unchanged.
#[derive(Debug)]
pub struct InvalidMessage {
    /// The delivery tag.
    pub tag: u64,
    /// Whether it was delivered before.
    pub redelivered: bool,
    /// When it arrived.
    pub received_at: SystemTime,
    /// Why it is invalid.
    pub rejection: Rejection,
    /// The same as one word: `text`, `member`, `route` or `priority`.
    pub reason: &'static str,
    /// The body, or the beginning of one that is too long.
    pub body: Vec<u8>,
    /// Length of the whole body in bytes.
    pub len: u64,
    /// The properties.
    pub properties: BasicProperties,
    /// Where a copy of the report goes.
    pub reply: Option<Box<ReplyAddress>>,
}

/// A job for the driver.
pub type DeliveredJob = Delivery<Box<JobEnvelope>>;

/// Parses a message that this broker delivered.
///
/// # Errors
/// If it is not a job for this lane.
pub fn read(
    message: IncomingMessage,
    epoch: Epoch,
    lane: &BrokerLane,
    broker: &BrokerVersion,
) -> Result<DeliveredJob, Box<InvalidMessage>> {
    let IncomingMessage { tag, redelivered, properties, body, len } = message;
    let reply = reply(&properties).map(Box::new);
    // A bug that one message triggers must not stop all others, each time it is redelivered.
    let parsed = catch_unwind(AssertUnwindSafe(|| {
        let job = parse(&body, len, &properties, lane)?;
        check_priority(&job, &properties, broker)?;
        Ok(job)
    }));
    match parsed.unwrap_or_else(|panic| Err(("text", from_panic(&*panic)))) {
        Ok(job) => Ok(taken(job, tag, redelivered, epoch, lane.id, &properties, reply)),
        Err((reason, mut rejection)) => {
            rejection.known.lane = Some(lane.name.clone());
            let received_at = SystemTime::now();
            Err(Box::new(InvalidMessage {
                tag,
                redelivered,
                received_at,
                rejection,
                reason,
                body,
                len,
                properties,
                reply,
            }))
        }
    }
}

/// Returns the trace context of a message, if it is well-formed.
pub(super) fn traceparent(properties: &BasicProperties) -> Option<&str> {
    header_text(properties, TRACEPARENT).filter(|text| is_traceparent(text))
}

/// Returns a header that is text.
pub(super) fn header_text<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a str> {
    match header(properties, name)? {
        AMQPValue::LongString(text) => str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

/// Whether this is `version-trace-parent-flags` in lowercase hexadecimal digits, the format of version 00.
fn is_traceparent(text: &str) -> bool {
    let mut lens = [2, 32, 16, 2].into_iter();
    let mut parts = text.split('-');
    let is_part = |(part, len): (&str, usize)| {
        part.len() == len && part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    parts.by_ref().zip(lens.by_ref()).all(is_part)
        && lens.next().is_none()
        && parts.next().is_none()
        && text.len() == 55
}

/// Returns where a copy of the report goes, unless that is a queue of ours, in which it would pass for a job.
fn reply(properties: &BasicProperties) -> Option<ReplyAddress> {
    let to = properties.reply_to().as_ref().map(|to| to.as_str()).filter(|to| !to.is_empty())?;
    if topology::is_ours(to) {
        return None;
    }
    let correlation_id = properties.correlation_id().as_ref().or_else(|| properties.message_id().as_ref());
    Some(ReplyAddress { to: to.to_owned(), correlation_id: correlation_id.map(ToString::to_string) })
}

/// Parses a job. The error has the reason as one word too.
fn parse(
    body: &[u8],
    len: u64,
    properties: &BasicProperties,
    lane: &BrokerLane,
) -> Result<Job, (&'static str, Rejection)> {
    let defaults = Defaults { job_id: default_id(body, properties), region: None };
    if len > body.len() as u64 {
        return Err(("text", job::too_long_text(&defaults, len)));
    }
    let parsed = job::parse(body, &defaults);
    let job = parsed.map_err(|rejection| (if rejection.member.is_some() { "member" } else { "text" }, rejection))?;
    let Identity { lane: named, images, .. } = &job.identity;
    if let Some(named) = named.as_ref().filter(|named| **named != lane.name) {
        let problem = format!("\"{named}\" (expected \"{}\", the lane whose queue delivered it)", lane.name);
        return Err(("route", Rejection::of_job(&job.identity, Some("lane"), problem)));
    }
    let is_foreign = |(_, region): &(usize, _)| !lane.regions.contains(*region);
    if let Some((index, region)) = images.regions().enumerate().find(is_foreign) {
        let problem = format!("\"{region}\" (expected a region of lane \"{}\": {})", lane.name, lane.regions);
        let member = if images.len() > 1 { format!("images[{index}].region") } else { "region".to_owned() };
        return Err(("route", Rejection::of_job(&job.identity, Some(&member), problem)));
    }
    Ok(job)
}

/// Checks that all jobs have the same priority if the broker delivers by priority. Otherwise the CANCEL after a SHARE could
/// be delivered first.
fn check_priority(
    job: &Job,
    properties: &BasicProperties,
    broker: &BrokerVersion,
) -> Result<(), (&'static str, Rejection)> {
    match priority(properties) {
        Some(priority) if broker.acts_on_priority() => {
            let problem = format!(
                "invalid value {priority} (expected no priority, or {DEFAULT_PRIORITY}: RabbitMQ {broker} delivers by \
                 priority, which would change the order of jobs)"
            );
            Err(("priority", Rejection::of_job(&job.identity, Some("priority"), problem)))
        }
        _ => Ok(()),
    }
}

/// Returns the priority of a message if it differs from that of messages without one.
pub(super) fn priority(properties: &BasicProperties) -> Option<u8> {
    properties.priority().filter(|priority| *priority != DEFAULT_PRIORITY)
}

/// Returns when a message was published, by its publisher's clock. The timestamp has whole seconds, so this is up to a second
/// early. Returns `None` without a timestamp, or if it is more than a day ahead or a year ago.
pub(super) fn published_at(properties: &BasicProperties) -> Option<SystemTime> {
    let published_at = UNIX_EPOCH.checked_add(Duration::from_secs((*properties.timestamp())?))?;
    let is_plausible = match published_at.elapsed() {
        Ok(age) => age <= AGE_MAX,
        Err(ahead) => ahead.duration() <= AHEAD_MAX,
    };
    is_plausible.then_some(published_at)
}

/// Returns the id for a job without one: that of the message, or a hash of the body.
pub(super) fn default_id(body: &[u8], properties: &BasicProperties) -> String {
    match properties.message_id() {
        Some(id) if is_job_id(id.as_str()) => id.to_string(),
        _ => format!("sha256-{:.HASH_DIGITS$}", HexDigest::sha256(body).as_str()),
    }
}

fn taken(
    job: Job,
    tag: u64,
    redelivered: bool,
    epoch: Epoch,
    lane: LaneId,
    properties: &BasicProperties,
    reply: Option<Box<ReplyAddress>>,
) -> DeliveredJob {
    let (timestamp, force) = (job.expires_at, job.force);
    // A time that the system cannot represent is after the end of any process.
    let expires_at = timestamp.and_then(|time| SystemTime::try_from(time).ok());
    let (mut identity, jobs) = job.into_parts(None, redelivered);
    // It is the lane of the queue.
    identity.lane = None;
    let envelope = JobEnvelope {
        epoch,
        tag,
        redelivered,
        identity,
        published_at: published_at(properties),
        expires_at: timestamp,
        force,
        reply,
        traceparent: traceparent(properties).map(Box::from),
    };
    Delivery { identity: Box::new(envelope), lane, jobs, expires_at }
}

fn from_panic(panic: &(dyn Any + Send)) -> Rejection {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let words = imageshare_core::text::excerpt(words.unwrap_or_default());
    Rejection::of_text(format!("a bug of this program prevents parsing: {words} (expected a job)"))
}

fn header<'a>(properties: &'a BasicProperties, name: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(name)
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;

    use super::*;

    const JOB: &str = r#"{"image_id":"img-6pb6lrmy","region":"ap-tokyo","permission":"SHARE","account_ids":[10001]}"#;
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn lane() -> BrokerLane {
        let regions = Regions::These(["ap-tokyo".parse().unwrap()].into());
        BrokerLane { id: LaneId(3), name: "asia".to_owned(), regions }
    }

    fn message(body: &str, properties: BasicProperties) -> IncomingMessage {
        let (body, len) = (body.as_bytes().to_vec(), body.len() as u64);
        IncomingMessage { tag: 17, redelivered: true, properties, body, len }
    }

    fn broker(version: &str) -> BrokerVersion {
        BrokerVersion::from_text(version)
    }

    fn taken(body: &str, properties: BasicProperties) -> DeliveredJob {
        read(message(body, properties), Epoch(2), &lane(), &broker("3.10.8")).unwrap()
    }

    fn with_headers(headers: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> BasicProperties {
        let mut table = FieldTable::default();
        for (name, value) in headers {
            table.insert(name.into(), value);
        }
        BasicProperties::default().with_headers(table)
    }

    #[test]
    fn job_keeps_its_envelope() {
        let properties = with_headers([(TRACEPARENT, AMQPValue::LongString(TRACE.into()))])
            .with_message_id("m-1".into())
            .with_reply_to("answers".into());
        let body = JOB.replacen('{', r#"{"lane":"asia","expires_at":"2026-11-24T04:00:00Z","#, 1);
        let Delivery { identity, lane, jobs, expires_at } = taken(&body, properties);
        let [job] = &jobs[..] else { panic!("{jobs:?}") };
        assert_eq!((lane, job.redelivered, job.account_ids.len()), (LaneId(3), true, 1));
        assert_eq!((identity.epoch, identity.tag, identity.redelivered), (Epoch(2), 17, true));
        assert_eq!((identity.identity.job_id.as_str(), identity.identity.lane.as_deref()), ("m-1", None));
        assert_eq!(identity.traceparent.as_deref(), Some(TRACE));
        assert_eq!(expires_at.map(|time| Timestamp::try_from(time).unwrap()), identity.expires_at);
        let reply = ReplyAddress { to: "answers".to_owned(), correlation_id: Some("m-1".to_owned()) };
        assert_eq!(identity.reply.as_deref(), Some(&reply));
    }

    #[test]
    fn job_without_id_takes_message_id() {
        let id = |properties| taken(JOB, properties).identity.identity.job_id.clone();
        assert_eq!(id(BasicProperties::default().with_message_id("m".into())), "m");
        let of_bytes = id(BasicProperties::default());
        assert_eq!(of_bytes, format!("sha256-{:.16}", HexDigest::sha256(JOB.as_bytes()).as_str()));
        assert_eq!(id(BasicProperties::default().with_message_id("two\nlines".into())), of_bytes);
        let named = JOB.replacen('{', r#"{"job_id":"own","#, 1);
        assert_eq!(
            taken(&named, BasicProperties::default().with_message_id("m".into())).identity.identity.job_id,
            "own"
        );
    }

    #[track_caller]
    fn check_rejected(body: &str, word: &str, reason: &str) {
        let properties = BasicProperties::default().with_message_id("m-1".into()).with_type("t".into());
        let invalid = read(message(body, properties.clone()), Epoch(2), &lane(), &broker("4.0.5")).unwrap_err();
        assert_eq!((invalid.reason, invalid.rejection.reason().as_str()), (word, reason));
        assert_eq!(
            (invalid.rejection.known.lane.as_deref(), invalid.rejection.known.job_id.as_deref()),
            (Some("asia"), Some("m-1"))
        );
        assert_eq!((invalid.tag, invalid.redelivered, invalid.body.as_slice()), (17, true, body.as_bytes()));
        assert_eq!(invalid.properties, properties);
    }

    #[test]
    fn invalid_message_keeps_its_bytes() {
        check_rejected("[1]", "text", "is a list (expected one JSON object per line; convert a list with jq -c '.[]')");
        check_rejected(
            &JOB.replacen('{', r#"{"lane":"europe","#, 1),
            "route",
            "lane: \"europe\" (expected \"asia\", the lane whose queue delivered it)",
        );
        check_rejected(
            &JOB.replace("ap-tokyo", "eu-frankfurt"),
            "route",
            "region: \"eu-frankfurt\" (expected a region of lane \"asia\": ap-tokyo)",
        );
        check_rejected(
            r#"{"images":[{"region":"ap-tokyo","image_id":"img-6pb6lrmy"},{"region":"eu-frankfurt","image_id":"img-6pb6lrmy"}],"permission":"SHARE","account_ids":[10001]}"#,
            "route",
            "images[1].region: \"eu-frankfurt\" (expected a region of lane \"asia\": ap-tokyo)",
        );
    }

    #[test]
    fn priority_is_rejected_where_brokers_act_on_it() {
        let read = |priority: Option<u8>, version: &str| {
            let properties = BasicProperties::default();
            let properties = match priority {
                Some(priority) => properties.with_priority(priority),
                None => properties,
            };
            read(message(JOB, properties), Epoch(2), &lane(), &broker(version)).map(|_| ())
        };
        for version in ["4.0.5", "4.3.6", "5.0.0-rc.1", "unreadable"] {
            assert!(read(None, version).is_ok() && read(Some(4), version).is_ok(), "{version}");
            for priority in [0, 3, 5, 9, 255] {
                let invalid = read(Some(priority), version).unwrap_err();
                assert_eq!(invalid.reason, "priority");
                let reason = invalid.rejection.reason();
                let expected =
                    format!("priority: invalid value {priority} (expected no priority, or 4: RabbitMQ {version}");
                assert!(reason.starts_with(&expected), "{reason}");
            }
        }
        for version in ["3.10.8", "3.13.7"] {
            assert!([0, 9].into_iter().all(|priority| read(Some(priority), version).is_ok()), "{version}");
        }
    }

    #[test]
    fn only_plausible_timestamps_count() {
        let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
        let read = |timestamp: u64| published_at(&BasicProperties::default().with_timestamp(timestamp));
        for timestamp in [now - 300 * 24 * 3600, now - 1, now, now + 3600] {
            let expected = UNIX_EPOCH + Duration::from_secs(timestamp);
            assert_eq!(read(timestamp), Some(expected), "{timestamp}");
        }
        for timestamp in [0, now - 400 * 24 * 3600, now + 2 * 24 * 3600, now * 1000, i64::MAX as u64, u64::MAX] {
            assert_eq!(read(timestamp), None, "{timestamp}");
        }
        assert_eq!(published_at(&BasicProperties::default()), None);
        let published = taken(JOB, BasicProperties::default().with_timestamp(now));
        assert_eq!(published.identity.published_at, Some(UNIX_EPOCH + Duration::from_secs(now)));
    }

    #[test]
    fn truncated_message_is_rejected_for_its_length() {
        let message = IncomingMessage { len: 21_000_000, ..message(JOB, BasicProperties::default()) };
        let invalid = read(message, Epoch(2), &lane(), &broker("3.10.8")).unwrap_err();
        let reason = invalid.rejection.reason();
        assert_eq!(reason, "21000000 bytes (expected at most 1048576)");
        assert_eq!((invalid.reason, invalid.len, invalid.body.as_slice()), ("text", 21_000_000, JOB.as_bytes()));
    }

    #[test]
    fn no_reply_goes_to_queue_of_ours() {
        let reply = |to: &str| taken(JOB, BasicProperties::default().with_reply_to(to.into())).identity.reply;
        for ours in ["imageshare.jobs.asia", "imageshare.dead", "imageshare.reports", "imageshare", ""] {
            assert_eq!(reply(ours), None, "{ours}");
        }
        assert_eq!(reply("other").unwrap().correlation_id, None);
    }

    #[test]
    fn trace_context_has_one_format() {
        assert!(is_traceparent(TRACE));
        for wrong in [
            "",
            "00",
            &TRACE.to_uppercase(),
            TRACE.get(..54).unwrap(),
            &format!("{TRACE}-"),
            &format!("{TRACE}\n"),
            "-",
        ] {
            assert!(!is_traceparent(wrong), "{wrong}");
        }
        let number = with_headers([(TRACEPARENT, AMQPValue::LongInt(7))]);
        assert_eq!(traceparent(&number), None);
    }

    #[test]
    fn panic_of_parser_is_a_rejection() {
        let panic = catch_unwind(|| panic!("at the disco\u{1b}")).unwrap_err();
        let reason = from_panic(&*panic).reason();
        assert_eq!(reason, "a bug of this program prevents parsing: \"at the disco\\u{1b}\" (expected a job)");
    }
}
