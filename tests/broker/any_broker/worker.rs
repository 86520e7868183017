//! A worker dies or ends at any moment: nothing is lost, and nothing is done twice beyond what was under way.

use std::{fs::File, io::pipe, process::Stdio};

use kit::{
    Message, Node, Relay, Sandbox,
    history::{History, IMAGES, account, image},
    size,
    stage::{REPORTS, Stage},
    until,
};

use crate::outside::{self, Fault, Plan};

/// What is written again is no more than the one request for each image that was in flight at a kill.
#[test]
fn killed_worker_loses_nothing() {
    let kills = (0..size(25, 50)).map(|number| if number % 10 == 0 { Fault::Busy(6000) } else { Fault::Kill });
    outside::check(Node::any(), &Plan::of(2, kills));
}

#[test]
fn stopped_worker_repeats_nothing() {
    outside::check(Node::any(), &Plan::of(3, (0..size(15, 50)).map(|_| Fault::Drain)));
}

#[test]
fn cut_api_connections_fail_no_job() {
    outside::check(Node::any(), &Plan::of(4, (0..size(10, 50)).map(|_| Fault::ApiCut)));
}

#[test]
fn jobs_published_twice_are_applied_once() {
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0"]), 500);
    let mut history = History::default();
    for number in 0..100 {
        history.add(&image(number % IMAGES), true, [account(2 * number), account(2 * number + 1)]);
    }
    let worker = stage.worker();
    stage.publish(&history.jobs);
    stage.until_worked_off();
    let (writes, requests) = (stage.sandbox.writes(), stage.sandbox.requests().len());
    stage.publish(&history.jobs);
    stage.until_worked_off();
    assert_eq!(stage.sandbox.writes(), writes, "nothing is written for what is done");
    let more = stage.sandbox.requests().len() - requests;
    assert!(more <= history.jobs.len(), "{more} readings for {} jobs", history.jobs.len());
    stage.check_state(&history);
    let reports = stage.client().take_all(REPORTS);
    assert_eq!(reports.len(), 2 * history.jobs.len(), "each has a report each time");
    for report in reports[history.jobs.len()..].iter().map(Message::json) {
        assert_eq!(report["unchanged"].as_array().map(Vec::len), Some(2), "{report}");
    }
    worker.drain();
}

#[test]
fn full_or_unread_log_stops_nothing() {
    let (_unread, pipe) = pipe().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    for log in [Stdio::from(full), Stdio::from(pipe)] {
        let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0"]), 500);
        let mut history = History::of(5);
        let worker = stage.program("worker").args(["--log", "trace"]).start_with_log_to(log);
        stage.publish_random(&mut history, 500);
        stage.check_done(&history);
        worker.signal("TERM");
        assert_eq!(worker.end().0, Some(0));
    }
}

/// Rounds of faults after which a worker has what it has for good.
const FIRST_ROUNDS: u64 = 5;

/// KiB that it may have more after many rounds than after the first.
const GROWTH_MAX_KIB: u64 = 16 * 1024;

#[test]
fn faults_leak_no_file_thread_or_memory() {
    let stage = Stage::new(Node::any(), Sandbox::start(&["--rps", "0"]), 500);
    let (broker, endpoint) = (Relay::to(stage.vhost.node.port), Relay::to(stage.sandbox.port()));
    let mut history = History::of(6);
    let worker = stage.worker_between(broker.port, endpoint.port);
    let mut trouble = |rounds| {
        for _ in 0..rounds {
            stage.publish_random(&mut history, 100);
            endpoint.cut();
            let mark = worker.mark();
            broker.cut();
            worker.until_subscribed_after(mark);
            stage.until_worked_off();
        }
    };
    trouble(FIRST_ROUNDS);
    let ((files, threads), memory) = (worker.files_and_threads(), worker.resident_kib());
    trouble(size(15, 200));
    // A connection that was just replaced may be a moment older than the one that takes its place.
    until("it has no more files and threads than at first", || {
        let now = worker.files_and_threads();
        (now.0 <= files && now.1 <= threads).then_some(())
    });
    let now = worker.resident_kib();
    assert!(now < memory + GROWTH_MAX_KIB, "from {memory} to {now} KiB");
    stage.check_done(&history);
    worker.drain();
}
