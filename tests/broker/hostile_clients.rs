//! Clients of our own servers, the admin server of a worker and the sandbox, that are slow, many, or say what no client
//! should.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{Shutdown, TcpStream},
    time::Duration,
};

use kit::{Node, Sandbox, check_plain, http, stage::Stage, until, worker::Watched};

/// How long a client waits for an answer. Whoever is refused is refused at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// Connections at once that come in one wave, and waves.
const WAVE: usize = 500;
const WAVES: usize = 3;

/// Bytes that each of them would like to be kept for it.
const HEAD_LEN: usize = 256 * 1024;

/// What all of them may cost a server, in KiB. If all was kept that they send, it would be more than 120 MiB.
const GROWTH_KIB_MAX: u64 = 64 * 1024;

/// What a server answers to these bytes until it ends the connection. If it keeps that open, our end is closed when an
/// answer has begun.
fn answer(address: &str, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // It may have seen enough before all is there.
    let _ = stream.write_all(bytes);
    let (mut answer, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => answer.extend_from_slice(&piece[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => break,
            Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(bytes).get(..80)),
        }
        let _ = stream.shutdown(Shutdown::Write);
    }
    String::from_utf8(answer).unwrap()
}

/// The codes of all answers in a text.
fn codes(answer: &str) -> Vec<u16> {
    answer.split("HTTP/1.").skip(1).filter_map(|text| text.get(2..5)?.parse().ok()).collect()
}

/// A request of HTTP/1.1 with this first line, and a line of headers or more.
fn request(line: &str, headers: &str) -> Vec<u8> {
    format!("{line} HTTP/1.1\r\nHost: 127.0.0.1\r\n{headers}\r\n").into_bytes()
}

