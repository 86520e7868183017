//! A cluster of three nodes. One is killed, cut off or suspended.

use kit::{
    BrokerNode, Relay, SandboxProcess,
    history::{JobHistory, image},
    setup::{QUEUE, TestSetup},
};
use serde_json::json;

fn setup(nodes: &[BrokerNode; 3]) -> TestSetup<'_> {
    TestSetup::new(&nodes[0], SandboxProcess::start(&["--rps", "0", "--latency", "20ms"]), 40)
}

/// Loses a worker's node while another worker stands by at the next node. The first worker sends nothing from the takeover
/// on, although it runs and reaches the endpoint until the other one has finished all jobs.
#[track_caller]
fn check_lost<'a>(
    setup: &mut TestSetup<'a>,
    nodes: &'a [BrokerNode; 3],
    history: &mut JobHistory,
    lost: usize,
    lose: impl Fn(),
    recover: impl Fn(),
) {
    let other = (lost + 1) % 3;
    setup.vhost.node = &nodes[other];
    let endpoint = Relay::to(setup.sandbox.port());
    let worker = setup.worker_via(nodes[lost].port, endpoint.port);
    worker.wait_until_subscribed();
    let standby = setup.worker_via(nodes[other].port, setup.sandbox.port());
    standby.wait_until_subscribed();
    // Work remains for the takeover.
    setup.sandbox.faults(&json!({"busy_images": {image(0): 3600}}));
    setup.publish_random(history, 300);
    worker.wait_until_serving();
    let mark = worker.mark();
    lose();
    worker.wait_for_log_after(mark, &[r#""state":"disconnected""#]);
    standby.wait_until_serving();
    let sent = endpoint.state().to_server;
    setup.sandbox.faults(&json!({"busy_images": {image(0): 0}}));
    setup.wait_until_settled();
    assert_eq!(endpoint.state().to_server, sent, "bytes that the first worker sent after the takeover");
    recover();
    worker.wait_until_subscribed_after(mark);
    setup.check_state(history);
    let stats = setup.sandbox.stats();
    assert_eq!(stats["max_writes_in_flight"], 1, "{stats}");
    worker.drain();
    standby.drain();
}

#[test]
fn killed_leader_and_cut_off_node_lose_nothing() {
    let nodes = BrokerNode::cluster();
    let (mut setup, mut history) = (setup(&nodes), JobHistory::for_scenario(51));
    let leader = setup.vhost.leader_of(QUEUE, &nodes);
    let (kill, start_again) = (|| nodes[leader].kill(), || nodes[leader].start_again());
    check_lost(&mut setup, &nodes, &mut history, leader, kill, start_again);
    BrokerNode::wait_until_clustered(&nodes);

    // A leader that is cut off continues to answer from its stale state.
    for is_leader in [false, true] {
        let leader = setup.vhost.leader_of(QUEUE, &nodes);
        let lost = if is_leader { leader } else { (leader + 1) % 3 };
        let others = [&nodes[(lost + 1) % 3], &nodes[(lost + 2) % 3]];
        let (cut_off, join) = (|| nodes[lost].cut_off(&others), || nodes[lost].join(&others));
        check_lost(&mut setup, &nodes, &mut history, lost, cut_off, join);
        BrokerNode::wait_until_clustered(&nodes);
    }
    setup.check_all_succeeded(&history);
}

/// A silent failure: no connection is closed, and the suspended node notices last.
#[test]
fn suspended_node_stops_worker_before_takeover() {
    let nodes = BrokerNode::cluster();
    let (mut setup, mut history) = (setup(&nodes), JobHistory::for_scenario(52));
    let leader = setup.vhost.leader_of(QUEUE, &nodes);
    // First a follower, then the leader of the lane's queue.
    for suspended in [(leader + 1) % 3, leader] {
        let (suspend, resume) = (|| nodes[suspended].signal("STOP"), || nodes[suspended].signal("CONT"));
        check_lost(&mut setup, &nodes, &mut history, suspended, suspend, resume);
        // A suspended node may not notice that it was dropped. RabbitMQ's documentation advises a restart.
        nodes[suspended].stop();
        nodes[suspended].start_again();
        BrokerNode::wait_until_clustered(&nodes);
    }
    setup.check_all_succeeded(&history);
}
