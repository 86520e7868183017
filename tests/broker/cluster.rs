//! A broker of three nodes of which one dies, is cut off, or stands still.

use kit::{
    Node, Relay, Sandbox,
    history::{History, image},
    stage::{QUEUE, Stage},
};
use serde_json::json;

fn stage(nodes: &[Node; 3]) -> Stage<'_> {
    Stage::new(&nodes[0], Sandbox::start(&["--rps", "0", "--latency", "20ms"]), 40)
}

/// A worker's node is lost while another worker stands by at the next one. The first stops before the other takes over.
#[track_caller]
fn check_lost<'a>(
    stage: &mut Stage<'a>,
    nodes: &'a [Node; 3],
    history: &mut History,
    lost: usize,
    lose: impl Fn(),
    mend: impl Fn(),
) {
    let other = (lost + 1) % 3;
    stage.vhost.node = &nodes[other];
    let endpoint = Relay::to(stage.sandbox.port());
    let worker = stage.worker_between(nodes[lost].port, endpoint.port);
    worker.until_subscribed();
    let standby = stage.worker_between(nodes[other].port, stage.sandbox.port());
    standby.until_subscribed();
    // Something is left to do when the other takes over.
    stage.sandbox.faults(&json!({"busy_images": {image(0): 3600}}));
    stage.publish_random(history, 300);
    worker.until_serving();
    let mark = worker.mark();
    lose();
    worker.until_logged_after(mark, &[r#""state":"disconnected""#]);
    let written = endpoint.state().to_server;
    standby.until_serving();
    stage.sandbox.faults(&json!({"busy_images": {image(0): 0}}));
    assert_eq!(endpoint.state().to_server, written, "it wrote although its lane was gone");
    mend();
    worker.until_subscribed_after(mark);
    stage.until_worked_off();
    stage.check_state(history);
    let stats = stage.sandbox.stats();
    assert_eq!(stats["max_writes_in_flight"], 1, "{stats}");
    worker.drain();
    standby.drain();
}

#[test]
fn killed_leader_and_cut_off_node_lose_nothing() {
    let nodes = Node::cluster();
    let (mut stage, mut history) = (stage(&nodes), History::of(51));
    let leader = stage.vhost.leader_of(QUEUE, &nodes);
    let (kill, start_again) = (|| nodes[leader].kill(), || nodes[leader].start_again());
    check_lost(&mut stage, &nodes, &mut history, leader, kill, start_again);
    Node::until_one_broker(&nodes);

    // A node that is cut off while it leads the lane's queue goes on to answer for it by what it knows.
    for is_leader in [false, true] {
        let leader = stage.vhost.leader_of(QUEUE, &nodes);
        let lost = if is_leader { leader } else { (leader + 1) % 3 };
        let others = [&nodes[(lost + 1) % 3], &nodes[(lost + 2) % 3]];
        let (cut_off, join) = (|| nodes[lost].cut_off(&others), || nodes[lost].join(&others));
        check_lost(&mut stage, &nodes, &mut history, lost, cut_off, join);
        Node::until_one_broker(&nodes);
    }
    stage.check_done(&history);
}

/// The silent kind of a cut: nobody is told, and the node that stood still finds out last.
#[test]
fn suspended_node_stops_worker_before_takeover() {
    let nodes = Node::cluster();
    let (mut stage, mut history) = (stage(&nodes), History::of(52));
    let leader = stage.vhost.leader_of(QUEUE, &nodes);
    // First one that only follows, then the one that leads the lane's queue.
    for still in [(leader + 1) % 3, leader] {
        let (stop, go_on) = (|| nodes[still].signal("STOP"), || nodes[still].signal("CONT"));
        check_lost(&mut stage, &nodes, &mut history, still, stop, go_on);
        // A node that stood still may not see that the others did without it, and stays apart until it is started anew,
        // as operators of a broker are advised to do then.
        nodes[still].stop();
        nodes[still].start_again();
        Node::until_one_broker(&nodes);
    }
    stage.check_done(&history);
}
