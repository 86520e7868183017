//! A broker of three nodes of which one dies, is cut off, or stands still.

use std::time::{Duration, Instant};

use kit::{
    Node, Relay, Sandbox, TICK_SECONDS,
    history::{History, image},
    stage::{QUEUE, Stage},
};
use serde_json::json;

use crate::hand_over::took;

#[test]
fn a_leader_that_is_killed_and_a_node_that_is_cut_off_lose_nothing() {
    let nodes = Node::cluster();
    let sandbox = Sandbox::start(&["--rps", "0", "--latency", "20ms"]);
    let mut history = History::of(51);
    let stage = Stage::new(&nodes[0], sandbox, 40);
    let leader = stage.vhost.leader_of(QUEUE, &nodes);
    let follower = (leader + 1) % 3;
    let witness = (leader + 2) % 3;

    // The leader dies while a worker at another node works. The stage looks at what the first node holds.
    let endpoint = Relay::to(stage.sandbox.port());
    let worker = stage.worker_between(nodes[follower].port, endpoint.port);
    worker.until_subscribed();
    stage.publish_random(&mut history, 150);
    worker.until_serving();
    nodes[leader].kill();
    nodes[leader].start_again();
    stage.until_worked_off();
    stage.check_state(&history);

    // The worker's node is cut off from the two others, where another worker stands by.
    let standby = stage.worker_between(nodes[witness].port, stage.sandbox.port());
    standby.until_subscribed();
    stage.publish_random(&mut history, 150);
    let mark = worker.mark();
    nodes[follower].cut_off(&[&nodes[leader], &nodes[witness]]);
    worker.until_logged_after(mark, &[r#""state":"disconnected""#]);
    let written = endpoint.to_server();
    standby.until_serving();
    assert_eq!(endpoint.to_server(), written, "it wrote although its lane was gone");
    nodes[follower].join(&[&nodes[leader], &nodes[witness]]);
    stage.check_done(&history);
    let stats = stage.sandbox.stats();
    assert_eq!(stats["max_writes_in_flight"], 1, "{stats}");
    worker.until_subscribed_after(mark);
    worker.drain();
    standby.drain();
}

/// The silent kind of a cut: nobody is told, and the node that stood still finds out last.
#[test]
fn a_worker_whose_node_stands_still_stops_before_another_takes_over() {
    let nodes = Node::cluster();
    let sandbox = Sandbox::start(&["--rps", "0", "--latency", "20ms"]);
    let mut history = History::of(52);
    let mut stage = Stage::new(&nodes[0], sandbox, 40);
    let leader = stage.vhost.leader_of(QUEUE, &nodes);
    // First one that only follows, then the one that leads the lane's queue.
    for still in [(leader + 1) % 3, leader] {
        let other = (still + 1) % 3;
        stage.vhost.node = &nodes[other];
        let endpoint = Relay::to(stage.sandbox.port());
        let worker = stage.worker_between(nodes[still].port, endpoint.port);
        worker.until_subscribed();
        let standby = stage.worker_between(nodes[other].port, stage.sandbox.port());
        standby.until_subscribed();
        // Something is left to do when the other takes over.
        stage.sandbox.faults(&json!({"busy_images": {image(0): 2 * TICK_SECONDS}}));
        stage.publish_random(&mut history, 300);
        worker.until_serving();
        let mark = worker.mark();
        nodes[still].signal("STOP");
        let since = Instant::now();
        worker.until_logged_after(mark, &[r#""state":"disconnected""#]);
        let written = endpoint.to_server();
        standby.until_serving();
        assert_eq!(endpoint.to_server(), written, "it wrote although its lane was gone");
        took(since, Duration::from_secs(4 * TICK_SECONDS));
        nodes[still].signal("CONT");
        worker.until_subscribed_after(mark);
        // A node that stood still may not see that the others did without it, and stays apart until it is started anew,
        // as whoever runs a broker is told to do then.
        nodes[still].stop();
        nodes[still].start_again();
        Node::until_one_broker(&nodes);
        stage.until_worked_off();
        stage.check_state(&history);
        let stats = stage.sandbox.stats();
        assert_eq!(stats["max_writes_in_flight"], 1, "{stats}");
        worker.drain();
        standby.drain();
    }
    stage.check_done(&history);
}
