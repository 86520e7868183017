//! What the broker needs is made, and jobs get into their lanes' queues whatever happens on the way.

use std::{
    collections::{HashMap, HashSet},
    io::{Read, Write},
};

use imageshare_worker::broker::{Confirmation, Insistence, Message, Publisher, State, TimeOuts, topology};
use lapin::types::AMQPValue;
use serde_json::{Value, json};

use kit::{Amqp, Folder, Node, Program, Relay, Vhost, json_lines, properties, until};

const QUEUE: &str = "imageshare.jobs.default";

fn program(command: &str, url: &str) -> Program {
    Program::new([command]).env("IMAGESHARE_BROKER_URL", url)
}

fn declare(vhost: &Vhost<'_>) -> Vec<Value> {
    program("topology", &vhost.url()).arg("--declare").run().check(0).json()
}

fn states(lines: &[Value]) -> Vec<(&str, &str)> {
    lines.iter().map(|line| (line["what"].as_str().unwrap(), line["state"].as_str().unwrap())).collect()
}

fn job(id: &str) -> Value {
    json!({"job_id": id, "image_id": "img-6pb6lrmy", "region": "ap-singapore", "permission": "SHARE",
        "account_ids": ["1038493875"]})
}

fn lines(jobs: impl IntoIterator<Item = Value>) -> String {
    jobs.into_iter().map(|job| format!("{job}\n")).collect()
}

fn json(message: &kit::Message) -> Value {
    serde_json::from_slice(&message.body).unwrap()
}

#[test]
fn what_the_broker_needs_is_made_once_and_its_definitions_say_the_same() {
    let vhost = Node::shared().vhost();
    let all = [
        "exchange imageshare",
        "exchange imageshare.dead",
        "exchange imageshare.reports",
        "queue imageshare.dead",
        "queue imageshare.reports",
        "exchange imageshare.jobs.default",
        "queue imageshare.jobs.default",
    ];
    assert_eq!(states(&declare(&vhost)), all.map(|what| (what, "made")));
    assert_eq!(states(&declare(&vhost)), all.map(|what| (what, "found")));

    let other = Node::shared().vhost();
    let printed = program("topology", &other.url()).run().check(0).stdout;
    let definitions: Value = serde_json::from_str(&printed).unwrap();
    let text = definitions.to_string().replace('"', "\\\"");
    assert_eq!(Node::shared().eval(&format!("rabbit_definitions:import_raw(<<\"{text}\">>).")), "ok");
    assert_eq!(states(&declare(&other)), all.map(|what| (what, "found")));
    // The bindings too: a job gets where it belongs.
    program("publish", &other.url()).arg("-").input(lines([job("a")])).run().check(0);
    assert_eq!(other.depth(QUEUE).ready, 1);
}

#[test]
fn a_queue_that_differs_is_named_and_left_alone_and_the_rest_is_made() {
    let vhost = Node::shared().vhost();
    let amqp = Amqp::open(&vhost.url());
    amqp.declare_like_a_lane("imageshare.dead");
    amqp.publish_to("", "imageshare.dead", [(b"kept".to_vec(), properties())]);
    let made = program("topology", &vhost.url()).arg("--declare").run().check(1).json();
    let different: Vec<_> = made.iter().filter(|line| line["state"] == "different").collect();
    let [only] = different[..] else { panic!("{made:?}") };
    let problem = only["problem"].as_str().unwrap();
    assert!(problem.starts_with("queue imageshare.dead differs: PRECONDITION_FAILED - inequivalent arg"), "{problem}");
    assert!(problem.contains("x-dead-letter-exchange") && problem.contains("delete it"), "{problem}");
    assert_eq!(vhost.depth("imageshare.dead").ready, 1);
    assert_eq!(vhost.depth(QUEUE).ready, 0);
}

