//! What settings come out of a file, variables and flags, and every way in which they are refused.

use imageshare_engine::{
    limits::{LaneLimitValues, LaneLimits, LimitValues},
    time::Millis,
};

use super::*;
use crate::credentials::{Role, Source};

fn load<const N: usize>(file: &str, variables: [(&str, &str); N], flags: &Flags) -> Result<Settings, SettingsError> {
    Settings::parse("imageshare.toml", file, flags, &Environment::of(variables))
}

fn load_file(file: &str) -> Result<Settings, SettingsError> {
    load(file, [], &Flags::default())
}

/// The value and the origin of a setting in effect.
#[track_caller]
fn described(settings: &Settings, key: &str) -> (String, String) {
    let mut found = settings.describe().iter().filter(|setting| setting.key == key);
    let setting = found.next().unwrap();
    assert!(found.next().is_none(), "{key} twice");
    (setting.value.clone(), setting.origin.to_string())
}

#[track_caller]
fn check(file: &str, problems: &[&str]) {
    assert_eq!(load_file(file).unwrap_err().problems, problems);
}

#[test]
fn without_anything_there_is_one_lane_with_the_defaults() {
    let settings = load_file("").unwrap();
    let [lane] = settings.lanes.as_slice() else { panic!("{:?}", settings.lanes) };
    assert_eq!((lane.name.as_str(), lane.endpoint.authority().as_str()), ("default", "cvm.intl.tencentcloudapi.com"));
    assert_eq!((&lane.regions, &lane.source, lane.limits), (&Regions::All, &Source::Chain, LaneLimits::default()));
    assert_eq!((settings.region, &settings.lane, &settings.limits), (None, &None, &LimitValues::default()));
    assert_eq!((settings.http, &settings.broker), (TimeOuts::default(), &Broker::default()));
    assert!(matches!(settings.broker.url(), Err(NoBroker::Missing)));
    assert_eq!(described(&settings, "lanes.default.rate"), ("10".to_owned(), "default".to_owned()));
    assert_eq!(described(&settings, "engine.write_lag"), ("30s".to_owned(), "default".to_owned()));
    assert!(settings.describe().iter().all(|setting| setting.origin == Origin::Default));
}

const WHOLE: &str = r#"
[lanes.intl]
regions = ["ap-singapore", "eu-frankfurt"]
credential = "golden"
rate = 5
batch = 100
concurrency = 8

[lanes.finance]
endpoint = "https://cvm.ap-shanghai-fsi.tencentcloudapi.com"
regions = ["ap-shanghai-fsi"]
credential = "golden"
rate = 2.5

[credentials.golden]
source = "profile"
path = "/etc/imageshare/keys"
section = "golden"

[credentials.spare]
source = "environment"

[engine]
attempts = 3
cap = 50
write_lag = "45s"
read_lag = 2
image_wait = "5m"

[http]
connect_timeout = "500ms"
call_timeout = "20s"
"#;

#[test]
fn a_file_sets_everything() {
    let settings = load_file(WHOLE).unwrap();
    let [finance, intl] = settings.lanes.as_slice() else { panic!("{:?}", settings.lanes) };
    assert_eq!((intl.name.as_str(), intl.credential.as_str(), finance.name.as_str()), ("intl", "golden", "finance"));
    let source = Source::Profile { path: Some("/etc/imageshare/keys".into()), section: "golden".to_owned() };
    assert_eq!((&intl.source, &finance.source), (&source, &source));
    assert_eq!(*intl.limits, LaneLimitValues { rate: 5.0, batch: 100, concurrency: 8, ..LaneLimitValues::default() });
    assert!(intl.regions.contains("eu-frankfurt".parse().unwrap()));
    assert!(!intl.regions.contains("ap-shanghai-fsi".parse().unwrap()));
    let limits = &settings.limits;
    assert_eq!((limits.attempts, limits.cap), (3, 50));
    assert_eq!((limits.write_lag, limits.read_lag), (Millis(45_000), Millis(2_000)));
    assert_eq!((limits.image_wait, limits.image_wait_blocked), (Millis(300_000), Millis(300_000)));
    assert_eq!((settings.http.connect.as_millis(), settings.http.call.as_millis()), (500, 20_000));
    let of_file = |key: &str, value: &str| (value.to_owned(), format!("imageshare.toml: {key}"));
    assert_eq!(described(&settings, "lanes.finance.rate"), of_file("lanes.finance.rate", "2.5"));
    assert_eq!(described(&settings, "lanes.intl.regions"), of_file("lanes.intl.regions", "ap-singapore, eu-frankfurt"));
    for (key, value) in [("source", "profile"), ("path", "/etc/imageshare/keys"), ("section", "golden")] {
        let key = format!("credentials.golden.{key}");
        assert_eq!(described(&settings, &key), of_file(&key, value));
    }
    assert!(!settings.describe().iter().any(|setting| setting.key.starts_with("credentials.spare")));
}

