//! The client against listeners that misbehave.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Once},
};

use bytes::Bytes;
use http::Request;
use imageshare_core::response::BODY_LEN_MAX;
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
    time::Duration,
};
use tokio_rustls::TlsAcceptor;

use super::{CallError, CallStage, Client, FailureReason, HttpReply, NetworkSettings, Proxy, Sending, TimeOuts};
use crate::tls::Trust;

const OK: &str = "HTTP/1.1 200 OK\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

/// A call on its way, and the moment it was sent.
struct Calling {
    sent: oneshot::Receiver<()>,
    call: tokio::task::JoinHandle<Result<HttpReply, CallError>>,
}

impl Calling {
    fn to(client: &Client, address: String) -> Self {
        let (on_sent, sent) = oneshot::channel();
        let sending = Sending::new(move || {
            on_sent.send(()).unwrap_or(());
            true
        });
        let request = Request::post(address).body(Bytes::from_static(b"{}")).unwrap();
        let client = client.clone();
        Self { sent, call: tokio::spawn(async move { client.call(request, &sending).await }) }
    }

    async fn result(self) -> Result<HttpReply, CallError> {
        self.call.await.unwrap()
    }
}

fn client() -> Client {
    Client::new(TimeOuts::default()).unwrap()
}

/// Serves each connection by a script that gets it after one request was read from it.
async fn serve<F: Future<Output = ()> + Send>(script: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let mut stream = listener.accept().await.unwrap().0;
            read_request(&mut stream).await;
            script(stream).await;
        }
    });
    address
}

/// Reads one request with the body `{}` and gives it back as text.
async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n{}") {
        assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request was cut");
    }
    String::from_utf8(request).unwrap()
}

/// Returns the outcome of a call that receives this answer before the connection is closed.
async fn answered_by(answer: impl Into<Vec<u8>>) -> Result<HttpReply, CallError> {
    let answer: Arc<[u8]> = answer.into().into();
    let address = serve(move |mut stream| {
        let answer = Arc::clone(&answer);
        async move {
            // The client may have seen enough and gone.
            let _ = stream.write_all(&answer).await;
        }
    })
    .await;
    let mut calling = Calling::to(&client(), format!("http://{address}/"));
    (&mut calling.sent).await.unwrap();
    calling.result().await
}

#[track_caller]
fn check_sent(result: Result<HttpReply, CallError>, is_expected: impl Fn(&FailureReason) -> bool) {
    let error = result.unwrap_err();
    assert!(error.sent, "{error}");
    assert!(is_expected(&error.reason), "{error:?}");
}

#[tokio::test]
async fn any_status_date_and_body_are_returned() {
    let reply = answered_by(format!("{OK}content-length: 2\r\n\r\n{{}}")).await.unwrap();
    let date = reply.date.unwrap().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!((reply.status, date, &reply.body[..]), (200, 784_111_777, &b"{}"[..]));

    let page = "<html>502</html>";
    let reply = answered_by(format!("HTTP/1.1 502 Bad Gateway\r\ndate: today\r\n\r\n{page}")).await.unwrap();
    assert_eq!((reply.status, reply.date, &reply.body[..]), (502, None, page.as_bytes()));

    for date in [&b"Tue, 99 Nov 99999 77:77:77 GMT"[..], b"\xfe"] {
        let answer = [&b"HTTP/1.1 200 OK\r\ndate: "[..], date, b"\r\n\r\n{}"].concat();
        assert_eq!(answered_by(answer).await.unwrap().date, None, "{date:?}");
    }
}

#[tokio::test]
async fn redirect_is_not_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = elsewhere.local_addr().unwrap();
    for status in [300, 301, 302, 303, 305, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {status} Go\r\nlocation: http://{to}/\r\nrefresh: 0; url=http://{to}/\r\n\
             alt-svc: http/1.1=\"{to}\"\r\ncontent-length: 0\r\n\r\n"
        );
        assert_eq!(answered_by(answer).await.unwrap().status, status);
    }
    tokio::time::pause();
    assert!(tokio::time::timeout(Duration::from_secs(1), elsewhere.accept()).await.is_err());
}

#[tokio::test]
async fn request_is_sent_as_given_without_compression() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let calling = Calling::to(&client(), format!("http://{address}/"));
    let request = read_request(&mut listener.accept().await.unwrap().0).await;
    assert_eq!(request, format!("POST / HTTP/1.1\r\nhost: {address}\r\ncontent-length: 2\r\n\r\n{{}}"));
    check_sent(calling.result().await, |reason| matches!(reason, FailureReason::Closed(_)));
}

