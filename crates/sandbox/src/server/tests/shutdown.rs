//! The end of connections and of the sandbox.

use std::{io, time::Duration};

use allocation_counter::measure;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Builder,
};

use super::{
    super::{Config, HEAD_BYTES_MAX, Sandbox, StartError},
    kit::{Client, open, share, start},
};

#[tokio::test]
async fn stopped_sandbox_accepts_no_connections() {
    let client = open().await;
    let addr = client.sandbox.addr();
    let mut idle = TcpStream::connect(addr).await.unwrap();
    client.sandbox.stop().await;
    assert_eq!(TcpStream::connect(addr).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn response_in_flight_is_sent_before_stop() {
    let client = start(Config { latency: Duration::from_millis(300), ..Config::default() }).await;
    let request = client.post("ModifyImageSharePermission", &share(&["10001"]).to_string());
    let mut stream = TcpStream::connect(client.sandbox.addr()).await.unwrap();
    let (parts, body) = request.into_parts();
    let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    let mut head = String::from("POST / HTTP/1.1\r\n");
    for (name, value) in &parts.headers {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&body).await.unwrap();
    client.wait_for_state(json!(["10001"])).await;
    let mut answer = String::new();
    tokio::join!(client.sandbox.stop(), async { stream.read_to_string(&mut answer).await.unwrap() });
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("RequestId"), "{answer}");
}

/// Sends bytes and returns everything that the server sends until it closes the connection.
async fn answer_to(client: &Client, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(client.sandbox.addr()).await.unwrap();
    // The server may close the connection before it has read all.
    let _ = stream.write_all(bytes).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    // A reset also ends the connection.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn malformed_requests_end_only_their_connection() {
    let client = open().await;
    let tls = answer_to(&client, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not HTTP\r\n\r\n").await;
    assert!(tls.starts_with("HTTP/1.1 400"), "{tls}");
    let post = |headers: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n").into_bytes();
    for bytes in [
        b"get / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"CONNECT 169.254.0.23:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET http://pages.example/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(),
        b"GET /%2e%2e/\x1b[31m\xff HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec(),
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(HEAD_BYTES_MAX)).into_bytes(),
        "\r\n".repeat(100_000).into_bytes(),
        vec![0xfe; 40_000],
        post(&"X: y\r\n".repeat(1_000)),
        post("Content-Length: 18446744073709551615\r\n"),
        post("Content-Length: 0\r\nContent-Length: 4\r\n"),
        post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n"),
        post("Transfer-Encoding: xchunked\r\n"),
        post("Content-Length : 4\r\n"),
    ] {
        let answer = answer_to(&client, &bytes).await;
        assert!(!answer.contains("HTTP/1.1 5") || answer.contains("HTTP/1.1 505"), "{bytes:?}: {answer}");
    }
    assert_eq!(client.state().await, json!(null));
    assert_eq!(client.share(&["10001"]).await, "ok");
}

/// Clients without a head, with almost the longest head, and with an endless head.
#[test]
fn many_clients_use_bounded_memory() {
    const CLIENTS: usize = 300;
    /// The clients send 31 MiB in all.
    const BYTES_MAX: u64 = 24 * 1024 * 1024;

    let head = |len| format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(len)).into_bytes();
    let heads = [Vec::new(), head(HEAD_BYTES_MAX - 100), head(4 * HEAD_BYTES_MAX)];
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    // On one thread, so that the measured allocations are those of the sandbox and its clients.
    let used = measure(|| {
        runtime.block_on(async {
            let client = open().await;
            let mut clients = Vec::new();
            for head in heads.iter().cycle().take(CLIENTS) {
                let mut stream = TcpStream::connect(client.sandbox.addr()).await.unwrap();
                // The server may close the connection before it has read all.
                let _ = stream.write_all(head).await;
                clients.push(stream);
            }
            assert_eq!(client.share(&["10001"]).await, "ok", "while they are connected");
            drop(clients);
            assert_eq!(client.share(&["10002"]).await, "ok", "after they disconnected");
        });
    });
    assert!(used.bytes_max < BYTES_MAX, "{} bytes", used.bytes_max);
}

#[tokio::test]
async fn slow_client_is_disconnected() {
    let body = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{";
    for (begun, continues) in [("", false), ("GET / HTTP/1.1\r\nX: ", true), (body, true)] {
        let client = open().await;
        let mut stream = TcpStream::connect(client.sandbox.addr()).await.unwrap();
        stream.write_all(begun.as_bytes()).await.unwrap();
        tokio::time::pause();
        let (mut seconds, mut answer) = (0, [0; 1024]);
        loop {
            tokio::select! {
                biased;
                read = stream.read(&mut answer) => if matches!(read, Ok(0) | Err(_)) { break },
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    seconds += 1;
                    assert!(seconds < 60, "{begun:?} is still connected");
                    if continues {
                        // The server may be closing the connection.
                        let _ = stream.try_write(b"x");
                    }
                }
            }
        }
        tokio::time::resume();
    }
}

#[tokio::test]
async fn address_in_use_is_named() {
    let client = open().await;
    let addr = client.sandbox.addr();
    let error = Sandbox::start(Config { listen: addr, ..Config::default() }).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }));
    assert!(error.to_string().starts_with(&format!("cannot listen on {addr}: ")), "{error}");
    assert!(std::error::Error::source(&error).is_none(), "the program also prints the sources of an error");
}
