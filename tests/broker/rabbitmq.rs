//! What the design relies on at RabbitMQ.

use kit::{Amqp, Node, Relay, properties, until};

const QUEUE: &str = "like-a-lane";

fn bodies(range: std::ops::Range<usize>) -> Vec<(Vec<u8>, lapin::BasicProperties)> {
    range.map(|number| (number.to_string().into_bytes(), properties())).collect()
}

#[test]
fn what_a_killed_consumer_held_comes_again_in_order_and_before_the_rest() {
    let node = Node::shared();
    let vhost = node.vhost();
    let kit = Amqp::open(&vhost.url());
    kit.declare_like_a_lane(QUEUE);
    kit.publish_to("", QUEUE, bodies(0..300));
    let relay = Relay::to(node.port);
    let first = Amqp::open(&vhost.url_by(relay.port));
    let mut held = first.hold(QUEUE, 100);
    for number in 0..100 {
        assert_eq!(held.next("a delivery").data, number.to_string().as_bytes());
    }
    let depth = vhost.depth(QUEUE);
    assert_eq!((depth.ready, depth.held, depth.consumers), (200, 100, 1));
    // As if the process had been killed: nothing is said, the connection ends.
    relay.cut();
    let again = kit.take(QUEUE, 300);
    for (number, message) in again.iter().enumerate() {
        assert_eq!(message.body, number.to_string().as_bytes());
        assert_eq!(message.redelivered, number < 100);
    }
    until("acks are applied", || (vhost.depth(QUEUE).ready + vhost.depth(QUEUE).held == 0).then_some(()));
}

/// Why every consumer of a lane has the same window: one that takes fewer messages than had come back leaves some of
/// them, and what it gives back itself goes behind those.
#[test]
fn a_smaller_window_than_before_brings_what_came_back_out_of_order() {
    let node = Node::shared();
    let vhost = node.vhost();
    let kit = Amqp::open(&vhost.url());
    kit.declare_like_a_lane(QUEUE);
    kit.publish_to("", QUEUE, bodies(0..20));
    let relay = Relay::to(node.port);
    for (prefetch, expected) in [(10, "0 1 2 3 4 5 6 7 8 9"), (4, "0 1 2 3"), (10, "4 5 6 7 8 9 0 1 2 3")] {
        let consumer = Amqp::open(&vhost.url_by(relay.port));
        let mut held = consumer.hold(QUEUE, prefetch);
        let order: Vec<_> = (0..prefetch).map(|_| String::from_utf8(held.next("a delivery").data).unwrap()).collect();
        assert_eq!(order.join(" "), expected);
        relay.cut();
        until("they came back", || (vhost.depth(QUEUE).ready == 20).then_some(()));
    }
}