#[tokio::test]
async fn connection_is_used_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let client = client();
    let mut calling = Calling::to(&client, address.clone());
    let mut stream = listener.accept().await.unwrap().0;
    for _ in 0..3 {
        read_request(&mut stream).await;
        stream.write_all(format!("{OK}content-length: 0\r\n\r\n").as_bytes()).await.unwrap();
        assert_eq!(calling.result().await.unwrap().status, 200);
        calling = Calling::to(&client, address.clone());
    }
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_not_reused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let client = client();
    let mut idle = Vec::new();
    for _ in 0..2 {
        let calling = Calling::to(&client, address.clone());
        let mut stream = listener.accept().await.unwrap().0;
        read_request(&mut stream).await;
        stream.write_all(format!("{OK}content-length: 0\r\n\r\n").as_bytes()).await.unwrap();
        assert_eq!(calling.result().await.unwrap().status, 200);
        idle.push(stream);
        tokio::time::sleep(Duration::from_secs(21)).await;
    }
    // Both are closed in the end, although no call uses them.
    for mut stream in idle {
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn closed_connection_is_not_reused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let client = client();
    for _ in 0..3 {
        let calling = Calling::to(&client, address.clone());
        let mut stream = listener.accept().await.unwrap().0;
        read_request(&mut stream).await;
        stream.write_all(format!("{OK}content-length: 0\r\n\r\n").as_bytes()).await.unwrap();
        assert_eq!(calling.result().await.unwrap().status, 200);
        drop(stream);
        // In virtual time: until everybody has seen what there is to see.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn what_is_cut_is_no_answer() {
    let is_closed = |reason: &FailureReason| matches!(reason, FailureReason::Closed(_));
    check_sent(answered_by("").await, is_closed);
    check_sent(answered_by("HTTP/1.1 200 O").await, is_closed);
    check_sent(answered_by(format!("{OK}content-length: 10\r\n\r\n{{\"Resp")).await, is_closed);
    check_sent(answered_by(format!("{OK}transfer-encoding: chunked\r\n\r\n5\r\n{{\"Re")).await, is_closed);
}

#[tokio::test]
async fn reset_leaves_request_in_doubt() {
    let address = serve(|stream| async move {
        stream.set_zero_linger().unwrap();
    })
    .await;
    check_sent(Calling::to(&client(), format!("http://{address}/")).result().await, |reason| {
        matches!(reason, FailureReason::Closed(_))
    });
}

#[tokio::test]
async fn non_http_response_is_named() {
    let result = answered_by("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n").await;
    check_sent(result, |reason| matches!(reason, FailureReason::NotHttp(_)));
}

#[tokio::test]
async fn long_body_is_read_to_its_bound() {
    let whole = [format!("{OK}content-length: {BODY_LEN_MAX}\r\n\r\n").into_bytes(), vec![b'x'; BODY_LEN_MAX]].concat();
    assert_eq!(answered_by(whole).await.unwrap().body.len(), BODY_LEN_MAX);

    // 100 MiB announced, and a body without any announced end: the sender finds the connection gone.
    for head in ["content-length: 104857600\r\n\r\n", "connection: close\r\n\r\n"] {
        let (gone, is_gone) = oneshot::channel();
        let gone = Arc::new(std::sync::Mutex::new(Some(gone)));
        let address = serve(move |mut stream| {
            let gone = Arc::clone(&gone);
            async move {
                stream.write_all(format!("{OK}{head}").as_bytes()).await.unwrap();
                let mut written = 0_u64;
                while stream.write_all(&[b'x'; 65_536]).await.is_ok() {
                    written += 65_536;
                }
                let gone = gone.lock().unwrap().take();
                gone.unwrap().send(written).unwrap();
            }
        })
        .await;
        let result = Calling::to(&client(), format!("http://{address}/")).result().await;
        check_sent(result, |reason| *reason == FailureReason::BodyTooLong(BODY_LEN_MAX));
        let written = is_gone.await.unwrap();
        assert!(written < 50 << 20, "{written} bytes were taken from the sender");
    }
}

#[tokio::test]
async fn endless_headers_are_not_read_for_ever() {
    let is_too_long = |reason: &FailureReason| matches!(reason, FailureReason::HeadTooLong(_));
    let one = format!("{OK}x: {}", "x".repeat(10 << 20));
    check_sent(answered_by(one).await, is_too_long);
    let many = format!("{OK}{}", "x: y\r\n".repeat(100_000));
    check_sent(answered_by(many).await, is_too_long);
}

#[tokio::test]
async fn closed_port_sends_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Calling::to(&client(), format!("http://{address}/")).result().await.unwrap_err();
    assert!(!error.sent);
    assert!(matches!(error.reason, FailureReason::Connect(_)), "{error:?}");
    assert_eq!(
        error.to_string(),
        "no connection to the endpoint (Connection refused (os error 111)); \
         check the endpoint, the network and its firewalls"
    );
}

