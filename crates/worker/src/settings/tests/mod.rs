//! Settings from a file, variables and flags, and every way in which they are refused.

mod broker;
mod lanes;

use std::io::Write as _;

use imageshare_engine::{
    limits::{LaneLimitValues, LaneLimits, LimitValues},
    time::Millis,
};

use super::*;
use crate::{
    credentials::{Role, Source},
    lane::Regions,
};

fn load<const N: usize>(file: &str, variables: [(&str, &str); N], flags: &Flags) -> Result<Settings, SettingsError> {
    Settings::parse("imageshare.toml", file, flags, &Environment::of(variables))
}

fn load_file(file: &str) -> Result<Settings, SettingsError> {
    load(file, [], &Flags::default())
}

/// The value and the origin of a setting in effect.
#[track_caller]
fn described(settings: &Settings, key: &str) -> (String, String) {
    let setting = settings.describe().into_iter().find(|setting| setting.key == key).unwrap();
    (setting.value.unwrap_or_default(), setting.origin)
}

#[track_caller]
fn check(file: &str, problems: &[&str]) {
    check_lines(&load_file(file).unwrap_err(), problems);
}

/// Compares problems, which begin with `imageshare.toml:` where they begin with a colon.
#[track_caller]
fn check_lines(error: &SettingsError, expected: &[&str]) {
    let expected: Vec<String> = expected
        .iter()
        .map(|line| if line.starts_with(':') { format!("imageshare.toml{line}") } else { (*line).to_owned() })
        .collect();
    let lines: Vec<String> = error.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines, expected, "{error}");
}