#[test]
fn jobs_of_a_file_stand_in_the_queues_of_their_lanes_in_their_order() {
    let vhost = Node::shared().vhost();
    let folder = Folder::new();
    let settings = "[lanes.asia]\nregions = [\"ap-singapore\"]\n[lanes.europe]\nregions = [\"eu-frankfurt\"]\n\
                    endpoint = \"b.example\"\n";
    let settings = folder.file("imageshare.toml", settings);
    program("topology", &vhost.url()).arg("--declare").arg("--config").arg(&settings).run().check(0);
    let mut jobs: Vec<Value> = (0..300).map(|number| job(&format!("job-{number}"))).collect();
    jobs[7] = json!({"image_id": "img-6pb6lrmy", "region": "eu-frankfurt", "permission": "SYNC", "force": true,
        "account_ids": [1_038_493_875], "labels": {"a": "b"}, "expires_at": "2100-01-01T00:00:00Z"});
    jobs[9]["region"] = "na-ashburn".into();
    let publish = program("publish", &vhost.url()).arg("-").arg("--config").arg(&settings);
    let ended = publish.input(lines(jobs.clone())).run().check(1);
    let [rejected] = &ended.json()[..] else { panic!("{}", ended.stdout) };
    assert_eq!((&rejected["job_id"], &rejected["status"]), (&json!("job-9"), &json!("rejected")));
    assert!(rejected["reason"].as_str().unwrap().contains("line 10: region: found na-ashburn, which no lane serves"));
    assert!(ended.stderr.contains("published and confirmed: 299 jobs for 299 accounts"), "{}", ended.stderr);

    let amqp = Amqp::open(&vhost.url());
    let europe = amqp.take_all("imageshare.jobs.europe");
    let [europe] = &europe[..] else { panic!("{europe:?}") };
    let mut expected = jobs[7].clone();
    (expected["job_id"], expected["account_ids"]) = ("line-8".into(), json!(["1038493875"]));
    assert_eq!(json(europe), expected);
    let asia: Vec<_> = amqp.take_all("imageshare.jobs.asia").iter().map(json).collect();
    let expected: Vec<_> =
        (0..300).filter(|number| ![7, 9].contains(number)).map(|number| jobs[number].clone()).collect();
    assert_eq!(asia, expected);
}

#[test]
fn what_no_queue_takes_ends_a_publish_which_says_how_far_it_came() {
    let vhost = Node::shared().vhost();
    declare(&vhost);
    let folder = Folder::new();
    let lanes = "[lanes.default]\nregions = [\"ap-singapore\"]\n[lanes.gone]\nregions = [\"eu-paris\"]\n\
                 endpoint = \"b.example\"\n";
    let settings = folder.file("imageshare.toml", lanes);
    let mut jobs: Vec<Value> = (0..5).map(|number| job(&format!("job-{number}"))).collect();
    jobs[3]["region"] = "eu-paris".into();
    let ended =
        program("publish", &vhost.url()).arg("-").arg("--config").arg(&settings).input(lines(jobs)).run().check(3);
    assert!(
        ended.stderr.contains(
            "the job of line 4: no queue takes what is published to exchange \"imageshare\" with routing key \"gone\""
        ),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("jobs up to line 3 of the input are confirmed"), "{}", ended.stderr);
}

#[test]
fn a_broker_without_our_exchange_or_that_refuses_us_ends_a_publish_at_once() {
    let vhost = Node::shared().vhost();
    let publish = || program("publish", &vhost.url()).arg("-").input(lines([job("a")])).run();
    let ended = publish().check(3);
    assert!(ended.stderr.contains("404 NOT_FOUND - no exchange 'imageshare'"), "{}", ended.stderr);
    vhost.set_password(false);
    let ended = publish().check(3);
    assert!(
        ended.stderr.contains("the broker refuses the user") && !ended.stderr.contains("correct"),
        "{}",
        ended.stderr
    );
    let away = program("publish", "amqp://a:topsecret@127.0.0.1:1").arg("-").args(["--give-up-after", "1s"]);
    let ended = away.input(lines([job("a")])).run().check(4);
    assert!(ended.stderr.contains("amqp://a@127.0.0.1:1/%2F: the broker is out of reach"), "{}", ended.stderr);
    let nowhere = Program::new(["publish", "-"]).input(lines([job("a")])).run().check(2);
    assert!(nowhere.stderr.contains("broker.url: found nothing"), "{}", nowhere.stderr);
}

#[test]
fn connections_that_are_cut_anywhere_lose_no_job_and_leave_the_last_words_in_order() {
    const JOBS: usize = 3000;
    let vhost = Node::shared().vhost();
    declare(&vhost);
    let relay = Relay::to(Node::shared().port);
    let jobs: Vec<Value> = (0..JOBS).map(|number| job(&format!("job-{number}"))).collect();
    let publish = program("publish", &vhost.url_by(relay.port)).arg("-").input("");
    let (running, _stdout, mut stdin) = publish.start_with_open_input();
    for (part, jobs) in jobs.chunks(JOBS / 10).enumerate() {
        relay.cut_after(20_000 + part * 7_919);
        Write::write_all(&mut stdin, lines(jobs.iter().cloned()).as_bytes()).unwrap();
    }
    drop(stdin);
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("published and confirmed: {JOBS} jobs")), "{said}");
    assert!(relay.accepted() > 3, "it was cut");
    let stored = Amqp::open(&vhost.url()).take_all(QUEUE);
    let last: HashMap<_, _> = stored
        .iter()
        .enumerate()
        .map(|(place, message)| (json(message)["job_id"].as_str().unwrap().to_owned(), place))
        .collect();
    let places: Vec<_> = (0..JOBS).map(|number| last[&format!("job-{number}")]).collect();
    assert!(places.is_sorted(), "a job came after one that stands behind it");
}

