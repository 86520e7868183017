//! Workers that are killed or stopped at any moment: nothing is lost, and at most the requests in flight are repeated.

use std::{fs::File, io::pipe, os::unix::net::UnixDatagram, process::Stdio, time::Duration};

use kit::{
    BrokerNode, Folder, ReceivedMessage, Relay, SandboxProcess,
    history::{IMAGES, JobHistory, account, image},
    setup::{REPORTS, TestSetup},
    shell::Shell,
    size, wait_until,
    worker::Worker,
};

use crate::{
    outside::{self, RoundFault, RoundPlan},
    transcripts,
};

/// A kill repeats at most the request in flight for each image.
#[test]
fn killed_worker_loses_nothing() {
    let kills =
        (0..size(25, 50)).map(|number| if number % 10 == 0 { RoundFault::Busy(6000) } else { RoundFault::Kill });
    outside::check(BrokerNode::any(), &RoundPlan::with_faults(2, kills));
}

#[test]
fn stopped_worker_repeats_nothing() {
    outside::check(BrokerNode::any(), &RoundPlan::with_faults(3, (0..size(15, 50)).map(|_| RoundFault::Drain)));
}

#[test]
fn cut_api_connections_fail_no_job() {
    outside::check(BrokerNode::any(), &RoundPlan::with_faults(4, (0..size(10, 50)).map(|_| RoundFault::ApiCut)));
}

#[test]
fn jobs_published_twice_are_applied_once() {
    let setup = TestSetup::new(BrokerNode::any(), SandboxProcess::start(&["--rps", "0"]), 500);
    let mut history = JobHistory::default();
    for number in 0..100 {
        history.share(&image(number % IMAGES), [account(2 * number), account(2 * number + 1)]);
    }
    let worker = setup.worker();
    setup.publish(&history.jobs);
    setup.wait_until_settled();
    let (writes, requests) = (setup.sandbox.writes(), setup.sandbox.requests().len());
    setup.publish(&history.jobs);
    setup.wait_until_settled();
    assert_eq!(setup.sandbox.writes(), writes, "no write for a finished job");
    let more = setup.sandbox.requests().len() - requests;
    assert!(more <= history.jobs.len(), "{more} listings for {} jobs", history.jobs.len());
    setup.check_state(&history);
    let reports = setup.client().take_all(REPORTS);
    assert_eq!(reports.len(), 2 * history.jobs.len(), "a report for each delivery");
    for report in reports[history.jobs.len()..].iter().map(ReceivedMessage::json) {
        assert_eq!(report["unchanged"].as_array().map(Vec::len), Some(2), "{report}");
    }
    worker.drain();
}

#[test]
fn full_or_unread_log_stops_nothing() {
    let (_unread, pipe) = pipe().unwrap();
    let full = File::options().write(true).open("/dev/full").unwrap();
    for log in [Stdio::from(full), Stdio::from(pipe)] {
        let setup = TestSetup::new(BrokerNode::any(), SandboxProcess::start(&["--rps", "0"]), 500);
        let mut history = JobHistory::for_scenario(5);
        let worker = setup.program("worker").args(["--log", "trace"]).start_with_stderr(log);
        setup.publish_random(&mut history, 500);
        setup.check_all_succeeded(&history);
        worker.signal("TERM");
        assert_eq!(worker.wait().0, Some(0));
    }
}

/// Rounds of faults after which the use of resources must be stable.
const FIRST_ROUNDS: u64 = 5;

/// KiB by which the memory may grow after that.
const GROWTH_MAX_KIB: u64 = 16 * 1024;

#[test]
fn faults_leak_no_file_thread_or_memory() {
    let setup = TestSetup::new(BrokerNode::any(), SandboxProcess::start(&["--rps", "0"]), 500);
    let (broker, endpoint) = (Relay::to(setup.vhost.node.port), Relay::to(setup.sandbox.port()));
    let mut history = JobHistory::for_scenario(6);
    let worker = setup.worker_via(broker.port, endpoint.port);
    let mut inject_faults = |rounds| {
        for _ in 0..rounds {
            setup.publish_random(&mut history, 100);
            endpoint.cut();
            let mark = worker.mark();
            broker.cut();
            worker.wait_until_subscribed_after(mark);
            worker.wait_for_log_after(mark, &["the publisher is connected"]);
            setup.wait_until_settled();
        }
    };
    inject_faults(FIRST_ROUNDS);
    let ((files, threads), memory) = (worker.files_and_threads(), worker.resident_kib());
    inject_faults(size(15, 200));
    // A replaced connection may be closed shortly after the new one is open.
    wait_until("the worker has no more files and threads than before", || {
        let now = worker.files_and_threads();
        (now.0 <= files && now.1 <= threads).then_some(())
    });
    let now = worker.resident_kib();
    assert!(now < memory + GROWTH_MAX_KIB, "from {memory} to {now} KiB");
    setup.check_all_succeeded(&history);
    worker.drain();
}

/// Returns the next notification.
fn receive(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let len = manager.recv(&mut buffer).expect("the worker sends a notification in time");
    String::from_utf8(buffer[..len].to_vec()).unwrap()
}

#[test]
fn service_manager_receives_states_and_is_optional() {
    let setup = TestSetup::new(BrokerNode::any(), SandboxProcess::start(&["--rps", "0"]), 100);
    let folder = Folder::new();
    let path = folder.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let program = setup.program("worker").env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "300000");
    let worker = Worker::start(program);
    assert_eq!(receive(&manager), "READY=1");
    for _ in 0..3 {
        assert_eq!(receive(&manager), "WATCHDOG=1");
    }
    worker.signal("TERM");
    let mut notification = receive(&manager);
    while notification == "WATCHDOG=1" {
        notification = receive(&manager);
    }
    assert_eq!(notification, "STOPPING=1");
    assert_eq!(worker.wait().0, Some(0));

    let worker = Worker::start(setup.program("worker").env("NOTIFY_SOCKET", "/nowhere/at/all"));
    worker.wait_for_log_after(0, &["WARN", "NOTIFY_SOCKET"]);
    worker.wait_until_subscribed();
    worker.drain();
}

#[test]
fn check_names_what_is_missing_and_changes_nothing() {
    transcripts::follow(Shell::new(), BrokerNode::any(), "check");
}
