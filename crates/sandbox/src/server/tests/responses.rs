//! Responses to correct requests.

use std::time::Duration;

use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{
    super::Config,
    kit::{Client, IMAGE, open, share, start},
};
use crate::world::World;

#[tokio::test]
async fn state_is_replaced_by_what_was_read() {
    let client = open().await;
    client.share(&["10001"]).await;
    let (_, before) = client.admin(Method::GET, "state", "").await;
    assert_eq!(before["images"][IMAGE]["region"], "ap-singapore");
    client.share(&["10002"]).await;
    assert_eq!(client.admin(Method::PUT, "state", before.to_string()).await, (StatusCode::OK, json!({})));
    assert_eq!(client.admin(Method::GET, "state", "").await.1, before);
    assert_eq!(client.share(&["10001"]).await, "FailedOperation.AccountAlreadyExists");
    let (status, refused) = client.admin(Method::PUT, "state", r#"{"version": 2}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert_eq!(refused, json!({"error": "line 1: version: 2 is of a newer imageshare (expected 1)"}));
    assert_eq!(client.admin(Method::GET, "state", "").await.1, before);
}

#[tokio::test]
async fn image_is_shared_listed_and_cancelled() {
    let client = open().await;
    let answer = client.call("ModifyImageSharePermission", share(&["1038493875", "20000"])).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.headers["content-type"], "application/json");
    assert!(answer.headers["date"].to_str().unwrap().ends_with(" GMT"));
    assert_eq!(answer.response().as_object().unwrap().len(), 1);
    assert_eq!(answer.response()["RequestId"].as_str().unwrap().len(), 36);

    let listed = client.call("DescribeImageSharePermission", json!({"ImageId": IMAGE})).await.response();
    let set = listed["SharePermissionSet"].as_array().unwrap();
    let ids: Vec<_> = set.iter().map(|entry| entry["AccountId"].as_str().unwrap()).collect();
    assert_eq!(ids, ["20000", "1038493875"]);
    assert!(set[0]["CreatedTime"].as_str().unwrap().starts_with("20"));
    assert_eq!(client.state().await, json!(["1038493875", "20000"]));

    let cancel = json!({"ImageId": IMAGE, "AccountIds": ["20000"], "Permission": "CANCEL"});
    assert_eq!(client.call("ModifyImageSharePermission", cancel).await.code(), "ok");
    assert_eq!(client.state().await, json!(["1038493875"]));
}

#[tokio::test]
async fn get_and_form_of_both_versions_share() {
    let client = open().await;
    let own = |account| {
        [
            ("Action", "ModifyImageSharePermission"),
            ("ImageId", IMAGE),
            ("AccountIds.0", account),
            ("Permission", "SHARE"),
        ]
    };
    for (account, method, digest) in [
        ("10001", Method::GET, "HmacSHA1"),
        ("10002", Method::GET, "HmacSHA256"),
        ("10003", Method::POST, "HmacSHA1"),
        ("10004", Method::POST, "HmacSHA256"),
    ] {
        let answer = client.send(client.signed_v1(method, digest, &own(account))).await.unwrap();
        assert_eq!(answer.code(), "ok", "{}", answer.text);
    }
    let uri = format!("/?Permission=SHARE&AccountIds.0=10005&ImageId={IMAGE}");
    let form = "application/x-www-form-urlencoded";
    let get = client.signed(Method::GET, &uri, form, "ModifyImageSharePermission", "");
    let answer = client.send(get).await.unwrap();
    assert_eq!(answer.code(), "ok");
    assert_eq!(client.state().await, json!(["10001", "10002", "10003", "10004", "10005"]));

    let (_, log) = client.admin(Method::GET, "requests?last=2", "").await;
    let entries = log["requests"].as_array().unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[0]["signature_version"], "v1");
    let mut last = entries[1].clone();
    assert!(last.as_object_mut().unwrap().remove("time").unwrap().as_str().unwrap().ends_with('Z'));
    let expected = json!({
        "action": "ModifyImageSharePermission", "code": "ok", "image_id": IMAGE, "permission": "SHARE",
        "accounts": ["10005"], "signature_version": "TC3", "client_tag": "kit", "fault": null,
        "request_id": answer.response()["RequestId"], "host": client.host, "method": "GET", "region": "ap-singapore",
        "secret_id": "AKIDSANDBOXEXAMPLE",
    });
    assert_eq!(last, expected);
}

