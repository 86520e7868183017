//! Responses to incorrect requests.

use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};

use super::{
    super::Config,
    kit::{Client, IMAGE, open, share, start},
};
use crate::world::World;

const WRITE: &str = "ModifyImageSharePermission";

#[track_caller]
fn check(code: &str, expected: &str, what: &str) {
    assert_eq!(code, expected, "{what}");
}

#[tokio::test]
async fn parameters_are_checked() {
    let client = open().await;
    let one = |name: &str, value: Value| {
        let mut parameters = share(&["10001"]);
        match value {
            Value::Null => drop(parameters.as_object_mut().unwrap().remove(name)),
            value => parameters[name] = value,
        }
        parameters
    };
    for (action, parameters, code) in [
        (WRITE, one("ImageId", Value::Null), "MissingParameter"),
        (WRITE, one("AccountIds", Value::Null), "MissingParameter"),
        (WRITE, one("AccountIds", json!([])), "MissingParameter"),
        (WRITE, one("Permission", Value::Null), "MissingParameter"),
        (WRITE, one("Permission", json!("share")), "InvalidParameterValue"),
        (WRITE, one("Permission", json!("")), "InvalidParameterValue"),
        (WRITE, one("ImageId", json!("lhbp-a1b2c3d4")), "InvalidImageId.Malformed"),
        (WRITE, one("ImageId", json!(5)), "InvalidParameter"),
        (WRITE, one("AccountIds", json!("10001")), "InvalidParameter"),
        (WRITE, one("AccountIds", json!([10_001])), "InvalidParameter"),
        (WRITE, one("AccountIds", json!(["1000x"])), "InvalidAccountId.NotFound"),
        (WRITE, one("AccountIds", json!([" 10001"])), "InvalidAccountId.NotFound"),
        (WRITE, one("DryRun", json!(true)), "UnknownParameter"),
        ("DescribeImageSharePermission", json!({}), "MissingParameter"),
        ("DescribeImages", json!({"Limit": 101}), "InvalidParameterValue.InvalidParameterValueLimit"),
        ("DescribeImages", json!({"Limit": "20"}), "InvalidParameter"),
        ("DescribeImages", json!({"Filters": [{"Name": "colour"}]}), "InvalidFilter"),
        (
            "DescribeImages",
            json!({"Filters": [{"Name": "image-id", "Values": ["1", "2", "3", "4", "5", "6"]}]}),
            "InvalidFilterValue.LimitExceeded",
        ),
        (
            "DescribeImages",
            json!({"ImageIds": [IMAGE], "Filters": [{"Name": "image-id"}]}),
            "InvalidParameter.InvalidParameterCoexistImageIdsFilters",
        ),
        ("AssumeRole", json!({"RoleArn": "qcs::x", "RoleSessionName": "ab"}), "InvalidParameter.ParamError"),
        ("AssumeRole", json!({"RoleArn": "qcs::cam::uin/10001:role/1"}), "MissingParameter"),
        ("StartInstances", json!({}), "InvalidAction"),
        ("modifyImageSharePermission", share(&["10001"]), "InvalidAction"),
    ] {
        let answer = client.call(action, parameters.clone()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.response()["RequestId"].is_string());
        check(&answer.code(), code, &format!("{action} {parameters}"));
    }
    assert_eq!(client.state().await, json!(null));
}

async fn code_after(client: &Client, change: impl FnOnce(&mut Request<Full<bytes::Bytes>>)) -> String {
    let body = share(&["10001"]).to_string();
    let mut request = client.post(WRITE, &body);
    change(&mut request);
    client.send(request).await.unwrap().code()
}

#[tokio::test]
async fn headers_are_checked() {
    let client = open().await;
    let set = |name: &'static str, value: &'static str| {
        move |request: &mut Request<Full<bytes::Bytes>>| {
            request.headers_mut().insert(name, HeaderValue::from_static(value));
        }
    };
    let remove =
        |name: &'static str| move |request: &mut Request<Full<bytes::Bytes>>| drop(request.headers_mut().remove(name));
    check(&code_after(&client, remove("x-tc-region")).await, "MissingParameter", "no region");
    check(&code_after(&client, set("x-tc-region", "Mars")).await, "UnsupportedRegion", "region");
    check(&code_after(&client, remove("x-tc-version")).await, "MissingParameter", "no version");
    check(&code_after(&client, set("x-tc-version", "2018-08-13")).await, "NoSuchVersion", "version");
    check(&code_after(&client, remove("authorization")).await, "AuthFailure.InvalidAuthorization", "unsigned");
    check(&code_after(&client, set("content-type", "text/plain")).await, "InvalidParameter", "content type");
    check(&code_after(&client, set("host", "elsewhere")).await, "AuthFailure.SignatureFailure", "host");
    let sign_for = |service: &'static str| {
        let client = &client;
        move |request: &mut Request<Full<bytes::Bytes>>| client.sign(request, service, &share(&["10001"]).to_string())
    };
    check(&code_after(&client, sign_for("cbs")).await, "NoSuchProduct", "product");
    check(&code_after(&client, sign_for("sts")).await, "InvalidAction", "an action of another product");
}

