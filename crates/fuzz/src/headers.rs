//! What came around a message, and its body, as they stand on the wire.

use std::time::SystemTime;

use imageshare_amqp::{BrokerVersion, Decoder, Frame, IncomingMessage, Scrubber};
use imageshare_core::ids::AccountId;
use imageshare_engine::{
    io::LaneId,
    job::{AccountOutcome, Failure, Job as EngineJob, Mode, Report},
};
use imageshare_worker::{
    broker::{
        DeadLetter, Message, ReplyAddress, Route,
        delivery::{self, BrokerLane, DeliveredJob, InvalidMessage},
        headers as ours,
        outgoing_messages::{OutgoingMessages, Reporter},
        topology::is_ours,
    },
    lane::Regions,
    lane_messages::{Delivery, Epoch, SettledJob},
    wire::{Defaults, Job, job},
};
use lapin::{
    BasicProperties, message,
    protocol::basic::parse_properties,
    types::{AMQPValue, FieldTable},
};
use serde_json::Value;

use crate::{
    assert_shown,
    job::{check_job, check_rejection},
    source::Source,
};

/// The head of a frame of properties, on channel 1, but for its size; and the byte behind its payload.
const FRAME: ([u8; 3], [u8; 1]) = ([2, 0, 1], [0xce]);

