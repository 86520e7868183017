//! Malformed headers that no client library writes. They must not affect their message or later ones.

use std::collections::BTreeMap;

use lapin::BasicProperties;
use serde_json::json;

use kit::{
    AmqpClient, Relay,
    history::{JobHistory, account, image},
    properties,
    setup::{DEAD, QUEUE, TestSetup},
    text, wait_until, with_headers,
};

/// The broker's default `frame_max`, in bytes.
const FRAME_MAX: usize = 131_072;

/// Bytes of a header frame with [`properties`] and a header with a name of one letter, without the header's text: frame
/// overhead, class, weight, size, flags, `content_type`, table length, name, type and length of the text, `delivery_mode`.
const OVERHEAD: usize = 8 + 2 + 2 + 8 + 2 + 17 + 4 + 2 + 5 + 1;

fn long_string(text: &[u8]) -> Vec<u8> {
    [&u32::try_from(text.len()).unwrap().to_be_bytes(), text].concat()
}

/// Returns the content of nested tables or lists.
fn nested(depth: usize, kind: u8, before: &[u8]) -> Vec<u8> {
    let value =
        (0..depth).fold(b"V".to_vec(), |inner, _| [&[kind], &long_string(&[before, &inner].concat())[..]].concat());
    // Skips type and length.
    value[5..].to_vec()
}

/// Returns headers that the broker accepts: a name, properties as the library writes them, and bytes that the relay replaces.
/// Replacing the type byte turns a text into a table or a list.
fn hostile() -> Vec<(&'static str, BasicProperties, &'static [u8], &'static [u8])> {
    let (tables, lists) = (nested(9_000, b'F', b"\x01a"), nested(20_000, b'A', b""));
    vec![
        ("a header's name that is not UTF-8", with_headers([("~N", text("a"))]), b"\x02~N", b"\x02\xff\xfe"),
        ("a header's text that is not UTF-8", with_headers([("traceparent", text(b"\xff\xfe\0\x1b[31m"))]), b"", b""),
        ("an id not in UTF-8", properties().with_message_id("~ID".into()), b"\x03~ID", b"\x03\xc3\x28\x80"),
        ("an address not in UTF-8", properties().with_reply_to("~.queue".into()), b"\x07~.queue", b"\x07\xff.queue"),
        ("tables in tables", with_headers([("~F", text(tables))]), b"\x02~FS", b"\x02~FF"),
        ("lists in lists", with_headers([("~A", text(lists))]), b"\x02~AS", b"\x02~AA"),
        ("the longest text", with_headers([("a", text(vec![b'x'; FRAME_MAX - OVERHEAD]))]), b"", b""),
    ]
}

#[test]
fn redelivered_hostile_headers_stop_nothing() {
    let setup = TestSetup::shared(500);
    let relay = Relay::to(setup.vhost.node.port);
    let client = AmqpClient::connect(&setup.vhost.url_with_port(relay.port));
    let mut history = JobHistory::default();
    let mut names = BTreeMap::new();
    for (number, (name, properties, from, to)) in (0..).zip(hostile()) {
        names.insert(history.share(&image(0), [account(number)]), name);
        for body in [b"invalid".to_vec(), history.jobs.last().unwrap().to_string().into_bytes()] {
            if !from.is_empty() {
                relay.set(|state| state.replacement = Some((from, to)));
            }
            client.publish_to("", QUEUE, [(body, properties.clone())]);
            assert!(relay.state().replacement.is_none(), "{name}");
        }
    }
    let count = names.len() as u64;
    setup.sandbox.faults(&json!({"busy_images": {image(0): 3600.0}}));
    let worker = setup.worker();
    wait_until("the invalid messages are dead-lettered", || {
        let depth = setup.lane_depth("default");
        (depth.ready == 0 && depth.held == count).then_some(())
    });
    // A redelivery has one more header, the broker's delivery count.
    worker.kill();
    setup.sandbox.faults(&json!({"busy_images": {image(0): 0.0}}));
    let worker = setup.worker();
    setup.wait_until_settled();
    setup.check_state(&history);
    let mut reports = setup.reports();
    names.retain(|job_id, _| reports.remove(job_id).is_none_or(|report| report["status"] != "succeeded"));
    assert!(names.is_empty(), "not reported as succeeded: {names:?}");
    let dead = setup.client().take_all(DEAD);
    assert_eq!(dead.len() as u64, count);
    assert!(dead.iter().all(|message| message.body == b"invalid"));
    worker.drain();
}