#[test]
fn a_flag_goes_before_a_variable_and_that_before_the_file() {
    let variables = [("IMAGESHARE_RATE", "4"), ("IMAGESHARE_BATCH", "20"), ("IMAGESHARE_WRITE_LAG", "1s")];
    let flags = Flags { batch: Some("30".to_owned()), lane: Some("intl".to_owned()), ..Flags::default() };
    let settings = load(WHOLE, variables, &flags).unwrap();
    for lane in &settings.lanes {
        assert_eq!((lane.limits.rate, lane.limits.batch), (4.0, 30), "{}", lane.name);
    }
    let shown = |key: &str| described(&settings, key);
    assert_eq!(shown("lanes.intl.rate"), ("4".to_owned(), "IMAGESHARE_RATE".to_owned()));
    assert_eq!(shown("lanes.intl.batch"), ("30".to_owned(), "--batch".to_owned()));
    assert_eq!(shown("engine.write_lag"), ("1s".to_owned(), "IMAGESHARE_WRITE_LAG".to_owned()));
    assert_eq!(shown("lane"), ("intl".to_owned(), "--lane".to_owned()));
    assert_eq!(settings.lane.as_deref(), Some("intl"));
}

#[test]
fn an_endpoint_from_outside_the_file_makes_one_lane_with_all_regions() {
    let settings = load(WHOLE, [("IMAGESHARE_ENDPOINT", "http://127.0.0.1:9700")], &Flags::default()).unwrap();
    let [lane] = settings.lanes.as_slice() else { panic!("{:?}", settings.lanes) };
    assert_eq!((lane.name.as_str(), lane.endpoint.authority().as_str()), ("default", "127.0.0.1:9700"));
    assert_eq!((&lane.regions, &lane.source), (&Regions::All, &Source::Chain));
    assert_eq!(described(&settings, "lanes.default.endpoint").1, "IMAGESHARE_ENDPOINT");
    assert!(!settings.describe().iter().any(|setting| setting.key.starts_with("lanes.intl")));
    assert_eq!(settings.limits.cap, 50);
    // It is the endpoint that is replaced, so a default lane of the file leaves nothing behind either.
    let file = "[lanes.default]\nrate = 2\nregions = [\"ap-tokyo\"]";
    let settings = load(file, [("IMAGESHARE_ENDPOINT", "localhost:1")], &Flags::default()).unwrap();
    assert_eq!((settings.lanes[0].limits.rate, &settings.lanes[0].regions), (10.0, &Regions::All));
}

#[test]
fn the_region_comes_from_the_flag_or_the_vendors_variable() {
    let variable = [("TENCENTCLOUD_REGION", "ap-tokyo")];
    let flags = Flags { region: Some("eu-frankfurt".to_owned()), ..Flags::default() };
    let region = |flags: &Flags| load("", variable, flags).unwrap().region.unwrap().to_string();
    assert_eq!((region(&Flags::default()), region(&flags)), ("ap-tokyo".to_owned(), "eu-frankfurt".to_owned()));
}