#[tokio::test]
async fn keys_clock_and_signature_are_checked() {
    let mut client = open().await;
    client.secret_key.push('x');
    check(&client.share(&["10001"]).await, "AuthFailure.SignatureFailure", "wrong key");
    let (_, log) = client.admin(Method::GET, "requests?last=1", "").await;
    let text = &log["requests"][0]["signed_text"];
    let canonical = text["canonical_request"].as_str().unwrap();
    assert!(canonical.starts_with("POST\n/\n\ncontent-type:application/json\nhost:127.0.0.1:"), "{canonical}");
    assert!(text["string_to_sign"].as_str().unwrap().starts_with("TC3-HMAC-SHA256\n"), "{text}");
    check(&client.admin(Method::GET, "health", "").await.1.to_string(), r#"{"status":"ok"}"#, "health");
    client.secret_key.pop();
    client.secret_id.push('x');
    check(&client.share(&["10001"]).await, "AuthFailure.SecretIdNotFound", "unknown key");
    client.secret_id.pop();
    client.ahead = 310;
    check(&client.share(&["10001"]).await, "AuthFailure.SignatureExpire", "clock");
    client.ahead = 290;
    check(&client.share(&["10001"]).await, "ok", "clock within five minutes");
}

#[tokio::test]
async fn methods_content_types_and_sizes_are_checked() {
    let client = open().await;
    let form = "application/x-www-form-urlencoded";
    let write = share(&["10001"]).to_string();
    let put = client.signed(Method::PUT, "/", "application/json", WRITE, &write);
    check(&client.send(put).await.unwrap().code(), "UnsupportedProtocol", "PUT");
    let posted_form = client.signed(Method::POST, "/", form, WRITE, "ImageId=x");
    check(&client.send(posted_form).await.unwrap().code(), "InvalidParameter", "a form with version 3");
    let long = format!("/?ImageId={}", "x".repeat(32 * 1024));
    let get = client.signed(Method::GET, &long, form, "DescribeImageSharePermission", "");
    check(&client.send(get).await.unwrap().code(), "RequestSizeLimitExceeded", "a GET over 32 KB");
    let filler = "x".repeat(1024 * 1024);
    let big_form = client.signed_v1(Method::POST, "HmacSHA1", &[("Action", WRITE), ("Filler", &filler)]);
    check(&client.send(big_form).await.unwrap().code(), "RequestSizeLimitExceeded", "a form over 1 MB");
    let big = client.post(WRITE, &" ".repeat(10 * 1024 * 1024 + 1));
    check(&client.send(big).await.unwrap().code(), "RequestSizeLimitExceeded", "a body over 10 MB");
    let padded = format!("{write}{}", " ".repeat(10 * 1024 * 1024 - write.len()));
    check(&client.send(client.post(WRITE, &padded)).await.unwrap().code(), "ok", "a body of 10 MB");
    for body in ["", "[]", "{", "nul", "{\"a\":\"\\ud800\"}"] {
        check(&client.send(client.post(WRITE, body)).await.unwrap().code(), "InvalidParameter", body);
    }
    let gap = client.signed_v1(Method::GET, "HmacSHA1", &[("Action", WRITE), ("AccountIds.1", "10001")]);
    check(&client.send(gap).await.unwrap().code(), "InvalidParameter", "a list that starts at 1");
    let nothing = Request::builder().uri("/").header("host", "x").body(Full::default()).unwrap();
    check(&client.send(nothing).await.unwrap().code(), "MissingParameter", "a browser");
    let (_, log) = client.admin(Method::GET, "requests?last=1", "").await;
    assert_eq!(log["requests"][0]["signature_version"], Value::Null);
    let elsewhere = Request::builder().uri("/api").header("host", "x").body(Full::default()).unwrap();
    assert_eq!(client.send(elsewhere).await.unwrap().status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn rules_of_the_world_apply() {
    let mut world = World::example();
    world.set_batch_limit(2);
    let client = start(Config { rps: 0, world, ..Config::default() }).await;
    let write = async |image: &str, accounts: Value| {
        let parameters = json!({"ImageId": image, "AccountIds": accounts, "Permission": "SHARE"});
        client.call(WRITE, parameters).await.code()
    };
    for (image, accounts, code) in [
        (IMAGE, json!(["100000000404"]), "InvalidAccountId.NotFound"),
        (IMAGE, json!(["100009999999"]), "FailedOperation.AccountIsYourSelf"),
        (IMAGE, json!(["100033330001"]), "FailedOperation.NotMasterAccount"),
        (IMAGE, json!(["10001", "10002", "10003"]), "InvalidParameterValue.LimitExceeded"),
        ("img-fu11c0de", json!(["10001"]), "OverQuota"),
        ("img-00000000", json!(["10001"]), "InvalidImageId.NotFound"),
        ("img-gvbnzy6f", json!(["10001"]), "InvalidImageId.NotFound"),
        (IMAGE, json!(["10001"]), "ok"),
    ] {
        check(&write(image, accounts).await, code, image);
    }
}

#[tokio::test]
async fn denied_actions_have_form_of_cam() {
    let world = "open_images = true\nopen_accounts = true\n[[keys]]\nsecret_id = \"AKIDSANDBOXEXAMPLE\"\nsecret_key = \
                 \"sandbox-secret-key-example\"\naccount = \"100009999999\"\n\
                 deny = [\"ModifyImageSharePermission\", \"GetCallerIdentity\"]";
    let client = start(Config { world: World::parse(world).unwrap(), ..Config::default() }).await;
    let response = client.call(WRITE, share(&["10001"])).await.response();
    let id = response["RequestId"].as_str().unwrap();
    let message = format!(
        "[request id:{id}]you are not authorized to perform operation (cvm:{WRITE})\nresource \
         (qcs::cvm:ap-singapore:uin/100009999999:image/{IMAGE}) has no permission\n"
    );
    assert_eq!(response["Error"], json!({"Code": "UnauthorizedOperation", "Message": message}));
    let response = client.call("GetCallerIdentity", json!({})).await.response();
    assert_eq!(response["Error"]["Code"], "AuthFailure.UnauthorizedOperation");
    assert!(response["Error"]["Message"].as_str().unwrap().contains("[[request id:"), "{response}");
    assert_eq!(client.call("DescribeImages", json!({})).await.code(), "ok");
}

#[tokio::test]
async fn throttle_message_is_translated() {
    let client = start(Config { rps: 1, ..Config::default() }).await;
    assert_eq!(client.share(&["10001"]).await, "ok");
    let mut request = client.post(WRITE, &share(&["10001"]).to_string());
    request.headers_mut().insert("x-tc-language", HeaderValue::from_static("zh-CN"));
    let response = client.send(request).await.unwrap().response();
    assert!(response["Error"]["Message"].as_str().unwrap().contains("超过了每秒频率上限`1`次"), "{response}");
}

#[tokio::test]
async fn simultaneous_write_follows_the_dial() {
    let world = "open_images = true\nopen_accounts = true\n[dials]\nsimultaneous_write = \"refused\"\n[[keys]]\n\
                 secret_id = \"AKIDSANDBOXEXAMPLE\"\nsecret_key = \"sandbox-secret-key-example\"\n\
                 account = \"100009999999\"";
    let client = start(Config { world: World::parse(world).unwrap(), ..Config::default() }).await;
    client.fault("hang").await;
    let first = client.post(WRITE, &share(&["10001"]).to_string());
    let second = async {
        while client.stats().await["by_code"] != json!({"hang": 1}) {
            tokio::task::yield_now().await;
        }
        client.share(&["10002"]).await
    };
    tokio::select! {
        _ = client.send(first) => panic!("a response arrived"),
        code = second => check(&code, "InvalidParameterValue.InvalidImageState", "while a write is in flight"),
    }
}

#[tokio::test]
async fn admin_interface_names_what_it_accepts() {
    let client = open().await;
    for (method, path, body, status) in [
        (Method::POST, "faults", "{\"script\": [{}]}", StatusCode::BAD_REQUEST),
        (Method::GET, "requests?last=x", "", StatusCode::BAD_REQUEST),
        (Method::GET, "reset", "", StatusCode::METHOD_NOT_ALLOWED),
        (Method::POST, "state", "", StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "nothing", "", StatusCode::NOT_FOUND),
    ] {
        let (actual, answer) = client.admin(method, path, body).await;
        assert_eq!(actual, status, "{path}");
        assert!(answer["error"].is_string(), "{path}");
    }
}
