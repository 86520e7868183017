//! Properties of RabbitMQ that the design relies on.

use std::{thread, time::Duration};

use kit::{AmqpClient, BrokerNode, Program, Relay, TestConsumer, Vhost, properties, setup::QUEUE, wait_until};

/// Creates a lane's queue that contains numbers, and a relay to its broker.
fn filled(node: &BrokerNode, count: usize) -> (Vhost<'_>, AmqpClient, Relay) {
    let vhost = node.vhost();
    let kit = AmqpClient::connect(&vhost.url());
    Program::new(["topology", "--declare"]).env("IMAGESHARE_BROKER_URL", vhost.url()).run().check(0);
    kit.publish_to("", QUEUE, (0..count).map(|number| (number.to_string().into_bytes(), properties())));
    let relay = Relay::to(vhost.node.port);
    (vhost, kit, relay)
}

#[test]
fn killed_consumer_requeues_in_order() {
    let (vhost, kit, relay) = filled(BrokerNode::shared(), 300);
    let first = AmqpClient::connect(&vhost.url_with_port(relay.port));
    let mut held = first.consume(QUEUE, 100);
    for number in 0..100 {
        assert_eq!(held.next("a delivery").data, number.to_string().as_bytes());
    }
    let depth = vhost.depth(QUEUE);
    assert_eq!((depth.ready, depth.held, depth.consumers), (200, 100, 1));
    // As if the process were killed: the connection ends without a close.
    relay.cut();
    let redelivered = kit.take(QUEUE, 300);
    for (number, message) in redelivered.iter().enumerate() {
        assert_eq!(message.body, number.to_string().as_bytes());
        assert_eq!(message.redelivered, number < 100);
    }
    wait_until("acks are applied", || (vhost.depth(QUEUE).ready + vhost.depth(QUEUE).held == 0).then_some(()));
}

/// Why every consumer of a lane needs the same prefetch: a consumer that takes fewer messages than were requeued leaves some
/// of them, and its own messages are then requeued behind those.
#[test]
fn smaller_window_reorders_redelivery() {
    let (vhost, _, relay) = filled(BrokerNode::shared(), 20);
    for (prefetch, expected) in [(10, "0 1 2 3 4 5 6 7 8 9"), (4, "0 1 2 3"), (10, "4 5 6 7 8 9 0 1 2 3")] {
        let consumer = AmqpClient::connect(&vhost.url_with_port(relay.port));
        let mut held = consumer.consume(QUEUE, prefetch);
        let order: Vec<_> = (0..prefetch).map(|_| String::from_utf8(held.next("a delivery").data).unwrap()).collect();
        assert_eq!(order.join(" "), expected);
        relay.cut();
        wait_until("the messages are requeued", || (vhost.depth(QUEUE).ready == 20).then_some(()));
    }
}

/// Why the broker's `consumer_timeout` must exceed the lease. Before RabbitMQ 4.3 the broker requeues all messages of the
/// consumer. From 4.3 on it requeues overdue messages only, so the next consumer receives later messages before the rest.
#[test]
fn late_acknowledgement_keeps_order_before_4_3() {
    let node = BrokerNode::start();
    for name in ["channel_tick_interval", "consumer_timeout"] {
        node.eval(&format!("application:set_env(rabbit, {name}, 2000)."));
    }
    let (vhost, ..) = filled(&node, 40);
    let first = AmqpClient::connect(&vhost.url());
    let mut held = first.consume(QUEUE, 10);
    // The first ten and the next five must not be overdue at the same time.
    thread::sleep(Duration::from_secs(1));
    for _ in 0..5 {
        held.take("a delivery");
    }
    let next = |held: &mut TestConsumer| String::from_utf8(held.next("a delivery").data).unwrap();
    let all_held: Vec<_> = (0..10).map(|_| next(&mut held)).collect();
    assert_eq!(all_held.join(" "), "5 6 7 8 9 10 11 12 13 14");
    let second = AmqpClient::connect(&vhost.url());
    let mut others = second.consume(QUEUE, 10);
    let order: Vec<_> = (0..10).map(|_| next(&mut others)).collect();
    let expected = if node.version() < [4, 3] { "5 6 7 8 9 10 11 12 13 14" } else { "5 6 7 8 9 15 16 17 18 19" };
    assert_eq!(order.join(" "), expected);
}