#[test]
fn all_problems_are_reported_together_with_where_found_and_allowed() {
    let flags = Flags {
        rate: Some("0".to_owned()),
        lane: Some("us".to_owned()),
        region: Some("tokyo".to_owned()),
        ..Flags::default()
    };
    let variables = [("IMAGESHARE_BATCH", "501"), ("IMAGESHARE_READ_LAG", "soon")];
    let file = "[lanes.eu]\nendpoint = \"http://cvm.tencentcloudapi.com\"\nrate = \"fast\"\n[engine]\nattempts = 0";
    let problems = load(file, variables, &flags).unwrap_err().problems;
    assert_eq!(
        problems,
        [
            "imageshare.toml: lanes.eu.endpoint: found \"http://cvm.tencentcloudapi.com\", \
             allowed is https://host[:port]; plain http:// goes only to a loopback address \
             (127.0.0.0/8, [::1], localhost)",
            "imageshare.toml: lanes.eu.rate: found a value that is not shown, allowed are 0.01 to 1000 requests a second",
            "--rate: found \"0\", allowed are 0.01 to 1000 requests a second",
            "IMAGESHARE_BATCH: found \"501\", allowed are 1 to 500 accounts a request",
            "--lane: found a value that is not shown, allowed is a lane of the settings: eu",
            "--region: invalid value \"tokyo\" (expected a region id such as ap-singapore, at most 32 characters)",
            "imageshare.toml: engine.attempts: found \"0\", allowed are 1 to 100 tries",
            "IMAGESHARE_READ_LAG: found a value that is not shown, allowed are 0s to 10m, \
             written such as 500ms, 30s, 2h, or as a number of seconds",
        ]
    );
    let error = SettingsError { problems };
    assert_eq!(error.to_string().lines().count(), 8);
}

#[test]
fn a_value_that_another_goes_before_has_to_be_allowed_too() {
    let flags = Flags { rate: Some("5".to_owned()), ..Flags::default() };
    assert!(load("[lanes.eu]\nrate = -1", [], &flags).is_err());
}

#[test]
fn keys_that_are_not_known_are_refused_without_their_values() {
    check(
        "brokers = 1\n[lanes.eu]\nspeed = 1\n[credentials.a]\nsource = \"environment\"\nsecret_key = \"topsecret\"\n\
         [engine]\ncaps = 1\n[http]\nproxy = 1\n\
         [broker]\nuri = \"topsecret\"\n[admin]\naddress = \"x\"",
        &[
            "imageshare.toml: credentials.a: found the key \"secret_key\", allowed are source",
            "imageshare.toml: lanes.eu: found the key \"speed\", \
             allowed are endpoint, regions, credential, account, rate, batch, concurrency",
            "imageshare.toml: engine: found the key \"caps\", \
             allowed are attempts, cap, write_lag, read_lag, image_wait",
            "imageshare.toml: http: found the key \"proxy\", allowed are connect_timeout, call_timeout, ca_file",
            "imageshare.toml: broker: found the key \"uri\", allowed are url, url_file, management_url, \
             management_url_file, prefetch, heartbeat, lease, ca_file, client_certificate, client_key",
            "imageshare.toml: admin: found the key \"address\", allowed are listen",
            "imageshare.toml: found the key \"brokers\", allowed are lanes, credentials, engine, http, broker, admin",
        ],
    );
}

#[test]
fn values_of_another_kind_are_refused() {
    check(
        "lanes = 3\nhttp = \"x\"\n[engine]\ncap = true",
        &[
            "imageshare.toml: lanes: found a number, allowed is a table",
            "imageshare.toml: engine.cap: found true or false, allowed is a text or a number",
            "imageshare.toml: http: found a text, allowed is a table",
        ],
    );
    check(
        "[lanes.eu]\nregions = \"ap-tokyo\"\n[lanes.us]\nregions = [1, \"x\", []]\nendpoint = \"a.example\"",
        &[
            "imageshare.toml: lanes.eu.regions: found a text, allowed is a list",
            "imageshare.toml: lanes.us.regions[2]: found a list, allowed is a text",
            "imageshare.toml: lanes.us.regions[0]: invalid value \"1\" \
             (expected a region id such as ap-singapore, at most 32 characters)",
            "imageshare.toml: lanes.us.regions[1]: invalid value, which is not shown \
             (expected a region id such as ap-singapore, at most 32 characters)",
        ],
    );
    check(
        "[lanes.eu]\nregions = []",
        &["imageshare.toml: lanes.eu.regions: found an empty list, allowed is at least one region"],
    );
    check(
        "[lanes.EU]\n",
        &["imageshare.toml: lanes.EU: found it as the name of a lane, \
           allowed are 1 to 63 lower-case letters, digits and hyphens"],
    );
}