#[test]
fn defaults_apply_without_any_setting() {
    let settings = load_file("").unwrap();
    let [lane] = settings.lanes.as_slice() else { panic!("{:?}", settings.lanes) };
    assert_eq!((lane.name.as_str(), lane.endpoint.authority().as_str()), ("default", "cvm.intl.tencentcloudapi.com"));
    assert_eq!((&lane.regions, &lane.source, lane.limits), (&Regions::All, &Source::Chain, LaneLimits::default()));
    assert_eq!((settings.region, &settings.lane, &settings.limits), (None, &None, &LimitValues::default()));
    assert_eq!((settings.http, settings.broker.prefetch), (TimeOuts::default(), 10_000));
    assert!(matches!(settings.broker.url(), Err(NoBroker::Missing)));
    assert_eq!(described(&settings, "lanes.default.rate"), ("10".to_owned(), "default".to_owned()));
    assert_eq!(described(&settings, "engine.write_lag"), ("30s".to_owned(), "default".to_owned()));
    assert!(settings.describe().iter().all(|setting| setting.origin == "default"));
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
fn file_sets_all_values() {
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
    for (key, value, line) in [
        ("lanes.finance.rate", "2.5", 13),
        ("lanes.intl.regions", "ap-singapore, eu-frankfurt", 3),
        ("credentials.golden.source", "profile", 16),
        ("credentials.golden.path", "/etc/imageshare/keys", 17),
        ("credentials.golden.section", "golden", 18),
    ] {
        assert_eq!(described(&settings, key), (value.to_owned(), format!("imageshare.toml:{line}")));
    }
}

#[test]
fn precedence_is_flag_variable_file_default() {
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
fn endpoint_from_outside_replaces_all_lanes() {
    let settings = load(WHOLE, [("IMAGESHARE_ENDPOINT", "http://127.0.0.1:9700")], &Flags::default()).unwrap();
    let [lane] = settings.lanes.as_slice() else { panic!("{:?}", settings.lanes) };
    assert_eq!((lane.name.as_str(), lane.endpoint.authority().as_str()), ("default", "127.0.0.1:9700"));
    assert_eq!((&lane.regions, &lane.source), (&Regions::All, &Source::Chain));
    assert_eq!(described(&settings, "lanes.default.endpoint").1, "IMAGESHARE_ENDPOINT");
    assert!(!settings.describe().iter().any(|setting| setting.key.starts_with("lanes.intl")));
    assert_eq!(settings.limits.cap, 50);
    // A lane `default` of the file is replaced like any other.
    let file = "[lanes.default]\nrate = 2\nregions = [\"ap-tokyo\"]";
    let settings = load(file, [("IMAGESHARE_ENDPOINT", "localhost:1")], &Flags::default()).unwrap();
    assert_eq!((settings.lanes[0].limits.rate, &settings.lanes[0].regions), (10.0, &Regions::All));
}

#[test]
fn region_is_given_by_flag_or_vendor_variable() {
    let variable = [("TENCENTCLOUD_REGION", "ap-tokyo")];
    let flags = Flags { region: Some("eu-frankfurt".to_owned()), ..Flags::default() };
    let region = |flags: &Flags| load("", variable, flags).unwrap().region.unwrap().to_string();
    assert_eq!((region(&Flags::default()), region(&flags)), ("ap-tokyo".to_owned(), "eu-frankfurt".to_owned()));
}

#[test]
fn all_problems_are_reported_together() {
    let flags = Flags {
        rate: Some("0".to_owned()),
        lane: Some("us".to_owned()),
        region: Some("tokyo".to_owned()),
        ..Flags::default()
    };
    let variables = [("IMAGESHARE_BATCH", "501"), ("IMAGESHARE_READ_LAG", "soon")];
    let file =
        "[lanes.eu]\nendpoint = \"http://cvm.tencentcloudapi.com\"\nconcurrency = \"fast\"\n[engine]\nattempts = 0";
    let error = load(file, variables, &flags).unwrap_err();
    check_lines(
        &error,
        &[
            ":2: lanes.eu.endpoint: plain http:// to cvm.tencentcloudapi.com, which is not a loopback address \
             (expected https://host[:port] or a bare host; http:// only to a loopback address)",
            "--rate: invalid value \"0\" (expected 0.01 to 1000 requests a second)",
            "IMAGESHARE_BATCH: invalid value \"501\" (expected 1 to 500 accounts per request)",
            ":3: lanes.eu.concurrency: invalid value, which is not shown (expected 1 to 1000 requests in flight)",
            ":5: engine.attempts: invalid value \"0\" (expected 1 to 100 tries)",
            "IMAGESHARE_READ_LAG: invalid value, which is not shown \
             (expected 0s to 10m)",
            "hint: write a length of time as 500ms, 30s or 2h, or as a number of seconds",
            "--lane: invalid value \"us\" (expected a lane of the settings: eu)",
            "--region: invalid value \"tokyo\" (expected a region id such as ap-singapore, at most 32 characters)",
        ],
    );
    let problem = &error.problems[1];
    assert_eq!((&problem.origin, problem.key.as_deref()), (&SettingOrigin::Flag("--rate"), Some("lanes.eu.rate")));
    assert_eq!(problem.fault, SettingsFault::InvalidValue(Some("\"0\"".to_owned())));
}

#[test]
fn overridden_values_are_not_read() {
    let flags = Flags { rate: Some("5".to_owned()), batch: Some("6".to_owned()), ..Flags::default() };
    let file = "[lanes.eu]\nrate = -1\nbatch = []";
    let variables = [("IMAGESHARE_RATE", "topsecret"), ("IMAGESHARE_BATCH", "'quoted'")];
    let settings = load(file, variables, &flags).unwrap();
    assert_eq!((settings.lanes[0].limits.rate, settings.lanes[0].limits.batch), (5.0, 6));
    // Lanes are replaced as a whole.
    let flags = Flags { endpoint: Some("http://127.0.0.1:1".to_owned()), ..Flags::default() };
    assert!(load("[lanes.EU]\nrat = 1", [], &flags).is_ok());
    let address = "[broker]\nurl = \"topsecret\"\nurl_file = \"a\\u0000b\"";
    assert!(load(address, [("IMAGESHARE_BROKER_URL", "amqp://a.example")], &Flags::default()).is_ok());
}

#[test]
fn unknown_keys_are_refused_without_their_values() {
    check(
        "brokers = 1\n[lanes.eu]\nspeed = 1\n[credentials.a]\nsource = \"environment\"\nsecret_key = \"topsecret\"\n\
         [engine]\ncaps = 1\n[http]\nproxies = 1\n\
         [broker]\nuri = \"topsecret\"\n[admin]\naddress = \"x\"",
        &[
            ":1: brokers: unknown key (expected lanes, credentials, accounts, engine, http, broker, admin)",
            "hint: did you mean broker?",
            ":6: credentials.a.secret_key: unknown key (expected source, path, section, profile, role, role_arn, \
             session_name, duration, external_id, credential, provider_id, token_file, endpoint, region)",
            ":3: lanes.eu.speed: unknown key \
             (expected endpoint, regions, credential, account, rate, batch, concurrency, paused)",
            ":8: engine.caps: unknown key (expected attempts, cap, write_lag, read_lag, image_wait)",
            "hint: did you mean cap?",
            ":10: http.proxies: unknown key (expected connect_timeout, call_timeout, ca_file, proxy, no_proxy)",
            ":12: broker.uri: unknown key (expected url, url_file, management_url, \
             management_url_file, prefetch, heartbeat, lease, ca_file, client_certificate, client_key)",
            "hint: did you mean url?",
            ":14: admin.address: unknown key (expected listen, readiness)",
        ],
    );
}

#[test]
fn unknown_variables_are_refused() {
    let load = |variable: (&str, &str)| load("", [variable], &Flags::default());
    let refused = |name: &str, lines: &[&str]| check_lines(&load((name, "topsecret")).unwrap_err(), lines);
    refused("IMAGESHARE_RAET", &["IMAGESHARE_RAET: unknown variable", "hint: did you mean IMAGESHARE_RATE?"]);
    refused(
        "IMAGESHARE_READ_LAGS",
        &["IMAGESHARE_READ_LAGS: unknown variable", "hint: did you mean IMAGESHARE_READ_LAG?"],
    );
    refused("IMAGESHARE_COLOUR", &["IMAGESHARE_COLOUR: unknown variable"]);
    refused("IMAGESHARE_PORT_OF_ADMIN", &["IMAGESHARE_PORT_OF_ADMIN: unknown variable"]);
    assert!(load(("IMAGESHARE_COLOUR", "")).is_ok(), "an empty variable counts as unset");
    assert!(load(("OTHER_RATE", "x")).is_ok());
    // A cluster sets these in each pod of a namespace that has services `imageshare` and `imageshare-admin`.
    for name in [
        "IMAGESHARE_SERVICE_HOST",
        "IMAGESHARE_SERVICE_PORT",
        "IMAGESHARE_SERVICE_PORT_HTTP",
        "IMAGESHARE_PORT",
        "IMAGESHARE_PORT_9701_TCP",
        "IMAGESHARE_PORT_9701_TCP_ADDR",
        "IMAGESHARE_ADMIN_SERVICE_HOST",
        "IMAGESHARE_ADMIN_PORT_9701_TCP_PROTO",
    ] {
        assert!(load((name, "tcp://10.0.0.1:9701")).is_ok(), "{name}");
    }
}

#[test]
fn empty_variables_count_as_unset() {
    for name in
        ["IMAGESHARE_RATE", "IMAGESHARE_JSON", "IMAGESHARE_CONFIG", "IMAGESHARE_LANE", "HTTPS_PROXY", "NO_PROXY"]
    {
        assert!(load("", [(name, "")], &Flags::default()).is_ok(), "{name}");
    }
    let settings = load("[lanes.eu]\nrate = 2", [("IMAGESHARE_RATE", "")], &Flags::default()).unwrap();
    assert_eq!(settings.lanes[0].limits.rate, 2.0);
}

#[test]
fn former_names_of_lags_are_accepted() {
    for name in ["IMAGESHARE_WRITE_LAG", "IMAGESHARE_LANDING"] {
        let settings = load("", [(name, "7s")], &Flags::default()).unwrap();
        assert_eq!(settings.limits.write_lag, Millis(7_000), "{name}");
    }
    for name in ["IMAGESHARE_READ_LAG", "IMAGESHARE_READ_DELAY"] {
        let settings = load("", [(name, "7s")], &Flags::default()).unwrap();
        assert_eq!(settings.limits.read_lag, Millis(7_000), "{name}");
    }
}

#[test]
fn output_and_waits_have_origins_too() {
    let variables = [("IMAGESHARE_LOG", "debug"), ("IMAGESHARE_JSON", "1"), ("IMAGESHARE_GRACE", "1m")];
    let flags = Flags { quiet: true, give_up_after: Some("5".to_owned()), ..Flags::default() };
    let settings = load("", variables, &flags).unwrap();
    let OutputOptions { json, quiet, log } = settings.output;
    assert_eq!((json, quiet, log), (true, true, tracing::Level::DEBUG));
    assert_eq!((settings.give_up_after.as_secs(), settings.grace.as_secs()), (5, 60));
    assert_eq!(described(&settings, "quiet"), ("true".to_owned(), "--quiet".to_owned()));
    assert_eq!(described(&settings, "log"), ("debug".to_owned(), "IMAGESHARE_LOG".to_owned()));
    assert_eq!(Settings::output(&flags, &Environment::of(variables)), Ok(settings.output));
    let error = load("", [("IMAGESHARE_LOG", "dbug"), ("IMAGESHARE_QUIET", "please")], &Flags::default()).unwrap_err();
    check_lines(
        &error,
        &[
            "IMAGESHARE_QUIET: invalid value, which is not shown (expected true, yes, on or 1, or false, no, off or 0)",
            "IMAGESHARE_LOG: invalid value, which is not shown (expected error, warn, info, debug or trace)",
            "hint: did you mean debug?",
        ],
    );
}

/// A setting that is missing in what `check` prints would be missing in the manual too.
#[test]
fn manual_has_table_of_all_settings() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/jobs.md");
    let page = std::fs::read_to_string(page).unwrap();
    let table = Settings::table();
    assert!(page.contains(&table), "docs/jobs.md needs this table:\n{table}");
    let file = "[lanes.NAME]\n[credentials.NAME]\nsource = \"profile\"".replace("NAME", "name");
    for EffectiveSetting { key, .. } in load_file(&file).unwrap().describe() {
        let key = key.replace(".name.", ".NAME.");
        let flag = format!("`--{}`", key.replace('_', "-"));
        let is_listed = table.contains(&format!("| `{key}` |")) || table.contains(&flag);
        assert!(is_listed || key.starts_with("credentials.default"), "{key}");
    }
}

#[test]
fn values_of_another_type_are_refused() {
    check("lanes = 3", &[":1: invalid type (expected a table)"]);
    check("[engine]\n\n[http]\n[lanes]\neu = \"topsecret\"", &[":5: invalid type (expected a table)"]);
    check(
        "[engine]\ncap = true\n[lanes.eu]\nregions = \"ap-tokyo\"\n[lanes.us]\nregions = [1,\n \"x\", []]\nendpoint = \"a.example\"",
        &[
            ":4: lanes.eu.regions: invalid type string (expected a region id such as ap-singapore, at most 32 characters)",
            ":6: lanes.us.regions[0]: invalid value \"1\" \
             (expected a region id such as ap-singapore, at most 32 characters)",
            ":2: engine.cap: invalid type boolean (expected 1 to 100000 accounts per image)",
        ],
    );
    check(
        "[lanes.us]\nregions = [\"ap-tokyo\",\n \"topsecret\"]",
        &[":3: lanes.us.regions[1]: invalid value, which is not shown \
           (expected a region id such as ap-singapore, at most 32 characters)"],
    );
    check(
        "[lanes.eu]\nregions = []",
        &[":2: lanes.eu.regions: empty list (expected a region id such as ap-singapore, at most 32 characters)"],
    );
    check(
        "[lanes.EU]\n",
        &[":1: lanes.EU: invalid name of a lane (expected 1 to 63 lowercase letters, digits and hyphens)"],
    );
}

#[test]
fn connect_timeout_is_within_call_timeout() {
    check(
        "[http]\nconnect_timeout = \"11s\"",
        &[":2: http.connect_timeout: invalid value 11s (expected at most http.call_timeout, 10s)"],
    );
    check(
        "[http]\ncall_timeout = \"2s\"",
        &[":2: http.call_timeout: invalid value 2s (expected at least http.connect_timeout, 3s)"],
    );
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
            Ok(settings) => format!(
                "{settings:?} {:?} {:?}",
                settings.describe(),
                settings.broker.url().map_err(|error| error.to_string())
            ),
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
            "IMAGESHARE_LOG",
            "IMAGESHARE_JSON",
            "IMAGESHARE_GRACE",
        ] {
            check(variable, Settings::load(&Flags::default(), &Environment::of([(variable, secret)])));
        }
    }
}