#[tokio::test]
async fn host_header_is_verified_verbatim() {
    let mut client = open().await;
    client.host = format!("http://{}", client.sandbox.addr());
    assert_eq!(client.share(&["10001"]).await, "ok");
}

#[tokio::test]
async fn images_are_found_by_id_filter_and_page() {
    let client = start(Config { rps: 0, world: World::example(), ..Config::default() }).await;
    let names = |answer: super::kit::Answer| -> Vec<String> {
        let response = answer.response();
        let set = response["ImageSet"].as_array().unwrap_or_else(|| panic!("{}", answer.text)).clone();
        set.iter().map(|image| image["ImageId"].as_str().unwrap().to_owned()).collect()
    };
    let by_id = client.call("DescribeImages", json!({"ImageIds": [IMAGE, "img-00000000"]})).await;
    let image = by_id.response()["ImageSet"][0].clone();
    assert_eq!(by_id.response()["TotalCount"], 1);
    assert_eq!(image["ImageState"], "NORMAL");
    assert_eq!(image["ImageCreator"], "100009999999");
    assert_eq!(image["LicenseType"], "TencentCloud");

    let all = client.call("DescribeImages", json!({})).await;
    assert_eq!(all.response()["TotalCount"], 3);
    let page = client.call("DescribeImages", json!({"Offset": 1, "Limit": 1})).await;
    assert_eq!(page.response()["TotalCount"], 3);
    assert_eq!(names(page), names(all)[1..2]);
    let filters = json!({"Filters": [{"Name": "image-name", "Values": ["golden-2026.11-singapore"]}]});
    assert_eq!(names(client.call("DescribeImages", filters).await), [IMAGE]);
    let flat = "/?Filters.0.Name=image-id&Filters.0.Values.0=img-6pb6lrmy&Limit=5";
    let get = client.signed(Method::GET, flat, "application/x-www-form-urlencoded", "DescribeImages", "");
    assert_eq!(names(client.send(get).await.unwrap()), [IMAGE]);
}