#[test]
fn lanes_of_one_credential_share_neither_host_nor_region() {
    check(
        "[lanes.a]\nregions = [\"ap-tokyo\"]\n[lanes.b]\nregions = [\"eu-frankfurt\"]",
        &["imageshare.toml: lanes.b: found credential default and host cvm.intl.tencentcloudapi.com as in lane a, \
           allowed is one lane for a credential and a host: they have one limit together"],
    );
    let shared = |region: &str, b: &str| {
        check(
            &format!("[lanes.a]\nregions = [\"ap-tokyo\", \"eu-frankfurt\"]\n[lanes.b]\nendpoint = \"b.example\"\n{b}"),
            &[&format!(
                "imageshare.toml: lanes.b: found credential default and region {region} as in lane a, \
                 allowed are regions of its own: lanes of one account never share a region"
            )],
        );
    };
    shared("ap-tokyo", "");
    shared("eu-frankfurt", "regions = [\"eu-frankfurt\", \"na-ashburn\"]");
    let own = "[credentials.b]\nsource = \"environment\"\n[lanes.a]\n[lanes.b]\ncredential = \"b\"";
    assert_eq!(load_file(own).unwrap().lanes.len(), 2);
}

#[test]
fn credentials_are_checked_and_a_text_in_the_wrong_place_is_not_shown() {
    let sources = "environment, profile, tccli, file, cvm_role, assume_role or tke_oidc";
    check(
        "[credentials.a]\nsource = \"topsecret\"\n[credentials.b]\npath = \"x\"\n\
         [credentials.c]\nsource = \"environment\"\npath = \"x\"\n[lanes.eu]\ncredential = \"d\"",
        &[
            &format!("imageshare.toml: credentials.a.source: found another text, allowed is {sources}"),
            &format!("imageshare.toml: credentials.b.source: found nothing, allowed is {sources}"),
            "imageshare.toml: credentials.c.path: found it beside source environment, \
             allowed is it with profile, tccli or file",
            "imageshare.toml: lanes.eu.credential: found another text, \
             allowed is the name of a credential: c, default",
        ],
    );
    check(
        "[credentials.\"a\\u001b\"]\nsource = \"environment\"\n[credentials.b]\nsource = \"profile\"\npath = \"\"\n\
         [credentials.c]\nsource = \"profile\"\npath = \"secret_key = topsecret\\n\"",
        &[
            "imageshare.toml: credentials.[name not shown]: invalid name of a credential (expected 1 to 63 letters, \
             digits, dots, spaces, underscores or hyphens, and nothing that looks like a key)",
            "imageshare.toml: credentials.b.path: found that it is set but empty, allowed is the path of a profile file",
            "imageshare.toml: credentials.c.path: found a text with line ends or other control characters, \
             allowed is the path of a profile file",
        ],
    );
}

#[test]
fn every_source_of_a_credential_can_be_set() {
    let source = |file: &str| {
        let file = format!("[credentials.x]\n{file}\n[lanes.a]\ncredential = \"x\"");
        load_file(&file).unwrap().lanes.remove(0).source
    };
    assert_eq!(source("source = \"tccli\""), Source::Tccli { path: None, profile: None });
    assert_eq!(source("source = \"file\"\npath = \"/run/key\""), Source::File { path: "/run/key".into() });
    let metadata = "source = \"cvm_role\"\nrole = \"share\"\nendpoint = \"http://127.0.0.1:80\"";
    let endpoint = "http://127.0.0.1:80".parse().ok();
    assert_eq!(source(metadata), Source::CvmRole { role: Some("share".into()), endpoint });
    let role = |arn: Option<&str>| Role {
        arn: arn.map(str::to_owned),
        session: "imageshare".into(),
        seconds: 7_200,
        endpoint: None,
        region: None,
    };
    let pod = Source::TkeOidc { role: role(None), provider_id: None, token_file: None };
    assert_eq!(source("source = \"tke_oidc\""), pod);
    let arn = "qcs::cam::uin/100009999999:roleName/share";
    let assumed = format!("source = \"assume_role\"\nrole_arn = \"{arn}\"");
    let base = Box::new(Source::Chain);
    let expected = Source::AssumeRole { role: role(Some(arn)), external_id: None, credential: "default".into(), base };
    assert_eq!(source(&assumed), expected);

    let file = format!(
        "[credentials.default]\n{assumed}\ncredential = \"base\"\nduration = \"1h\"\nexternal_id = \"topsecret\"\n\
         [credentials.base]\nsource = \"environment\""
    );
    let settings = load_file(&file).unwrap();
    assert_eq!(described(&settings, "credentials.default.duration").0, "1h");
    assert_eq!(described(&settings, "credentials.default.session_name"), ("imageshare".into(), "default".into()));
    assert_eq!(described(&settings, "credentials.base.source").0, "environment");
    assert_eq!(described(&settings, "credentials.default.external_id").0, "[secret]");
    assert!(!format!("{settings:?}").contains("topsecret"));
}

