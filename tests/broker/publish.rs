//! `topology` and `publish`: jobs reach their lanes' queues despite faults.

use std::{
    collections::{HashMap, HashSet},
    io::{Read as _, Write as _},
    process::{ChildStdin, ChildStdout},
    time::Duration,
};

use imageshare_worker::broker::{Confirmation, Message, PublishMode, Publisher, State, TimeOuts, topology};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, task::JoinHandle};

use kit::{
    AmqpClient, BrokerNode, Folder, Program, ProgramOutput, Relay, Running, Vhost, json_lines, properties,
    setup::{DEAD, QUEUE, REPORTS},
    wait_until,
};

fn program(command: &str, url: &str) -> Program {
    Program::new([command]).env("IMAGESHARE_BROKER_URL", url)
}

fn declare(vhost: &Vhost<'_>) -> Vec<Value> {
    program("topology", &vhost.url()).arg("--declare").run().check(0).json()
}

/// Creates a virtual host on the shared node and declares the queues.
fn declared() -> Vhost<'static> {
    let vhost = BrokerNode::shared().vhost();
    declare(&vhost);
    vhost
}

/// Runs `publish` with flags and jobs.
fn publish(url: &str, flags: &[&str], jobs: impl IntoIterator<Item = Value>) -> ProgramOutput {
    program("publish", url).arg("-").args(flags).input(lines(jobs)).run()
}

/// A running `publish`. If it starts without jobs, its input stays open for more.
struct PublishCommand {
    running: Running,
    stdout: ChildStdout,
    stdin: Option<ChildStdin>,
}

impl PublishCommand {
    fn start(url: &str, flags: &[&str], jobs: impl IntoIterator<Item = Value>) -> Self {
        let lines = lines(jobs);
        let is_open = lines.is_empty();
        let publish = program("publish", url).arg("-").args(flags).input(lines);
        let (running, stdout, stdin) = publish.start_with_open_input();
        Self { running, stdout, stdin: is_open.then_some(stdin) }
    }

    fn write(&mut self, jobs: &[Value]) {
        self.stdin.as_mut().unwrap().write_all(lines(jobs.iter().cloned()).as_bytes()).unwrap();
    }

    /// Closes the input, asserts the exit code, and returns the reports and the log.
    #[track_caller]
    fn finish(self, code: i32) -> (Vec<Value>, String) {
        let Self { running, mut stdout, stdin } = self;
        drop(stdin);
        let mut text = String::new();
        stdout.read_to_string(&mut text).unwrap();
        let (exit_code, log) = running.wait();
        assert_eq!(exit_code, Some(code), "{log}");
        (json_lines(&text), log)
    }
}

fn ids(reports: &[Value]) -> Vec<&str> {
    reports.iter().map(|report| report["job_id"].as_str().unwrap()).collect()
}

fn job(id: &str) -> Value {
    json!({"job_id": id, "image_id": "img-6pb6lrmy", "region": "ap-singapore", "permission": "SHARE",
        "account_ids": ["1038493875"]})
}

fn lines(jobs: impl IntoIterator<Item = Value>) -> String {
    jobs.into_iter().map(|job| format!("{job}\n")).collect()
}

fn numbered(count: usize) -> Vec<Value> {
    (0..count).map(|number| job(&format!("job-{number}"))).collect()
}