#[tokio::test]
async fn images_are_sorted_by_time_and_have_tags() {
    let image = |id: &str, rest: &str| format!("[[images]]\nid = {id:?}\nregion = \"ap-singapore\"\n{rest}\n");
    let world = [
        "[[keys]]\nsecret_id = \"AKIDSANDBOXEXAMPLE\"\nsecret_key = \"sandbox-secret-key-example\"\n\
         account = \"100009999999\"\n"
            .to_owned(),
        image("img-aaaa", "created = \"2026-01-01T00:00:00Z\""),
        image("img-bbbb", "created = \"2026-11-03T00:00:00Z\"\ntags = { env = \"prod\" }"),
        image("img-cccc", ""),
    ];
    let world = World::parse(&world.concat()).unwrap();
    let client = start(Config { rps: 0, world, ..Config::default() }).await;
    let ids = async |parameters: Value| {
        let response = client.call("DescribeImages", parameters).await.response();
        let set = response["ImageSet"].as_array().unwrap().clone();
        set.iter().map(|image| image["ImageId"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(json!({})).await, ["img-bbbb", "img-cccc", "img-aaaa"]);
    for (name, value, expected) in [
        ("tag:env", "prod", 1),
        ("tag:env", "test", 0),
        ("tag-key", "env", 1),
        ("tag-value", "prod", 1),
        ("dedicated-cluster-id", "cluster-1", 0),
        ("cdc-cache-status", "CACHED_ALL", 0),
    ] {
        let filters = json!({"Filters": [{"Name": name, "Values": [value]}]});
        assert_eq!(ids(filters).await.len(), expected, "{name}={value}");
    }
    let image = client.call("DescribeImages", json!({"ImageIds": ["img-bbbb"]})).await.response();
    let image = &image["ImageSet"][0];
    assert_eq!(image["CreatedTime"], "2026-11-03T00:00:00Z");
    assert_eq!(image["Tags"], json!([{"Key": "env", "Value": "prod", "tagKey": "env", "tagValue": "prod"}]));
}

#[tokio::test]
async fn trace_id_is_echoed() {
    let client = open().await;
    let mut request = client.post("DescribeImages", "{}");
    request.headers_mut().insert("x-tc-traceid", HeaderValue::from_static("trace-1"));
    assert_eq!(client.send(request).await.unwrap().headers["x-tc-traceid"], "trace-1");
    assert!(!client.call("DescribeImages", json!({})).await.headers.contains_key("x-tc-traceid"));
}

#[tokio::test]
async fn key_of_assumed_role_needs_its_token() {
    let mut client = open().await;
    let identity = client.call("GetCallerIdentity", json!({})).await.response();
    assert_eq!(identity["AccountId"], "100009999999");
    let role = json!({
        "RoleArn": "qcs::cam::uin/100012345678:roleName/share", "RoleSessionName": "imageshare", "DurationSeconds": 900,
    });
    let answer = client.call("AssumeRole", role).await.response();
    let credential = |name: &str| answer["Credentials"][name].as_str().unwrap().to_owned();
    client.secret_id = credential("TmpSecretId");
    client.secret_key = credential("TmpSecretKey");
    assert_eq!(client.call("GetCallerIdentity", json!({})).await.code(), "AuthFailure.TokenFailure");
    client.token = Some(credential("Token"));
    let identity = client.call("GetCallerIdentity", json!({})).await.response();
    assert_eq!(identity["AccountId"], "100012345678");
    client.token = Some("other".to_owned());
    assert_eq!(client.call("GetCallerIdentity", json!({})).await.code(), "AuthFailure.TokenFailure");
    let (_, log) = client.admin(Method::GET, "requests", "").await;
    assert!(!log.to_string().contains(&client.secret_key));
}

#[tokio::test]
async fn identity_token_needs_no_signature() {
    let world = "open_accounts = true\n[[keys]]\nsecret_id = \"A\"\nsecret_key = \"B\"\naccount = \"100009999999\"\n\
                 [[web_identities]]\nprovider_id = \"cls-12345678\"\ntoken = \"a.b.c\"";
    let mut client = start(Config { world: World::parse(world).unwrap(), ..Config::default() }).await;
    let unsigned = async |client: &Client, action: &str, parameters: &Value| {
        let mut request = client.post(action, &parameters.to_string());
        request.headers_mut().insert("authorization", HeaderValue::from_static("SKIP"));
        client.send(request).await.unwrap()
    };
    let mut role = json!({
        "ProviderId": "cls-12345678", "WebIdentityToken": "a.b.c", "RoleSessionName": "imageshare",
        "RoleArn": "qcs::cam::uin/100012345678:roleName/share",
    });
    let action = "AssumeRoleWithWebIdentity";
    let answer = unsigned(&client, action, &role).await.response();
    for token in ["a.b.d", "a.b", "a..c"] {
        role["WebIdentityToken"] = json!(token);
        assert_eq!(unsigned(&client, action, &role).await.code(), "InvalidParameter.WebIdentityTokenError");
    }
    let without = unsigned(&client, "GetCallerIdentity", &json!({})).await.code();
    assert_eq!(without, "AuthFailure.InvalidAuthorization");
    let credential = |name: &str| answer["Credentials"][name].as_str().unwrap().to_owned();
    client.secret_id = credential("TmpSecretId");
    client.secret_key = credential("TmpSecretKey");
    client.token = Some(credential("Token"));
    assert_eq!(client.call("GetCallerIdentity", json!({})).await.response()["AccountId"], "100012345678");
}

#[tokio::test]
async fn metadata_returns_role_and_key() {
    let mut client = open().await;
    let get = async |client: &Client, path: &str| {
        let uri = format!("/latest/meta-data/{path}");
        let request = Request::get(uri).header("host", "x").body(Full::default()).unwrap();
        client.send(request).await.unwrap()
    };
    let folder = "cam/security-credentials/";
    assert_eq!(get(&client, folder).await.text, "imageshare");
    let shown: Value = serde_json::from_str(&get(&client, &format!("{folder}imageshare")).await.text).unwrap();
    assert_eq!(shown["Code"], "Success");
    let again = get(&client, &format!("{folder}imageshare")).await;
    assert_eq!(serde_json::from_str::<Value>(&again.text).unwrap(), shown, "the key is kept for half of its lifetime");
    for path in ["cam/security-credentials/other", "cam", "placement/other"] {
        assert_eq!(get(&client, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(get(&client, "placement/region").await.text, "ap-singapore");
    let of = |name: &str| shown[name].as_str().unwrap().to_owned();
    (client.secret_id, client.secret_key, client.token) = (of("TmpSecretId"), of("TmpSecretKey"), Some(of("Token")));
    assert_eq!(client.call("GetCallerIdentity", json!({})).await.response()["AccountId"], "100009999999");
    assert_eq!(client.call("InstanceRole", json!({})).await.code(), "InvalidAction");

    client.faults(json!({"script": [{"action": "InstanceRole", "do": "expired_credential"}]})).await;
    let expired: Value = serde_json::from_str(&get(&client, &format!("{folder}imageshare")).await.text).unwrap();
    assert!(expired["ExpiredTime"].as_u64().unwrap() < shown["ExpiredTime"].as_u64().unwrap() - 7000);

    let other = start(Config { world: World::example(), ..Config::default() }).await;
    assert_eq!(get(&other, folder).await.status, StatusCode::NOT_FOUND, "an instance without a role");
}

#[tokio::test]
async fn temporary_key_is_issued_on_request() {
    let mut client = open().await;
    let request = r#"{"account": "100012345678", "seconds": 900}"#;
    let (status, key) = client.admin(Method::POST, "temporary_key", request).await;
    assert_eq!(status, StatusCode::OK);
    let of = |name: &str| key[name].as_str().unwrap().to_owned();
    (client.secret_id, client.secret_key, client.token) = (of("secret_id"), of("secret_key"), Some(of("token")));
    assert_eq!(client.call("GetCallerIdentity", json!({})).await.response()["AccountId"], "100012345678");
    assert_eq!(client.admin(Method::POST, "temporary_key", "{}").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn latency_delays_only_the_response() {
    let client = start(Config { latency: Duration::from_secs(3600), ..Config::default() }).await;
    let write = client.post("ModifyImageSharePermission", &share(&["10001"]).to_string());
    tokio::select! {
        _ = client.send(write) => panic!("the response was not delayed"),
        () = client.wait_for_state(json!(["10001"])) => {}
    }
}

#[tokio::test]
async fn counters_count_and_reset_restores_world() {
    let client = start(Config { rps: 2, ..Config::default() }).await;
    for code in ["ok", "FailedOperation.AccountAlreadyExists", "RequestLimitExceeded"] {
        assert_eq!(client.share(&["10001"]).await, code);
    }
    let stats = client.stats().await;
    let write = "ModifyImageSharePermission";
    let expected = json!({
        "requests": 3, "by_action": {write: 3}, "by_code": {"ok": 1, "FailedOperation.AccountAlreadyExists": 1, "RequestLimitExceeded": 1},
        "max_in_any_second": {write: 3}, "max_writes_in_flight": 1, "repeated_accounts": 0,
    });
    assert_eq!(stats, expected);
    client.fault("internal_error").await;
    assert_eq!(client.admin(Method::POST, "reset", "").await, (StatusCode::OK, json!({})));
    assert_eq!(client.stats().await["requests"], 0);
    assert_eq!(client.admin(Method::GET, "requests", "").await.1, json!({"requests": []}));
    assert_eq!(client.state().await, json!(null));
    assert_eq!(client.share(&["10001"]).await, "ok");
}