#[test]
fn all_that_is_wrong_with_roles_is_said_at_once() {
    let at = |key: &str, rest: &str| format!("imageshare.toml: credentials.{key}: {rest}");
    let problems = [
        at("c.path", "found nothing, allowed is the path of a file or a folder with a credential"),
        at("d.role_arn", "found it beside source cvm_role, allowed is it with assume_role or tke_oidc"),
        at("d.role", "found another text, allowed is 1 to 128 letters, digits and _+=,.@-"),
        at("a.role_arn", "found another text, allowed is qcs::cam::uin/UIN:roleName/NAME or :role/ID"),
        at("a.session_name", "found another text, allowed is 2 to 128 letters, digits and _+=,.@-"),
        at(
            "a.duration",
            "found \"13h\", allowed are 1s to 12h, written such as 500ms, 30s, 2h, or as a number of seconds",
        ),
        at(
            "a.credential",
            "found another text, allowed is the name of a credential that is no assumed role: c, d, default",
        ),
        at("b.role_arn", "found nothing, allowed is qcs::cam::uin/UIN:roleName/NAME"),
    ];
    let problems: Vec<&str> = problems.iter().map(String::as_str).collect();
    check(
        "[credentials.a]\nsource = \"assume_role\"\nrole_arn = \"topsecret\"\nsession_name = \"x\"\nduration = \"13h\"\n\
         credential = \"b\"\n[credentials.b]\nsource = \"assume_role\"\n[credentials.c]\nsource = \"file\"\n\
         [credentials.d]\nsource = \"cvm_role\"\nrole = \"../x\"\nrole_arn = \"x\"",
        &problems,
    );
}

#[test]
fn lanes_whose_sources_hold_one_key_share_neither_host_nor_region() {
    let (one, other): (SecretId, SecretId) = ("AKIDONE".parse().unwrap(), "AKIDOTHER".parse().unwrap());
    let sources = "[credentials.env]\nsource = \"environment\"\n[lanes.b]\ncredential = \"env\"\n";
    let lanes = |a: &str, b: &str| load_file(&format!("{sources}{b}\n[lanes.a]\n{a}")).unwrap();
    let check = |settings: &Settings, ids: [Option<&SecretId>; 2], expected: &[&str]| {
        let problems = settings.check_keys(ids).map_or_else(|error| error.problems, |()| Vec::new());
        assert_eq!(problems, expected);
    };
    let same_host = lanes("regions = [\"ap-tokyo\"]", "regions = [\"eu-frankfurt\"]");
    check(
        &same_host,
        [Some(&one), Some(&one)],
        &["lanes.b: found credential env, which has the key of credential default, \
           and host cvm.intl.tencentcloudapi.com as in lane a, \
           allowed is one lane for a credential and a host: they have one limit together"],
    );
    check(&same_host, [Some(&one), Some(&other)], &[]);
    check(&same_host, [Some(&one), None], &[]);
    check(&same_host, [None, None], &[]);
    let same_region = lanes("", "endpoint = \"b.example\"\nregions = [\"ap-tokyo\"]");
    check(
        &same_region,
        [Some(&one), Some(&one)],
        &["lanes.b: found credential env, which has the key of credential default, and region ap-tokyo as in lane a, \
           allowed are regions of its own: lanes of one account never share a region"],
    );
    let nothing = lanes("regions = [\"eu-frankfurt\"]", "endpoint = \"b.example\"\nregions = [\"ap-tokyo\"]");
    check(&nothing, [Some(&one), Some(&one)], &[]);
}

#[test]
fn a_connection_may_not_take_longer_than_the_whole_call() {
    check(
        "[http]\nconnect_timeout = \"11s\"",
        &["imageshare.toml: http.connect_timeout: found 11s, allowed is at most http.call_timeout, 10s"],
    );
    check(
        "[http]\ncall_timeout = \"2s\"",
        &["imageshare.toml: http.call_timeout: found 2s, allowed is at least http.connect_timeout, 3s"],
    );
}

