//! Dead letters: looked at without being moved, sent once more, removed.

use lapin::{
    BasicProperties,
    types::{AMQPValue, FieldTable},
};
use serde_json::{Value, json};

use crate::kit::{Amqp, Node, Program, Vhost, properties};

const DEAD: &str = "imageshare.dead";

/// A virtual host with what there has to be, and these dead letters.
fn with_dead_letters(letters: impl IntoIterator<Item = (Vec<u8>, BasicProperties)>) -> Vhost<'static> {
    let vhost = Node::shared().vhost();
    Program::new(["topology", "--declare"]).env("IMAGESHARE_BROKER_URL", vhost.url()).run().check(0);
    Amqp::open(&vhost.url()).publish_to(DEAD, DEAD, letters);
    vhost
}

fn dead(vhost: &Vhost<'_>, arguments: &[&str]) -> Program {
    Program::new(["dead"]).args(arguments).env("IMAGESHARE_BROKER_URL", vhost.url())
}

fn headers(headers: &[(&str, &str)]) -> BasicProperties {
    let mut table = FieldTable::default();
    for (name, text) in headers {
        table.insert((*name).into(), AMQPValue::LongString((*text).into()));
    }
    properties().with_headers(table)
}

/// A job of lane `default`, whose account failed with this code.
fn failed(number: usize, code: &str) -> (Vec<u8>, BasicProperties) {
    let image = if number.is_multiple_of(10) { "img-0therone" } else { "img-6pb6lrmy" };
    let job = json!({"job_id": format!("job-{number}"), "image_id": image, "region": "ap-singapore",
        "permission": "SHARE", "account_ids": ["1038493875"]});
    let lane = if number.is_multiple_of(2) { "default" } else { "gone" };
    let why = [("imageshare-lane", lane), ("imageshare-reason", "failed"), ("imageshare-code", code), ("of", "yours")];
    (job.to_string().into_bytes(), headers(&why))
}

/// What is in a queue, which is empty then.
fn ids(vhost: &Vhost<'_>, queue: &str) -> Vec<String> {
    Amqp::open(&vhost.url()).take_all(queue).iter().map(|message| id(&message.body)).collect()
}

fn id(body: &[u8]) -> String {
    let job: Value = serde_json::from_slice(body).unwrap();
    job["job_id"].as_str().unwrap().to_owned()
}

fn names(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["job_id"].as_str().unwrap()).collect()
}

#[test]
fn looking_moves_no_dead_letter_and_says_all_of_each() {
    const LETTERS: usize = 600;
    let letters: Vec<_> = (0..LETTERS).map(|number| failed(number, "InternalError")).collect();
    let vhost = with_dead_letters(letters);
    let all = dead(&vhost, &["list"]).run().check(0).json();
    let expected: Vec<_> = (0..LETTERS).map(|number| format!("job-{number}")).collect();
    assert_eq!(names(&all), expected);
    let first = json!({"state": "dead", "job_id": "job-0", "lane": "default", "reason": "failed",
        "code": "InternalError", "detail": null, "image_id": "img-0therone", "region": "ap-singapore",
        "permission": "SHARE", "account_ids": ["1038493875"], "worker": null});
    assert_eq!(all[0], first);
    let some = dead(&vhost, &["list", "--image", "img-0therone", "--lane", "default", "--limit", "3"]).run().check(0);
    assert_eq!(names(&some.json()), ["job-0", "job-10", "job-20"]);
    for deed in ["replay", "drop"] {
        let would = dead(&vhost, &[deed, "--dry-run", "--limit", "2"]).run().check(0);
        assert_eq!(names(&would.json()), ["job-0", "job-1"]);
    }
    assert_eq!(ids(&vhost, DEAD), expected, "the same in the same order");
}

#[test]
fn what_is_sent_once_more_is_gone_and_the_rest_stays_in_its_order() {
    const LETTERS: usize = 2_000;
    let code = |number: usize| if number.is_multiple_of(4) { "InternalError" } else { "InvalidAccountId.NotFound" };
    let vhost = with_dead_letters((0..LETTERS).map(|number| failed(number, code(number))));
    let ended = dead(&vhost, &["replay", "--code", "InternalError"]).run().check(0);
    assert_eq!(ended.json().len(), 500);
    assert!(ended.stderr.contains("500 dead letters sent to their lanes"), "{}", ended.stderr);
    let of = |is_meant: fn(usize) -> bool| -> Vec<String> {
        (0..LETTERS).filter(|number| is_meant(*number)).map(|number| format!("job-{number}")).collect()
    };
    assert_eq!(ids(&vhost, "imageshare.jobs.default"), of(|number| number.is_multiple_of(4)));
    assert_eq!(ids(&vhost, DEAD), of(|number| !number.is_multiple_of(4)));
}

#[test]
fn what_no_queue_takes_stays_a_dead_letter_and_headers_of_ours_do_not_travel() {
    let vhost = with_dead_letters((0..4).map(|number| failed(number, "InternalError")));
    let ended = dead(&vhost, &["replay"]).run().check(1);
    let states: Vec<_> = ended.json().into_iter().map(|line| line["state"].clone()).collect();
    assert_eq!(states, ["replayed", "dead", "replayed", "dead"]);
    assert!(ended.stderr.contains("with routing key \"gone\"; it stays a dead letter"), "{}", ended.stderr);
    assert_eq!((vhost.depth(DEAD).ready, vhost.depth("imageshare.jobs.default").ready), (2, 2));
    let amqp = Amqp::open(&vhost.url());
    let delivery = amqp.hold("imageshare.jobs.default", 1).next("a job");
    let names: Vec<_> =
        delivery.properties.headers().as_ref().unwrap().inner().keys().map(ToString::to_string).collect();
    assert_eq!(names, ["of"]);
}

#[test]
fn what_is_no_job_can_be_looked_at_and_removed() {
    let why =
        [("imageshare-lane", "default"), ("imageshare-reason", "rejected"), ("imageshare-detail", "no\u{1b}[31m job")];
    let vhost = with_dead_letters([(b"\xff\x00".to_vec(), headers(&why)), failed(2, "InternalError")]);
    // What somebody else put there.
    Amqp::open(&vhost.url()).publish_to("", DEAD, [(b"{}".to_vec(), properties())]);
    let all = dead(&vhost, &["list"]).run().check(0).json();
    assert_eq!((all.len(), &all[0]["detail"], &all[0]["image_id"]), (3, &json!("no [31m job"), &Value::Null));
    assert_eq!(all[2]["lane"], Value::Null);
    let ended = dead(&vhost, &["drop", "--reason", "rejected"]).run().check(0);
    assert_eq!(ended.json()[0]["state"], "dropped");
    assert_eq!(vhost.depth(DEAD).ready, 2);
    dead(&vhost, &["drop"]).run().check(0);
    assert_eq!(vhost.depth(DEAD).ready, 0);
    assert!(dead(&vhost, &["list"]).run().check(0).json().is_empty());
}

#[test]
fn without_the_queue_or_the_broker_it_says_so() {
    let vhost = Node::shared().vhost();
    let ended = dead(&vhost, &["list"]).run().check(3);
    assert!(ended.stderr.contains("no queue 'imageshare.dead'"), "{}", ended.stderr);
    Program::new(["dead", "list"]).env("IMAGESHARE_BROKER_URL", "amqp://127.0.0.1:1").run().check(4);
    Program::new(["dead", "list"]).run().check(2);
}
