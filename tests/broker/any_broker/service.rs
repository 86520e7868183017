//! Notifications to systemd, and `check --connect` before the first start.

use std::{os::unix::net::UnixDatagram, time::Duration};

use kit::{BrokerNode, Folder, SandboxProcess, setup::TestSetup, shell::Shell, worker::Worker};

use crate::transcripts::follow;

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
    follow(Shell::new(), BrokerNode::any(), "check");
}