#[test]
fn the_broker_s_address_is_shown_without_its_password() {
    let file = "[broker]\nurl = \"amqp://a:topsecret@b.example/c\"\nprefetch = 7\nheartbeat = \"5s\"\nlease = \"10m\"";
    let settings = load_file(file).unwrap();
    let Broker { prefetch, heartbeat, lease, .. } = settings.broker;
    assert_eq!((prefetch, heartbeat.as_secs(), lease.as_secs()), (7, 5, 600));
    let shown = ("amqp://a@b.example:5672/c".to_owned(), "imageshare.toml: broker.url".to_owned());
    assert_eq!(described(&settings, "broker.url"), shown);
    assert!(!format!("{settings:?}").contains("topsecret"));
    let variables = [("IMAGESHARE_BROKER_URL", "amqps://d:topsecret@e.example"), ("IMAGESHARE_PREFETCH", "65535")];
    let settings = load(file, variables, &Flags::default()).unwrap();
    assert_eq!(settings.broker.url().unwrap().to_string(), "amqps://d@e.example:5671/%2F");
    assert_eq!(settings.broker.prefetch, 65_535);
}

#[test]
fn the_management_address_is_a_secret_too() {
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
    assert!(malformed.to_string().contains("url: no http:// in front (expected http://user"), "{malformed}");
    assert!(!format!("{malformed} {malformed:?}").contains("topsecret"));
    std::fs::write(&path, "http://a:topsecret@b.example\n").unwrap();
    assert!(settings.broker.management_url().unwrap().is_some());
    assert!(load_file("[broker]").unwrap().broker.management_url().unwrap().is_none());
    check(
        &format!("{file}\nmanagement_url_file = \"/x\""),
        &["imageshare.toml: broker.management_url_file: set beside broker.management_url (expected one of them)"],
    );
}

#[test]
fn the_broker_s_address_may_stand_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    let settings = load_file(&format!("[broker]\nurl_file = '{}'", path.display())).unwrap();
    assert_eq!(described(&settings, "broker.url_file").0, path.display().to_string());
    let missing = settings.broker.url().unwrap_err().to_string();
    assert!(missing.contains("url: found that it cannot be read (No such file"), "{missing}");
    std::fs::write(&path, "amqp://a:topsecret@b.example\n").unwrap();
    assert_eq!(settings.broker.url().unwrap().to_string(), "amqp://a@b.example:5672/%2F");
    std::fs::write(&path, "topsecret").unwrap();
    let malformed = settings.broker.url().unwrap_err();
    assert!(malformed.to_string().contains("url: found no amqp:// in front, allowed is amqp://"), "{malformed}");
    assert!(!format!("{malformed} {malformed:?}").contains("topsecret"));
}

