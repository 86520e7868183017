//! Every fault, as a client sees it.

use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::json;

use super::kit::{Client, IMAGE, open, share};

const WRITE: &str = "ModifyImageSharePermission";

/// Checks that the next write gets the code and the one after it succeeds.
async fn check_code(fault: &str, code: &str) {
    let client = open().await;
    client.fault(fault).await;
    assert_eq!(client.share(&["10001"]).await, code, "{fault}");
    assert_eq!(client.state().await, json!(null), "{fault}");
    assert_eq!(client.share(&["10001"]).await, "ok", "{fault}");
    assert_eq!(client.stats().await["by_code"], json!({code: 1, "ok": 1}), "{fault}");
}

#[tokio::test]
async fn error_code_faults_have_no_effect() {
    check_code("throttle", "RequestLimitExceeded").await;
    check_code("internal_error", "InternalError").await;
    check_code("expired_credential", "AuthFailure.TokenFailure").await;
    check_code("code:FailedOperation.QImageShareFailed", "FailedOperation.QImageShareFailed").await;
}

async fn write(client: &Client) -> Result<super::kit::Answer, hyper::Error> {
    client.try_call(WRITE, share(&["10001"])).await
}

#[tokio::test]
async fn html_faults_replace_the_response() {
    for (fault, status) in [("http_500", StatusCode::INTERNAL_SERVER_ERROR), ("html", StatusCode::OK)] {
        let client = open().await;
        client.fault(fault).await;
        let answer = write(&client).await.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.headers["content-type"], "text/html");
        assert!(answer.text.starts_with("<html>"));
        assert_eq!(client.state().await, json!(null));
    }
}

#[tokio::test]
async fn truncated_response_follows_the_effect() {
    let client = open().await;
    client.fault("truncate").await;
    let response = client.open(client.post(WRITE, &share(&["10001"]).to_string())).await.unwrap();
    let promised: usize = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
    let mut body = response.into_body();
    let mut came = 0;
    let broke_off = loop {
        match body.frame().await {
            Some(Ok(frame)) => came += frame.into_data().unwrap().len(),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(broke_off);
    assert_eq!(came, promised / 2);
    assert_eq!(client.state().await, json!(["10001"]));
}

#[tokio::test]
async fn resets_come_before_or_after_effect() {
    for (fault, state) in [("reset_before", json!(null)), ("reset_after", json!(["10001"]))] {
        let client = open().await;
        client.fault(fault).await;
        let error = write(&client).await.unwrap_err();
        let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
        assert_eq!(cause.map(std::io::Error::kind), Some(std::io::ErrorKind::ConnectionReset), "{fault}: {error:?}");
        assert_eq!(client.state().await, state, "{fault}");
    }
}

#[tokio::test]
async fn hanging_request_is_in_flight_until_disconnect() {
    let client = open().await;
    client.faults(json!({"script": [{"action": WRITE, "times": 2, "do": "hang"}]})).await;
    let both = async { tokio::join!(write(&client), write(&client)) };
    let seen = async {
        while client.stats().await["max_writes_in_flight"] != 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = both => panic!("a response arrived"),
        () = seen => {}
    }
    // Both clients have disconnected. When the server has noticed, a reset leaves no write in flight.
    loop {
        client.admin(Method::POST, "reset", "").await;
        if client.stats().await["max_writes_in_flight"] == 0 {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(client.state().await, json!(null));
}

#[tokio::test]
async fn endless_body_continues_while_read() {
    let client = open().await;
    client.fault("endless").await;
    let response = client.open(client.post(WRITE, &share(&["10001"]).to_string())).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/json");
    let mut body = response.into_body();
    let mut came = 0;
    while came < 8 * 1024 * 1024 {
        came += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
    }
    drop(body);
    assert_eq!(client.share(&["10001"]).await, "ok");
}

#[tokio::test]
async fn late_call_takes_effect_after_disconnect() {
    let client = open().await;
    client.fault("apply_late:0.3").await;
    let request = client.post(WRITE, &share(&["10001"]).to_string());
    tokio::select! {
        _ = client.send(request) => panic!("a response arrived"),
        () = async {
            while client.stats().await["by_code"] != json!({"apply_late": 1}) {
                tokio::task::yield_now().await;
            }
        } => {}
    }
    client.wait_for_state(json!(["10001"])).await;
    let (_, log) = client.admin(Method::GET, "requests?last=1", "").await;
    let entry = &log["requests"][0];
    assert_eq!((&entry["code"], &entry["late"]["code"]), (&json!("apply_late"), &json!("ok")));
    let time = |value: &serde_json::Value| value["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    assert!(time(&entry["late"]) > time(entry), "{entry}");
}

#[tokio::test]
async fn late_call_is_dropped_after_reset() {
    let client = open().await;
    client.faults(json!({"script": [{"action": WRITE, "times": 2, "do": "apply_late:0.05"}]})).await;
    assert!(write(&client).await.is_err());
    assert_eq!(client.state().await, json!(["10001"]));
    let reset = async {
        while client.stats().await["requests"] != 2 {
            tokio::task::yield_now().await;
        }
        client.admin(Method::POST, "reset", "").await
    };
    client.faults(json!({"script": [{"action": WRITE, "do": "apply_late:0.5"}]})).await;
    let (answer, _) = tokio::join!(write(&client), reset);
    assert!(answer.is_err());
    assert_eq!(client.state().await, json!(null));
}

#[tokio::test]
async fn skewed_clock_is_shown_in_date() {
    let mut client = open().await;
    client.faults(json!({"script": [{"action": WRITE, "times": 2, "do": "skew"}]})).await;
    let answer = write(&client).await.unwrap();
    assert_eq!(answer.code(), "AuthFailure.SignatureExpire");
    let seconds = |answer: &super::kit::Answer| {
        let date = answer.headers["date"].to_str().unwrap();
        jiff::fmt::rfc2822::parse(date).unwrap().timestamp().as_second()
    };
    let shown = seconds(&answer);
    client.ahead = u64::try_from(shown).unwrap() - crate::clock::Clock::unix_seconds();
    assert_eq!(write(&client).await.unwrap().code(), "ok");
    assert_eq!(write(&client).await.unwrap().code(), "AuthFailure.SignatureExpire");
}

#[tokio::test]
async fn faults_are_replaced_as_a_whole() {
    let client = open().await;
    client.faults(json!({"unknown_accounts": ["10001"], "busy_images": {IMAGE: 86400}})).await;
    assert_eq!(client.share(&["10002"]).await, "InvalidParameterValue.InvalidImageState");
    let image = client.call("DescribeImages", json!({"ImageIds": [IMAGE]})).await.response();
    assert_eq!(image["ImageSet"][0]["ImageState"], "SYNCING");
    client.faults(json!({"unknown_accounts": ["10001"]})).await;
    assert_eq!(client.share(&["10001"]).await, "InvalidAccountId.NotFound");
    client.faults(json!({})).await;
    assert_eq!(client.share(&["10001"]).await, "ok");
}

#[tokio::test]
async fn refused_requests_count_for_the_script() {
    let mut client = open().await;
    client.faults(json!({"script": [{"action": WRITE, "nth": 2, "do": "throttle"}]})).await;
    client.secret_key.push('x');
    assert_eq!(client.share(&["10001"]).await, "AuthFailure.SignatureFailure");
    assert_eq!(client.share(&["10001"]).await, "RequestLimitExceeded");
    assert_eq!(client.share(&["10001"]).await, "AuthFailure.SignatureFailure");
}