#[test]
fn invalid_toml_is_reported_by_line_alone() {
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
        assert!(error.starts_with("imageshare.toml:"), "{error}");
        assert!(!error.contains("topsecret"), "{error}");
    }
}

#[test]
fn flag_or_variable_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("imageshare.toml");
    std::fs::write(&path, "[engine]\ncap = 7").unwrap();
    let variable = Environment::of([("IMAGESHARE_CONFIG", path.to_str().unwrap())]);
    assert_eq!(Settings::load(&Flags::default(), &variable).unwrap().limits.cap, 7);
    let of_flag = |path: &std::path::Path, environment: &Environment| {
        let flags = Flags { config: Some(path.into()), ..Flags::default() };
        Settings::load(&flags, environment).unwrap_err().to_string()
    };
    for (path, problem) in
        [("'a.toml'", "path is in quotation marks"), ("[http]\n", "path has line ends or other control characters")]
    {
        let expected = format!("{problem} (expected the path of a settings file)");
        let variable = Settings::load(&Flags::default(), &Environment::of([("IMAGESHARE_CONFIG", path)]));
        assert_eq!(variable.unwrap_err().to_string(), format!("IMAGESHARE_CONFIG: {expected}"));
        assert_eq!(of_flag(path.as_ref(), &Environment::of([])), format!("--config: {expected}"));
    }
    let empty = of_flag("".as_ref(), &Environment::of([]));
    assert_eq!(empty, "--config: empty path (expected the path of a settings file)");
    let missing = of_flag(&folder.path().join("missing.toml"), &variable);
    assert!(missing.contains("missing.toml: cannot read the file: No such file"), "{missing}");
}