/// A frame's head, and what stands before the properties in its payload: the class `basic`, and the body's size.
const HEAD_LEN: usize = 7;
const BEFORE_PROPERTIES: [u8; 12] = [0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

/// How deep tables and lists are left in each other.
const DEPTH_MAX: u32 = 16;

/// Bytes of the headers of a dead letter, ours among them. A frame may have only 8 KiB, also for six short texts.
const HEADERS_LEN_MAX: usize = 6 * 1024;

/// Bytes of a body that is kept whole, and of a longer one.
const BODY_LEN_MAX: usize = 1024 * 1024;
const TRUNCATED_LEN: usize = 64 * 1024;

/// The lane and worker in reports.
const REPORTER: Reporter<'static> = Reporter { lane: "asia", worker: "host:17" };

/// Messages: two bytes each for the length of the properties and of the body, then the properties as on the wire, then the
/// body. What a broker lets through the client library can read once it was scrubbed; whatever it then holds, the message
/// is a job or is passed on untouched, its report and its dead letter are whole, and nothing in them sends it to a queue
/// that it should not reach.
///
/// # Panics
/// If that does not hold.
pub fn headers(data: &[u8]) {
    let mut source = Source::new(data);
    loop {
        let mut len = || usize::from(u16::from_be_bytes([source.byte(), source.byte()]));
        let (properties, body) = (len(), len());
        check_wire(source.bytes(properties), source.bytes(body));
        if source.is_empty() {
            break;
        }
    }
}

fn check_wire(raw: &[u8], body: &[u8]) {
    let scrubbed = scrubbed(raw);
    let is_well_formed = well_formed(raw).is_some();
    let properties = match parse_properties(scrubbed.as_slice()) {
        Ok(([], properties)) => properties,
        Ok(_) | Err(_) => return assert!(!is_well_formed, "the library cannot read what a broker lets through"),
    };
    let message = decoded(raw, body, usize::MAX);
    for other in [decoded(raw, body, 1), decoded(raw, body, 7)] {
        assert_eq!(other.body, message.body, "in whatever pieces it comes");
    }
    // As text: a header may hold a float that is no number, which does not equal itself.
    assert_eq!(format!("{:?}", message.properties), format!("{properties:?}"), "both readers agree");
    assert_eq!(message.len, body.len() as u64);
    check_letter(DeadLetter::new(self::message(&properties, body)), body);
    let regions = Regions::These(["ap-tokyo".parse().expect("it is a region")].into());
    let lane = BrokerLane { id: LaneId(3), name: REPORTER.lane.to_owned(), regions };
    match delivery::read(message, Epoch(2), &lane, &BrokerVersion::from_text("3.10.8")) {
        Ok(taken) => check_taken(taken, body),
        Err(invalid) => check_invalid(*invalid, body),
    }
}

/// A message as the client library hands it on.
fn message(properties: &BasicProperties, body: &[u8]) -> message::Delivery {
    let mut message = message::Delivery::mock(17, "".into(), "".into(), false, body.to_vec());
    message.properties = properties.clone();
    message
}

/// The message as a lane reads it from frames that arrive in pieces of `piece` bytes.
fn decoded(raw: &[u8], body: &[u8], piece: usize) -> IncomingMessage {
    let deliver = [&[0, 60, 0, 60, 1, b'c'][..], &17_u64.to_be_bytes(), &[0, 0, 0]].concat();
    let [before @ .., _, _, _, _, _, _, _, _] = BEFORE_PROPERTIES;
    let properties = [&before[..], &(body.len() as u64).to_be_bytes(), raw].concat();
    let mut bytes = Vec::new();
    let (first, second) = body.split_at(body.len() / 2);
    for (kind, payload) in [(1, deliver.as_slice()), (2, &properties), (3, first), (3, second)] {
        let size = u32::try_from(payload.len()).expect("its length has two bytes");
        bytes.extend([&[kind, 0, 1][..], &size.to_be_bytes(), payload, &FRAME.1].concat());
    }
    let (mut decoder, mut waiting, mut complete) = (Decoder::new(BODY_LEN_MAX, TRUNCATED_LEN), Vec::new(), None);
    for piece in bytes.chunks(piece) {
        waiting.extend_from_slice(piece);
        loop {
            let (taken, frame) = decoder.decode(&mut waiting).expect("these are frames");
            waiting.drain(..taken);
            match frame {
                None => break,
                Some(Frame::Content(_)) => complete = complete.or_else(|| decoder.begin_body()),
                Some(Frame::Message(message)) => complete = Some(*message),
                Some(Frame::Method(method)) => panic!("{method:?}"),
            }
        }
    }
    complete.expect("all of it came")
}

/// The properties as the client library gets them.
fn scrubbed(raw: &[u8]) -> Vec<u8> {
    let payload = [&BEFORE_PROPERTIES, raw].concat();
    let size = u32::try_from(payload.len()).expect("its length has two bytes");
    let frame = [&FRAME.0[..], &size.to_be_bytes(), &payload, &FRAME.1].concat();
    let read = scrub_in_pieces(&frame, frame.len());
    assert_eq!(read.len(), frame.len(), "no byte is lost");
    assert_eq!(read, scrub_in_pieces(&frame, 3), "the pieces make no difference");
    assert_eq!(read, scrub_in_pieces(&read, frame.len()), "scrubbed bytes stay unchanged");
    read[HEAD_LEN + BEFORE_PROPERTIES.len()..read.len() - FRAME.1.len()].to_vec()
}

/// Returns what the library reads when the bytes arrive in pieces of this length.
fn scrub_in_pieces(bytes: &[u8], piece: usize) -> Vec<u8> {
    let (mut scrubber, mut read, mut room) = (Scrubber::default(), Vec::new(), [0; 64]);
    for piece in bytes.chunks(piece) {
        let mut bytes = piece.to_vec();
        let usable = scrubber.scrub(&mut bytes);
        read.extend_from_slice(&bytes[..usable]);
        loop {
            match scrubber.read(&mut room) {
                0 => break,
                len => read.extend_from_slice(&room[..len]),
            }
        }
    }
    read
}

fn check_taken(taken: DeliveredJob, body: &[u8]) {
    let Delivery { identity: envelope, lane, jobs, .. } = taken;
    let identity = envelope.identity.clone();
    let (expires_at, force) = (envelope.expires_at, envelope.force);
    let account_ids: Box<[_]> = jobs.into_iter().map(|EngineJob { account_ids, .. }| account_ids).collect();
    check_job(&Job { identity: identity.clone(), account_ids: account_ids.clone(), expires_at, force });
    assert_eq!((lane, identity.lane.as_deref()), (LaneId(3), None));
    let defaults = Defaults { job_id: identity.job_id.clone(), region: None };
    let plain = job::parse(body, &defaults).expect("what was taken is a job by itself");
    assert!(plain.identity.lane.as_deref().is_none_or(|named| named == REPORTER.lane));
    assert_eq!((&plain.account_ids, &plain.identity.images), (&account_ids, &identity.images));
    check_reply(envelope.reply.as_deref());
    envelope.traceparent.iter().for_each(|trace| assert_eq!(trace.len(), 55));

    let failure = Failure { code: "InvalidAccountId.NotFound".into(), message: "m".into(), request_id: None };
    let failed = AccountOutcome::Failed(failure.into());
    let report = |account_ids: &[AccountId]| {
        let mut outcomes: Vec<_> =
            account_ids.iter().map(|account| (*account, AccountOutcome::Changed(None))).collect();
        outcomes.iter_mut().take(1).for_each(|(_, outcome)| *outcome = failed.clone());
        Report { outcomes, cancelled: vec![], duplicates: 0, requests: 1 }
    };
    let reports = account_ids.iter().map(|list| report(list)).collect();
    let at = SystemTime::UNIX_EPOCH;
    let mode = Mode::from(identity.permission);
    let settled =
        SettledJob { identity: envelope, lane, mode, reports, received_at: at, finished_at: at, engine_epoch: at };
    let OutgoingMessages { report, dead_letter, reply } = OutgoingMessages::from_job(settled, REPORTER);
    check_reply(reply.as_deref());
    check_report(&report, if account_ids.iter().any(|list| list.len() > 1) { "partial" } else { "failed" });
    let dead = dead_letter.expect("something is left of it");
    check_dead_letter(&dead, "failed");
    let left = job::parse(&dead.body, &defaults).expect("what is left of a job is a job");
    let kept = |list: &[AccountId]| if mode == Mode::Sync { list.into() } else { list[..1].into() };
    let expected: Box<[Box<[AccountId]>]> = account_ids.iter().map(|list| kept(list)).collect();
    assert_eq!((left.account_ids, left.identity.images), (expected, identity.images));
    assert_eq!(left.identity.labels, identity.labels);
}

fn check_invalid(invalid: InvalidMessage, body: &[u8]) {
    check_rejection(&invalid.rejection);
    check_reply(invalid.reply.as_deref());
    assert_eq!(invalid.rejection.known.lane.as_deref(), Some(REPORTER.lane));
    assert!(!invalid.rejection.problem.contains("a bug of this program"), "{}", invalid.rejection);
    let theirs = invalid.properties.clone();
    let OutgoingMessages { report, dead_letter, reply } = OutgoingMessages::from_invalid(invalid, REPORTER);
    check_reply(reply.as_deref());
    check_report(&report, "rejected");
    let dead = dead_letter.expect("what is no job is passed on");
    check_dead_letter(&dead, "rejected");
    assert_eq!(dead.body, body, "it is passed on untouched");
    assert_eq!((dead.properties.message_id(), dead.properties.kind()), (theirs.message_id(), theirs.kind()));
}

/// A letter of the queue of dead letters, into which any publisher may write.
fn check_letter(mut letter: DeadLetter, body: &[u8]) {
    let texts = [&letter.lane, &letter.reason, &letter.code, &letter.detail, &letter.worker, &letter.truncated];
    texts.into_iter().flatten().for_each(|text| assert_shown(text, 500));
    letter.job.as_ref().map_or_else(check_rejection, check_job);
    let again = letter.take_message(Route::shared("any"));
    assert_eq!((again.exchange.as_str(), &again.body[..]), ("imageshare", body));
    check_passed_on(&again.properties);
    let mut names = again.properties.headers().iter().flat_map(|headers| headers.inner().keys());
    assert!(names.all(|name| !name.as_str().starts_with("imageshare-")), "its lane gets it without what we wrote");
}

/// Nothing of it is what the broker would act on.
fn check_passed_on(properties: &BasicProperties) {
    assert_eq!((properties.expiration(), properties.user_id(), properties.reply_to()), (&None, &None, &None));
    assert_eq!((properties.delivery_mode(), properties.priority()), (&Some(2), &None));
    let Some(headers) = properties.headers() else { return };
    let acted_on = ["BCC", "CC", "x-acquired-count", "x-delay", "x-delivery-count"];
    assert!(!acted_on.iter().any(|name| headers.inner().contains_key(*name)));
}

fn check_reply(reply: Option<&ReplyAddress>) {
    assert!(reply.is_none_or(|reply| !reply.to.is_empty() && !is_ours(&reply.to)), "{reply:?}");
}

fn check_report(report: &Message, status: &str) {
    let key = format!("{}.{status}", REPORTER.lane);
    assert_eq!((report.exchange.as_str(), report.routing_key.as_str()), ("imageshare.reports", key.as_str()));
    let read: Value = serde_json::from_slice(&report.body).expect("a report is JSON");
    assert_eq!(read.get("status").and_then(Value::as_str), Some(status));
    let text = String::from_utf8_lossy(&report.body);
    assert!(!text.contains(char::is_control), "{text}");
}

fn check_dead_letter(dead: &Message, reason: &str) {
    assert_eq!((dead.exchange.as_str(), dead.routing_key.as_str()), ("imageshare.dead", "imageshare.dead"));
    check_passed_on(&dead.properties);
    let headers = dead.properties.headers().as_ref().expect("a dead letter has headers").inner();
    let text = |name: &str| match headers.get(name) {
        Some(AMQPValue::LongString(text)) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        _ => None,
    };
    assert_eq!(
        [ours::LANE, ours::WORKER, ours::REASON].map(text),
        [REPORTER.lane, REPORTER.worker, reason].map(|of| Some(of.to_owned()))
    );
    assert!(text(ours::DETAIL).is_some());
    assert!(headers.keys().filter(|name| name.as_str().starts_with("imageshare-")).count() <= 6);
    let len = headers.iter().map(|(name, value)| 1 + name.as_str().len() + wire_len(value)).sum::<usize>();
    assert!(len <= HEADERS_LEN_MAX, "{len} bytes");
    let letter = DeadLetter::new(message(&dead.properties, &dead.body));
    assert_eq!((letter.lane.as_deref(), letter.reason.as_deref()), (Some(REPORTER.lane), Some(reason)));
    check_letter(letter, &dead.body);
}

/// Bytes of a value on the wire, or a few more.
fn wire_len(value: &AMQPValue) -> usize {
    let table = |table: &FieldTable| {
        table.inner().iter().map(|(name, value)| 1 + name.as_str().len() + wire_len(value)).sum::<usize>()
    };
    5 + match value {
        AMQPValue::LongString(text) => text.len(),
        AMQPValue::ByteArray(bytes) => bytes.as_slice().len(),
        AMQPValue::FieldArray(list) => list.as_slice().iter().map(wire_len).sum(),
        AMQPValue::FieldTable(inner) => table(inner),
        _ => 4,
    }
}

/// What is left behind a value, a text, a table that a broker lets through; `None` if it would not.
type Rest<'a> = Option<&'a [u8]>;

/// Whether properties are what a broker lets through: all of them there, nothing behind them, values of the types that
/// RabbitMQ has.
fn well_formed(properties: &[u8]) -> Option<()> {
    let (flags, mut rest) = properties.split_first_chunk()?;
    let flags = u16::from_be_bytes(*flags);
    for nth in 0..14 {
        if flags & (1 << (15 - nth)) == 0 {
            continue;
        }
        rest = match nth {
            2 => table(rest, 1)?,
            3 | 4 => rest.get(1..)?,
            9 => rest.get(8..)?,
            _ => short(rest)?,
        };
    }
    rest.is_empty().then_some(())
}

fn short(bytes: &[u8]) -> Rest<'_> {
    bytes.get(1 + usize::from(*bytes.first()?)..)
}

/// What a length of four bytes stands before, and what is behind it.
fn long(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)
}

fn table(bytes: &[u8], depth: u32) -> Rest<'_> {
    let (mut entries, rest) = long(bytes)?;
    while !entries.is_empty() {
        entries = value(short(entries)?, depth)?;
    }
    Some(rest)
}

fn value(bytes: &[u8], depth: u32) -> Rest<'_> {
    let (kind, rest) = bytes.split_first()?;
    let len = match kind {
        // What lies deeper is overwritten, whatever it is.
        b'A' | b'F' if depth >= DEPTH_MAX => return long(rest).map(|(_, rest)| rest),
        b'F' => return table(rest, depth + 1),
        b'A' => {
            let (mut entries, rest) = long(rest)?;
            while !entries.is_empty() {
                entries = value(entries, depth + 1)?;
            }
            return Some(rest);
        }
        b'S' | b'x' => return long(rest).map(|(_, rest)| rest),
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'T' | b'd' => 8,
        _ => return None,
    };
    rest.get(len..)
}
