//! What the design relies on at RabbitMQ.

use kit::{Amqp, Node, Program, Relay, Vhost, properties, stage::QUEUE, until};

/// A lane's queue with numbers in it, and a relay to its broker.
fn filled(count: usize) -> (Vhost<'static>, Amqp, Relay) {
    let vhost = Node::shared().vhost();
    let kit = Amqp::open(&vhost.url());
    Program::new(["topology", "--declare"]).env("IMAGESHARE_BROKER_URL", vhost.url()).run().check(0);
    kit.publish_to("", QUEUE, (0..count).map(|number| (number.to_string().into_bytes(), properties())));
    let relay = Relay::to(vhost.node.port);
    (vhost, kit, relay)
}

#[test]
fn what_a_killed_consumer_held_comes_again_in_order_and_before_the_rest() {
    let (vhost, kit, relay) = filled(300);
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
    let (vhost, _, relay) = filled(20);
    for (prefetch, expected) in [(10, "0 1 2 3 4 5 6 7 8 9"), (4, "0 1 2 3"), (10, "4 5 6 7 8 9 0 1 2 3")] {
        let consumer = Amqp::open(&vhost.url_by(relay.port));
        let mut held = consumer.hold(QUEUE, prefetch);
        let order: Vec<_> = (0..prefetch).map(|_| String::from_utf8(held.next("a delivery").data).unwrap()).collect();
        assert_eq!(order.join(" "), expected);
        relay.cut();
        until("they came back", || (vhost.depth(QUEUE).ready == 20).then_some(()));
    }
}
