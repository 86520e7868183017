//! Dead letters: listed in place, replayed, dropped.

use std::io::Read as _;

use lapin::BasicProperties;
use serde_json::{Value, json};

use kit::{
    AmqpClient, BrokerNode, Program, Vhost, properties,
    setup::{DEAD, QUEUE},
    text, wait_until, with_headers,
};

/// Creates a virtual host with declared queues and these dead letters.
fn with_dead_letters(letters: impl IntoIterator<Item = (Vec<u8>, BasicProperties)>) -> Vhost<'static> {
    let vhost = BrokerNode::shared().vhost();
    fill_dead_letters(&vhost, letters);
    vhost
}

fn fill_dead_letters(vhost: &Vhost<'_>, letters: impl IntoIterator<Item = (Vec<u8>, BasicProperties)>) {
    Program::new(["topology", "--declare"]).env("IMAGESHARE_BROKER_URL", vhost.url()).run().check(0);
    AmqpClient::connect(&vhost.url()).publish_to(DEAD, DEAD, letters);
}

fn dead(vhost: &Vhost<'_>, arguments: &[&str]) -> Program {
    Program::new(["dead"]).args(arguments).env("IMAGESHARE_BROKER_URL", vhost.url())
}

fn headers(headers: &[(&'static str, &str)]) -> BasicProperties {
    with_headers(headers.iter().map(|(name, value)| (*name, text(*value))))
}

/// Returns the dead letter of a failed job.
fn failed(job_id: &str) -> (Vec<u8>, BasicProperties) {
    let job = json!({"job_id": job_id, "image_id": "img-6pb6lrmy", "region": "ap-singapore", "permission": "SHARE",
        "account_ids": ["1038493875"]});
    let why = [("imageshare-lane", "default"), ("imageshare-reason", "failed"), ("imageshare-code", "InternalError")];
    (job.to_string().into_bytes(), headers(&why))
}

/// Takes all messages of a queue and returns the ids of their jobs.
fn ids(vhost: &Vhost<'_>, queue: &str) -> Vec<String> {
    let id = |message: &kit::ReceivedMessage| message.json()["job_id"].as_str().unwrap().to_owned();
    AmqpClient::connect(&vhost.url()).take_all(queue).iter().map(id).collect()
}

fn names(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["job_id"].as_str().unwrap()).collect()
}

/// Makes the broker drop jobs of the lane, each for another reason.
fn drop_jobs(vhost: &Vhost<'_>) {
    let amqp = AmqpClient::connect(&vhost.url());
    let publish = |id: &str, properties: BasicProperties| {
        amqp.publish_to(QUEUE, "", [(failed(id).0, properties)]);
    };
    let is_dead =
        |count: u64| wait_until("the broker drops the job", || (vhost.depth(DEAD).ready == count).then_some(()));
    // Forged imageshare headers have no effect.
    let forged = headers(&[("imageshare-lane", "gone"), ("imageshare-reason", "failed"), ("of", "yours")]);
    publish("by expiration", forged.with_expiration("1".into()));
    is_dead(1);
    vhost.set_policy("^imageshare[.]jobs", &[("message-ttl", "1")]);
    publish("by policy", properties());
    is_dead(2);
    vhost.set_policy("^imageshare[.]jobs", &[("max-length", "1"), ("overflow", "<<\"drop-head\">>")]);
    publish("too many", properties());
    publish("kept", properties());
    is_dead(3);
    vhost.set_policy("^imageshare[.]jobs", &[("delivery-limit", "1")]);
    wait_until("the delivery limit is reached", || {
        let amqp = AmqpClient::connect(&vhost.url());
        let mut held = amqp.consume(QUEUE, 1);
        drop(held.next("the job"));
        drop(amqp);
        drop(held);
        wait_until("the job is requeued", || {
            let depth = vhost.depth(QUEUE);
            (depth.held == 0 && depth.consumers == 0).then_some(())
        });
        (vhost.depth(QUEUE).ready == 0).then_some(())
    });
    is_dead(4);
    vhost.clear_policy();
}

#[test]
fn broker_dropped_jobs_are_listed_and_replayed() {
    let vhost = with_dead_letters([]);
    drop_jobs(&vhost);
    let all = dead(&vhost, &["list"]).run().check(0).json();
    assert_eq!(names(&all), ["by expiration", "by policy", "too many", "kept"]);
    let reasons: Vec<_> = all.iter().map(|line| line["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["expired", "expired", "maxlen", "delivery_limit"]);
    let detail = "dropped by the broker from queue imageshare.jobs.default: its time to live ended";
    assert_eq!(
        (&all[0]["lane"], &all[0]["detail"], &all[0]["worker"]),
        (&json!("default"), &json!(detail), &json!(null))
    );
    let some = dead(&vhost, &["list", "--reason", "delivery_limit", "--lane", "default"]).run().check(0).json();
    assert_eq!(names(&some), ["kept"]);
    dead(&vhost, &["replay", "--all"]).run().check(0);
    assert_eq!(ids(&vhost, QUEUE), ["by expiration", "by policy", "too many", "kept"]);
    assert_eq!(vhost.depth(DEAD).ready, 0);
}

#[test]
fn dropped_job_stays_until_dead_lettered() {
    // How long the broker waits before it retries a dead letter; the default is three minutes.
    BrokerNode::shared().eval("application:set_env(rabbit, dead_letter_worker_publisher_confirm_timeout, 500).");
    let vhost = with_dead_letters([]);
    let amqp = AmqpClient::connect(&vhost.url());
    amqp.delete(DEAD);
    amqp.publish_to(QUEUE, "", [(failed("a").0, properties().with_expiration("1".into()))]);
    wait_until("the job is dropped", || (vhost.depth(QUEUE).ready == 0).then_some(()));
    Program::new(["topology", "--declare"]).env("IMAGESHARE_BROKER_URL", vhost.url()).run().check(0);
    wait_until("the job is dead-lettered", || (vhost.depth(DEAD).ready == 1).then_some(()));
}

#[test]
fn large_dead_letters_are_read_in_bounded_memory() {
    const LETTERS: usize = 400;
    const LEN: usize = 210_000;
    const LONG: usize = 20 * 1024 * 1024;
    const KIB_MAX: u64 = 64 * 1024;
    let expected: Vec<_> = (0..LETTERS).map(|number| format!("job-{number}")).collect();
    let letters = expected.iter().map(|id| {
        let (mut body, properties) = failed(id);
        body.extend(std::iter::repeat_n(b' ', LEN));
        (body, properties)
    });
    let vhost = with_dead_letters(letters);
    for arguments in [&["list"][..], &["list", "--limit", "1"], &["drop", "--dry-run"], &["replay", "--limit", "9"]] {
        let (running, mut stdout) = dead(&vhost, arguments).start();
        let mut text = String::new();
        let (mut peak, mut chunk) = (0, [0; 4096]);
        loop {
            peak = running.peak_kib().unwrap_or(0).max(peak);
            match stdout.read(&mut chunk).unwrap() {
                0 => break,
                len => text.push_str(str::from_utf8(&chunk[..len]).unwrap()),
            }
        }
        let (code, log) = running.wait();
        assert_eq!(code, Some(0), "{arguments:?}: {log}");
        assert!(peak < KIB_MAX, "{arguments:?}: {peak} KiB");
        assert!(log.contains("dead letter"), "{log}");
    }
    assert_eq!(ids(&vhost, QUEUE), expected[..9]);
    // A letter that exceeds the client library's limit does not block others, nor does one that is not UTF-8.
    let bodies = [vec![b'x'; LONG], b"\xff\x00".to_vec()].map(|body| (body, properties()));
    AmqpClient::connect(&vhost.url()).publish_to("", DEAD, bodies.into_iter().chain([failed("job-2000")]));
    let all = dead(&vhost, &["list"]).run().check(0).json();
    assert_eq!((all.len(), &all[LETTERS - 9 + 2]["job_id"]), (LETTERS - 9 + 3, &json!("job-2000")));
    dead(&vhost, &["drop", "--reason", "failed", "--limit", "380"]).run().check(0);
    let left = dead(&vhost, &["list", "--code", "InternalError"]).run().check(0).json();
    assert_eq!(names(&left), [&expected[389..], &["job-2000".to_owned()]].concat());
}

#[test]
fn slow_disk_brings_back_no_removed_letter() {
    let node = BrokerNode::start();
    let ids: Vec<_> = (0..400).map(|number| format!("job-{number}")).collect();
    let vhost = node.vhost();
    fill_dead_letters(&vhost, ids.iter().map(|id| failed(id)));
    // Suspends the write-ahead log of the queues for 700 ms at a time.
    node.eval(
        "spawn(fun() -> Log = whereis(ra_log_wal), [begin erlang:suspend_process(Log), timer:sleep(700), \
         erlang:resume_process(Log), timer:sleep(2) end || _ <- lists:seq(1, 12)] end).",
    );
    dead(&vhost, &["drop", "--reason", "failed", "--limit", "380"]).run().check(0);
    assert_eq!(names(&dead(&vhost, &["list"]).run().check(0).json()), ids[380..]);
}

#[test]
fn more_letters_than_can_be_held_fail() {
    const HELD_MAX: usize = 65_535;
    let vhost = with_dead_letters((0..=HELD_MAX).map(|number| (number.to_string().into_bytes(), properties())));
    // No letter has a reason, so all stay.
    let listed = dead(&vhost, &["list", "--reason", "failed"]).run().check(1);
    assert!(listed.stderr.contains("more than 65535 dead letters stay in the queue"), "{}", listed.stderr);
    dead(&vhost, &["drop", "--limit", "1"]).run().check(0);
    assert_eq!(dead(&vhost, &["list"]).run().check(0).json().len(), HELD_MAX);
}

#[test]
fn lane_of_environment_selects_letters() {
    let of_lane = |lane| (failed(lane).0, headers(&[("imageshare-lane", lane), ("imageshare-reason", "failed")]));
    let vhost = with_dead_letters([of_lane("eu"), of_lane("default")]);
    let listed = dead(&vhost, &["list"]).env("IMAGESHARE_LANE", "default").run().check(0).json();
    assert_eq!(names(&listed), ["default"]);
}