#[test]
fn admin_address_is_unset_by_default() {
    assert_eq!(load_file("").unwrap().admin, None);
    let file = "[admin]\nlisten = \"127.0.0.1:9701\"";
    let shown = |variables: &[(&str, &str); 1], flag: Option<&str>| {
        let flags = Flags { admin: flag.map(str::to_owned), ..Flags::default() };
        described(&load(file, *variables, &flags).unwrap(), "admin.listen").0
    };
    let none = [("IMAGESHARE_ADMIN", "")];
    let variable = [("IMAGESHARE_ADMIN", "[::1]:9702")];
    assert_eq!(shown(&none, None), "127.0.0.1:9701");
    assert_eq!(shown(&variable, None), "[::1]:9702");
    assert_eq!(shown(&variable, Some("0.0.0.0:9703")), "0.0.0.0:9703");
    check(
        "[admin]\nlisten = \"9701\"",
        &[":2: admin.listen: invalid value \"9701\" (expected an address and a port, such as 127.0.0.1:9701)"],
    );
}

#[test]
fn tls_and_proxy_are_set_without_showing_passwords() {
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
    check_lines(&wrong, &["HTTPS_PROXY: unknown scheme (expected http://[user:password@]host:port of a proxy)"]);
    check(
        "[broker]\nurl = \"amqp://b.example\"\nca_file = \"/b.pem\"\nclient_key = \"/c.key\"",
        &[
            ":4: broker.client_key: set without broker.client_certificate (expected both or neither)",
            ":3: broker.ca_file: set beside an amqp:// address (expected an amqps:// address)",
            ":4: broker.client_key: set beside an amqp:// address (expected an amqps:// address)",
        ],
    );
}

