//! `imageshare check --connect` against a broker.

use kit::{Ended, Node, Program, Sandbox};
use serde_json::json;

#[test]
fn check_asks_everybody_and_says_what_is_missing_and_changes_nothing() {
    let (sandbox, vhost) = (Sandbox::start(&[]), Node::any().vhost());
    let check = || sandbox.program("check").arg("--connect").env("IMAGESHARE_BROKER_URL", vhost.url());
    let value = |ended: &Ended, key: &str| {
        let lines = ended.json();
        lines.iter().find(|line| line["key"] == key).map(|line| line["value"].as_str().unwrap().to_owned())
    };
    let missing = check().run().check(1);
    assert_eq!(value(&missing, "connect.broker").as_deref(), Some("there, and something is not as it has to be"));
    assert!(missing.stderr.contains("queue imageshare.jobs.default is missing"), "{}", missing.stderr);
    Program::new(["topology", "--declare"]).env("IMAGESHARE_BROKER_URL", vhost.url()).run().check(0);
    let all = check().run().check(0);
    for (key, found) in [
        ("connect.broker", "there, with all that is needed"),
        ("connect.default.GetCallerIdentity", "the key of account 100009999999"),
        ("connect.default.DescribeImageSharePermission", "allowed"),
        ("connect.default.DescribeImages", "allowed"),
    ] {
        assert_eq!(value(&all, key).as_deref(), Some(found), "{}", all.stdout);
    }
    let version = value(&all, "connect.broker.version").unwrap();
    assert!(version.starts_with("RabbitMQ ") && version.contains("priorit"), "{version}");
    assert_eq!(sandbox.writes(), 0);

    let denied = |action: &str| json!({"action": action, "times": 9, "do": "code:UnauthorizedOperation"});
    sandbox.faults(&json!({"script": [denied("DescribeImages"), denied("GetCallerIdentity")]}));
    let denied = check().run().check(3);
    assert!(denied.stderr.contains("the key's policy lacks cvm:DescribeImages ("), "{}", denied.stderr);
    assert_eq!(value(&denied, "connect.default.DescribeImages").as_deref(), Some("not allowed"));
    let away = Program::new(["check", "--connect", "--endpoint", "http://127.0.0.1:1"])
        .key("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
        .env("IMAGESHARE_BROKER_URL", "amqp://127.0.0.1:1")
        .run()
        .check(4);
    assert!(away.stderr.contains("no connection to the endpoint"), "{}", away.stderr);
    assert!(away.stderr.contains("the broker is out of reach"), "{}", away.stderr);
}
