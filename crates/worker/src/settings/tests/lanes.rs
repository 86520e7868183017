//! Lanes and credentials.

use super::*;

#[test]
fn lanes_of_one_credential_differ_in_host() {
    check(
        "[lanes.a]\nregions = [\"ap-tokyo\"]\n[lanes.b]\nregions = [\"eu-frankfurt\"]",
        &[":3: lanes.b: credential default and host cvm.intl.tencentcloudapi.com as in lane a \
           (expected one lane per credential and host, since they have one rate limit)"],
    );
    let shared = |region: &str, b: &str| {
        check(
            &format!("[lanes.a]\nregions = [\"ap-tokyo\", \"eu-frankfurt\"]\n[lanes.b]\nendpoint = \"b.example\"\n{b}"),
            &[&format!(
                ":3: lanes.b: credential default and region {region} as in lane a \
                 (expected other regions, since two lanes of one account would write to one image at once)"
            )],
        );
    };
    shared("ap-tokyo", "");
    shared("eu-frankfurt", "regions = [\"eu-frankfurt\", \"na-ashburn\"]");
    let own = "[credentials.b]\nsource = \"environment\"\n[lanes.a]\n[lanes.b]\ncredential = \"b\"";
    assert_eq!(load_file(own).unwrap().lanes.len(), 2);
}

#[test]
fn credentials_are_checked_without_showing_misplaced_keys() {
    let sources = "environment, profile, tccli, file, cvm_role, assume_role or tke_oidc";
    check(
        "[credentials.a]\nsource = \"topsecret\"\n[credentials.b]\npath = \"/x\"\n\
         [credentials.c]\nsource = \"environment\"\npath = \"/x\"\n[lanes.eu]\ncredential = \"d\"",
        &[
            &format!(":2: credentials.a.source: invalid value, which is not shown (expected {sources})"),
            &format!(":3: credentials.b.source: missing (expected {sources})"),
            ":7: credentials.c.path: not used by source environment (expected it with source profile, tccli or file)",
            ":9: lanes.eu.credential: invalid value, which is not shown \
             (expected the name of a credential: a, b, c, default)",
        ],
    );
    check(
        "[credentials.\"a\\u001b\"]\nsource = \"environment\"\n[credentials.b]\nsource = \"profile\"\npath = \"\"\n\
         [credentials.c]\nsource = \"profile\"\npath = \"secret_key = topsecret\\n\"",
        &[
            ":1: credentials.[name not shown]: invalid name of a credential (expected 1 to 63 letters, digits, dots, \
             spaces, underscores or hyphens, and nothing that looks like a key)",
            ":5: credentials.b.path: empty path (expected the path of a profile file)",
            ":8: credentials.c.path: path has line ends or other control characters \
             (expected the path of a profile file)",
        ],
    );
}

