//! Headers that no well-behaved client writes, put on the wire byte for byte: a message with them goes its way like any
//! other, and what comes after it too.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
};

use serde_json::json;

use kit::{
    Node, PASSWORD, Sandbox,
    history::{History, account, image},
    stage::{DEAD, QUEUE, Stage},
    until,
};

/// Bytes of a frame that the broker takes (`frame_max`, its default).
const FRAME_MAX: usize = 131_072;

/// Bytes of a frame beside its payload, and of a payload with properties before the table of headers.
const FRAME_OVERHEAD: usize = 8;
const BEFORE_TABLE: usize = 12 + 2;

/// Kinds of frames.
const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;

/// Flags of the properties that are given.
const HEADERS: u16 = 1 << 13;
const REPLY_TO: u16 = 1 << 9;
const MESSAGE_ID: u16 = 1 << 7;

/// A connection that says what it is told to, with one channel.
struct Wire(TcpStream);

impl Wire {
    /// Opens it for the user of this stage.
    fn open(stage: &Stage<'_>) -> Self {
        let vhost = &stage.vhost.name;
        let stream = TcpStream::connect(("127.0.0.1", stage.vhost.node.port)).unwrap();
        let mut wire = Self(stream);
        wire.0.write_all(b"AMQP\0\0\x09\x01").unwrap();
        wire.await_method(10, 10);
        let answer = format!("\0{vhost}\0{PASSWORD}");
        wire.method(0, 10, 11, &[&long(b"")[..], &short(b"PLAIN"), &long(answer.as_bytes()), &short(b"en_US")]);
        wire.await_method(10, 30);
        let frame_max = u32::try_from(FRAME_MAX).unwrap().to_be_bytes();
        wire.method(0, 10, 31, &[&[0, 1], &frame_max, &[0, 0]]);
        wire.method(0, 10, 40, &[&short(vhost.as_bytes()), &[0, 0]]);
        wire.await_method(10, 41);
        wire.method(1, 20, 10, &[&[0]]);
        wire.await_method(20, 11);
        wire.method(1, 85, 10, &[&[0]]);
        wire.await_method(85, 11);
        wire
    }

    /// Publishes to the lane's queue, with these properties, and waits until the broker has it.
    fn publish(&mut self, flags: u16, properties: &[u8], body: &[u8]) {
        self.method(1, 60, 40, &[&[0, 0], &short(b""), &short(QUEUE.as_bytes()), &[0]]);
        let size = (body.len() as u64).to_be_bytes();
        self.frame(HEADER, 1, &[&[0, 60, 0, 0], &size[..], &flags.to_be_bytes(), properties].concat());
        self.frame(BODY, 1, body);
        self.await_method(60, 80);
    }

    fn method(&mut self, channel: u16, class: u16, method: u16, arguments: &[&[u8]]) {
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), &arguments.concat()].concat();
        self.frame(METHOD, channel, &payload);
    }

    fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let frame = [&[kind][..], &channel.to_be_bytes(), &size, payload, &[0xce]].concat();
        self.0.write_all(&frame).unwrap();
    }

    /// Waits for the next method, which has to be this one.
    fn await_method(&mut self, class: u16, method: u16) {
        let mut head = [0; 7];
        self.0.read_exact(&mut head).unwrap();
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        let mut rest = vec![0; size + 1];
        self.0.read_exact(&mut rest).unwrap();
        let expected = [&class.to_be_bytes()[..], &method.to_be_bytes()].concat();
        assert!(head[0] == METHOD && rest.starts_with(&expected), "{}", String::from_utf8_lossy(&rest));
    }
}

fn short(text: &[u8]) -> Vec<u8> {
    [&[u8::try_from(text.len()).unwrap()], text].concat()
}

fn long(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

/// A table of one header.
fn table(name: &[u8], value: &[u8]) -> Vec<u8> {
    long(&[&short(name), value].concat())
}

fn text(value: &[u8]) -> Vec<u8> {
    [b"S", &long(value)[..]].concat()
}

/// Tables in tables.
fn nested(depth: usize) -> Vec<u8> {
    (0..depth).fold(b"V".to_vec(), |inner, _| [b"F", &table(b"a", &inner)[..]].concat())
}

/// Lists in lists.
fn listed(depth: usize) -> Vec<u8> {
    (0..depth).fold(b"V".to_vec(), |inner, _| [b"A", &long(&inner)[..]].concat())
}

/// What no library would write, and the broker takes.
fn hostile() -> Vec<(&'static str, u16, Vec<u8>)> {
    // The longest header that a frame of the broker's has room for.
    let room = FRAME_MAX - FRAME_OVERHEAD - BEFORE_TABLE - long(b"").len();
    let longest = text(&vec![b'x'; room - short(b"a").len() - text(b"").len()]);
    vec![
        ("a header's name that is not UTF-8", HEADERS, table(b"\xff\xfe", &text(b"a"))),
        ("a header's text that is not UTF-8", HEADERS, table(b"traceparent", &text(b"\xff\xfe\0\x1b[31m"))),
        ("a message's id that is not UTF-8", MESSAGE_ID, short(b"\xc3\x28\x80")),
        ("an address that is not UTF-8", REPLY_TO, short(b"\xff.queue")),
        ("tables in tables", HEADERS, table(b"a", &nested(9_000))),
        ("lists in lists", HEADERS, table(b"a", &listed(20_000))),
        ("the longest text", HEADERS, table(b"a", &longest)),
    ]
}

#[test]
fn hostile_headers_stop_nothing_also_when_they_come_again() {
    let stage = Stage::new(Node::shared(), Sandbox::start(&["--rps", "0"]), 500);
    let mut wire = Wire::open(&stage);
    let mut history = History::default();
    let mut names = BTreeMap::new();
    for (number, (name, flags, properties)) in (0..).zip(hostile()) {
        wire.publish(flags, &properties, b"no job");
        names.insert(history.add(&image(0), true, [account(number)]), name);
        wire.publish(flags, &properties, history.jobs.last().unwrap().to_string().as_bytes());
    }
    let count = names.len() as u64;
    stage.sandbox.faults(&json!({"busy_images": {image(0): 3600.0}}));
    let worker = stage.worker();
    until("what is no job is gone", || {
        let depth = stage.depth();
        (depth.ready == 0 && depth.held == count).then_some(())
    });
    // Now the broker counts their deliveries, in one header more.
    worker.kill();
    stage.sandbox.faults(&json!({"busy_images": {image(0): 0.0}}));
    let worker = stage.worker();
    stage.until_worked_off();
    stage.check_state(&history);
    let mut reports = stage.reports();
    names.retain(|job_id, _| reports.remove(job_id).is_none_or(|report| report["status"] != "succeeded"));
    assert!(names.is_empty(), "no good report of {names:?}");
    let dead = stage.client().take_all(DEAD);
    assert_eq!(dead.len() as u64, count);
    assert!(dead.iter().all(|message| message.body == b"no job"));
    worker.drain();
}
