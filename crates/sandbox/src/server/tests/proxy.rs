//! TLS, the sandbox as a proxy, and endpoints that are addresses.

use std::{io, sync::Arc};

use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

use super::{
    super::{Config, Sandbox, Scheme},
    kit::{Client, open, share},
};

const WRITE: &str = "ModifyImageSharePermission";

/// Returns a store with the authority of a sandbox.
fn roots(sandbox: &Sandbox) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(sandbox.ca_pem().as_bytes()).unwrap()).unwrap();
    roots
}

async fn handshake<S>(stream: S, name: &str, roots: RootCertStore) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name.to_owned()).unwrap(), stream).await
}

/// Sends one request and returns everything that the server sends after it.
async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> io::Result<String> {
    stream.write_all(request).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Sends `CONNECT` and returns the stream with the status line and the body of a refusal.
async fn connect(client: &Client, target: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(client.sandbox.addr()).await.unwrap();
    stream.write_all(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let mut text = String::from_utf8(head).unwrap();
    if let Some((_, rest)) = text.split_once("content-length: ") {
        let length: usize = rest.split("\r\n").next().unwrap().parse().unwrap();
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        text.push_str(&String::from_utf8(body).unwrap());
    }
    (stream, text)
}

/// Returns the bytes of a signed request, which ends its connection.
async fn bytes_of(request: Request<Full<bytes::Bytes>>) -> Vec<u8> {
    let (parts, body) = request.into_parts();
    let body = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    let mut bytes = format!("{} / HTTP/1.1\r\nconnection: close\r\n", parts.method).into_bytes();
    for (name, value) in &parts.headers {
        bytes.extend(format!("{name}: {}\r\n", value.to_str().unwrap()).bytes());
    }
    bytes.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
    bytes.extend(body);
    bytes
}

const HEALTH: &[u8] = b"GET /_sandbox/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn tunnel_to_api_has_its_certificate() {
    let mut client = open().await;
    for (number, name) in
        ["cvm.tencentcloudapi.com", "cvm.intl.tencentcloudapi.com", "cvm.ap-singapore.tencentcloudapi.com"]
            .into_iter()
            .enumerate()
    {
        let (stream, head) = connect(&client, &format!("{name}:443")).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let stream = handshake(stream, name, roots(&client.sandbox)).await.unwrap();
        client.host = name.to_owned();
        let account = (20_000 + number).to_string();
        let request = bytes_of(client.post(WRITE, &share(&[&account]).to_string())).await;
        let text = exchange(stream, &request).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && !text.contains("Error"), "{text}");
    }
    assert_eq!(client.state().await, json!(["20000", "20001", "20002"]));
}

#[tokio::test]
async fn tunnel_is_trusted_only_for_its_name() {
    let client = open().await;
    for (name, roots) in
        [("cvm.tencentcloudapi.com", RootCertStore::empty()), ("cvm.example.com", roots(&client.sandbox))]
    {
        let (stream, _) = connect(&client, "cvm.tencentcloudapi.com:443").await;
        assert!(handshake(stream, name, roots).await.is_err(), "{name}");
    }
}