#[test]
fn every_source_can_be_set() {
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
fn all_problems_of_roles_are_reported() {
    check(
        "[credentials.a]\nsource = \"assume_role\"\nrole_arn = \"topsecret\"\nsession_name = \"x\"\nduration = \"13h\"\n\
         credential = \"b\"\n[credentials.b]\nsource = \"assume_role\"\n[credentials.c]\nsource = \"file\"\n\
         [credentials.d]\nsource = \"cvm_role\"\nrole = \"../x\"\nrole_arn = \"x\"",
        &[
            ":3: credentials.a.role_arn: invalid value, which is not shown \
             (expected qcs::cam::uin/UIN:roleName/NAME or :role/ID)",
            ":4: credentials.a.session_name: invalid value, which is not shown \
             (expected 2 to 128 letters, digits and _+=,.@-)",
            ":5: credentials.a.duration: invalid value \"13h\" \
             (expected 1s to 12h in whole seconds)",
            "hint: write a length of time as 500ms, 30s or 2h, or as a number of seconds",
            ":6: credentials.a.credential: invalid value, which is not shown \
             (expected the name of a credential that is not an assumed role: c, d, default)",
            ":7: credentials.b.role_arn: missing (expected qcs::cam::uin/UIN:roleName/NAME)",
            ":9: credentials.c.path: missing (expected the path of a file or a folder with a credential)",
            ":13: credentials.d.role: invalid value, which is not shown \
             (expected 1 to 128 letters, digits and _+=,.@-)",
            ":14: credentials.d.role_arn: invalid value, which is not shown \
             (expected qcs::cam::uin/UIN:roleName/NAME or :role/ID)",
            ":14: credentials.d.role_arn: not used by source cvm_role \
             (expected it with source assume_role or tke_oidc)",
        ],
    );
    check(
        "[credentials.default]\nsource = \"assume_role\"\nrole_arn = \"qcs::cam::uin/100009999999:roleName/share\"",
        &[":1: credentials.default.credential: missing \
           (expected the name of a credential that is not an assumed role: )"],
    );
    // The identity of a pod is exchanged for a role too.
    check(
        "[credentials.pod]\nsource = \"tke_oidc\"\n[credentials.default]\nsource = \"assume_role\"\n\
         role_arn = \"qcs::cam::uin/100009999999:roleName/share\"\ncredential = \"pod\"",
        &[
            ":6: credentials.default.credential: invalid value, which is not shown \
             (expected the name of a credential that is not an assumed role: )",
            ":6: credentials.default.credential: missing \
             (expected the name of a credential that is not an assumed role: )",
        ],
    );
}

#[test]
fn lanes_of_one_key_differ_in_host() {
    let (one, other): (SecretId, SecretId) = ("AKIDONE".parse().unwrap(), "AKIDOTHER".parse().unwrap());
    let sources = "[credentials.env]\nsource = \"environment\"\n[lanes.b]\ncredential = \"env\"\n";
    let lanes = |a: &str, b: &str| load_file(&format!("{sources}{b}\n[lanes.a]\n{a}")).unwrap();
    let check = |settings: &Settings, ids: [Option<&SecretId>; 2], expected: &[&str]| {
        let problems = settings.check_keys(ids).map_or_else(|error| error.to_string(), |()| String::new());
        assert_eq!(problems.lines().collect::<Vec<_>>(), expected);
    };
    let same_host = lanes("regions = [\"ap-tokyo\"]", "regions = [\"eu-frankfurt\"]");
    check(
        &same_host,
        [Some(&one), Some(&one)],
        &["lanes.b: credential env has the key of credential default, \
           and host cvm.intl.tencentcloudapi.com as in lane a \
           (expected one lane per credential and host, since they have one rate limit)"],
    );
    check(&same_host, [Some(&one), Some(&other)], &[]);
    check(&same_host, [Some(&one), None], &[]);
    check(&same_host, [None, None], &[]);
    let same_region = lanes("", "endpoint = \"b.example\"\nregions = [\"ap-tokyo\"]");
    check(
        &same_region,
        [Some(&one), Some(&one)],
        &["lanes.b: credential env has the key of credential default, and region ap-tokyo as in lane a \
           (expected other regions, since two lanes of one account would write to one image at once)"],
    );
    let nothing = lanes("regions = [\"eu-frankfurt\"]", "endpoint = \"b.example\"\nregions = [\"ap-tokyo\"]");
    check(&nothing, [Some(&one), Some(&one)], &[]);
}

#[test]
fn lane_names_account_of_its_key() {
    let settings = load_file("[lanes.eu]\naccount = \"100009999999\"").unwrap();
    assert_eq!(settings.lanes[0].account, Some("100009999999".parse().unwrap()));
    assert_eq!(described(&settings, "lanes.eu.account").0, "100009999999");
    assert_eq!(load_file("[lanes.eu]").unwrap().lanes[0].account, None);
    for wrong in ["AKIDEXAMPLE", "0100009999999", "1234", ""] {
        let problem =
            ":2: lanes.eu.account: invalid value, which is not shown (expected an account id of 5 to 19 digits)";
        check(&format!("[lanes.eu]\naccount = \"{wrong}\""), &[problem]);
    }
}
