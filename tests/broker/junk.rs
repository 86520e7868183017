//! Messages that are no jobs, and addresses for answers that are none.

use std::collections::BTreeMap;

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::json;

use kit::{
    Node, Relay, Sandbox, Sizes, figures,
    history::{History, Random, account, image},
    properties,
    stage::{DEAD, QUEUE, Stage},
};

/// What a body of junk may look like. None is a job.
fn body(random: &mut Random) -> Vec<u8> {
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
        8 => vec![b' '; 1024 * 1024 + 1],
        9 => job.to_string().into_bytes()[..40].to_vec(),
        10 => b"null".to_vec(),
        11 => job.to_string().replace("\"account_ids\":[\"100000000001\"]", "\"account_ids\":[]").into_bytes(),
        12 => format!("{job}{job}").into_bytes(),
        _ => (0..random.below(2000)).map(|_| u8::try_from(random.below(256)).unwrap()).collect(),
    }
}

fn hostile_headers(random: &mut Random) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert("x-death".into(), AMQPValue::LongString("what".into()));
    headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(i64::MAX));
    headers.insert("imageshare-reason".into(), AMQPValue::LongString("\u{1b}[31mmine".into()));
    headers.insert("traceparent".into(), AMQPValue::LongString("x".repeat(4000).into()));
    if random.below(2) == 0 {
        let copies = vec![AMQPValue::LongString("imageshare.jobs.default".into())];
        headers.insert("CC".into(), AMQPValue::FieldArray(copies.into()));
    }
    properties().with_headers(headers).with_message_id("\u{1b}[31m".into())
}

#[test]
fn junk_goes_to_the_dead_letters_untouched_with_a_reason_and_does_no_harm() {
    let count = Sizes::of_run().junk;
    let stage = Stage::new(Node::shared(), Sandbox::start(&["--rps", "0"]), 500);
    let worker = stage.worker();
    worker.until_subscribed();
    let before = worker.resident_kib();
    let (mut random, mut history) = (Random::of(31), History::default());
    let mut junk = Vec::new();
    let mut messages = Vec::new();
    for number in 0..count {
        let body = body(&mut random);
        // Of a body that is longer than a job may be, the beginning is kept.
        let kept_len = if body.len() > 1024 * 1024 { 64 * 1024 } else { body.len() };
        junk.push(body[..kept_len].to_vec());
        let properties = if number % 2 == 0 { hostile_headers(&mut random) } else { properties() };
        messages.push((body, properties));
        if number % 20 == 0 {
            history.add_random(&mut random, 1, 3);
            messages.push((history.jobs.last().unwrap().to_string().into_bytes(), kit::properties()));
        }
    }
    stage.client().publish_to("", QUEUE, messages);
    stage.until_worked_off();
    stage.check_state(&history);
    let dead = stage.client().take_all(DEAD);
    assert_eq!(dead.len(), count);
    let mut counts: BTreeMap<Vec<u8>, i64> = BTreeMap::new();
    for body in junk {
        *counts.entry(body).or_default() += 1;
    }
    for letter in dead {
        *counts.entry(letter.body).or_default() -= 1;
        let headers = letter.headers.unwrap();
        let header =
            |name: &str| headers.inner().get(name).and_then(AMQPValue::as_long_string).map(ToString::to_string);
        assert_eq!(header("imageshare-reason").as_deref(), Some("rejected"), "{headers:?}");
        let detail = header("imageshare-detail").unwrap();
        assert!(!detail.is_empty() && !detail.contains(char::is_control), "{detail:?}");
    }
    assert!(counts.values().all(|count| *count == 0), "what was published is not what is dead");
    let log = worker.log();
    assert!(!log.contains('\u{1b}') && !log.contains("panicked"), "{log}");
    let after = worker.resident_kib();
    figures(&[("junk", count as u64), ("most-growth-kib", after.saturating_sub(before))]);
    assert!(after < before + 64 * 1024, "from {before} to {after} KiB");
    worker.drain();
}