#[tokio::test]
async fn unknown_name_sends_nothing() {
    // Longer than a label of a name may be, so that no name server is asked.
    let error = Calling::to(&client(), format!("http://{}.invalid/", "x".repeat(64))).result().await.unwrap_err();
    assert!(!error.sent);
    assert!(matches!(error.reason, FailureReason::Name(_)), "{error:?}");
}

#[tokio::test]
async fn time_out_ends_wait_for_connection() {
    // A listener that never accepts takes as many connections as its backlog holds; the next ones hang.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
        waiting.push(stream.unwrap());
    }

    tokio::time::pause();
    let mut calling = Calling::to(&client(), format!("http://{address}/"));
    let error = (&mut calling.call).await.unwrap().unwrap_err();
    assert!(!error.sent);
    assert!(
        matches!(error.reason, FailureReason::TimeOut { stage: CallStage::Connection, .. } | FailureReason::Connect(_)),
        "both clocks of three seconds end at once: {error:?}"
    );
    assert!(calling.sent.await.is_err(), "it was never sent and never will be");
}

#[tokio::test]
async fn time_out_ends_wait_for_response() {
    check_silence("", CallStage::Answer).await;
}

#[tokio::test]
async fn time_out_ends_wait_for_body() {
    check_silence(&format!("{OK}content-length: 9\r\n\r\n{{"), CallStage::Body).await;
}

/// Sends the start of an answer and then nothing more.
async fn check_silence(start: &str, stage: CallStage) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut calling = Calling::to(&client(), format!("http://{}/", listener.local_addr().unwrap()));
    let mut stream = listener.accept().await.unwrap().0;
    read_request(&mut stream).await;
    (&mut calling.sent).await.unwrap();
    stream.write_all(start.as_bytes()).await.unwrap();
    let after = Duration::from_secs(10);
    tokio::time::pause();
    check_sent(calling.result().await, |reason| *reason == FailureReason::TimeOut { stage, after });
}

#[tokio::test]
async fn untrusted_certificate_sends_nothing() {
    let tls = Tls::new();
    let client = Client::with_tls(config(RootCertStore::empty()), TimeOuts::default());
    let calling = Calling::to(&client, tls.address());
    let refused = tls.acceptor.accept(tls.listener.accept().await.unwrap().0).await;
    assert!(refused.is_err());
    let error = calling.result().await.unwrap_err();
    assert!(!error.sent);
    assert_eq!(
        error.reason,
        FailureReason::Tls("the certificate is from an authority that is not trusted here".into())
    );
}

/// Calls a listener with this certificate, trusting its authority, and gives why that failed.
#[track_caller]
fn refused_by(authority: &Authority, made: &rcgen::CertificateParams, words: &str) -> impl Future<Output = ()> {
    let (tls, words) = (Tls::of(authority, made), words.to_owned());
    let client = Client::with(authority.outside(), TimeOuts::default()).unwrap();
    async move {
        let calling = Calling::to(&client, tls.address());
        assert!(tls.acceptor.accept(tls.listener.accept().await.unwrap().0).await.is_err());
        let error = calling.result().await.unwrap_err();
        assert!(!error.sent);
        let FailureReason::Tls(problem) = &error.reason else { panic!("{error}") };
        assert!(problem.contains(&words), "{problem}");
    }
}