#[test]
fn misplaced_secret_is_not_shown() {
    let secrets = [
        "amqp://usr:12/topsecret@127.0.0.1",
        "usr:topsecret@127.0.0.1",
        "-----BEGIN PRIVATE KEY-----topsecret",
        "Gu5t9xGARNpq86cd98joQYCN3topsecret",
        "topsecret",
    ];
    let keys = [
        "[broker]\nurl = ",
        "[broker]\nurl_file = ",
        "[broker]\nca_file = ",
        "[broker]\nclient_key = ",
        "[broker]\nprefetch = ",
        "[broker]\nheartbeat = ",
        "[http]\nca_file = ",
        "[http]\ncall_timeout = ",
        "[engine]\nattempts = ",
        "[admin]\nlisten = ",
        "[lanes.x]\nrate = ",
        "[lanes.x]\ncredential = ",
        "[lanes.x]\nregions = ",
        "[credentials.default]\nsource = ",
        "[credentials.default]\nsource = \"profile\"\npath = ",
        "[credentials.default]\nsource = \"tccli\"\npath = ",
        "[credentials.default]\nsource = \"file\"\npath = ",
        "[credentials.default]\nsource = \"tke_oidc\"\ntoken_file = ",
        "[credentials.default]\nsource = \"tke_oidc\"\nrole_arn = ",
        "[credentials.default]\nsource = \"cvm_role\"\nendpoint = ",
        "[credentials.default]\nsource = \"assume_role\"\nexternal_id = ",
    ];
    let check = |what: &str, loaded: Result<Settings, SettingsError>| {
        let shown = match loaded {
            Ok(settings) => format!("{settings:?} {:?}", settings.broker.url().map_err(|error| error.to_string())),
            Err(error) => error.to_string(),
        };
        assert!(!shown.contains("secret@") && !shown.contains("topsecret"), "{what}: {shown}");
    };
    for secret in secrets {
        for key in keys {
            check(key, load_file(&format!("{key}\"{secret}\"")));
        }
        // A key that stands in place of its name.
        check("a key", load_file(&format!("\"{secret}=\" = 1\n[lanes.\"{secret}=\"]\n[credentials.\"{secret}=\"]")));
        for variable in [
            "IMAGESHARE_BROKER_URL",
            "IMAGESHARE_MANAGEMENT_URL",
            "IMAGESHARE_ENDPOINT",
            "IMAGESHARE_RATE",
            "IMAGESHARE_BATCH",
            "IMAGESHARE_LANE",
            "IMAGESHARE_ADMIN",
            "IMAGESHARE_PREFETCH",
            "IMAGESHARE_WRITE_LAG",
            "IMAGESHARE_CONFIG",
            "TENCENTCLOUD_REGION",
            "HTTPS_PROXY",
            "NO_PROXY",
        ] {
            check(variable, Settings::load(&Flags::default(), &Environment::of([(variable, secret)])));
        }
    }
}

#[test]
fn what_is_wrong_with_the_broker_is_said_all_at_once_and_without_its_address() {
    let problems = [
        "imageshare.toml: broker.url_file: found it beside broker.url, allowed is one of them",
        "imageshare.toml: broker.url: found another scheme, allowed is amqp://user:password@host:port/vhost \
         or amqps://, with %2F for a slash in a name and %40 for an @",
        "imageshare.toml: broker.prefetch: found \"0\", allowed are 1 to 65535 messages",
        "imageshare.toml: broker.heartbeat: found 1.5s, allowed are whole seconds",
        "imageshare.toml: broker.lease: found \"30m\", allowed are 1s to 25m, \
         written such as 500ms, 30s, 2h, or as a number of seconds",
    ];
    check(
        "[broker]\nurl = \"http://a:topsecret@b.example\"\nurl_file = \"x\"\nprefetch = 0\nheartbeat = 1.5\n\
         lease = \"30m\"",
        &problems,
    );
}

#[test]
fn a_text_that_is_no_toml_says_where_and_not_what() {
    for line in [
        "key = 'topsecret",
        "key = topsecret",
        "key = \"topsecret\\q\"",
        "key = \"\"\"topsecret",
        "topsecret",
        "topsecret = = 1",
        "key = \"x\" topsecret",
        "key = topsecret = 1",
        "[topsecret",
    ] {
        let error = load_file(&format!("[http]\n{line}\n")).unwrap_err().to_string();
        assert!(error.starts_with("imageshare.toml line "), "{error}");
        assert!(!error.contains("topsecret"), "{error}");
    }
}

#[test]
fn the_file_is_the_one_that_the_flag_or_the_variable_names() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imageshare.toml");
    std::fs::write(&path, "[engine]\ncap = 7").unwrap();
    let variable = Environment::of([("IMAGESHARE_CONFIG", path.to_str().unwrap())]);
    assert_eq!(Settings::load(&Flags::default(), &variable).unwrap().limits.cap, 7);
    for (path, found) in
        [("'a.toml'", "a path in quotation marks"), ("[http]\n", "a text with line ends or other control characters")]
    {
        let expected = format!("found {found}, allowed is the path of a settings file");
        let variable = Settings::load(&Flags::default(), &Environment::of([("IMAGESHARE_CONFIG", path)]));
        assert_eq!(variable.unwrap_err().to_string(), format!("IMAGESHARE_CONFIG: {expected}"));
        let flag = Settings::load(&Flags { config: Some(path.into()), ..Flags::default() }, &Environment::of([]));
        assert_eq!(flag.unwrap_err().to_string(), format!("--config: {expected}"));
    }
    let empty = Settings::load(&Flags { config: Some("".into()), ..Flags::default() }, &Environment::of([]));
    let expected = "--config: found that it is set but empty, allowed is the path of a settings file";
    assert_eq!(empty.unwrap_err().to_string(), expected);
    let missing = Flags { config: Some(folder.path().join("missing.toml")), ..Flags::default() };
    let error = Settings::load(&missing, &variable).unwrap_err().to_string();
    assert!(error.contains("missing.toml: found that it cannot be read (No such file"), "{error}");
}