#[tokio::test]
async fn tunnel_to_port_80_is_plain_http() {
    let client = open().await;
    for target in ["cvm.tencentcloudapi.com:80", "metadata.tencentyun.com:80", "cvm.localhost:80", "[::1]:80"] {
        let (stream, head) = connect(&client, target).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{target}: {head}");
        let text = exchange(stream, HEALTH).await.unwrap();
        assert!(text.ends_with(r#"{"status":"ok"}"#), "{target}: {text}");
    }
}

#[tokio::test]
async fn other_tunnels_are_refused() {
    let client = open().await;
    for target in [
        "example.com:443",
        "tencentcloudapi.com:443",
        "cos.tencentcloudapi.com:443",
        "cvm.tencentcloudapi.com.example.com:443",
        "evil-cvm.tencentcloudapi.com.:443",
        "cvm.tencentcloudapi.com:8443",
        "cvm.tencentcloudapi.com:22",
        "sts.tencentcloudapi.com:0",
        "127.0.0.1:443",
        "169.254.0.23:443",
        "[::1]:443",
        "metadata.google.internal:443",
    ] {
        let (stream, text) = connect(&client, target).await;
        assert!(text.starts_with("HTTP/1.1 403 "), "{target}: {text}");
        assert!(text.contains(&format!("CONNECT \"{target}\": refused (expected NAME:443")), "{target}: {text}");
        // The connection stays usable for other requests.
        assert!(exchange(stream, HEALTH).await.unwrap().ends_with(r#"{"status":"ok"}"#), "{target}");
    }
}

#[tokio::test]
async fn tunnel_in_a_tunnel_is_refused() {
    let client = open().await;
    let (stream, _) = connect(&client, "cvm.localhost:80").await;
    let request = b"CONNECT cvm.localhost:80 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let text = exchange(stream, request).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 403 "), "{text}");
}

#[tokio::test]
async fn tunnels_end_with_the_sandbox() {
    let client = open().await;
    let (mut stream, _) = connect(&client, "cvm.localhost:80").await;
    client.sandbox.stop().await;
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn absolute_form_is_answered_and_never_forwarded() {
    let client = open().await;
    for uri in ["http://cvm.tencentcloudapi.com/_sandbox/health", "http://example.com/_sandbox/health"] {
        let stream = TcpStream::connect(client.sandbox.addr()).await.unwrap();
        let request = format!("GET {uri} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let text = exchange(stream, request.as_bytes()).await.unwrap();
        assert!(text.ends_with(r#"{"status":"ok"}"#), "{text}");
    }
}

#[tokio::test]
async fn https_serves_all_its_names_through_its_authority() {
    let scheme = Scheme::Https(vec!["sandbox.test".to_owned(), "10.1.2.3".to_owned()]);
    let sandbox = Sandbox::start(Config { scheme, ..Config::default() }).await.unwrap();
    assert!(sandbox.url().starts_with("https://127.0.0.1:"));
    let exchange_with = async |name: &str, roots| {
        let stream = TcpStream::connect(sandbox.addr()).await.unwrap();
        exchange(handshake(stream, name, roots).await?, HEALTH).await
    };
    for name in [
        "127.0.0.1",
        "localhost",
        "cvm.localhost",
        "sts.localhost",
        "cvm.intl.tencentcloudapi.com",
        "cvm.ap-tokyo.tencentcloudapi.com",
        "metadata.tencentyun.com",
        "sandbox.test",
        "10.1.2.3",
    ] {
        let text = exchange_with(name, roots(&sandbox)).await.unwrap();
        assert!(text.ends_with(r#"{"status":"ok"}"#), "{name}: {text}");
    }
    assert!(exchange_with("other.test", roots(&sandbox)).await.is_err());
    assert!(exchange_with("127.0.0.1", RootCertStore::empty()).await.is_err());
}

#[tokio::test]
async fn ca_certificate_can_be_downloaded() {
    let client = open().await;
    let request = Request::get("/_sandbox/ca.pem").header("host", "x").body(Full::default()).unwrap();
    let answer = client.send(request).await.unwrap();
    assert_eq!((answer.status, answer.text), (StatusCode::OK, client.sandbox.ca_pem()));
}

#[tokio::test]
async fn service_cut_from_address_selects_by_action() {
    let mut client = open().await;
    let port = client.sandbox.addr().port();
    for (host, service) in [
        (format!("127.0.0.1:{port}"), "127"),
        (format!("localhost:{port}"), "localhost"),
        (format!("localhost:{port}"), &*format!("localhost:{port}")),
        (format!("[::1]:{port}"), &*format!("[::1]:{port}")),
    ] {
        client.host = host;
        for (action, body) in [("DescribeImages", json!({})), ("GetCallerIdentity", Value::Null)] {
            let body = body.to_string();
            let mut request = client.post(action, &body);
            client.sign(&mut request, service, &body);
            assert_eq!(client.send(request).await.unwrap().code(), "ok", "{action} for {service}");
        }
    }
    client.host = format!("cvm.localhost:{port}");
    let mut request = client.post("DescribeImages", "{}");
    client.sign(&mut request, "127", "{}");
    assert_eq!(client.send(request).await.unwrap().code(), "NoSuchProduct");
}

#[tokio::test]
async fn host_signed_without_its_port_is_accepted() {
    let mut client = open().await;
    let sent = format!("127.0.0.1:{}", client.sandbox.addr().port());
    client.host = "127.0.0.1".to_owned();
    let mut requests = vec![client.post("DescribeImages", "{}")];
    requests.push(client.signed_v1(Method::GET, "HmacSHA1", &[("Action", "DescribeImages")]));
    for mut request in requests {
        request.headers_mut().insert("host", HeaderValue::from_str(&sent).unwrap());
        assert_eq!(client.send(request).await.unwrap().code(), "ok");
    }
}