#[tokio::test]
async fn refused_certificate_names_the_reason() {
    let authority = Authority::new();
    let made = |name: &str| rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let mut expired = made("localhost");
    expired.not_before = rcgen::date_time_ymd(2020, 1, 1);
    expired.not_after = rcgen::date_time_ymd(2020, 1, 2);
    refused_by(&authority, &expired, "the certificate has expired").await;
    let mut early = made("localhost");
    early.not_before = rcgen::date_time_ymd(4000, 1, 1);
    refused_by(&authority, &early, "the certificate is not valid yet").await;
    let other = "the certificate is not for localhost, but for other.example";
    refused_by(&authority, &made("other.example"), other).await;
    let mut of_authority = made("localhost");
    of_authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    refused_by(&authority, &of_authority, "the server shows the certificate of an authority (CA:TRUE); make one").await;
    let nameless = rcgen::CertificateParams::new(Vec::new()).unwrap();
    refused_by(&authority, &nameless, "the certificate names no host; make one with a subjectAltName").await;
    let mut for_clients = made("localhost");
    for_clients.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    refused_by(
        &authority,
        &for_clients,
        "the certificate is not for servers; make one with extendedKeyUsage serverAuth",
    )
    .await;
    let stranger = Authority { file: authority.file, ..Authority::new() };
    let unknown = "the certificate is from an authority that is not trusted here";
    refused_by(&stranger, &made("localhost"), unknown).await;
}

#[tokio::test]
async fn configured_authority_is_trusted_and_reread() {
    let authority = Authority::new();
    let tls = Tls::of(&authority, &rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap());
    let address = tls.address();
    tokio::spawn(tls.serve());
    let right = std::fs::read(authority.file.path()).unwrap();
    std::fs::write(authority.file.path(), Authority::new().pem).unwrap();
    let client = Client::with(authority.outside(), TimeOuts::default()).unwrap();
    let refused = Calling::to(&client, address.clone()).result().await.unwrap_err();
    assert!(matches!(refused.reason, FailureReason::Tls(_)), "{refused}");
    std::fs::write(authority.file.path(), "no certificate").unwrap();
    let error = client.reread_trust().unwrap_err().to_string();
    assert!(error.ends_with(": no certificate (expected at least one certificate in PEM)"), "{error}");
    std::fs::write(authority.file.path(), right).unwrap();
    client.reread_trust().unwrap();
    assert_eq!(Calling::to(&client, address).result().await.unwrap().status, 200);
}

/// A proxy that makes one tunnel, to this address, and gives the head of what it was asked.
async fn proxy(answer: &'static str, to: SocketAddr) -> (SocketAddr, oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asked, head) = oneshot::channel();
    tokio::spawn(async move {
        let mut client = listener.accept().await.unwrap().0;
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(client.read_u8().await.unwrap());
        }
        // Not every test wants to know.
        drop(asked.send(String::from_utf8(text).unwrap()));
        client.write_all(answer.as_bytes()).await.unwrap();
        let mut server = TcpStream::connect(to).await.unwrap();
        drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
    });
    (address, head)
}

#[tokio::test]
async fn tls_call_uses_proxy_tunnel() {
    let authority = Authority::new();
    let tls = Tls::of(&authority, &rcgen::CertificateParams::new(vec!["api.example".to_owned()]).unwrap());
    let (at, head) = proxy("HTTP/1.1 200 OK\r\n\r\n", tls.listener.local_addr().unwrap()).await;
    tokio::spawn(tls.serve());
    let through = Some(format!("http://ada:topsecret@{at}").parse::<Proxy>().unwrap());
    let client = Client::with(NetworkSettings { proxy: through, ..authority.outside() }, TimeOuts::default()).unwrap();
    let reply = Calling::to(&client, "https://api.example/".to_owned()).result().await.unwrap();
    assert_eq!(reply.status, 200);
    let head = head.await.unwrap();
    assert!(head.starts_with("CONNECT api.example:443 HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic "), "{head}");
    assert!(!head.to_lowercase().contains("x-tc"), "{head}");
}

#[tokio::test]
async fn proxy_without_tunnel_sends_nothing() {
    for (answer, words) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "proxy authorization required"),
        ("HTTP/1.1 403 Forbidden\r\n\r\n", "unsuccessful"),
    ] {
        let at = proxy(answer, SocketAddr::from(([127, 0, 0, 1], 1))).await.0;
        let through = Some(format!("http://ada:topsecret@{at}").parse::<Proxy>().unwrap());
        let client =
            Client::with(NetworkSettings { proxy: through, ..NetworkSettings::default() }, TimeOuts::default())
                .unwrap();
        let error = Calling::to(&client, "https://api.example/".to_owned()).result().await.unwrap_err();
        assert!(!error.sent);
        let text = error.to_string();
        assert!(text.contains("no tunnel through the proxy") && text.contains(words), "{text}");
        assert!(text.ends_with("check HTTPS_PROXY, NO_PROXY and the proxy") && !text.contains("topsecret"), "{text}");
    }
}

