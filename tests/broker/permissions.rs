//! The broker permissions that `docs/security.md` recommends: what each user may reach.

use std::fs;

use lapin::{
    BasicProperties, Channel, ExchangeKind,
    options::QueueDeclareOptions,
    types::{AMQPValue, FieldTable, ShortString},
};
use serde_json::json;

use kit::{
    AmqpClient, BrokerNode, properties, repository_path,
    setup::{DEAD, REPORTS, TWO_LANES, TestSetup, lane_queue},
    text, with_headers,
    worker::Worker,
};

/// The reply code of AMQP 0-9-1.
const ACCESS_REFUSED: u16 = 403;

/// The recommended permissions: configure, write, read.
const PUBLISHER: [&str; 3] = ["^$", r"^imageshare\.jobs\.LANE$", "^$"];
const PUBLISHER_OF_ALL: [&str; 3] = ["^$", r"^imageshare\.jobs\..*$", "^$"];
const WORKER: [&str; 3] = ["^$", r"^imageshare\.(dead|reports)$", r"^imageshare\.(jobs\..*|proof)$"];

fn setup() -> TestSetup<'static> {
    TestSetup::with_lanes(BrokerNode::shared(), &TWO_LANES, &[], "", "")
}

fn add_publisher(setup: &TestSetup<'_>, lane: &str) -> String {
    let [configure, write, read] = PUBLISHER.map(|names| names.replace("LANE", lane));
    setup.vhost.add_user(lane, [&configure, &write, &read])
}

fn job(id: &str, lane: usize) -> String {
    let region = kit::history::REGIONS[lane];
    let image = format!("img-oflane{lane}");
    let job = json!({"job_id": id, "image_id": image, "region": region, "permission": "SHARE",
        "account_ids": ["1038493875"]});
    format!("{job}\n")
}

#[test]
fn recommended_permissions_are_tested() {
    let page = fs::read_to_string(repository_path("docs/security.md")).unwrap();
    for permissions in [PUBLISHER, PUBLISHER_OF_ALL, WORKER] {
        let [configure, write, read] = permissions.map(|names| names.replace('|', "\\|"));
        let row = format!("| `{configure}` | `{write}` | `{read}` |");
        assert!(page.contains(&row), "docs/security.md lacks {row}");
    }
}

#[test]
fn lane_publisher_reaches_that_lane_only() {
    let setup = setup();
    let [own, other] = TWO_LANES;
    let (of_own, of_other) = (add_publisher(&setup, own), add_publisher(&setup, other));
    let publish = |url: &str, lane: usize| {
        let program = setup.program("publish").arg("-").env("IMAGESHARE_BROKER_URL", url);
        program.input(job("published", lane)).run()
    };
    publish(&of_own, 0).check(0);
    publish(&of_other, 1).check(0);
    for (url, lane) in [(&of_own, 1), (&of_other, 0)] {
        let refused = publish(url, lane).check(3);
        assert!(refused.stderr.contains("403 ACCESS_REFUSED"), "{}", refused.stderr);
    }
    let amqp = AmqpClient::connect(&of_own);
    // The publisher may write to the lane's own exchange only, and copies stay in the lane.
    let (own_queue, other_queue) = (lane_queue(own), lane_queue(other));
    let exchanges =
        ["imageshare", "", &other_queue, DEAD, REPORTS, "amq.direct", "amq.topic", "amq.fanout", "amq.headers"];
    for exchange in exchanges {
        for key in [own, other, &own_queue, &other_queue, DEAD, REPORTS] {
            assert_eq!(amqp.try_publish(exchange, key, properties()), Err(ACCESS_REFUSED), "{exchange:?} {key}");
        }
    }
    for header in ["CC", "BCC"] {
        for to in [other, &other_queue, DEAD, REPORTS] {
            let copy = with_headers([(header, AMQPValue::FieldArray(vec![text(to)].into()))]);
            assert_eq!(amqp.try_publish(&own_queue, other, copy), Ok(()), "{header} {to}");
        }
    }
    let reply = properties().with_reply_to(other_queue.as_str().into());
    assert_eq!(amqp.try_publish(&own_queue, "any key", reply), Ok(()));
    check_all_refused(&amqp, &own_queue, &other_queue);
    // A passive declare returns the depth only. From RabbitMQ 4.3 on it needs a permission.
    let ready = |queue: &str| {
        let options = QueueDeclareOptions { passive: true, ..Default::default() };
        let declare =
            async |channel: Channel| channel.queue_declare(queue.into(), options, FieldTable::default()).await;
        amqp.attempt(declare).map(|queue| queue.message_count())
    };
    let of_other = if setup.vhost.node.version() < [4, 3] { Ok(1) } else { Err(ACCESS_REFUSED) };
    assert_eq!((ready(&own_queue), ready(&other_queue)), (Ok(10), of_other));
    assert_eq!((setup.lane_depth(own).ready, setup.lane_depth(other).ready), (10, 1));
    assert_eq!((setup.client().ready(DEAD), setup.client().ready(REPORTS)), (0, 0));
}