#[test]
fn nothing_listens_for_status_unless_somebody_says_where() {
    assert_eq!(load_file("").unwrap().admin, None);
    let file = "[admin]\nlisten = \"127.0.0.1:9701\"";
    let shown = |variables: &[(&str, &str); 1], flag: Option<&str>| {
        let flags = Flags { admin: flag.map(str::to_owned), ..Flags::default() };
        described(&load(file, *variables, &flags).unwrap(), "admin.listen").0
    };
    let none = [("IMAGESHARE_X", "")];
    let variable = [("IMAGESHARE_ADMIN", "[::1]:9702")];
    assert_eq!(shown(&none, None), "127.0.0.1:9701");
    assert_eq!(shown(&variable, None), "[::1]:9702");
    assert_eq!(shown(&variable, Some("0.0.0.0:9703")), "0.0.0.0:9703");
    check(
        "[admin]\nlisten = \"9701\"",
        &["imageshare.toml: admin.listen: found \"9701\", allowed is an address and a port, such as 127.0.0.1:9701"],
    );
}

#[test]
fn tls_and_the_proxy_are_set_and_passwords_are_not_shown() {
    let file = "[http]\nca_file = \"/ca.pem\"\n[broker]\nurl = \"amqps://a:topsecret@b.example\"\nca_file = \"/b.pem\"\n\
                client_certificate = \"/c.pem\"\nclient_key = \"/c.key\"";
    let variables = [("HTTPS_PROXY", "http://ada:topsecret@proxy.example:3128"), ("NO_PROXY", "internal.example")];
    let settings = load(file, variables, &Flags::default()).unwrap();
    assert_eq!(settings.outside.trust.ca_file.as_deref(), Some("/ca.pem".as_ref()));
    assert_eq!(described(&settings, "http.ca_file").0, "/ca.pem");
    let proxy = ("http://ada@proxy.example:3128".to_owned(), "HTTPS_PROXY".to_owned());
    assert_eq!(described(&settings, "http.proxy"), proxy);
    assert_eq!(described(&settings, "broker.client_key").0, "/c.key");
    let url = settings.broker.url().unwrap();
    assert_eq!(url.trust(), &settings.broker.trust);
    assert!(!format!("{settings:?}").contains("topsecret"));

    let small = load("", [("https_proxy", "proxy.example:1"), ("HTTPS_PROXY", "")], &Flags::default()).unwrap();
    assert_eq!(described(&small, "http.proxy").0, "http://proxy.example:1");
    let wrong = load("", [("HTTPS_PROXY", "socks5://topsecret")], &Flags::default()).unwrap_err();
    assert_eq!(wrong.problems, ["HTTPS_PROXY: found another scheme, allowed is http://host:port of a proxy"]);
    check(
        "[broker]\nurl = \"amqp://b.example\"\nca_file = \"/b.pem\"\nclient_key = \"/c.key\"",
        &[
            "imageshare.toml: broker.client_key: found it without broker.client_certificate, allowed are both or none",
            "imageshare.toml: broker.ca_file: found it beside an address with amqp://, allowed is it with amqps://",
            "imageshare.toml: broker.client_key: found it beside an address with amqp://, allowed is it with amqps://",
        ],
    );
}

#[test]
fn lane_may_name_the_account_of_its_key() {
    let settings = load_file("[lanes.eu]\naccount = \"100009999999\"").unwrap();
    assert_eq!(settings.lanes[0].account, Some("100009999999".parse().unwrap()));
    assert_eq!(described(&settings, "lanes.eu.account").0, "100009999999");
    assert_eq!(load_file("[lanes.eu]").unwrap().lanes[0].account, None);
    for wrong in ["AKIDEXAMPLE", "0100009999999", "1234", ""] {
        let problem = "imageshare.toml: lanes.eu.account: invalid account id (expected 5 to 19 digits)";
        check(&format!("[lanes.eu]\naccount = \"{wrong}\""), &[problem]);
    }
}