/// What the broker answers stands behind what it delivers. A lane that took such a late answer for a broken broker would
/// be given up again and again, each time with all that it holds.
#[test]
fn long_messages_by_a_slow_network_cost_no_lane() {
    const COUNT: usize = 32;
    const LEN: usize = 1024 * 1024;
    /// All of them take more than two heartbeats.
    const BYTES_A_SECOND: u32 = 3 * 1024 * 1024;

    let stage = Stage::new(Node::shared(), Sandbox::start(&["--rps", "0"]), 500);
    let relay = Relay::to(stage.vhost.node.port);
    let worker = stage.worker_by(relay.port);
    worker.until_subscribed();
    relay.narrow(BYTES_A_SECOND);
    stage.client().publish_to("", QUEUE, (0..COUNT).map(|_| (vec![b'x'; LEN], properties())));
    stage.until_worked_off();
    assert_eq!(stage.client().take_all(DEAD).len(), COUNT, "{}", worker.log());
    let log = worker.log();
    assert!(!log.contains("disconnected"), "{log}");
    worker.kill();
}

/// A body that is longer than a job may be is cut as it comes, however long it is, and the lane is served all the while.
#[test]
fn very_long_messages_stop_nothing() {
    const MIB: usize = 1024 * 1024;
    const LENS: [usize; 4] = [17 * MIB, 2 * MIB, 40 * MIB, MIB + 1];

    let stage = Stage::new(Node::shared(), Sandbox::start(&["--rps", "0"]), 500);
    let mut history = History::default();
    let mut random = Random::of(7);
    let client = stage.client();
    for len in LENS {
        history.add_random(&mut random, 1, 3);
        let job = history.jobs.last().unwrap().to_string().into_bytes();
        client.publish_to("", QUEUE, [(job, properties()), (vec![b'x'; len], properties())]);
    }
    let worker = stage.worker();
    stage.until_worked_off();
    stage.check_state(&history);
    let dead = client.take_all(DEAD);
    let lens = dead.iter().map(|letter| {
        assert_eq!(letter.body, vec![b'x'; 64 * 1024]);
        let headers = letter.headers.as_ref().unwrap().inner();
        let whole = headers.get("imageshare-truncated").and_then(AMQPValue::as_long_string).unwrap();
        whole.to_string().parse::<usize>().unwrap()
    });
    let lens: Vec<usize> = lens.collect();
    assert_eq!(lens, LENS);
    let log = worker.log();
    assert!(!log.contains("disconnected"), "{log}");
    worker.drain();
}

#[test]
fn an_answer_that_nobody_takes_holds_nothing_up() {
    let stage = Stage::new(Node::shared(), Sandbox::start(&["--rps", "0"]), 500);
    let mut history = History::default();
    let mut messages = Vec::new();
    let long = "q".repeat(255);
    for (number, reply_to) in [QUEUE, DEAD, "imageshare.reports", "nobody", "", &long].into_iter().enumerate() {
        history.add(&image(0), true, [account(number as u64)]);
        let body = history.jobs.last().unwrap().to_string().into_bytes();
        messages.push((body, properties().with_reply_to(reply_to.into())));
    }
    let client = stage.client();
    client.declare_like_a_lane("answers");
    history.add(&image(0), true, [account(99)]);
    let body = history.jobs.last().unwrap().to_string().into_bytes();
    messages.push((body, properties().with_reply_to("answers".into())));
    client.publish_to("", QUEUE, messages);
    let worker = stage.worker();
    worker.until_serving();
    stage.check_done(&history);
    let answers = client.take("answers", 1);
    let answer: serde_json::Value = serde_json::from_slice(&answers[0].body).unwrap();
    assert_eq!(answer["job_id"], history.jobs.last().unwrap()["job_id"]);
    worker.drain();
}
