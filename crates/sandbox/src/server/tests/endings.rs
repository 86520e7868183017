//! How connections and the sandbox itself end, and TLS.

use std::{io, sync::Arc, time::Duration};

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use super::{
    super::{Config, Sandbox, StartError},
    kit::{open, share, start},
};

#[tokio::test]
async fn a_sandbox_that_was_stopped_takes_no_connections() {
    let client = open().await;
    let addr = client.sandbox.addr();
    let mut idle = TcpStream::connect(addr).await.unwrap();
    client.sandbox.stop().await;
    assert_eq!(TcpStream::connect(addr).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn an_answer_that_is_on_its_way_goes_out_before_the_stop() {
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

#[tokio::test]
async fn bytes_that_are_no_http_end_their_own_connection_only() {
    let client = open().await;
    let mut stream = TcpStream::connect(client.sandbox.addr()).await.unwrap();
    stream.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 not HTTP\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 400"), "{}", String::from_utf8_lossy(&answer));
    assert_eq!(client.share(&["10001"]).await, "ok");
}

#[tokio::test]
async fn a_client_that_is_slow_is_given_up() {
    let body = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{";
    for (begun, goes_on) in [("", false), ("GET / HTTP/1.1\r\nX: ", true), (body, true)] {
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
                    assert!(seconds < 60, "{begun:?} is still waited for");
                    if goes_on {
                        // The other side may be about to end it.
                        let _ = stream.try_write(b"x");
                    }
                }
            }
        }
        tokio::time::resume();
    }
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let client = open().await;
    let addr = client.sandbox.addr();
    let error = Sandbox::start(Config { listen: addr, ..Config::default() }).await.unwrap_err();
    assert!(matches!(error, StartError::Listen { .. }));
    assert!(error.to_string().starts_with(&format!("cannot listen on {addr}: ")), "{error}");
}

#[tokio::test]
async fn tls_is_trusted_by_who_trusts_its_authority() {
    let sandbox = Sandbox::start(Config { tls: true, ..Config::default() }).await.unwrap();
    assert!(sandbox.url().starts_with("https://127.0.0.1:"));
    let speak = async |roots: RootCertStore| {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stream = TcpStream::connect(sandbox.addr()).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        stream.write_all(b"GET /_sandbox/state HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, io::Error>(answer)
    };
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(sandbox.certificate_pem().unwrap().as_bytes()).unwrap()).unwrap();
    let answer = speak(roots).await.unwrap();
    assert!(answer.ends_with(r#"{"images":{}}"#), "{answer}");
    assert!(speak(RootCertStore::empty()).await.is_err());
}