#[test]
fn tls_files_need_an_address_with_tls() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"amqp://b.example\n").unwrap();
    let url_file = format!("url_file = {:?}\nca_file = \"/b.pem\"\n", file.path());
    let settings = load_file(&format!("[broker]\n{url_file}")).unwrap();
    let error = settings.broker.url().unwrap_err().to_string();
    assert!(error.starts_with("broker.url_file: an amqp:// address beside broker.ca_file"), "{error}");
    // The management interface uses them.
    let management = "management_url = \"https://u:p@b.example:15671\"\n";
    for address in [&url_file, "url = \"amqp://b.example\"\nca_file = \"/b.pem\"\n"] {
        let settings = load_file(&format!("[broker]\n{management}{address}")).unwrap();
        assert!(settings.broker.url().is_ok(), "{address}");
    }
}

#[test]
fn lists_of_accounts_have_files() {
    let settings = load_file("[accounts]\nproduction = \"./production.txt\"\nqa = \"/etc/qa.csv\"").unwrap();
    let expected = [("production", "./production.txt"), ("qa", "/etc/qa.csv")];
    let expected = expected.map(|(name, path)| (name.to_owned(), path.into())).into();
    assert_eq!(settings.account_lists, expected);
    assert_eq!(described(&settings, "accounts.qa").0, "/etc/qa.csv");
    check(
        "[accounts]\nQA = \"a.txt\"\nqa = \"\"\nnight = [1]",
        &[
            ":2: accounts.QA: invalid name of a list (expected 1 to 63 lowercase letters, digits and hyphens)",
            ":4: accounts.night: invalid type array (expected the path of a file of account ids)",
            ":3: accounts.qa: empty path (expected the path of a file of account ids)",
        ],
    );
    check("accounts = 3", &[":1: invalid type (expected a table)"]);
}
