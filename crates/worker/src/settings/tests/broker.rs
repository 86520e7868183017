//! The addresses of the broker.

use super::*;

#[test]
fn broker_address_is_shown_without_password() {
    let file = "[broker]\nurl = \"amqp://a:topsecret@b.example/c\"\nprefetch = 7\nheartbeat = \"5s\"\nlease = \"10m\"";
    let settings = load_file(file).unwrap();
    let Broker { prefetch, heartbeat, lease, .. } = settings.broker;
    assert_eq!((prefetch, heartbeat.as_secs(), lease.as_secs()), (7, 5, 600));
    let shown = ("amqp://a@b.example:5672/c".to_owned(), "imageshare.toml:2".to_owned());
    assert_eq!(described(&settings, "broker.url"), shown);
    assert!(!format!("{settings:?}").contains("topsecret"));
    let variables = [("IMAGESHARE_BROKER_URL", "amqps://d:topsecret@e.example"), ("IMAGESHARE_PREFETCH", "65535")];
    let settings = load(file, variables, &Flags::default()).unwrap();
    assert_eq!(settings.broker.url().unwrap().to_string(), "amqps://d@e.example:5671/%2F");
    assert_eq!(settings.broker.prefetch, 65_535);
}

#[test]
fn management_address_is_a_secret() {
    let file = "[broker]\nmanagement_url = \"http://a:topsecret@b.example\"";
    let settings = load_file(file).unwrap();
    assert_eq!(described(&settings, "broker.management_url").0, "http://b.example:15672");
    assert!(!format!("{settings:?}").contains("topsecret"));
    let variables = [("IMAGESHARE_MANAGEMENT_URL", "https://c:topsecret@d.example")];
    let url = load(file, variables, &Flags::default()).unwrap().broker.management_url().unwrap();
    assert_eq!(url.unwrap().to_string(), "https://d.example:15671");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    let settings = load_file(&format!("[broker]\nmanagement_url_file = '{}'", path.display())).unwrap();
    let missing = settings.broker.management_url().unwrap_err().to_string();
    assert!(missing.contains("url: cannot read the file: No such file"), "{missing}");
    std::fs::write(&path, "topsecret").unwrap();
    let malformed = settings.broker.management_url().unwrap_err();
    assert!(malformed.to_string().contains("url: no scheme http:// or https:// (expected http://user"), "{malformed}");
    assert!(!format!("{malformed} {malformed:?}").contains("topsecret"));
    std::fs::write(&path, "http://a:topsecret@b.example\n").unwrap();
    assert!(settings.broker.management_url().unwrap().is_some());
    assert!(load_file("[broker]").unwrap().broker.management_url().unwrap().is_none());
    check(
        &format!("{file}\nmanagement_url_file = \"/x\""),
        &[":3: broker.management_url_file: set beside broker.management_url (expected one of them)"],
    );
}

#[test]
fn broker_address_is_read_from_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    let settings = load_file(&format!("[broker]\nurl_file = '{}'", path.display())).unwrap();
    assert_eq!(described(&settings, "broker.url_file").0, path.display().to_string());
    let missing = settings.broker.url().unwrap_err().to_string();
    assert!(missing.contains("url: cannot read the file: No such file"), "{missing}");
    std::fs::write(&path, "amqp://a:topsecret@b.example\n").unwrap();
    assert_eq!(settings.broker.url().unwrap().to_string(), "amqp://a@b.example:5672/%2F");
    std::fs::write(&path, "topsecret").unwrap();
    let malformed = settings.broker.url().unwrap_err();
    assert!(malformed.to_string().contains("url: no scheme amqp:// or amqps:// (expected amqp://"), "{malformed}");
    assert!(!format!("{malformed} {malformed:?}").contains("topsecret"));
}

#[test]
fn problems_of_broker_hide_its_address() {
    check(
        "[broker]\nurl = \"http://a:topsecret@b.example\"\nurl_file = \"x\"\nprefetch = 0\nheartbeat = 1.5\n\
         lease = \"30m\"",
        &[
            ":3: broker.url_file: set beside broker.url (expected one of them)",
            ":2: broker.url: unknown scheme (expected amqp://user:password@host:port/vhost or amqps://, \
             with %2F for a slash and %40 for an @)",
            ":4: broker.prefetch: invalid value \"0\" (expected 1 to 65535 jobs)",
            ":5: broker.heartbeat: invalid value \"1.5\" \
             (expected 1s to 1m in whole seconds)",
            "hint: write a length of time as 500ms, 30s or 2h, or as a number of seconds",
            ":6: broker.lease: invalid value \"30m\" (expected 1s to 25m)",
            "hint: write a length of time as 500ms, 30s or 2h, or as a number of seconds",
        ],
    );
}
