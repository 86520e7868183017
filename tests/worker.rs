//! A worker dies or ends at any moment: nothing is lost, and nothing is done twice beyond what was under way.

use std::{
    thread,
    time::{Duration, Instant},
};

use crate::kit::{
    Node, Sandbox,
    history::{History, Random, account, image, times},
    stage::Stage,
};

/// How often the worker is killed until all is worked off once, and how often that is.
const KILLS: usize = 25;
const LEGS: usize = 1;

/// How often it is asked to end.
const DRAINS: usize = 15;

/// Jobs that are published for each.
const JOBS_A_ROUND: usize = 100;

const IMAGES: u64 = 8;

/// A moment of the time in which a round is worked off.
fn moment(random: &mut Random) {
    // Not waiting for anything: the moment is to be any.
    thread::sleep(Duration::from_millis(random.below(700)));
}

#[test]
fn jobs_are_carried_out_and_reported_and_acknowledged() {
    let stage = Stage::new(Node::shared(), Sandbox::start(&["--rps", "0"]), 500);
    let mut history = History::default();
    history.add_random(&mut Random::of(1), 200, IMAGES);
    stage.publish(&history.jobs);
    let worker = stage.worker();
    worker.until_serving();
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn a_worker_that_is_killed_at_any_moment_loses_nothing() {
    let stage = Stage::new(Node::shared(), Sandbox::start(&["--rps", "0", "--latency", "30ms"]), 100);
    let mut random = Random::of(2);
    let mut history = History::default();
    for _ in 0..times(LEGS) {
        // Some images are busy meanwhile.
        stage.sandbox.faults(&serde_json::json!({"busy_images": {image(0): 3.0, image(1): 6.0}}));
        for _ in 0..KILLS {
            let first = history.jobs.len();
            history.add_random(&mut random, JOBS_A_ROUND, IMAGES);
            stage.publish(&history.jobs[first..]);
            let worker = stage.worker();
            worker.until_subscribed();
            moment(&mut random);
            worker.kill();
        }
        let worker = stage.worker();
        stage.until_worked_off();
        stage.check_state(&history);
        worker.drain();
    }
    stage.check_done(&history);
}

#[test]
fn a_worker_that_is_asked_to_end_at_any_moment_ends_well_and_repeats_nothing() {
    let stage = Stage::new(Node::shared(), Sandbox::start(&["--rps", "0", "--latency", "30ms"]), 100);
    let mut random = Random::of(3);
    let mut history = History::default();
    for _ in 0..times(DRAINS) {
        let first = history.jobs.len();
        history.add_random(&mut random, JOBS_A_ROUND, IMAGES);
        stage.publish(&history.jobs[first..]);
        let worker = stage.worker();
        moment(&mut random);
        let begun = Instant::now();
        worker.drain();
        assert!(begun.elapsed() < Duration::from_secs(25));
    }
    let worker = stage.worker();
    stage.until_worked_off();
    if let Some((image, account)) = stage.repeated().first() {
        panic!(
            "{} were repeated. The story of {account}:\n{}",
            stage.repeated().len(),
            stage.story(&history, image, *account)
        );
    }
    stage.check_done(&history);
    worker.drain();
}

#[test]
fn a_worker_that_has_nothing_to_do_ends_well() {
    let stage = Stage::new(Node::shared(), Sandbox::start(&["--rps", "0"]), 500);
    for _ in 0..times(DRAINS) {
        let worker = stage.worker();
        worker.until_subscribed();
        worker.drain();
    }
}

#[test]
fn a_job_of_the_default_exchange_is_as_good_as_any() {
    let stage = Stage::new(Node::shared(), Sandbox::start(&["--rps", "0"]), 500);
    let mut history = History::default();
    history.add(&image(0), true, [account(1), account(2)]);
    let body = history.jobs[0].to_string().into_bytes();
    stage.client().publish_to("", crate::kit::stage::QUEUE, [(body, lapin::BasicProperties::default())]);
    let worker = stage.worker();
    worker.until_serving();
    stage.check_done(&history);
    worker.drain();
}
