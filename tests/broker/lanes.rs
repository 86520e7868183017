//! Three workers on two lanes: whichever of them goes and however it goes, each lane has one of the others.

use std::{
    thread,
    time::{Duration, Instant},
};

use kit::{
    Node, Relay, Sizes, figures,
    history::{History, OF_SECOND_REGION, Random, image},
    stage::{HEARTBEAT, Stage, TWO_LANES},
    until,
    worker::Worker,
};
use serde_json::json;

use crate::hand_over::{RATE, check, took};

const IMAGES: u64 = 5;

const JOBS_A_LANE: usize = 200;

/// How long two images are busy: some jobs are still held when their worker goes.
const BUSY_SECONDS: f64 = 4.0;

/// How a worker goes.
#[derive(Clone, Copy)]
enum Going {
    Killed,
    /// Its process does not run for a while.
    Stopped,
    /// Its connections to the broker pass nothing for a while.
    CutOff,
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
        let worker = stage.worker_between(broker.port, endpoint.port);
        Self { worker, broker, endpoint }
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

/// The worker of the first lane goes, and the others take over what it had.
#[track_caller]
fn let_go(stage: &Stage<'_>, players: &mut Vec<Player>, going: Going) {
    let gone = players.remove(of_lane(players, TWO_LANES[0]));
    let had: Vec<_> = TWO_LANES.into_iter().filter(|lane| gone.worker.serves(lane)).collect();
    let until_taken_over = |players: &[Player], since, at_most| {
        for lane in &had {
            of_lane(players, lane);
        }
        took(since, at_most);
    };
    let since = Instant::now();
    let silence = Duration::from_secs(3 * HEARTBEAT + 1);
    let come_back: &dyn Fn(&Player) = match going {
        Going::Killed => {
            gone.worker.kill();
            until_taken_over(players, since, Duration::from_secs(2));
            let new = Player::start(stage);
            new.until_subscribed_after(0);
            return players.push(new);
        }
        Going::Stopped => {
            gone.worker.signal("STOP");
            &|gone| gone.worker.signal("CONT")
        }
        Going::CutOff => {
            gone.broker.freeze();
            &|gone| gone.broker.thaw()
        }
    };
    until_taken_over(players, since, silence);
    let (sent, mark) = (gone.endpoint.to_server(), gone.worker.mark());
    come_back(&gone);
    gone.until_subscribed_after(mark);
    assert_eq!(gone.endpoint.to_server(), sent, "it sent something although its lanes were gone");
    players.push(gone);
}

#[test]
fn whichever_of_three_workers_goes_each_lane_keeps_its_limit_and_its_order() {
    let stage = Stage::of_two_lanes(Node::shared(), RATE, &format!("rate = {RATE}"), "prefetch = 100");
    let (mut history, mut random) = (History::default(), Random::of(61));
    let mut players: Vec<_> = (0..3).map(|_| Player::start(&stage)).collect();
    players.iter().for_each(|player| player.until_subscribed_after(0));
    let rounds = Sizes::of_run().lane_rounds;
    for going in [Going::Killed, Going::Stopped, Going::CutOff].repeat(rounds) {
        stage.sandbox.faults(&json!({
            "busy_images": {image(0): BUSY_SECONDS, image(OF_SECOND_REGION): BUSY_SECONDS},
        }));
        let before = history.jobs.len();
        for first in [0, OF_SECOND_REGION] {
            history.add_random_from(&mut random, JOBS_A_LANE, first, IMAGES);
        }
        stage.publish(&history.jobs[before..]);
        for lane in TWO_LANES {
            of_lane(&players, lane);
        }
        // Not waiting for anything: the moment is to be any.
        thread::sleep(Duration::from_millis(random.below(1000)));
        let_go(&stage, &mut players, going);
        check(&stage, &history);
    }
    stage.check_done(&history);
    figures(&[("losses-of-one-of-three", 3 * rounds as u64)]);
    players.into_iter().for_each(|player| drop(player.worker.drain()));
}
