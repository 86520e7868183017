//! Takeovers: a lane has one worker at a time, rate limit and order hold, and the last job of an account wins.

use std::{thread, time::Duration};

use serde_json::json;

use kit::{
    BrokerNode, Relay,
    history::{IMAGES, JobHistory, SECOND_REGION_START, account, image},
    setup::{TWO_LANES, TestSetup},
    size, wait_until,
    worker::Worker,
};

/// Requests per second of each lane.
const RATE: u32 = 20;

/// How a worker loses its lanes.
#[derive(Clone, Copy)]
enum Departure {
    Drained,
    Killed,
    /// Its process is suspended and resumed.
    Suspended,
    /// Its connections to the broker are frozen and thawed.
    CutOff,
    /// Its lease ends.
    Released,
}

/// A worker behind its own relays to the broker and to the API.
struct RelayedWorker {
    worker: Worker,
    broker: Relay,
    endpoint: Relay,
}

impl RelayedWorker {
    fn start(setup: &TestSetup<'_>) -> Self {
        let (broker, endpoint) = (Relay::to(setup.vhost.node.port), Relay::to(setup.sandbox.port()));
        let worker = Self { worker: setup.worker_via(broker.port, endpoint.port), broker, endpoint };
        worker.wait_until_subscribed_after(0);
        worker
    }

    #[track_caller]
    fn wait_until_subscribed_after(&self, mark: usize) {
        for lane in TWO_LANES {
            self.worker.wait_for_log_after(mark, &[&format!(r#""lane":"{lane}","state":"subscribed""#)]);
        }
    }
}

/// Returns the index of the worker that serves a lane.
#[track_caller]
fn wait_for_owner(workers: &[RelayedWorker], lane: &str) -> usize {
    wait_until(&format!("the lane {lane} has a worker"), || {
        workers.iter().position(|worker| worker.worker.serves(lane))
    })
}

/// Makes all images busy.
fn set_busy(setup: &TestSetup<'_>, seconds: f64) {
    let numbers = (0..IMAGES).chain(SECOND_REGION_START..SECOND_REGION_START + IMAGES);
    let busy: serde_json::Map<_, _> = numbers.map(|number| (image(number), json!(seconds))).collect();
    setup.sandbox.faults(&json!({ "busy_images": busy }));
}

/// Makes the worker of the first lane lose its lanes while all images are busy. The other workers take over.
#[track_caller]
fn depart(setup: &TestSetup<'_>, workers: &mut Vec<RelayedWorker>, departure: Departure) {
    let departed = workers.remove(wait_for_owner(workers, TWO_LANES[0]));
    let lanes: Vec<_> = TWO_LANES.into_iter().filter(|lane| departed.worker.serves(lane)).collect();
    let wait_for_takeover = || {
        set_busy(setup, 0.0);
        for lane in &lanes {
            wait_for_owner(workers, lane);
        }
    };
    match departure {
        Departure::Drained => {
            departed.worker.drain();
            wait_for_takeover();
            return workers.push(RelayedWorker::start(setup));
        }
        Departure::Killed => {
            departed.worker.kill();
            wait_for_takeover();
            return workers.push(RelayedWorker::start(setup));
        }
        Departure::Released => {
            departed.worker.wait_for_log_after(0, &["lane requeued"]);
            set_busy(setup, 0.0);
            wait_for_owner(workers, TWO_LANES[0]);
            return workers.push(departed);
        }
        Departure::Suspended => departed.worker.signal("STOP"),
        Departure::CutOff => departed.broker.freeze(),
    }
    wait_for_takeover();
    let (sent, mark) = (departed.endpoint.state().to_server, departed.worker.mark());
    match departure {
        Departure::Suspended => departed.worker.signal("CONT"),
        _ => departed.broker.thaw(),
    }
    departed.wait_until_subscribed_after(mark);
    assert_eq!(departed.endpoint.state().to_server, sent, "a request after the takeover");
    workers.push(departed);
}

/// Adds pairs of jobs for one region in which the second job reverts the first one.
fn add_conflicting_jobs(history: &mut JobHistory, jobs: u64, first: u64) {
    let random = &mut history.random;
    let pairs: Vec<_> =
        (0..jobs / 2).map(|_| (image(first + random.below(IMAGES)), random.below(90), random.below(2) == 0)).collect();
    for is_first in [true, false] {
        for (image, number, is_share) in &pairs {
            history.add(image, *is_share == is_first, [account(*number)]);
        }
    }
}

/// Runs workers on two lanes, and makes the worker of the first lane depart again and again.
#[track_caller]
fn check_takeovers(seed: u64, workers: usize, departures: &[Departure], broker: &str) {
    let held = size(100, 1000);
    let broker = format!("prefetch = {held}\n{broker}");
    let rate = format!("rate = {RATE}");
    let setup = TestSetup::with_lanes(BrokerNode::shared(), &TWO_LANES, &["--latency", "20ms"], &rate, &broker);
    let mut history = JobHistory::for_scenario(seed);
    let mut workers: Vec<_> = (0..workers).map(|_| RelayedWorker::start(&setup)).collect();
    for departure in departures {
        set_busy(&setup, 3600.0);
        let before = history.jobs.len();
        for first in [0, SECOND_REGION_START] {
            add_conflicting_jobs(&mut history, 2 * held, first);
        }
        setup.publish(&history.jobs[before..]);
        wait_until("the prefetch windows are full", || {
            TWO_LANES.iter().all(|lane| setup.lane_depth(lane).held >= held).then_some(())
        });
        // The departure happens at a random moment.
        thread::sleep(Duration::from_millis(history.random.below(1000)));
        depart(&setup, &mut workers, *departure);
        setup.wait_until_settled();
        setup.check_state(&history);
        let stats = setup.sandbox.stats();
        assert_eq!(stats["max_writes_in_flight"], 1, "{stats}");
        setup.check_rate(RATE);
    }
    setup.check_all_succeeded(&history);
    workers.into_iter().for_each(|worker| drop(worker.worker.drain()));
}

#[test]
fn lanes_keep_limit_and_order_when_workers_leave() {
    let rounds = usize::try_from(size(1, 4)).unwrap();
    check_takeovers(
        61,
        3,
        &[Departure::Killed, Departure::Suspended, Departure::CutOff, Departure::Drained].repeat(rounds),
        "",
    );
}

#[test]
fn last_job_wins_when_leases_end() {
    check_takeovers(25, 2, &[Departure::Released].repeat(usize::try_from(size(1, 20)).unwrap()), "lease = \"1s\"");
}
