//! The effects of message properties and headers that the manual's table lists.

use std::collections::BTreeSet;

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

use kit::{
    history::{account, image},
    markdown::MarkdownPage,
    properties,
    setup::{DEAD, QUEUE, REPORTS, TestSetup},
    text, wait_until, with_headers,
};

/// The reply code of AMQP 0-9-1.
const PRECONDITION_FAILED: u16 = 406;

/// A queue that imageshare does not own.
const OTHER: &str = "foreign";

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn header(name: &'static str, value: AMQPValue) -> BasicProperties {
    with_headers([(name, value)])
}

/// Returns properties that the worker and the broker ignore.
fn without_effect() -> Vec<(&'static str, BasicProperties)> {
    let mut death = FieldTable::default();
    death.insert("queue".into(), text("imageshare.jobs.other"));
    death.insert("count".into(), AMQPValue::LongLongInt(1_000_000));
    vec![
        ("delivery_mode", properties().with_delivery_mode(1)),
        ("content_type", properties().with_content_type("text/html".into())),
        ("content_encoding", properties().with_content_encoding("gzip".into())),
        ("timestamp", properties().with_timestamp(u64::MAX)),
        ("type", properties().with_type("rejected".into())),
        ("app_id", properties().with_app_id("another".into())),
        ("x-death", header("x-death", AMQPValue::FieldArray(vec![AMQPValue::FieldTable(death)].into()))),
        ("x-delivery-count", header("x-delivery-count", AMQPValue::LongLongInt(i64::MAX))),
        ("x-acquired-count", header("x-acquired-count", AMQPValue::LongLongInt(i64::MAX))),
    ]
}

fn job(name: &str) -> Vec<u8> {
    let job = json!({"job_id": name, "image_id": image(0), "region": "ap-singapore", "permission": "SHARE",
        "account_ids": [account(0).to_string()]});
    job.to_string().into_bytes()
}

#[test]
fn message_properties_do_what_table_states() {
    let setup = TestSetup::shared(500);
    let client = setup.client();
    client.declare_foreign(OTHER);
    let publish = |name: &str, properties| client.publish_to("", QUEUE, [(job(name), properties)]);
    let mut checked = BTreeSet::new();

    publish("expiration", properties().with_expiration("1".into()));
    wait_until("the broker drops the job", || (client.ready(DEAD) == 1).then_some(()));
    client.take_all(DEAD);
    for (name, refused) in [
        ("expiration", properties().with_expiration("soon".into())),
        ("user_id", properties().with_user_id("another".into())),
    ] {
        assert_eq!(client.try_publish("", QUEUE, refused), Err(PRECONDITION_FAILED), "{name}");
        checked.insert(name);
    }
    for name in ["CC", "BCC"] {
        publish(name, header(name, AMQPValue::FieldArray(vec![text(OTHER)].into())));
        let [copy] = &client.take(OTHER, 1)[..] else { panic!("{name} makes one copy") };
        let is_kept = copy.headers.as_ref().is_some_and(|headers| headers.inner().contains_key(name));
        assert_eq!(is_kept, name == "CC", "{name}");
        checked.insert(name);
    }
    for (name, properties) in without_effect() {
        publish(name, properties);
        checked.insert(name);
    }
    publish("traceparent", header("traceparent", text(TRACEPARENT)));
    let reply = properties().with_reply_to(OTHER.into());
    publish("reply_to", reply.clone().with_correlation_id("correlation".into()));
    let mut nameless: Value = serde_json::from_slice(&job("")).unwrap();
    nameless.as_object_mut().unwrap().remove("job_id");
    let named = reply.with_message_id("message_id".into());
    client.publish_to("", QUEUE, [(nameless.to_string().into_bytes(), named)]);
    let worker = setup.worker();
    setup.wait_until_settled();
    let done = ["CC", "BCC", "traceparent", "reply_to", "message_id"];
    let done: BTreeSet<_> = done.into_iter().chain(without_effect().into_iter().map(|(name, _)| name)).collect();
    let reports = setup.reports();
    assert_eq!(reports.keys().map(String::as_str).collect::<BTreeSet<_>>(), done);
    assert!(reports.values().all(|report| report["status"] == "succeeded"), "{reports:?}");
    assert_eq!((client.ready(DEAD), client.ready(REPORTS)), (0, 0), "no other message was published");
    let mut held = client.consume(OTHER, 2);
    let mut correlation_id =
        || held.next("a copy of a report").properties.correlation_id().clone().unwrap().to_string();
    let correlation_ids = BTreeSet::from([correlation_id(), correlation_id()]);
    assert_eq!(correlation_ids, ["correlation", "message_id"].map(str::to_owned).into());
    checked.extend(["reply_to", "correlation_id", "message_id", "traceparent"]);

    publish("priority", properties().with_priority(9));
    let packed = [b"\x1f\x8b\x08\0\0\0\0\0\x02\x03", &[0; 64][..]].concat();
    client.publish_to("", QUEUE, [(packed, properties().with_message_id("packed".into()))]);
    wait_until("both jobs are reported", || (client.ready(REPORTS) == 2).then_some(()));
    let reports = setup.reports();
    let version = setup.vhost.node.version();
    let status = if version < [4, 0] { "succeeded" } else { "rejected" };
    assert_eq!(reports["priority"]["status"], status, "RabbitMQ {version:?}");
    checked.insert("priority");
    let reason = reports["packed"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("compressed with gzip"), "{reason}");
    worker.drain();

    let page = MarkdownPage::read("docs/jobs.md");
    let (_, section) = page.text.split_once("### Message properties\n").unwrap();
    let rows =
        section.lines().skip_while(|line| !line.starts_with("|---")).skip(1).take_while(|line| line.starts_with('|'));
    let listed: BTreeSet<_> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
    assert_eq!(checked, listed);
}
