//! The broker fails in every way that it can: the worker gets over it, and nothing is lost.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::kit::{
    Node, Relay, Sandbox, Sizes, figures,
    history::{History, Random, image},
    stage::{QUEUE, Stage},
    until,
};

const IMAGES: u64 = 6;

fn sandbox() -> Sandbox {
    Sandbox::start(&["--rps", "0", "--latency", "30ms"])
}

/// Publishes more jobs.
fn publish_more(stage: &Stage<'_>, history: &mut History, random: &mut Random, count: usize) {
    let first = history.jobs.len();
    history.add_random(random, count, IMAGES);
    stage.publish(&history.jobs[first..]);
}

#[test]
fn a_broker_that_is_stopped_or_killed_and_comes_back() {
    let node = Node::start();
    let stage = Stage::new(&node, sandbox(), 40);
    let (mut history, mut random) = (History::default(), Random::of(11));
    let worker = stage.worker();
    worker.until_subscribed();
    for is_killed in [false, true, true] {
        publish_more(&stage, &mut history, &mut random, 150);
        thread::sleep(Duration::from_millis(random.below(500)));
        let mark = worker.mark();
        if is_killed {
            node.kill();
        } else {
            node.stop();
        }
        worker.until_logged_after(mark, &[r#""state":"disconnected""#]);
        node.start_again();
        worker.until_subscribed_after(mark);
    }
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn a_broker_that_is_away_for_a_while() {
    let node = Node::start();
    let stage = Stage::new(&node, sandbox(), 40);
    let (mut history, mut random) = (History::default(), Random::of(21));
    let worker = stage.worker();
    worker.until_subscribed();
    publish_more(&stage, &mut history, &mut random, 300);
    worker.until_serving();
    let mark = worker.mark();
    node.kill();
    worker.until_logged_after(mark, &[r#""state":"disconnected""#]);
    let writes = stage.sandbox.writes();
    // Not waiting for anything: it is to be away for so long.
    thread::sleep(Sizes::of_run().broker_away);
    assert_eq!(stage.sandbox.writes(), writes, "nothing is written without a lane");
    node.start_again();
    let back = Instant::now();
    worker.until_subscribed_after(mark);
    figures(&[("slowest-return-ms", u64::try_from(back.elapsed().as_millis()).unwrap())]);
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn a_connection_that_is_cut_again_and_again_also_in_the_middle_of_a_publish() {
    let node = Node::shared();
    let stage = Stage::new(node, sandbox(), 100);
    let relay = Relay::to(node.port);
    let (mut history, mut random) = (History::default(), Random::of(12));
    let worker = stage.worker_by(relay.port);
    for round in 0..Sizes::of_run().cuts {
        publish_more(&stage, &mut history, &mut random, 50);
        let mark = worker.mark();
        if round % 2 == 0 {
            relay.cut_after(usize::try_from(random.below(20_000)).unwrap());
        } else {
            thread::sleep(Duration::from_millis(random.below(400)));
            relay.cut();
        }
        worker.until_subscribed_after(mark);
    }
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn a_connection_that_is_frozen_is_given_up_and_made_anew() {
    let node = Node::shared();
    let stage = Stage::new(node, sandbox(), 50);
    let relay = Relay::to(node.port);
    let (mut history, mut random) = (History::default(), Random::of(13));
    publish_more(&stage, &mut history, &mut random, 100);
    let worker = stage.worker_by(relay.port);
    worker.until_serving();
    let mark = worker.mark();
    relay.freeze();
    publish_more(&stage, &mut history, &mut random, 100);
    worker.until_logged_after(mark, &[r#""state":"disconnected""#]);
    // What it had sent meanwhile reaches the broker late, as news of a connection that is over.
    relay.thaw();
    worker.until_subscribed_after(mark);
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn a_broker_that_says_nothing_when_it_is_connected_to() {
    let node = Node::shared();
    let stage = Stage::new(node, sandbox(), 500);
    let relay = Relay::to(node.port);
    relay.freeze();
    let (mut history, mut random) = (History::default(), Random::of(14));
    publish_more(&stage, &mut history, &mut random, 20);
    let worker = stage.worker_by(relay.port);
    worker.until_logged_after(0, &["no subscription"]);
    relay.thaw();
    worker.until_subscribed();
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn connections_that_an_operator_closes() {
    let node = Node::shared();
    let stage = Stage::new(node, sandbox(), 100);
    let (mut history, mut random) = (History::default(), Random::of(15));
    let worker = stage.worker();
    worker.until_subscribed();
    for _ in 0..3 {
        publish_more(&stage, &mut history, &mut random, 100);
        let mark = worker.mark();
        stage.vhost.close_connections();
        worker.until_subscribed_after(mark);
    }
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn a_channel_that_the_broker_closes_while_the_connection_lives() {
    let node = Node::start();
    node.close_channels_that_hold_longer_than(2000);
    let stage = Stage::new(&node, sandbox(), 100);
    let (mut history, mut random) = (History::default(), Random::of(20));
    // Jobs of this image are held too long.
    stage.sandbox.faults(&json!({"busy_images": {image(0): 6.0}}));
    publish_more(&stage, &mut history, &mut random, 100);
    let worker = stage.worker();
    worker.until_logged_after(0, &["no subscription", "406"]);
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn a_queue_that_is_deleted_and_declared_again() {
    let node = Node::shared();
    let stage = Stage::new(node, sandbox(), 500);
    let (mut history, mut random) = (History::default(), Random::of(16));
    publish_more(&stage, &mut history, &mut random, 50);
    let worker = stage.worker();
    worker.until_serving();
    stage.until_worked_off();
    stage.client().delete(QUEUE);
    worker.until_logged_after(0, &["imageshare.jobs.default", "is missing", "topology --declare"]);
    let mark = worker.mark();
    stage.declare();
    worker.until_subscribed_after(mark);
    publish_more(&stage, &mut history, &mut random, 50);
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn a_wrong_password_that_is_mended() {
    let node = Node::shared();
    let stage = Stage::new(node, sandbox(), 500);
    let (mut history, mut random) = (History::default(), Random::of(17));
    publish_more(&stage, &mut history, &mut random, 50);
    stage.vhost.set_password(false);
    let worker = stage.worker();
    worker.until_logged_after(0, &["no subscription"]);
    assert!(!worker.log().contains("battery"), "{}", worker.log());
    stage.vhost.set_password(true);
    worker.until_subscribed();
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn a_memory_alarm_that_is_raised_and_cleared() {
    let node = Node::start();
    let stage = Stage::new(&node, sandbox(), 500);
    let (mut history, mut random) = (History::default(), Random::of(18));
    publish_more(&stage, &mut history, &mut random, 200);
    node.memory_alarm(true);
    let worker = stage.worker();
    worker.until_serving();
    // The work itself goes on, up to what can be published.
    until("images are shared", || (stage.sandbox.writes() > 0).then_some(()));
    assert_eq!(stage.client().ready("imageshare.reports"), 0);
    node.memory_alarm(false);
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn reports_that_have_no_queue_hold_jobs_back() {
    let node = Node::shared();
    let stage = Stage::new(node, sandbox(), 500);
    let (mut history, mut random) = (History::default(), Random::of(19));
    stage.client().delete("imageshare.reports");
    publish_more(&stage, &mut history, &mut random, 20);
    let worker = stage.worker();
    worker.until_logged_after(0, &["imageshare.reports", "is missing"]);
    stage.declare();
    worker.until_subscribed();
    stage.check_done(&history);
    worker.drain();
}
