//! What the kit promises about brokers and relays: scenarios that rely on it would say little otherwise.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use kit::{Amqp, Node, Relay, properties, until};

const QUEUE: &str = "like-a-lane";

fn bodies(range: std::ops::Range<usize>) -> Vec<(Vec<u8>, lapin::BasicProperties)> {
    range.map(|number| (number.to_string().into_bytes(), properties())).collect()
}

/// A connection to something that sends back what it gets.
fn echo_through(relay: impl FnOnce(u16) -> Relay) -> (Relay, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || drop(std::io::copy(&mut stream.try_clone().unwrap(), &mut stream)));
        }
    });
    let relay = relay(port);
    let client = connect(&relay);
    (relay, client)
}

fn connect(relay: &Relay) -> TcpStream {
    let client = TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port)).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client
}

#[track_caller]
fn check_echo(client: &mut TcpStream, text: &str) {
    client.write_all(text.as_bytes()).unwrap();
    let mut back = vec![0; text.len()];
    client.read_exact(&mut back).unwrap();
    assert_eq!(back, text.as_bytes());
}

/// Nothing comes back for a while.
#[track_caller]
fn check_silent(client: &mut TcpStream) {
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let error = client.read(&mut [0; 1]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
}

#[test]
fn a_frozen_relay_takes_everything_passes_nothing_and_loses_nothing() {
    let (relay, mut client) = echo_through(Relay::to);
    check_echo(&mut client, "before");
    relay.freeze();
    let much = "x".repeat(8 << 20);
    client.write_all(much.as_bytes()).unwrap();
    check_silent(&mut client);
    let mut newcomer = connect(&relay);
    newcomer.write_all(b"hello").unwrap();
    check_silent(&mut newcomer);
    relay.thaw();
    let mut back = vec![0; much.len()];
    client.read_exact(&mut back).unwrap();
    assert!(back == much.as_bytes());
    newcomer.read_exact(&mut back[..5]).unwrap();
    assert_eq!(back[..5], *b"hello");
}

#[test]
fn a_relay_cuts_at_once_and_in_the_middle_of_what_is_sent() {
    let (relay, mut client) = echo_through(Relay::to);
    check_echo(&mut client, "before");
    relay.cut();
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    let mut client = connect(&relay);
    relay.cut_after(6);
    check_echo(&mut client, "half");
    client.write_all(b"another").unwrap();
    let mut back = Vec::new();
    drop(client.read_to_end(&mut back));
    assert!(back.len() <= 2, "{back:?}");
    check_echo(&mut connect(&relay), "and goes on");
    assert_eq!(relay.accepted(), 3);
}

#[test]
fn a_relay_refuses_and_serves_again_and_delays() {
    let (relay, mut client) = echo_through(Relay::to);
    check_echo(&mut client, "before");
    relay.refuse();
    assert_eq!(client.read(&mut [0; 1]).unwrap_or(0), 0);
    assert_eq!(TcpStream::connect((Ipv4Addr::LOCALHOST, relay.port)).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    relay.serve_again();
    let mut client = connect(&relay);
    check_echo(&mut client, "again");
    relay.delay(Duration::from_millis(300));
    client.write_all(b"late").unwrap();
    check_silent(&mut client);
    client.read_exact(&mut [0; 4]).unwrap();
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

#[test]
fn a_node_that_was_killed_or_stopped_comes_back_with_what_it_had_confirmed() {
    let node = Node::start();
    let vhost = node.vhost();
    let kit = Amqp::open(&vhost.url());
    kit.declare_like_a_lane(QUEUE);
    kit.publish_to("", QUEUE, bodies(0..100));
    node.kill();
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, node.port)).is_err());
    node.start_again();
    let kit = Amqp::open(&vhost.url());
    assert_eq!(kit.take(QUEUE, 50).last().unwrap().body, b"49");
    until("acks are applied", || (vhost.depth(QUEUE).held == 0).then_some(()));
    node.stop();
    node.start_again();
    let kit = Amqp::open(&vhost.url());
    assert_eq!(kit.ready(QUEUE), 50);
    assert_eq!(kit.take_all(QUEUE)[0].body, b"50");
    drop(node);
}

#[test]
fn a_node_is_harmed_in_small_ways_and_gets_over_them() {
    let node = Node::start();
    let vhost = node.vhost();
    let kit = Amqp::open(&vhost.url());
    kit.declare_like_a_lane(QUEUE);

    node.memory_alarm(true);
    let url = vhost.url();
    let late = thread::spawn(move || Amqp::open(&url).publish_to("", QUEUE, bodies(0..1)));
    until("publishers are blocked", || node.eval("rabbit_alarm:get_alarms().").contains("memory").then_some(()));
    assert_eq!(vhost.depth(QUEUE).ready, 0);
    node.memory_alarm(false);
    late.join().unwrap();
    assert_eq!(vhost.depth(QUEUE).ready, 1);

    vhost.set_password(false);
    assert!(Amqp::try_open(&vhost.url()).is_err());
    vhost.set_password(true);
    let other = Amqp::open(&vhost.url());
    let mut held = other.hold(QUEUE, 10);
    held.next("the message");
    kit.delete(QUEUE);
    assert!(held.next_or_end("the end of the consumer").is_none());

    vhost.close_connections();
    until("the connections are closed", || (!kit.is_open() && !other.is_open()).then_some(()));
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
