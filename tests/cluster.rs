//! A broker of three nodes of which one dies or is cut off.

use crate::kit::{
    Node, Relay, Sandbox,
    history::{History, Random},
    stage::{QUEUE, Stage},
};

const IMAGES: u64 = 5;

#[test]
fn a_leader_that_is_killed_and_a_node_that_is_cut_off_lose_nothing() {
    let nodes = Node::cluster();
    let sandbox = Sandbox::start(&["--rps", "0", "--latency", "20ms"]);
    let (mut history, mut random) = (History::default(), Random::of(51));
    let stage = Stage::new(&nodes[0], sandbox, 40);
    let leader = stage.vhost.leader_of(QUEUE, &nodes);
    let follower = (leader + 1) % 3;
    let witness = (leader + 2) % 3;

    // The leader dies while a worker at another node works. The stage looks at what the first node holds.
    let endpoint = Relay::to(stage.sandbox.port());
    let worker = stage.worker_between(nodes[follower].port, endpoint.port);
    worker.until_subscribed();
    history.add_random(&mut random, 150, IMAGES);
    stage.publish(&history.jobs);
    worker.until_serving();
    nodes[leader].kill();
    nodes[leader].start_again();
    stage.until_worked_off();
    stage.check_state(&history);

    // The worker's node is cut off from the two others, where another worker stands by.
    let standby = stage.worker_between(nodes[witness].port, stage.sandbox.port());
    standby.until_subscribed();
    history.add_random(&mut random, 150, IMAGES);
    stage.publish(&history.jobs[150..]);
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