#[tokio::test]
async fn request_follows_the_handshake() {
    let tls = Tls::new();
    let mut calling = Calling::to(&Client::with_tls(config(tls.roots.clone()), TimeOuts::default()), tls.address());
    let stream = tls.listener.accept().await.unwrap().0;
    // The client's part of the handshake is here, so it has a connection and waits for ours.
    stream.readable().await.unwrap();
    assert!(calling.sent.try_recv().is_err(), "sent before there was anybody to send it to");

    let mut stream = tls.acceptor.accept(stream).await.unwrap();
    (&mut calling.sent).await.unwrap();
    stream.write_all(format!("{OK}content-length: 0\r\n\r\n").as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(calling.result().await.unwrap().status, 200);
}

#[tokio::test]
async fn connect_time_out_ends_handshake() {
    let tls = Tls::new();
    let calling = Calling::to(&Client::with_tls(config(tls.roots.clone()), TimeOuts::default()), tls.address());
    let stream = tls.listener.accept().await.unwrap().0;
    stream.readable().await.unwrap();
    tokio::time::pause();
    let error = calling.result().await.unwrap_err();
    let after = Duration::from_secs(3);
    assert_eq!(
        error,
        CallError { sent: false, reason: FailureReason::TimeOut { stage: CallStage::Connection, after } }
    );
}

#[tokio::test]
async fn dropped_call_is_not_sent() {
    let tls = Tls::new();
    let sending = Sending::new(|| panic!("it was sent"));
    let client = Client::with_tls(config(tls.roots.clone()), TimeOuts::default());
    let request = Request::post(tls.address()).body(Bytes::from_static(b"{}")).unwrap();
    let call = client.call(request, &sending);
    tokio::select! {
        result = call => panic!("{result:?}"),
        stream = tls.listener.accept() => {
            assert!(sending.abandon());
            // The handshake could still succeed; the connection then ends without a request.
            if let Ok(mut stream) = tls.acceptor.accept(stream.unwrap().0).await {
                let mut request = Vec::new();
                let _ = stream.read_to_end(&mut request).await;
                assert!(request.is_empty());
            }
        }
    }
}

/// A listener with a certificate of its own making.
struct Tls {
    listener: TcpListener,
    acceptor: TlsAcceptor,
    roots: RootCertStore,
}

/// An authority, and the file from which it is trusted.
struct Authority {
    issuer: rcgen::CertifiedIssuer<'static, rcgen::KeyPair>,
    pem: String,
    file: tempfile::NamedTempFile,
}

impl Authority {
    fn new() -> Self {
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // Its own name, since two of one name could not be told apart.
        let key = rcgen::KeyPair::generate().unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, format!("{:x?}", &key.public_key_raw()[..8]));
        let issuer = rcgen::CertifiedIssuer::self_signed(params, key).unwrap();
        let (pem, file) = (issuer.pem(), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(file.path(), &pem).unwrap();
        Self { issuer, pem, file }
    }

    fn outside(&self) -> NetworkSettings {
        let trust = Trust { ca_file: Some(self.file.path().to_owned()), client: None };
        NetworkSettings { trust, proxy: None }
    }
}

impl Tls {
    /// With a certificate of an authority.
    fn of(authority: &Authority, made: &rcgen::CertificateParams) -> Self {
        let tls = Self::new();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = made.clone().signed_by(&key, &authority.issuer).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = ServerConfig::builder().with_no_client_auth();
        let server = server.with_single_cert(vec![certificate.der().clone()], key).unwrap();
        Self { acceptor: TlsAcceptor::from(Arc::new(server)), ..tls }
    }

    /// Answers one request on each connection whose handshake comes about.
    async fn serve(self) {
        loop {
            let stream = self.listener.accept().await.unwrap().0;
            let Ok(mut stream) = self.acceptor.accept(stream).await else { continue };
            let mut text = vec![0; 4096];
            let _ = stream.read(&mut text).await.unwrap();
            stream.write_all(format!("{OK}content-length: 0\r\n\r\n").as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
        }
    }

    fn new() -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| drop(ring::default_provider().install_default()));
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let server = ServerConfig::builder().with_no_client_auth();
        let server = server.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        Self {
            listener: TcpListener::from_std(listener).unwrap(),
            acceptor: TlsAcceptor::from(Arc::new(server)),
            roots,
        }
    }

    fn address(&self) -> String {
        format!("https://localhost:{}/", self.listener.local_addr().unwrap().port())
    }
}

fn config(roots: RootCertStore) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth()
}