/// Asserts the exit code and words of the error of a `publish`.
#[track_caller]
fn check_exit(vhost: &Vhost<'_>, flags: &[&str], jobs: Vec<Value>, code: i32, words: &[&str]) {
    let ended = publish(&vhost.url(), flags, jobs).check(code);
    for words in words {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
}

#[test]
fn cut_publish_loses_no_job_and_keeps_order() {
    const JOBS: usize = 3000;
    let vhost = declared();
    let relay = Relay::to(BrokerNode::shared().port);
    let mut publishing = PublishCommand::start(&vhost.url_with_port(relay.port), &[], []);
    for (part, jobs) in numbered(JOBS).chunks(JOBS / 10).enumerate() {
        relay.set(|state| state.allowance = Some(20_000 + part * 7_919));
        publishing.write(jobs);
    }
    let (_, log) = publishing.finish(0);
    assert!(log.contains(&format!("published and confirmed: {JOBS} jobs")), "{log}");
    assert!(relay.state().accepted > 3, "it was cut");
    let stored: Vec<_> =
        AmqpClient::connect(&vhost.url()).take_all(QUEUE).iter().map(kit::ReceivedMessage::json).collect();
    let last: HashMap<_, _> = ids(&stored).into_iter().zip(0..).collect();
    let positions = (0..JOBS).map(|number| last[&*format!("job-{number}")]).collect::<Vec<usize>>();
    assert!(positions.is_sorted(), "jobs are out of order");
}

#[test]
fn restart_or_memory_alarm_delays_publish() {
    const JOBS: usize = 2000;
    let node = BrokerNode::start_with("max_message_size = 4096\n");
    let vhost = node.vhost();
    declare(&vhost);
    let mut long = job("long");
    long["account_ids"] = (100_000_000_000_u64..100_000_000_500).map(|id| id.to_string()).collect();
    let words = [
        "the job of line 2: message too long: ",
        "(expected at most 4096",
        "jobs up to the one that begins on line 1 of the input are confirmed",
    ];
    check_exit(&vhost, &[], vec![job("a"), long, job("b")], 3, &words);
    let jobs = numbered(JOBS);
    let mut publishing = PublishCommand::start(&vhost.url(), &[], []);
    publishing.write(&jobs[..JOBS / 4]);
    wait_until("some jobs have arrived", || (vhost.depth(QUEUE).ready > 1).then_some(()));
    node.kill();
    publishing.write(&jobs[JOBS / 4..JOBS / 2]);
    node.start_again();
    wait_until("half of the jobs have arrived", || (vhost.depth(QUEUE).ready > JOBS as u64 / 2).then_some(()));
    node.memory_alarm(true);
    publishing.write(&jobs[JOBS / 2..]);
    publishing.running.wait_for_stderr("the broker accepts no messages");
    let words = ["short of memory or disk (gave up after 3 s)"];
    check_exit(&vhost, &["--give-up-after", "3"], numbered(1), 4, &words);
    node.memory_alarm(false);
    publishing.finish(0);
    let stored: Vec<_> =
        AmqpClient::connect(&vhost.url()).take_all(QUEUE).iter().map(kit::ReceivedMessage::json).collect();
    let stored: HashSet<_> = ids(&stored).into_iter().collect();
    assert!(numbered(JOBS).iter().all(|job| stored.contains(job["job_id"].as_str().unwrap())));
}

#[test]
fn publish_wait_exits_like_run() {
    let vhost = declared();
    let report = |id: &str, status: &str| {
        let failed = json!([{"code": "InvalidAccountId.NotFound", "message": "no", "request_id": null, "account_ids": ["1038493875"]}]);
        let is_failed = status == "failed";
        json!({"job_id": id, "lane": "default", "image_id": "img-6pb6lrmy", "region": "ap-singapore",
            "permission": "SHARE", "status": status, "changed": if is_failed { json!([]) } else { json!(["1038493875"]) },
            "unchanged": [], "failed": if is_failed { failed } else { json!([]) }, "duplicates": 0, "requests": 1,
            "redelivered": false, "received_at": "2026-11-24T05:02:11.418Z", "finished_at": "2026-11-24T05:02:11.905Z",
            "labels": {}, "worker": "test:1"})
    };
    for (status, code) in [("succeeded", 0), ("failed", 1)] {
        let publishing = PublishCommand::start(&vhost.url(), &["--wait"], [job("a"), job("b")]);
        let amqp = AmqpClient::connect(&vhost.url());
        assert_eq!(amqp.take(QUEUE, 2).len(), 2);
        let reports =
            [report("b", "succeeded"), report("foreign", "failed"), report("b", "failed"), report("a", status)];
        let reports = reports.map(|report| (report.to_string().into_bytes(), properties()));
        amqp.publish_to(REPORTS, "default.any", reports);
        assert_eq!(ids(&publishing.finish(code).0), ["b", "a"]);
    }
    // Without a worker, an interrupt prints the number of missing reports.
    let publishing = PublishCommand::start(&vhost.url(), &["--wait"], [job("c")]);
    wait_until("the job is published", || (vhost.depth(QUEUE).ready == 1).then_some(()));
    publishing.running.signal("INT");
    let (_, log) = publishing.finish(130);
    assert!(log.contains("without a report yet: 1 job"), "{log}");
}

/// Starts a publisher of the worker's library on its own runtime.
fn publisher(vhost: &Vhost<'_>) -> (Runtime, Publisher, JoinHandle<()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (publisher, publishing) = Publisher::new(vhost.url().parse().unwrap(), "test", TimeOuts::default());
    let publishing = runtime.spawn(publishing.run());
    (runtime, publisher, publishing)
}

fn message(exchange: &str, key: &str) -> Message {
    Message::json(exchange, key.into(), "a".into(), b"{}".to_vec())
}

#[test]
fn unroutable_message_is_named() {
    const MESSAGES: u32 = 20_000;
    let vhost = declared();
    let (runtime, publisher, publishing) = publisher(&vhost);
    let wrong = runtime.block_on(async {
        let mut sent: Vec<(bool, Confirmation)> = Vec::new();
        for number in 0..MESSAGES {
            let is_routed = number % 7 != 3;
            let message = message(topology::EXCHANGE, if is_routed { "default" } else { "nowhere" });
            let mode = PublishMode::UntilAnswered { missing_max: Duration::ZERO };
            sent.push((is_routed, publisher.publish(message, mode).await.unwrap()));
        }
        drop(publisher);
        let mut wrong = 0;
        for (is_routed, confirmation) in sent {
            wrong += u32::from(confirmation.await.is_ok() != is_routed);
        }
        publishing.await.unwrap();
        wrong
    });
    assert_eq!(wrong, 0);
    let routed = (0..MESSAGES).filter(|number| number % 7 != 3).count() as u64;
    assert_eq!(vhost.depth(QUEUE).ready, routed);
}

#[test]
fn required_publish_waits_for_its_queue() {
    let vhost = declared();
    let (runtime, publisher, publishing) = publisher(&vhost);
    let modes = [PublishMode::UntilConfirmed, PublishMode::UntilAnswered { missing_max: Duration::from_secs(600) }];
    let confirmations = modes.map(|mode| {
        let message = message(topology::EXCHANGE, "later");
        runtime.block_on(publisher.publish(message, mode)).unwrap()
    });
    let is_waiting = || matches!(*publisher.state().borrow(), State::Unroutable(_)).then_some(());
    wait_until("the message is unroutable", is_waiting);
    let other = runtime.block_on(publisher.publish(message("", QUEUE), PublishMode::UntilConfirmed)).unwrap();
    assert_eq!(runtime.block_on(other), Ok(()), "other messages are not blocked");
    let folder = Folder::new();
    let settings = folder.file("imageshare.toml", "[lanes.later]\n");
    program("topology", &vhost.url()).arg("--declare").arg("--config").arg(&settings).run().check(0);
    for confirmation in confirmations {
        assert_eq!(runtime.block_on(confirmation), Ok(()));
    }
    drop(publisher);
    runtime.block_on(publishing).unwrap();
    assert_eq!((vhost.depth("imageshare.jobs.later").ready, vhost.depth(QUEUE).ready), (2, 1));
}

#[test]
fn full_queue_ends_or_delays_publish() {
    const JOBS: usize = 300;
    let vhost = declared();
    let client = AmqpClient::connect(&vhost.url());
    // Replaces the lane's queue.
    client.declare_bounded(QUEUE, 20, &topology::jobs_exchange("default"), "default");
    let words =
        ["queue \"imageshare.jobs.default\"", "refuses messages", "are confirmed; publish the later ones again"];
    check_exit(&vhost, &["--give-up-after", "2"], numbered(JOBS), 3, &words);
    let ready = client.ready(QUEUE);
    assert!((1..JOBS).contains(&ready), "{ready} jobs");

    // Once the queue has room, it receives the jobs in order.
    client.purge(QUEUE);
    let publishing = PublishCommand::start(&vhost.url(), &[], numbered(JOBS));
    publishing.running.wait_for_stderr("refuses messages");
    // A job may arrive twice. The last arrivals must be in the order of the file.
    let is_in_order = |numbers: &[usize]| {
        let last = |number: usize| numbers.iter().rposition(|arrived| *arrived == number);
        (0..JOBS).map(last).is_sorted() && last(0).is_some()
    };
    let number = |message: &kit::ReceivedMessage| {
        message.json()["job_id"].as_str().unwrap().trim_start_matches("job-").parse::<usize>().unwrap()
    };
    let mut numbers = Vec::new();
    let mut held = client.consume(QUEUE, 1);
    while !is_in_order(&numbers) {
        numbers.push(number(&held.take("another job")));
    }
    publishing.finish(0);
    // Closing the connection requeues the unacknowledged messages.
    drop(client);
    numbers.extend(AmqpClient::connect(&vhost.url()).take_all(QUEUE).iter().map(number));
    assert!(numbers.len() <= 2 * JOBS, "{} messages", numbers.len());
    assert!(is_in_order(&numbers), "{numbers:?}");
}

/// Makes the broker drop the jobs that a `publish --wait` waits for.
#[track_caller]
fn check_dropped(vhost: &Vhost<'_>, url: &str, drop: impl FnOnce(&AmqpClient), reason: &str) {
    let publishing = PublishCommand::start(url, &["--wait"], [job("a"), job("b")]);
    drop(&AmqpClient::connect(&vhost.url()));
    let (reports, log) = publishing.finish(1);
    let mut ids = ids(&reports);
    ids.sort_unstable();
    assert_eq!(ids, ["a", "b"]);
    for report in &reports {
        assert_eq!((&report["status"], &report["lane"]), (&json!("rejected"), &json!("default")));
        assert!(report["reason"].as_str().unwrap().contains(reason), "{report}");
    }
    assert!(log.contains("the broker dropped 2 jobs"), "{log}");
    assert_eq!(vhost.depth(DEAD).consumers, 0);
    vhost.clear_policy();
}

#[test]
fn dropped_jobs_end_publish() {
    let vhost = declared();
    let until_published = || wait_until("both jobs are published", || (vhost.depth(QUEUE).ready == 2).then_some(()));
    let expire = || vhost.set_policy("^imageshare[.]jobs", &[("message-ttl", "100")]);
    let no_letter = "its queue is empty and no worker is subscribed";
    expire();
    check_dropped(&vhost, &vhost.url(), |_| (), "its time to live ended");
    let too_long = |client: &AmqpClient| {
        until_published();
        // A dead letter that exceeds the client library's limit does not block the wait.
        client.publish_to(DEAD, DEAD, [(vec![b'x'; 17 << 20], properties())]);
        vhost.set_policy("^imageshare[.]jobs", &[("max-length", "1"), ("overflow", "<<\"drop-head\">>")]);
        client.publish_to("imageshare", "default", [b"x", b"y"].map(|body| (body.to_vec(), properties())));
    };
    check_dropped(&vhost, &vhost.url(), too_long, "the queue was longer than its limit");
    AmqpClient::connect(&vhost.url()).take_all(QUEUE);
    let purge = |client: &AmqpClient| {
        until_published();
        client.purge(QUEUE);
    };
    check_dropped(&vhost, &vhost.url(), purge, no_letter);
    // A user without access to the dead letters observes the queue instead.
    let url = vhost.add_user(
        "waits",
        ["^amq[.]gen-.*$", "^(imageshare[.]jobs[.]default|amq[.]gen-.*)$", "^(amq[.]gen-.*|imageshare[.]reports)$"],
    );
    expire();
    check_dropped(&vhost, &url, |_| (), no_letter);
    let delete = |client: &AmqpClient| {
        until_published();
        client.delete(QUEUE);
    };
    check_dropped(&vhost, &vhost.url(), delete, "its queue was deleted");
}
