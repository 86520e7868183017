//! Tests of the server alone: its responses, and that no client can block it.

use std::time::{Duration, Instant};

use imageshare_engine::io::CloseReason;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
};

use super::*;
use crate::{broker, daemon};

/// Longer than any of these tests takes.
const HEARTBEAT: Duration = Duration::from_hours(1);

struct Answer {
    code: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

async fn start(lanes: &[&str]) -> (Admin, Arc<Status>) {
    let status = Arc::new(Status::new(lanes.iter().copied()));
    (serve_with(Readiness::Broker, &status), status)
}

fn serve_with(readiness: Readiness, status: &Arc<Status>) -> Admin {
    Admin::start(SocketAddr::from(([127, 0, 0, 1], 0)), readiness, Arc::clone(status)).unwrap()
}

/// Sends these bytes and reads to the end.
async fn send(admin: &Admin, request: &str) -> Answer {
    let mut stream = TcpStream::connect(admin.addr()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{request:?}: {answer:?}"));
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { code, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

async fn get(admin: &Admin, path: &str) -> Answer {
    send(admin, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
}

#[tokio::test]
async fn lanes_decide_strict_readiness_only() {
    let (lenient, status) = start(&["asia", "europe"]).await;
    let admin = serve_with(Readiness::Lanes, &status);
    let mut lanes = status.lanes();
    let (asia, europe) = (lanes.next().unwrap(), lanes.next().unwrap());
    europe.subscribed(HEARTBEAT);
    let answer = get(&admin, "/readyz").await;
    assert_eq!(answer.code, 503);
    let json = answer.json();
    assert_eq!(json["lanes"]["asia"]["reason"], "disconnected");
    assert_eq!((&json["ready"], &json["lanes"]["europe"]["ready"]), (&false.into(), &true.into()));
    assert_eq!(json.get("publisher"), None, "there is no broker");

    asia.subscribed(HEARTBEAT);
    assert_eq!(get(&admin, "/readyz").await.code, 200, "a standby is ready");
    asia.delivered();
    asia.block(true);
    assert_eq!(get(&admin, "/readyz").await.json()["lanes"]["asia"]["reason"], "blocked");
    asia.block(false);
    asia.close(CloseReason::Credential);
    asia.record_error("AuthFailure.SecretIdNotFound: no such \u{1b}[31mkey");
    let answer = get(&admin, "/readyz").await;
    let lane = &answer.json()["lanes"]["asia"];
    assert_eq!((&lane["state"], &lane["reason"]), (&"closed".into(), &"credential".into()));
    assert_eq!((answer.code, &lane["detail"]), (503, &"AuthFailure.SecretIdNotFound: no such  [31mkey".into()));
    let answer = get(&lenient, "/readyz").await;
    assert_eq!((answer.code, &answer.json()["lanes"]["asia"]["ready"]), (200, &false.into()));
    asia.open();
    assert_eq!(get(&admin, "/readyz").await.code, 200);
    asia.subscribed(Duration::ZERO);
    asia.delivered();
    let answer = get(&admin, "/readyz").await;
    let lane = &answer.json()["lanes"]["asia"];
    assert_eq!((&lane["state"], &lane["reason"]), (&"serving".into(), &"stalled".into()));
    assert_eq!(answer.code, 503, "no proof and no ack");
    asia.subscribed(HEARTBEAT);
    status.draining();
    for admin in [admin, lenient] {
        let answer = get(&admin, "/readyz").await;
        assert_eq!((answer.code, &answer.json()["draining"]), (503, &true.into()));
    }
}

#[tokio::test]
async fn process_is_ready_while_the_broker_is_connected() {
    let (lenient, status) = start(&["asia"]).await;
    let admin = serve_with(Readiness::Lanes, &status);
    status.lanes().next().unwrap().subscribed(HEARTBEAT);
    let (state, follow) = watch::channel(broker::State::Connecting);
    status.has_broker(move || daemon::publisher_status(&follow.borrow()));
    for (now, word, is_connected, is_ready) in [
        (broker::State::Connecting, "connecting", false, false),
        (broker::State::Connected, "connected", true, true),
        (broker::State::Blocked, "blocked", true, false),
        (broker::State::Unroutable("exchange x".to_owned()), "unroutable", true, false),
        (
            broker::State::Refused { to: "queue x".to_owned(), since: tokio::time::Instant::now() },
            "refused",
            true,
            false,
        ),
        (broker::State::TooLong("exchange x".to_owned()), "too_long", true, false),
        (broker::State::Down(broker::Error::Unreachable { detail: "no route".to_owned() }), "down", false, false),
    ] {
        state.send_replace(now);
        let answer = get(&admin, "/readyz").await;
        let json = answer.json();
        assert_eq!((answer.code == 200, &json["publisher"]["state"]), (is_ready, &word.into()));
        assert_eq!(get(&lenient, "/readyz").await.code == 200, is_connected, "{word}");
    }
}

#[tokio::test]
async fn loop_that_comes_round_is_alive() {
    let (admin, status) = start(&["asia"]).await;
    assert_eq!(get(&admin, "/livez").await.code, 200);
    status.turned();
    assert_eq!(get(&admin, "/livez").await.json()["alive"], true);
}

#[tokio::test]
async fn status_has_every_lane_with_its_numbers() {
    let (admin, status) = start(&["asia", "europe"]).await;
    let asia = status.lanes().next().unwrap();
    asia.metrics.jobs_held.set(7);
    asia.metrics.oldest_wait.set(1.23456);
    asia.record_error("something");
    let json = get(&admin, "/status").await.json();
    let lane = &json["lanes"][0];
    assert_eq!((&lane["name"], &lane["state"]), (&"asia".into(), &"disconnected".into()));
    assert_eq!((&lane["jobs_held"], &lane["oldest_wait_seconds"]), (&7.into(), &1.235.into()));
    assert_eq!((&lane["last_error"]["message"], &lane["last_delivery"]), (&"something".into(), &().into()));
    assert_eq!(json["lanes"][1]["name"], "europe");
}

#[tokio::test]
async fn metrics_are_the_text_that_prometheus_reads() {
    let (admin, _status) = start(&["asia"]).await;
    let answer = get(&admin, "/metrics?debug=1").await;
    assert_eq!(answer.code, 200);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.body.contains("\nimageshare_api_rate_limit{action=\"DescribeImages\",lane=\"asia\"} 0\n"));
}

#[tokio::test]
async fn page_allows_only_its_own_script() {
    let (admin, _status) = start(&["asia"]).await;
    let answer = get(&admin, "/").await;
    assert_eq!(answer.code, 200);
    let policy = answer.head.lines().find(|line| line.starts_with("content-security-policy:")).unwrap();
    assert!(policy.contains("default-src 'none'") && policy.matches("'sha256-").count() == 2, "{policy}");
    assert_eq!((answer.body.matches("<style").count(), answer.body.matches("<script").count()), (1, 1));
    for forbidden in ["innerHTML", "http://", "https://", " style=", " onclick=", "eval("] {
        assert!(!answer.body.contains(forbidden), "{forbidden}");
    }
}

#[tokio::test]
async fn what_is_not_asked_for_plainly_is_refused() {
    let (admin, _status) = start(&["asia"]).await;
    for path in
        ["/metrics/", "//metrics", "/./metrics", "/%6detrics", "/../status", "/status.json", "/favicon.ico", "*"]
    {
        assert_eq!(get(&admin, path).await.code, 404, "{path}");
    }
    let with = |line: &str, more: &str| format!("{line} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n");
    assert_eq!(send(&admin, &with("POST /status", "Content-Length: 0\r\n")).await.code, 405);
    assert_eq!(send(&admin, &with("DELETE /", "")).await.code, 405);
    assert_eq!(send(&admin, &with("GET /status", "Content-Length: 5\r\n")).await.code, 413);
    assert_eq!(send(&admin, &with("GET /status", "Transfer-Encoding: chunked\r\n")).await.code, 413);
    let head = send(&admin, &with("HEAD /metrics", "")).await;
    assert_eq!((head.code, head.body.as_str()), (200, ""));
    let long = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(2 * HEAD_LEN_MAX));
    assert_eq!(send(&admin, &long).await.code, 431);
}

/// Sends these bytes and returns all that the server answers until it ends the connection.
async fn answer_to(admin: &Admin, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(admin.addr()).await.unwrap();
    // It may have read enough before it has all.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    // A reset ends the connection as well.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

/// Requests that no client should send, and the status codes that the one answer may have.
fn odd_requests() -> Vec<(&'static str, Vec<u8>, &'static [u16])> {
    let raw = |text: &str| text.as_bytes().to_vec();
    let request = |line: &str, headers: &str| raw(&format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n"));
    let get = |target: &str| request(&format!("GET {target}"), "");
    let endless = request("GET /livez", "Content-Length: 18446744073709551615\r\n");
    let chunked = request("GET /livez", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n");
    vec![
        ("lowercase method", request("get /status", ""), &[405]),
        ("options of the server", request("OPTIONS *", ""), &[405]),
        ("tunnel", request("CONNECT 169.254.0.23:80", ""), &[405]),
        ("parent folder, encoded", get("/%2e%2e/status"), &[404]),
        ("zero byte, encoded", get("/status%00"), &[404]),
        ("absolute target", get("http://127.0.0.1/livez"), &[200]),
        ("another host", raw("GET /status HTTP/1.1\r\nHost: pages.example\r\n\r\n"), &[421]),
        ("absolute target with another host", get("http://pages.example/status"), &[421]),
        ("two hosts", request("GET /status", "Host: pages.example\r\n"), &[400, 421]),
        ("target without a slash", get("status"), &[404, 421]),
        ("zero byte", get("/status\0"), &[400]),
        ("escape sequence", get("/\u{1b}[31mred"), &[400, 404]),
        ("path that is not UTF-8", b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec(), &[400, 404]),
        ("long path", get(&format!("/{}", "x".repeat(20_000))), &[414, 431]),
        ("many headers", request("GET /livez", &"X: y\r\n".repeat(1_000)), &[431]),
        ("empty lines", raw(&"\r\n".repeat(100_000)), &[400, 431]),
        ("body that never comes", endless, &[400, 413, 431]),
        ("two lengths", request("GET /livez", "Content-Length: 0\r\nContent-Length: 4\r\n"), &[400]),
        ("length and chunks", [chunked, raw("0\r\n\r\n"), get("/livez")].concat(), &[400, 413]),
        ("unknown transfer encoding", request("GET /livez", "Transfer-Encoding: xchunked\r\n"), &[400, 413]),
        ("space before the colon", request("GET /livez", "Content-Length : 4\r\n"), &[400]),
        ("two requests", [get("/livez"), get("/livez")].concat(), &[200]),
        ("old version", raw("GET /livez HTTP/1.0\r\n\r\n"), &[200]),
        ("invalid version", raw("GET /livez HTTP/9.9\r\n\r\n"), &[400]),
        ("HTTP/2", raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"), &[400, 505]),
        ("TLS", b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03 hello\r\n\r\n".to_vec(), &[400]),
        ("noise", vec![0xfe; 40_000], &[400, 431]),
    ]
}

#[tokio::test]
async fn odd_requests_are_refused() {
    let (admin, _status) = start(&["asia"]).await;
    for (name, bytes, allowed) in odd_requests() {
        let answer = answer_to(&admin, &bytes).await;
        let codes: Vec<u16> =
            answer.split("HTTP/1.").skip(1).map(|text| text.get(2..5).unwrap().parse().unwrap()).collect();
        match codes[..] {
            // The end of the connection is as good as a refusal where the bytes are not HTTP.
            [] => assert!(allowed.contains(&400), "{name}"),
            [code] => assert!(allowed.contains(&code), "{name}: {answer}"),
            _ => panic!("{name}: {answer}"),
        }
        assert!(codes != [405] || answer.to_lowercase().contains("\r\nallow: get, head\r\n"), "{name}: {answer}");
        assert_eq!(get(&admin, "/livez").await.code, 200, "{name}");
    }
}

/// Clients with half a head, without any, and with one that does not end.
#[tokio::test]
async fn many_clients_block_no_other() {
    let (admin, _status) = start(&["asia"]).await;
    let endless = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(256 * 1024));
    let heads = ["", "GET /metrics HTTP/1.1\r\nHost: ", &endless];
    let mut clients = Vec::new();
    // No more than the listener lets wait for a server that is slow to accept.
    for head in heads.into_iter().cycle().take(4 * CONNECTIONS_MAX) {
        let stream = TcpStream::connect(admin.addr()).await.unwrap();
        stream.writable().await.unwrap();
        // The server may have ended it, and reads no more of a head than it allows.
        let _ = stream.try_write(head.as_bytes());
        clients.push(stream);
    }
    let begun = Instant::now();
    assert_eq!(get(&admin, "/metrics").await.code, 200);
    assert!(begun.elapsed() < HEAD_MAX, "it waited for one of them to be given up: {:?}", begun.elapsed());
    // Of those whose head ends in time no more than the newest are kept, and a third of the heads never ends.
    for mut stream in clients.drain(..2 * CONNECTIONS_MAX) {
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert!(begun.elapsed() < HEAD_MAX, "one of them was kept: {:?}", begun.elapsed());
}

/// One byte after the other keeps a connection no longer than silence does.
#[tokio::test]
async fn slow_client_is_disconnected() {
    let (admin, _status) = start(&["asia"]).await;
    let (mut stream, begun) = (TcpStream::connect(admin.addr()).await.unwrap(), Instant::now());
    stream.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
    while !matches!(timeout(Duration::from_millis(50), stream.read(&mut [0; 1024])).await, Ok(Ok(0) | Err(_))) {
        // The server may be about to end it.
        let _ = stream.try_write(b"x");
        assert!(begun.elapsed() < 2 * CONNECTION_MAX, "it is still connected");
    }
}

#[tokio::test]
async fn address_that_is_taken_is_named() {
    let (admin, status) = start(&["asia"]).await;
    let error = Admin::start(admin.addr(), Readiness::Broker, status).unwrap_err();
    assert!(std::error::Error::source(&error).is_none(), "the program prints the sources of an error, too");
    let error = error.to_string();
    assert!(error.starts_with(&format!("cannot listen on {} for status and metrics: ", admin.addr())), "{error}");
}

#[tokio::test]
async fn admin_answers_while_the_worker_is_busy() {
    use std::io::{Read as _, Write as _};

    let (admin, _status) = start(&["asia"]).await;
    // In the way that blocks this thread, which is the only one of its runtime.
    let mut stream = std::net::TcpStream::connect(admin.addr()).unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn dropped_it_ends() {
    let (admin, status) = start(&["asia"]).await;
    let addr = admin.addr();
    drop(admin);
    while Admin::start(addr, Readiness::Broker, Arc::clone(&status)).is_err() {
        tokio::task::yield_now().await;
    }
}
