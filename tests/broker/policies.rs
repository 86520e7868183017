//! Policies of the broker that lose jobs are named before they do.

use serde_json::json;

use kit::{
    Ended, Node, Sandbox, free_port,
    stage::{QUEUE, Stage},
    until,
    worker::Worker,
};

#[test]
fn policies_that_lose_jobs_are_named() {
    let port = free_port();
    let node = Node::start_with(&format!("management.tcp.ip = 127.0.0.1\nmanagement.tcp.port = {port}\n"));
    let stage = Stage::new(&node, Sandbox::start(&["--rps", "0"]), 100);
    let url = stage.vhost.management_url(port);
    let check = |url: &str| stage.program("check").arg("--connect").env("IMAGESHARE_MANAGEMENT_URL", url).run();
    let policies = |ended: &Ended| {
        let line = ended.json().into_iter().find(|line| line["key"] == "connect.broker.policies");
        line.map(|line| line["value"].clone())
    };
    let fine = check(&url).check(0);
    assert_eq!(policies(&fine), Some(json!("none limits the queues")));
    assert!(!format!("{}{}", fine.stdout, fine.stderr).contains("horse"), "{}", fine.stdout);

    stage.vhost.set_policy(".*", &[("delivery-limit", "3"), ("dead-letter-exchange", "<<\"other\">>")]);
    stage.vhost.set_policy_by(
        "set_op",
        "of-operator",
        "^imageshare[.](jobs|dead)",
        &[("message-ttl", "60000"), ("max-length", "9")],
    );
    let begins = |queue: &str| format!("queue {queue}: policy kit and operator policy of-operator: ");
    let expected = [
        format!("{}delivery-limit is 3 (expected no limit below 1000000): ", begins(QUEUE)),
        format!("{}message-ttl is 60000 (expected none): ", begins(QUEUE)),
        format!("{}max-length is 9 (expected none): ", begins(QUEUE)),
        format!("{}message-ttl is 60000 (expected none): ", begins("imageshare.dead")),
    ];
    // The interface learns of a policy a moment later.
    let lossy = until("the policies are seen", || {
        let ended = check(&url);
        expected.iter().all(|words| ended.stderr.contains(words)).then_some(ended)
    });
    let lossy = lossy.check(1);
    assert_eq!(policies(&lossy), Some(json!("limit the queues")));
    assert!(!lossy.stderr.contains("dead-letter-exchange"), "the argument goes first: {}", lossy.stderr);

    let worker = Worker::start(stage.program("worker").env("IMAGESHARE_MANAGEMENT_URL", &url));
    worker.until_logged_after(0, &["a policy of the broker may lose jobs", "delivery-limit is 3"]);
    worker.drain();

    let refused = check(&url.replace("correct", "wrong")).check(1);
    assert!(refused.stderr.contains("cannot inspect policies: user or password refused"), "{}", refused.stderr);
    let away = check("http://a:topsecret@127.0.0.1:1").check(1);
    assert!(away.stderr.contains("cannot inspect policies: no connection"), "{}", away.stderr);
    assert!(!format!("{}{}", away.stdout, away.stderr).contains("topsecret"), "{}", away.stderr);
    let unset = stage.program("check").arg("--connect").run().check(0);
    assert!(unset.stdout.contains("not inspected: policies that drop jobs are not seen"), "{}", unset.stdout);
}
