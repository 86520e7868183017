//! Where credentials come from, each against a stand-in that checks what it is asked, and what becomes of the work when
//! one ends.

use std::fs;

use serde_json::json;

use kit::{Ended, Folder, Program, Sandbox};

const ROLE: &str = "qcs::cam::uin/100009999999:roleName/share";

/// The sources that ask somebody else, and which calls of the sandbox each makes.
const ASKING: [(&str, &str); 3] = [
    ("source = \"cvm_role\"\nendpoint = \"{sandbox}\"", "InstanceRole"),
    (
        "source = \"assume_role\"\nrole_arn = \"{role}\"\ncredential = \"base\"\nexternal_id = \"ab\"\n\
         [credentials.base]\nsource = \"environment\"",
        "AssumeRole",
    ),
    ("source = \"tke_oidc\"\ntoken_file = \"{folder}/token\"", "AssumeRoleWithWebIdentity"),
];

/// Lists an image with this credential.
fn list(sandbox: &Sandbox, folder: &Folder, credential: &str) -> Ended {
    folder.file("token", "a.b.c\n");
    let endpoint = format!("http://{}", sandbox.address);
    let credential = credential
        .replace("{sandbox}", &endpoint)
        .replace("{role}", ROLE)
        .replace("{folder}", folder.path("").to_str().unwrap().trim_end_matches('/'));
    let settings = format!(
        "[lanes.default]\nendpoint = \"{endpoint}\"\ncredential = \"x\"\n[http]\nconnect_timeout = \"2s\"\n\
         call_timeout = \"2s\"\n[credentials.x]\n{credential}\n"
    );
    Program::new(["list", "--image", "img-6pb6lrmy", "--region", "ap-singapore", "--config"])
        .arg(folder.file("settings.toml", settings))
        .key("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
        .env("HOME", folder.path(""))
        .env("TKE_PROVIDER_ID", "cls-12345678")
        .env("TKE_ROLE_ARN", ROLE)
        .env("TKE_REGION", "ap-singapore")
        .run()
}

#[test]
fn every_source_gives_a_credential_that_works() {
    let (sandbox, folder) = (Sandbox::start(&[]), Folder::new());
    let key = sandbox.temporary_key(3_600);
    folder.file("key.json", key.to_string());
    let part = |name: &str| key[name].as_str().unwrap().to_owned();
    for (file, member) in [("secret_id", "secret_id"), ("secret_key", "secret_key"), ("token", "token")] {
        fs::create_dir_all(folder.path("mounted")).unwrap();
        folder.file(&format!("mounted/{file}"), part(member));
    }
    let profile = format!(
        "[golden]\nsecret_id = {}\nsecret_key = {}\ntoken = {}\n",
        part("secret_id"),
        part("secret_key"),
        part("token")
    );
    folder.file("profile", profile);
    fs::create_dir(folder.path(".tccli")).unwrap();
    let kept = json!({
        "secretId": part("secret_id"), "secretKey": part("secret_key"), "token": part("token"),
        "expiresAt": 1_900_000_000, "type": "oauth",
    });
    folder.file(".tccli/default.credential", kept.to_string());

    let local = [
        "source = \"environment\"",
        "source = \"profile\"\npath = \"{folder}/profile\"\nsection = \"golden\"",
        "source = \"tccli\"",
        "source = \"file\"\npath = \"{folder}/key.json\"",
        "source = \"file\"\npath = \"{folder}/mounted\"",
    ];
    for credential in local {
        list(&sandbox, &folder, credential).check(0);
    }
    for (credential, action) in ASKING {
        let before = sandbox.stats()["by_action"][action].as_u64().unwrap_or_default();
        list(&sandbox, &folder, credential).check(0);
        assert_eq!(sandbox.stats()["by_action"][action], before + 1, "{action}");
    }
    let codes = sandbox.stats()["by_code"].clone();
    assert_eq!(codes.as_object().unwrap().keys().collect::<Vec<_>>(), ["ok"], "{codes}");
}

#[test]
fn whoever_gives_credentials_and_fails_is_named_with_what_came() {
    let (sandbox, folder) = (Sandbox::start(&[]), Folder::new());
    let endpoint = format!("http://{}", sandbox.address);
    for (credential, action) in ASKING {
        for (fault, words) in [
            ("http_500", "status 500"),
            ("truncate", "ended the connection before its answer was complete"),
            ("hang", "no answer within 2 s"),
            ("reset_before", "ended the connection before its answer was complete"),
        ] {
            sandbox.faults(&json!({"script": [{"action": action, "times": 9, "do": fault}]}));
            let ended = list(&sandbox, &folder, credential);
            assert_eq!(ended.code, Some(4), "{action} {fault}: {}", ended.stderr);
            assert!(ended.stderr.starts_with("imageshare: lane default: "), "{}", ended.stderr);
            assert!(ended.stderr.contains(&endpoint), "{action} {fault}: {}", ended.stderr);
            assert!(ended.stderr.contains(words), "{action} {fault}: {}", ended.stderr);
        }
    }
    sandbox.faults(&json!({"script": [{"action": "AssumeRole", "do": "code:ResourceNotFound.RoleNotFound"}]}));
    let ended = list(&sandbox, &folder, ASKING[1].0);
    assert!(ended.stderr.contains("AssumeRole: ResourceNotFound.RoleNotFound"), "{}", ended.stderr);
    assert_eq!(ended.code, Some(3));
    // Expired before it was given: who asks the API with it is told so.
    sandbox.faults(&json!({"script": [{"action": "InstanceRole", "times": 9, "do": "expired_credential"}]}));
    let ended = list(&sandbox, &folder, ASKING[0].0);
    assert!(ended.stderr.contains("AuthFailure.TokenFailure"), "{}", ended.stderr);
    assert_eq!(ended.code, Some(3));
}

#[test]
fn a_clock_that_is_wrong_is_corrected_for_temporary_keys_too() {
    let (sandbox, folder) = (Sandbox::start(&[]), Folder::new());
    sandbox.faults(&json!({"script": [{"action": "AssumeRole", "times": 2, "do": "skew"}]}));
    list(&sandbox, &folder, ASKING[1].0).check(0);
    assert_eq!(sandbox.stats()["by_code"]["AuthFailure.SignatureExpire"], 1);
}

#[test]
fn the_account_of_the_key_is_left_out_and_where_it_is_not_known_the_api_says_so() {
    let sandbox = Sandbox::start(&["--rps", "0"]);
    let share = |image: &str| {
        let accounts = ["--account", "1038493875", "--account", "100009999999", "--account", "1038493876"];
        sandbox.program("share").args(["--image", image, "--region", "ap-singapore"]).args(accounts).run()
    };
    let failed = |ended: Ended| {
        let report = ended.check(1).json().remove(0);
        assert_eq!(report["changed"], json!(["1038493875", "1038493876"]), "{report}");
        report["failed"][0]["code"].as_str().unwrap().to_owned()
    };
    assert_eq!(failed(share("img-6pb6lrmy")), "Local.OwnAccount");
    assert_eq!(sandbox.writes(), 1, "no list was split");
    // A policy that does not allow it.
    let denied = json!({"action": "GetCallerIdentity", "times": 99, "do": "code:UnauthorizedOperation"});
    sandbox.faults(&json!({"script": [denied]}));
    assert_eq!(failed(share("img-6pb6lrm2")), "FailedOperation.AccountIsYourSelf");
}
