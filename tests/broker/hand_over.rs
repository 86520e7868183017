//! Several workers on one lane: one at a time works, another takes over, and the last word wins.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use kit::{
    Node, Relay, Sandbox, Sizes, figures,
    history::{History, Random, account, image},
    stage::{HEARTBEAT, Stage},
    until,
    worker::Worker,
};

const IMAGES: u64 = 6;

/// How long images are busy: the window is full long before.
const BUSY: Duration = Duration::from_millis(2500);

/// The most requests a second.
pub(crate) const RATE: u32 = 20;

/// Two workers, of whom the first has the lane.
struct Pair {
    active: Worker,
    standby: Worker,
    /// Between the first and the broker.
    relay: Relay,
    /// Between the first and the API.
    endpoint: Relay,
}

fn stage<'a>(node: &'a Node, broker: &str) -> Stage<'a> {
    let sandbox = Sandbox::start_alone(&["--rps", &RATE.to_string(), "--latency", "20ms"]);
    let broker = format!("prefetch = {}\n{broker}", Sizes::of_run().held);
    Stage::with_settings(node, sandbox, RATE, &broker)
}

impl Pair {
    /// Starts both, publishes jobs, and waits until the first one holds as many as it may.
    #[track_caller]
    fn start(stage: &Stage<'_>, history: &mut History, random: &mut Random) -> Self {
        let (relay, endpoint) = (Relay::to(stage.vhost.node.port), Relay::to(stage.sandbox.port()));
        let active = stage.worker_between(relay.port, endpoint.port);
        active.until_subscribed();
        let standby = stage.worker();
        standby.until_subscribed();
        let Sizes { held, backlog, .. } = Sizes::of_run();
        let busy: serde_json::Map<_, _> =
            (0..IMAGES).map(|number| (image(number), json!(BUSY.as_secs_f64()))).collect();
        stage.sandbox.faults(&json!({ "busy_images": busy }));
        let first = history.jobs.len();
        // What each account is to have first is revoked later, or the other way round.
        let mut wishes = Vec::new();
        for _ in 0..(held + backlog) / 2 {
            wishes.push((random.below(IMAGES), random.below(90), random.below(2) == 0));
        }
        for (number, of, is_share) in &wishes {
            history.add(&image(*number), *is_share, [account(*of)]);
        }
        for (number, of, is_share) in &wishes {
            history.add(&image(*number), !is_share, [account(*of)]);
        }
        stage.publish(&history.jobs[first..]);
        until("the window is full", || (stage.depth().held >= held as u64).then_some(()));
        Self { active, standby, relay, endpoint }
    }
}

/// Everything is done as it was asked for, and never too much at once.
#[track_caller]
pub(crate) fn check(stage: &Stage<'_>, history: &History) {
    stage.until_worked_off();
    stage.check_state(history);
    let stats = stage.sandbox.stats();
    assert_eq!(stats["max_writes_in_flight"], 1, "{stats}");
    let refused = stats["by_code"].get("RequestLimitExceeded");
    let most = stats["max_in_any_second"].as_object().unwrap().values().filter_map(serde_json::Value::as_u64).max();
    assert!(
        refused.is_none() && most <= Some(u64::from(RATE)),
        "{stats}\nToo many came at once:\n{}",
        stage.crowd(RATE as usize)
    );
}

/// The lane goes from the first to the second in some way, again and again.
#[track_caller]
fn check_hand_over(seed: u64, rounds: usize, hand_over: impl Fn(&Stage<'_>, Pair)) {
    let stage = stage(Node::shared(), "");
    check_hand_over_on(&stage, seed, rounds, hand_over);
}

#[track_caller]
fn check_hand_over_on(stage: &Stage<'_>, seed: u64, rounds: usize, hand_over: impl Fn(&Stage<'_>, Pair)) {
    let (mut history, mut random) = (History::default(), Random::of(seed));
    for _ in 0..rounds {
        let pair = Pair::start(stage, &mut history, &mut random);
        thread::sleep(Duration::from_millis(random.below(1000)));
        hand_over(stage, pair);
        check(stage, &history);
    }
    stage.check_done(&history);
    figures(&[("hand-overs", rounds as u64)]);
}

/// Says how long a lane was nobody's.
pub(crate) fn took(since: Instant, at_most: Duration) {
    let took = since.elapsed();
    figures(&[("slowest-takeover-ms", u64::try_from(took.as_millis()).unwrap())]);
    assert!(took < at_most, "taken over after {took:?}");
}

#[test]
fn the_last_word_wins_when_the_active_worker_drains() {
    check_hand_over(21, Sizes::of_run().rounds, |stage, pair| {
        pair.active.drain();
        pair.standby.until_serving();
        check_goes_on(stage, pair.standby);
    });
}

#[test]
fn the_last_word_wins_when_the_active_worker_is_killed_and_another_takes_over_soon() {
    check_hand_over(22, Sizes::of_run().rounds, |stage, pair| {
        let killed = Instant::now();
        pair.active.kill();
        pair.standby.until_serving();
        took(killed, Duration::from_secs(2));
        check_goes_on(stage, pair.standby);
    });
}

#[test]
fn the_last_word_wins_when_the_active_worker_stands_still_and_wakes_up() {
    check_hand_over(23, Sizes::of_run().slow_rounds, |stage, pair| {
        pair.active.signal("STOP");
        let stopped = Instant::now();
        pair.standby.until_serving();
        took(stopped, Duration::from_secs(3 * HEARTBEAT + 1));
        let (written, mark) = (pair.endpoint.to_server(), pair.active.mark());
        pair.active.signal("CONT");
        pair.active.until_subscribed_after(mark);
        assert_eq!(pair.endpoint.to_server(), written, "it sent something although its lane was gone");
        check_goes_on(stage, pair.standby);
    });
}

#[test]
fn the_last_word_wins_when_the_active_worker_is_cut_off_without_knowing() {
    check_hand_over(24, Sizes::of_run().slow_rounds, |stage, pair| {
        pair.relay.freeze();
        let frozen = Instant::now();
        pair.standby.until_serving();
        took(frozen, Duration::from_secs(3 * HEARTBEAT + 1));
        let written = pair.endpoint.to_server();
        let mark = pair.active.mark();
        pair.relay.thaw();
        stage.until_worked_off();
        assert_eq!(pair.endpoint.to_server(), written, "it sent something although its lane was gone");
        pair.active.until_subscribed_after(mark.min(pair.active.mark()));
        check_goes_on(stage, pair.standby);
    });
}

#[test]
fn the_last_word_wins_when_the_lease_ends_again_and_again() {
    let stage = stage(Node::shared(), "lease = \"1s\"");
    check_hand_over_on(&stage, 25, Sizes::of_run().lease_rounds, |stage, pair| {
        pair.active.until_logged_after(0, &["given back"]);
        pair.standby.until_serving();
        stage.until_worked_off();
        pair.active.drain();
        pair.standby.drain();
    });
}

/// All is worked off by who has the lane now.
#[track_caller]
fn check_goes_on(stage: &Stage<'_>, worker: Worker) {
    stage.until_worked_off();
    worker.drain();
}