/// What no client should send, and the codes of the one answer that an admin server may give. (Other paths, methods and
/// bodies are in its own tests.)
fn odd() -> Vec<(&'static str, Vec<u8>, &'static [u16])> {
    let raw = |text: &str| text.as_bytes().to_vec();
    let get = |target: &str| request(&format!("GET {target}"), "");
    let long = "x".repeat(20_000);
    let endless = request("GET /livez", "Content-Length: 18446744073709551615\r\n");
    let of_both = request("GET /livez", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n");
    vec![
        ("a method of nobody's", request("get /status", ""), &[405]),
        ("options of all", request("OPTIONS *", ""), &[405]),
        ("a tunnel", request("CONNECT 169.254.0.23:80", ""), &[405]),
        ("the folder above, encoded", get("/%2e%2e/status"), &[404]),
        ("a zero, encoded", get("/status%00"), &[404]),
        ("an absolute target", get("http://127.0.0.1/livez"), &[200]),
        ("a name that was made to point here", raw("GET /status HTTP/1.1\r\nHost: pages.example\r\n\r\n"), &[421]),
        ("an absolute target elsewhere", get("http://pages.example/status"), &[421]),
        ("two hosts", request("GET /status", "Host: pages.example\r\n"), &[400, 421]),
        ("a target without a slash", get("status"), &[404, 421]),
        ("a zero", get("/status\0"), &[400]),
        ("an escape", get("/\u{1b}[31mred"), &[400, 404]),
        ("a path that is not UTF-8", b"GET /\xff\xfe HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec(), &[400, 404]),
        ("a long path", get(&format!("/{long}")), &[414, 431]),
        ("many headers", request("GET /livez", &"X: y\r\n".repeat(1_000)), &[431]),
        ("empty lines", "\r\n".repeat(100_000).into_bytes(), &[400, 431]),
        ("a body that never comes", endless, &[400, 413, 431]),
        ("two lengths", request("GET /livez", "Content-Length: 0\r\nContent-Length: 4\r\n"), &[400]),
        ("a length and chunks", [of_both, raw("0\r\n\r\n"), get("/livez")].concat(), &[400, 413]),
        ("chunks of another kind", request("GET /livez", "Transfer-Encoding: xchunked\r\n"), &[400, 413]),
        ("a space before the colon", request("GET /livez", "Content-Length : 4\r\n"), &[400]),
        ("two requests", [get("/livez"), get("/livez")].concat(), &[200]),
        ("an old version", raw("GET /livez HTTP/1.0\r\n\r\n"), &[200]),
        ("a version that is none", raw("GET /livez HTTP/9.9\r\n\r\n"), &[400]),
        ("HTTP/2", raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0"), &[400, 505]),
        ("TLS", b"\x16\x03\x01\x00\xf8\x01\x00\x00\xf4\x03\x03 hello\r\n\r\n".to_vec(), &[400]),
        ("noise", vec![0xfe; 40_000], &[400, 431]),
    ]
}

#[test]
fn odd_requests_are_refused_and_end_neither_server() {
    let stage = Stage::new(Node::shared(), Sandbox::start(&["--rps", "0"]), 500);
    let watched = Watched::start(stage.program("worker"));
    for (what, bytes, allowed) in odd() {
        let said = answer(&watched.admin, &bytes);
        let codes = codes(&said);
        // No answer is as good as a refusal where the bytes are no HTTP.
        let is_refused = codes.is_empty() && allowed.contains(&400);
        assert!(is_refused || (codes.len() == 1 && allowed.contains(&codes[0])), "{what}: {said}");
        assert!(codes != [405] || said.to_lowercase().contains("\r\nallow: get, head\r\n"), "{what}: {said}");
        // It has paths of its own and takes several requests a connection; it only has to live, and to refuse noise.
        let said = answer(&stage.sandbox.address, &bytes);
        assert!(!said.contains("HTTP/1.1 5") || allowed.contains(&505), "{what}: {said}");
        assert_eq!(http::get(&stage.sandbox.address, "/_sandbox/stats").code, 200, "{what}");
    }
    // The worker asks whose its key is.
    let stats = stage.sandbox.stats();
    let calls = stats["by_action"].as_object().unwrap();
    assert!(calls.keys().all(|action| action == "GetCallerIdentity"), "something of it was a call: {calls:?}");
    check_plain("the log", &watched.worker.drain());
}

#[test]
fn clients_that_are_slow_and_many_cost_little_and_keep_nobody_out() {
    let stage = Stage::new(Node::shared(), Sandbox::start(&["--rps", "0"]), 500);
    let watched = Watched::start(stage.program("worker"));
    let servers: [(&str, &str, &dyn Fn() -> u64); 2] = [
        (&watched.admin, "/livez", &|| watched.worker.resident_kib()),
        (&stage.sandbox.address, "/_sandbox/stats", &|| stage.sandbox.resident_kib()),
    ];
    let head = format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}", "x".repeat(HEAD_LEN)).into_bytes();
    let mut growth = Vec::new();
    for (address, path, resident_kib) in servers {
        let before = resident_kib();
        let mut held = Vec::new();
        for _ in 0..WAVES {
            held.clear();
            for number in 0..WAVE {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_nonblocking(true).unwrap();
                // Some say nothing, the others all that is taken of a head that does not end.
                let mut sent = if number % 4 == 0 { head.len() } else { 0 };
                while let Some(taken) = stream.write(&head[sent..]).ok().filter(|taken| *taken > 0) {
                    sent += taken;
                }
                held.push(stream);
            }
            assert_eq!(http::get(address, path).code, 200, "{address} while they are there");
        }
        growth.push(resident_kib().saturating_sub(before));
        drop(held);
        assert_eq!(http::get(address, path).code, 200, "{address} when they are gone");
    }
    assert!(growth.iter().all(|kib| *kib < GROWTH_KIB_MAX), "{growth:?} KiB");
    let (files, _) = watched.worker.files_and_threads();
    assert!(files < 100, "{files} files are open");

    // One byte after the other: its connection ends before it has sent all.
    let mut slow = TcpStream::connect(&watched.admin).unwrap();
    let mut bytes = head.iter();
    until("the slow client's connection ended", || slow.write_all(&[*bytes.next()?]).err());
    watched.worker.drain();
}
