//! Several workers on one lane or two: a lane has one worker at a time, another takes over, and the last word wins.

use std::{thread, time::Duration};

use serde_json::json;

use kit::{
    Node, Relay,
    history::{History, IMAGES, OF_SECOND_REGION, account, image},
    size,
    stage::{Stage, TWO_LANES},
    until,
    worker::Worker,
};

/// The most requests a second of each lane.
const RATE: u32 = 20;

/// How a worker goes.
#[derive(Clone, Copy)]
enum Going {
    Drained,
    Killed,
    /// Its process does not run for a while.
    Stopped,
    /// Its connections to the broker pass nothing for a while.
    CutOff,
    /// Its lease ends.
    Released,
}

/// A worker with its own ways to the broker and to the API.
struct Player {
    worker: Worker,
    broker: Relay,
    endpoint: Relay,
}

impl Player {
    fn start(stage: &Stage<'_>) -> Self {
        let (broker, endpoint) = (Relay::to(stage.vhost.node.port), Relay::to(stage.sandbox.port()));
        let player = Self { worker: stage.worker_between(broker.port, endpoint.port), broker, endpoint };
        player.until_subscribed_after(0);
        player
    }

    #[track_caller]
    fn until_subscribed_after(&self, mark: usize) {
        for lane in TWO_LANES {
            self.worker.until_logged_after(mark, &[&format!(r#""lane":"{lane}","state":"subscribed""#)]);
        }
    }
}

/// Which of them has a lane.
#[track_caller]
fn of_lane(players: &[Player], lane: &str) -> usize {
    until(&format!("the lane {lane} has a worker"), || players.iter().position(|player| player.worker.serves(lane)))
}

/// Makes all images busy for so long.
fn set_busy(stage: &Stage<'_>, seconds: f64) {
    let numbers = (0..IMAGES).chain(OF_SECOND_REGION..OF_SECOND_REGION + IMAGES);
    let busy: serde_json::Map<_, _> = numbers.map(|number| (image(number), json!(seconds))).collect();
    stage.sandbox.faults(&json!({ "busy_images": busy }));
}

/// The worker of the first lane goes while all images are busy, and the others take over what it had.
#[track_caller]
fn let_go(stage: &Stage<'_>, players: &mut Vec<Player>, going: Going) {
    let gone = players.remove(of_lane(players, TWO_LANES[0]));
    let had: Vec<_> = TWO_LANES.into_iter().filter(|lane| gone.worker.serves(lane)).collect();
    let until_taken_over = || {
        set_busy(stage, 0.0);
        for lane in &had {
            of_lane(players, lane);
        }
    };
    match going {
        Going::Drained => {
            gone.worker.drain();
            until_taken_over();
            return players.push(Player::start(stage));
        }
        Going::Killed => {
            gone.worker.kill();
            until_taken_over();
            return players.push(Player::start(stage));
        }
        Going::Released => {
            gone.worker.until_logged_after(0, &["given back"]);
            set_busy(stage, 0.0);
            of_lane(players, TWO_LANES[0]);
            return players.push(gone);
        }
        Going::Stopped => gone.worker.signal("STOP"),
        Going::CutOff => gone.broker.freeze(),
    }
    until_taken_over();
    let (sent, mark) = (gone.endpoint.state().to_server, gone.worker.mark());
    match going {
        Going::Stopped => gone.worker.signal("CONT"),
        _ => gone.broker.thaw(),
    }
    gone.until_subscribed_after(mark);
    assert_eq!(gone.endpoint.state().to_server, sent, "it sent something although its lanes were gone");
    players.push(gone);
}

/// Adds jobs for one region of which each account is named twice: what it is to have first is revoked later, or the
/// other way round.
fn add_contrary(history: &mut History, jobs: u64, first: u64) {
    let random = &mut history.random;
    let firsts: Vec<_> =
        (0..jobs / 2).map(|_| (image(first + random.below(IMAGES)), random.below(90), random.below(2) == 0)).collect();
    for is_first in [true, false] {
        for (image, number, is_share) in &firsts {
            history.add(image, *is_share == is_first, [account(*number)]);
        }
    }
}

/// Some workers on two lanes, of which the one of the first lane goes in some way.
#[track_caller]
fn check_hand_over(seed: u64, workers: usize, goings: &[Going], broker: &str) {
    let held = size(100, 1000);
    let broker = format!("prefetch = {held}\n{broker}");
    let rate = format!("rate = {RATE}");
    let stage = Stage::of_lanes(Node::shared(), &TWO_LANES, &["--latency", "20ms"], &rate, &broker);
    let mut history = History::of(seed);
    let mut players: Vec<_> = (0..workers).map(|_| Player::start(&stage)).collect();
    for going in goings {
        set_busy(&stage, 3600.0);
        let before = history.jobs.len();
        for first in [0, OF_SECOND_REGION] {
            add_contrary(&mut history, 2 * held, first);
        }
        stage.publish(&history.jobs[before..]);
        until("the windows are full", || TWO_LANES.iter().all(|lane| stage.depth_of(lane).held >= held).then_some(()));
        // Not waiting for anything: the moment is to be any.
        thread::sleep(Duration::from_millis(history.random.below(1000)));
        let_go(&stage, &mut players, *going);
        stage.until_worked_off();
        stage.check_state(&history);
        let stats = stage.sandbox.stats();
        assert_eq!(stats["max_writes_in_flight"], 1, "{stats}");
        stage.check_rate(RATE);
    }
    stage.check_done(&history);
    players.into_iter().for_each(|player| drop(player.worker.drain()));
}

#[test]
fn lanes_keep_limit_and_order_when_workers_leave() {
    let rounds = usize::try_from(size(1, 4)).unwrap();
    check_hand_over(61, 3, &[Going::Killed, Going::Stopped, Going::CutOff, Going::Drained].repeat(rounds), "");
}

#[test]
fn last_job_wins_when_leases_end() {
    check_hand_over(25, 2, &[Going::Released].repeat(usize::try_from(size(1, 20)).unwrap()), "lease = \"1s\"");
}
