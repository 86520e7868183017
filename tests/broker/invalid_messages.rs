//! Messages that are not valid jobs.

use std::collections::BTreeMap;

use lapin::{BasicProperties, types::AMQPValue};
use serde_json::json;

use kit::{
    Relay,
    history::{JobHistory, SplitMix64, image},
    properties,
    setup::{DEAD, TestSetup},
    size, text, with_headers,
};

/// The maximum length of a job, and the length to which a longer message is truncated, in bytes.
const LEN_MAX: usize = 1024 * 1024;
const KEPT_LEN: usize = 64 * 1024;

/// Returns a random body that is not a job.
fn invalid_body(random: &mut SplitMix64) -> Vec<u8> {
    let job =
        json!({"image_id": image(0), "region": "ap-singapore", "permission": "SHARE", "account_ids": ["100000000001"]});
    match random.below(14) {
        0 => Vec::new(),
        1 => (0..random.below(300)).map(|_| u8::try_from(128 + random.below(128)).unwrap()).collect(),
        2 => "[".repeat(1 + usize::try_from(random.below(5000)).unwrap()).into_bytes(),
        3 => format!("{}1{}", "{\"image_id\":".repeat(3000), "}".repeat(3000)).into_bytes(),
        4 => job.to_string().replace("\"100000000001\"", "1e308").into_bytes(),
        5 => job.to_string().replace("\"100000000001\"", &"9".repeat(5000)).into_bytes(),
        6 => job.to_string().replace("\"SHARE\"", "{\"SHARE\": null}").into_bytes(),
        7 => job.to_string().replace("region", "r\\u0000gion").into_bytes(),
        8 => vec![b' '; LEN_MAX + 1],
        9 => job.to_string().into_bytes()[..40].to_vec(),
        10 => b"null".to_vec(),
        11 => job.to_string().replace("\"account_ids\":[\"100000000001\"]", "\"account_ids\":[]").into_bytes(),
        12 => format!("{job}{job}").into_bytes(),
        _ => (0..random.below(2000)).map(|_| u8::try_from(random.below(256)).unwrap()).collect(),
    }
}

fn hostile_headers(random: &mut SplitMix64) -> BasicProperties {
    let copies = vec![text("imageshare.jobs.default")];
    let copies = (random.below(2) == 0).then(|| ("CC", AMQPValue::FieldArray(copies.into())));
    let others = [
        ("x-death", text("what")),
        ("x-delivery-count", AMQPValue::LongLongInt(i64::MAX)),
        ("imageshare-reason", text("\u{1b}[31mmine")),
        ("traceparent", text("x".repeat(4000))),
    ];
    with_headers(others.into_iter().chain(copies)).with_message_id("\u{1b}[31m".into())
}

/// A body above the limit is truncated on arrival, whatever its length, and does not block the lane.
#[test]
fn invalid_messages_are_dead_lettered_unchanged() {
    let very_long = [17, 2, 40].map(|mib| vec![b'x'; mib * LEN_MAX]);
    let setup = TestSetup::shared(500);
    let worker = setup.worker();
    worker.wait_until_subscribed();
    let before = worker.resident_kib();
    let mut history = JobHistory::for_scenario(31);
    let mut bodies: Vec<_> = (0..size(400, 10_000)).map(|_| invalid_body(&mut history.random)).collect();
    bodies.extend(very_long);
    let count = bodies.len();
    // Published less dead-lettered messages: body, and the complete length if it was truncated.
    let mut counts: BTreeMap<(Vec<u8>, Option<String>), i64> = BTreeMap::new();
    let mut messages = Vec::new();
    for (number, body) in bodies.into_iter().enumerate() {
        let is_cut = body.len() > LEN_MAX;
        let kept_len = if is_cut { KEPT_LEN } else { body.len() };
        *counts.entry((body[..kept_len].to_vec(), is_cut.then(|| body.len().to_string()))).or_default() += 1;
        let properties = if number % 2 == 0 { hostile_headers(&mut history.random) } else { properties() };
        messages.push((body, properties));
        if number % 20 == 0 || is_cut {
            history.add_random(1, 0);
            messages.push((history.jobs.last().unwrap().to_string().into_bytes(), kit::properties()));
        }
    }
    setup.publish_raw(messages);
    setup.wait_until_settled();
    setup.check_state(&history);
    let dead = setup.client().take_all(DEAD);
    assert_eq!(dead.len(), count);
    for letter in dead {
        assert_eq!(letter.header("imageshare-reason").as_deref(), Some("rejected"), "{:?}", letter.headers);
        let detail = letter.header("imageshare-detail").unwrap();
        assert!(!detail.is_empty() && !detail.contains(char::is_control), "{detail:?}");
        *counts.entry((letter.body.clone(), letter.header("imageshare-truncated"))).or_default() -= 1;
    }
    assert!(counts.values().all(|count| *count == 0), "published and dead-lettered messages differ");
    let log = worker.stderr();
    assert!(!log.contains("\u{1b}") && !log.contains("disconnected"), "{log}");
    let after = worker.resident_kib();
    assert!(after < before + 64 * 1024, "from {before} to {after} KiB");
    worker.drain();
}

/// The broker's responses queue behind its deliveries. A lane that took a late response for a failure would be requeued
/// again and again.
#[test]
fn slow_network_with_long_messages_keeps_lane() {
    const COUNT: usize = 32;
    /// The messages together take more than two heartbeats.
    const BYTES_PER_SECOND: usize = 3 * 1024 * 1024;

    let setup = TestSetup::shared(500);
    let relay = Relay::to(setup.vhost.node.port);
    let worker = setup.worker_via(relay.port, setup.sandbox.port());
    worker.wait_until_subscribed();
    relay.set(|state| state.bytes_per_second = Some(BYTES_PER_SECOND));
    setup.publish_raw((0..COUNT).map(|_| (vec![b'x'; LEN_MAX], properties())));
    setup.wait_until_settled();
    assert_eq!(setup.client().take_all(DEAD).len(), COUNT, "{}", worker.stderr());
    assert!(!worker.stderr().contains("disconnected"), "{}", worker.stderr());
    worker.kill();
}