#[test]
fn a_broker_that_is_killed_or_takes_nothing_for_a_while_only_holds_a_publish_up() {
    const JOBS: usize = 2000;
    let node = Node::start();
    let vhost = node.vhost();
    declare(&vhost);
    let jobs: Vec<Value> = (0..JOBS).map(|number| job(&format!("job-{number}"))).collect();
    let publish = program("publish", &vhost.url()).arg("-").input("");
    let (running, _stdout, mut stdin) = publish.start_with_open_input();
    let mut write = |jobs: &[Value]| Write::write_all(&mut stdin, lines(jobs.iter().cloned()).as_bytes()).unwrap();
    let (first, rest) = jobs.split_at(JOBS / 4);
    let (second, rest) = rest.split_at(JOBS / 4);
    write(first);
    until("some have arrived", || (vhost.depth(QUEUE).ready > 0).then_some(()));
    node.kill();
    write(second);
    node.start_again();
    until("all of these have arrived", || (vhost.depth(QUEUE).ready >= JOBS as u64 / 2).then_some(()));
    node.memory_alarm(true);
    write(rest);
    running.until_said("the broker accepts no messages");
    node.memory_alarm(false);
    drop(stdin);
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    let stored = Amqp::open(&vhost.url()).take_all(QUEUE);
    let ids: HashSet<_> = stored.iter().map(|message| json(message)["job_id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), JOBS);
}

#[test]
fn reports_are_waited_for_and_end_a_publish_as_they_end_a_run() {
    let vhost = Node::shared().vhost();
    declare(&vhost);
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
        let publish = program("publish", &vhost.url()).args(["-", "--wait"]).input(lines([job("a"), job("b")]));
        let (running, mut stdout, stdin) = publish.start_with_open_input();
        drop(stdin);
        let amqp = Amqp::open(&vhost.url());
        until("both are published", || (vhost.depth(QUEUE).ready == 2).then_some(()));
        assert_eq!(amqp.take(QUEUE, 2).len(), 2);
        let reports =
            [report("b", "succeeded"), report("somebody else's", "failed"), report("b", "failed"), report("a", status)];
        let reports = reports.map(|report| (report.to_string().into_bytes(), properties()));
        amqp.publish_to("imageshare.reports", "default.any", reports);
        let (ended, said) = running.end();
        assert_eq!(ended, Some(code), "{said}");
        let mut text = String::new();
        Read::read_to_string(&mut stdout, &mut text).unwrap();
        let got: Vec<_> =
            json_lines(&text).iter().map(|report| report["job_id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(got, ["b", "a"]);
    }
    // Nobody works: an interrupt says what is missing.
    let publish = program("publish", &vhost.url()).args(["-", "--wait"]).input(lines([job("c")]));
    let (running, _stdout, stdin) = publish.start_with_open_input();
    until("it is published", || (vhost.depth(QUEUE).ready == 1).then_some(()));
    running.signal("INT");
    drop(stdin);
    let (ended, said) = running.end();
    assert_eq!(ended, Some(130), "{said}");
    assert!(said.contains("1 jobs have no report yet"), "{said}");
}

#[test]
fn a_message_that_no_queue_takes_is_told_from_those_around_it() {
    const MESSAGES: u32 = 20_000;
    let vhost = Node::shared().vhost();
    declare(&vhost);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let url = vhost.url().parse().unwrap();
    let wrong = runtime.block_on(async {
        let (publisher, publishing) = Publisher::new(url, "test", TimeOuts::default());
        let publishing = tokio::spawn(publishing.run());
        let mut sent: Vec<(bool, Confirmation)> = Vec::new();
        for number in 0..MESSAGES {
            let is_routed = number % 7 != 3;
            let key = if is_routed { "default" } else { "nowhere" };
            let id = number.to_string();
            let message = Message::json(topology::EXCHANGE, key.into(), id.as_str().into(), b"{}".to_vec());
            sent.push((is_routed, publisher.publish(message, Insistence::UntilAnswered).await.unwrap()));
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
fn what_is_insisted_on_waits_for_its_queue() {
    let vhost = Node::shared().vhost();
    declare(&vhost);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let message = |exchange: &str, key: &str| Message::json(exchange, key.into(), "a".into(), b"{}".to_vec());
    let (publisher, publishing) = Publisher::new(vhost.url().parse().unwrap(), "test", TimeOuts::default());
    let publishing = runtime.spawn(publishing.run());
    let insisted = message(topology::EXCHANGE, "later");
    let confirmation = runtime.block_on(publisher.publish(insisted, Insistence::UntilConfirmed)).unwrap();
    let is_waiting = || matches!(*publisher.state().borrow(), State::Unroutable(_)).then_some(());
    until("it is said that no queue takes it", is_waiting);
    let other = runtime.block_on(publisher.publish(message("", QUEUE), Insistence::UntilConfirmed)).unwrap();
    assert_eq!(runtime.block_on(other), Ok(()), "it holds up no other");
    let folder = Folder::new();
    let settings = folder.file("imageshare.toml", "[lanes.later]\n");
    program("topology", &vhost.url()).arg("--declare").arg("--config").arg(&settings).run().check(0);
    assert_eq!(runtime.block_on(confirmation), Ok(()));
    drop(publisher);
    runtime.block_on(publishing).unwrap();
    assert_eq!((vhost.depth("imageshare.jobs.later").ready, vhost.depth(QUEUE).ready), (1, 1));
}

/// A queue in the place of the lane's own, which refuses what it has no room for.
fn full_queue(vhost: &Vhost<'_>, len_max: u32) {
    let arguments = [
        ("x-max-length", AMQPValue::LongLongInt(len_max.into())),
        ("x-overflow", AMQPValue::LongString("reject-publish".into())),
    ];
    Amqp::open(&vhost.url()).declare_full(QUEUE, &topology::jobs_exchange("default"), "default", arguments);
}

#[test]
fn a_full_queue_ends_a_publish_after_its_time() {
    let vhost = Node::shared().vhost();
    declare(&vhost);
    full_queue(&vhost, 1);
    let publish = program("publish", &vhost.url()).args(["-", "--give-up-after", "2"]);
    let ended = publish.input(lines((0..20).map(|number| job(&number.to_string())))).run().check(3);
    assert!(ended.stderr.contains("queue \"imageshare.jobs.default\""), "{}", ended.stderr);
    assert!(ended.stderr.contains("refuses messages"), "{}", ended.stderr);
    let ready = Amqp::open(&vhost.url()).ready(QUEUE);
    assert!((1..20).contains(&ready), "{ready} jobs");
    assert!(ended.stderr.contains("are confirmed; of later ones some may have arrived"), "{}", ended.stderr);
}

#[test]
fn a_queue_with_room_again_gets_its_jobs_in_order() {
    const JOBS: usize = 300;
    let vhost = Node::shared().vhost();
    declare(&vhost);
    full_queue(&vhost, 20);
    let publish = program("publish", &vhost.url()).arg("-");
    let publish = publish.input(lines((0..JOBS).map(|number| job(&number.to_string()))));
    let (running, _stdout, stdin) = publish.start_with_open_input();
    drop(stdin);
    running.until_said("refuses messages");
    // A job may arrive twice, but then the last arrivals stand in the order of the file.
    let is_in_order = |numbers: &[usize]| {
        let last = |number: usize| numbers.iter().rposition(|arrived| *arrived == number);
        (0..JOBS).map(last).is_sorted() && last(0).is_some()
    };
    let number = |message: &kit::Message| json(message)["job_id"].as_str().unwrap().parse::<usize>().unwrap();
    let mut numbers = Vec::new();
    let client = Amqp::open(&vhost.url());
    client.take_while(QUEUE, |message| {
        numbers.push(number(message));
        !is_in_order(&numbers)
    });
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    // What it holds comes back with its connection.
    drop(client);
    numbers.extend(Amqp::open(&vhost.url()).take_all(QUEUE).iter().map(number));
    assert!(numbers.len() <= 2 * JOBS, "{} messages", numbers.len());
    assert!(is_in_order(&numbers), "{numbers:?}");
}

#[test]
fn time_in_a_memory_alarm_counts_for_a_publish() {
    let node = Node::start();
    let vhost = node.vhost();
    declare(&vhost);
    node.memory_alarm(true);
    let publish = program("publish", &vhost.url()).args(["-", "--give-up-after", "3"]);
    let ended = publish.input(lines([job("a")])).run().check(4);
    assert!(ended.stderr.contains("short of memory or disk (gave up after 3 s)"), "{}", ended.stderr);
    node.memory_alarm(false);
}

#[test]
fn a_job_longer_than_the_broker_accepts_is_named() {
    let node = Node::start_with("max_message_size = 4096\n");
    let vhost = node.vhost();
    declare(&vhost);
    let mut long = job("long");
    long["account_ids"] = (100_000_000_000_u64..100_000_000_500).map(|id| id.to_string()).collect();
    let ended = program("publish", &vhost.url()).arg("-").input(lines([job("a"), long, job("b")])).run().check(3);
    assert!(ended.stderr.contains("the job of line 2: message too long: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("(expected at most 4096"), "{}", ended.stderr);
    assert!(ended.stderr.contains("jobs up to line 1 of the input are confirmed"), "{}", ended.stderr);
}

/// The broker drops the jobs that a publish waits for.
#[track_caller]
fn check_dropped(vhost: &Vhost<'_>, publish: Program, drop: impl FnOnce(), reason: &str) {
    let (running, mut stdout, stdin) = publish.input(lines([job("a"), job("b")])).start_with_open_input();
    std::mem::drop(stdin);
    drop();
    let (ended, said) = running.end();
    assert_eq!(ended, Some(1), "{said}");
    let mut text = String::new();
    Read::read_to_string(&mut stdout, &mut text).unwrap();
    let reports = json_lines(&text);
    let mut ids: Vec<_> = reports.iter().map(|report| report["job_id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, ["a", "b"]);
    for report in &reports {
        assert_eq!((&report["status"], &report["lane"]), (&json!("rejected"), &json!("default")));
        assert!(report["reason"].as_str().unwrap().contains(reason), "{report}");
    }
    assert!(said.contains("2 jobs were dropped by the broker"), "{said}");
    assert_eq!(vhost.depth("imageshare.dead").consumers, 0);
}

#[test]
fn a_publish_ends_when_the_broker_drops_its_jobs() {
    let vhost = Node::shared().vhost();
    declare(&vhost);
    let publish = |url: &str| program("publish", url).args(["-", "--wait"]);
    let until_published = || until("both are published", || (vhost.depth(QUEUE).ready == 2).then_some(()));
    vhost.set_policy("^imageshare[.]jobs", &[("message-ttl", "100")]);
    check_dropped(&vhost, publish(&vhost.url()), || (), "its time to live ended");
    let too_long = || {
        until_published();
        // A dead letter that is longer than what the client library may hold does not stop the one that waits.
        let longer = [(vec![b'x'; 17 << 20], properties())];
        Amqp::open(&vhost.url()).publish_to("imageshare.dead", "imageshare.dead", longer);
        vhost.set_policy("^imageshare[.]jobs", &[("max-length", "1"), ("overflow", "<<\"drop-head\">>")]);
        Amqp::open(&vhost.url()).publish_to(
            "imageshare",
            "default",
            [(b"x".to_vec(), properties()), (b"y".to_vec(), properties())],
        );
    };
    vhost.clear_policy();
    check_dropped(&vhost, publish(&vhost.url()), too_long, "the queue was longer than its limit");
    vhost.clear_policy();
    Amqp::open(&vhost.url()).take_all(QUEUE);
    let purged = || {
        until_published();
        Amqp::open(&vhost.url()).purge(QUEUE);
    };
    check_dropped(&vhost, publish(&vhost.url()), purged, "its queue is empty and no worker is subscribed");
    // A user who may not read the dead letters sees it by the queue.
    let url = vhost.add_user(
        "waits",
        ["^amq[.]gen-.*$", "^(imageshare[.]jobs[.]default|amq[.]gen-.*)$", "^(amq[.]gen-.*|imageshare[.]reports)$"],
    );
    vhost.set_policy("^imageshare[.]jobs", &[("message-ttl", "100")]);
    check_dropped(&vhost, publish(&url), || (), "its queue is empty and no worker is subscribed");
    vhost.clear_policy();
    let deleted = || {
        until_published();
        Amqp::open(&vhost.url()).delete(QUEUE);
    };
    check_dropped(&vhost, publish(&vhost.url()), deleted, "its queue was deleted");
}