/// Asserts that the broker refuses an action.
#[track_caller]
fn check_refused<T, F: Future<Output = lapin::Result<T>>>(
    amqp: &AmqpClient,
    queue: &str,
    action: impl FnOnce(Channel) -> F,
) {
    assert_eq!(amqp.attempt(action).err(), Some(ACCESS_REFUSED), "{queue}");
}

/// Asserts that the broker refuses every other action of a lane's publisher.
fn check_all_refused(amqp: &AmqpClient, own: &str, other: &str) {
    let none = FieldTable::default;
    let durable = QueueDeclareOptions { durable: true, ..Default::default() };
    let exclusive = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let refused = |queue| {
        let name = || ShortString::from(queue);
        check_refused(amqp, queue, async |channel| channel.queue_purge(name(), Default::default()).await);
        check_refused(amqp, queue, async |channel| channel.basic_get(name(), Default::default()).await.map(drop));
        check_refused(amqp, queue, async |channel| {
            channel.basic_consume(name(), "".into(), Default::default(), none()).await.map(drop)
        });
        check_refused(amqp, queue, async |channel| channel.queue_delete(name(), Default::default()).await);
        check_refused(amqp, queue, async |channel| channel.queue_declare(name(), durable, none()).await.map(drop));
        check_refused(amqp, queue, async |channel| {
            channel.exchange_declare(name(), ExchangeKind::Fanout, Default::default(), none()).await
        });
        check_refused(amqp, queue, async |channel| channel.exchange_delete(name(), Default::default()).await);
        for from in ["imageshare", own, other, DEAD, REPORTS, "amq.direct"] {
            check_refused(amqp, queue, async |channel| {
                channel.queue_bind(name(), from.into(), "#".into(), Default::default(), none()).await
            });
            check_refused(amqp, queue, async |channel| {
                channel.queue_unbind(name(), from.into(), "".into(), none()).await
            });
            check_refused(amqp, queue, async |channel| {
                channel.exchange_bind(name(), from.into(), "#".into(), Default::default(), none()).await
            });
        }
    };
    [own, other, DEAD, REPORTS].into_iter().for_each(refused);
    // An exclusive queue.
    check_refused(amqp, "", async |channel| channel.queue_declare("".into(), exclusive, none()).await.map(drop));
}

#[test]
fn general_publisher_reaches_jobs_only() {
    let setup = setup();
    let url = setup.vhost.add_user("all", PUBLISHER_OF_ALL);
    let program = setup.program("publish").arg("-").env("IMAGESHARE_BROKER_URL", &url);
    program.input([job("a", 0), job("b", 1)].concat()).run().check(0);
    let amqp = AmqpClient::connect(&url);
    for exchange in ["", DEAD, REPORTS, "amq.direct"] {
        assert_eq!(amqp.try_publish(exchange, DEAD, properties()), Err(ACCESS_REFUSED), "{exchange:?}");
    }
    assert_eq!(TWO_LANES.map(|lane| setup.lane_depth(lane).ready), [1, 1]);
}

#[test]
fn worker_works_with_least_permissions() {
    let setup = setup();
    let url = setup.vhost.add_user("worker", WORKER);
    let own = AmqpClient::connect(&add_publisher(&setup, TWO_LANES[0]));
    // A publisher requests copies of reports in imageshare's queues, and in one that only the worker could reach.
    setup.client().declare_foreign("answers");
    for to in [lane_queue(TWO_LANES[1]).as_str(), DEAD, REPORTS, "answers"] {
        let properties: BasicProperties = properties().with_reply_to(to.into());
        assert_eq!(own.try_publish(&lane_queue(TWO_LANES[0]), "", properties), Ok(()));
    }
    let publish = setup.program("publish").arg("-").input([job("a", 0), job("b", 1)].concat());
    publish.run().check(0);
    let worker = Worker::start(setup.program("worker").env("IMAGESHARE_BROKER_URL", &url));
    setup.wait_until_settled();
    worker.drain();
    let reports = setup.reports();
    assert_eq!((&reports["a"]["status"], &reports["b"]["status"]), (&json!("succeeded"), &json!("succeeded")));
    let client = setup.client();
    // A refused copy may close the connection, and a dead letter in flight is then published again.
    assert!(client.ready(DEAD) >= 4);
    assert_eq!(client.ready("answers"), 0);
    assert_eq!(TWO_LANES.map(|lane| setup.lane_depth(lane).ready), [0, 0]);
    let amqp = AmqpClient::connect(&url);
    for exchange in ["", "imageshare", &lane_queue(TWO_LANES[0]), "amq.direct"] {
        assert_eq!(amqp.try_publish(exchange, TWO_LANES[1], properties()), Err(ACCESS_REFUSED), "{exchange:?}");
    }
    assert_eq!(amqp.try_publish(DEAD, "unbound", properties()), Ok(()));
}
