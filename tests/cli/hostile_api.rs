//! An API, or a server that poses as one, with the most harmful responses. The program retries when they pass, closes the
//! lane when they last, needs little memory, and connects to no other address.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufRead, BufReader, ErrorKind, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use kit::{Folder, Program, Sandbox, check_plain, job, json_lines};

use crate::side_by_side;

const ACCOUNTS: std::ops::Range<u64> = 100_000_000_000..100_000_000_003;

const IMAGES: [&str; 3] = ["img-6pb6lrmy", "img-gvbnzy6f", "img-9qabwvbn"];

/// Memory that a run may have at its most, in KiB. Without faults it has a little over 10 MiB.
const PEAK_KIB_MAX: u64 = 64 * 1024;

/// A way to answer a request.
#[derive(Clone)]
enum Trick {
    /// This, and the end of the connection.
    Say(Vec<u8>),
    /// This, and the connection stays open.
    Keep(Vec<u8>),
    /// This, and then the same again and again for as long as it is read.
    Endless(String, Vec<u8>),
    /// This before any request, and the end of the connection.
    Early(Vec<u8>),
}

/// A server between a run and a sandbox.
struct Posing {
    trick: Trick,
    /// How many requests of each action get the trick. The others are passed on.
    times: usize,
    sandbox: String,
    /// The actions of all requests so far.
    seen: Mutex<Vec<String>>,
    /// Whether a kept connection was used again.
    is_reused: AtomicBool,
}

impl Posing {
    fn start(trick: Trick, times: usize, sandbox: &Sandbox) -> (Arc<Self>, SocketAddr) {
        let (sandbox, seen, is_reused) = (sandbox.address.clone(), Mutex::default(), AtomicBool::new(false));
        let posing = Arc::new(Self { trick, times, sandbox, seen, is_reused });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::clone(&posing);
        // It ends with the process of the tests; it gets no requests any more when its test is over.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let server = Arc::clone(&server);
                // Its errors are those of a client that has gone, which it may at any moment.
                thread::spawn(move || server.serve(stream?));
            }
        });
        (posing, address)
    }

    /// Whether this request of an action gets the trick.
    fn is_tricked(&self, action: &str) -> bool {
        let mut seen = self.seen.lock().unwrap();
        seen.push(action.to_owned());
        seen.iter().filter(|one| *one == action).count() <= self.times
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        if let Trick::Early(bytes) = &self.trick
            && self.is_tricked("")
        {
            stream.write_all(bytes)?;
            return stream.shutdown(Shutdown::Write);
        }
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some((action, request)) = read_request(&mut reader)? {
            match &self.trick {
                Trick::Say(bytes) if self.is_tricked(&action) => return stream.write_all(bytes),
                Trick::Keep(bytes) if self.is_tricked(&action) => {
                    stream.write_all(bytes)?;
                    self.is_reused.fetch_or(read_request(&mut reader)?.is_some(), Ordering::Relaxed);
                    return Ok(());
                }
                Trick::Endless(head, piece) if self.is_tricked(&action) => {
                    stream.write_all(head.as_bytes())?;
                    loop {
                        stream.write_all(piece)?;
                    }
                }
                _ => {
                    let mut sandbox = TcpStream::connect(&self.sandbox)?;
                    sandbox.write_all(&request)?;
                    io::copy(&mut sandbox, &mut stream)?;
                }
            }
        }
        Ok(())
    }
}

/// The action of the next request, and its bytes as they are passed on. `None` at the end of the connection.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<(String, Vec<u8>)>> {
    let (mut request, mut action, mut length) = (Vec::new(), String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().to_lowercase().split_once(": ") {
            Some(("x-tc-action", value)) => value.clone_into(&mut action),
            Some(("content-length", value)) => length = value.parse().unwrap(),
            // The end of the response is the end of the connection.
            None if line == "\r\n" => request.extend_from_slice(b"connection: close\r\n"),
            _ => {}
        }
        request.extend_from_slice(line.as_bytes());
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    request.extend_from_slice(&body);
    Ok(Some((action, request)))
}

/// What a run left behind.
struct Outcome {
    code: Option<i32>,
    reports: Vec<Value>,
    errors: String,
    /// The accounts that each image is shared with.
    state: BTreeMap<String, BTreeSet<u64>>,
    is_reused: bool,
}

/// Shares images through a server that tricks so many requests of each action.
fn run(trick: Trick, times: usize, images: &[&str], give_up_after: &str) -> Outcome {
    let (sandbox, folder) = (Sandbox::start(&["--rps", "0"]), Folder::new());
    let (posing, address) = Posing::start(trick, times, &sandbox);
    let settings = "[http]\ncall_timeout = \"500ms\"\nconnect_timeout = \"500ms\"\n[engine]\nlanding = \"1s\"\n";
    let jobs: String = images.iter().map(|image| job(image, "SHARE", ACCOUNTS)).collect();
    let (running, mut stdout) = Program::new(["run", "--json", "--endpoint", &format!("http://{address}")])
        .args(["--give-up-after", give_up_after, "--config"])
        .arg(folder.file("settings.toml", settings))
        .arg(folder.file("jobs.ndjson", jobs))
        .key("AKIDSANDBOXEXAMPLE", "sandbox-secret-key-example")
        .start();
    // The last value counts: the first one can be that of this process, before the program takes its place.
    let mut peak_kib = 0;
    while let Some(kib) = running.peak_kib() {
        peak_kib = kib;
        thread::sleep(Duration::from_millis(5));
    }
    assert!(peak_kib < PEAK_KIB_MAX, "{peak_kib} KiB");
    let (code, errors) = running.end();
    let mut text = String::new();
    stdout.read_to_string(&mut text).unwrap();
    check_plain("standard error", &errors);
    check_plain("the reports", &text);
    assert!(!errors.contains("panicked") && !errors.contains("sandbox-secret-key-example"), "{errors}");
    let state = sandbox.state();
    assert!(state.values().flatten().all(|id| ACCOUNTS.contains(id)), "{state:?}");
    Outcome { code, reports: json_lines(&text), errors, state, is_reused: posing.is_reused.load(Ordering::Relaxed) }
}

const OK: &str = "HTTP/1.1 200 OK\r\n";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
const SUCCESS: &str = r#"{"Response":{"RequestId":"1-1-1-1"}}"#;

/// A whole response with this body.
fn whole(body: &str) -> Vec<u8> {
    format!("{OK}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A refusal with this code, message and request.
fn refusal(code: &str, message: &str, request_id: &str) -> String {
    json!({"Response": {"Error": {"Code": code, "Message": message}, "RequestId": request_id}}).to_string()
}

/// Responses that are invalid or harmful in another way.
fn tricks(elsewhere: SocketAddr) -> Vec<(String, Trick)> {
    let mut tricks = Vec::new();
    let mut add = |name: &str, trick| tricks.push((name.to_owned(), trick));

    let mut endless = |name, head: &str, piece: &[u8]| add(name, Trick::Endless(head.to_owned(), piece.to_vec()));
    let long = vec![b'x'; 65_536];
    endless("a body without end", "HTTP/1.1 200 OK\r\n\r\n", &long);
    endless("chunks without end", CHUNKED, &[b"4000\r\n", &[b' '; 16_384][..], b"\r\n"].concat());
    endless("headers without end", OK, &b"x: y\r\n".repeat(1_000));
    endless("a header without end", &format!("{OK}x: "), &long);
    endless("a status without end", "HTTP/1.1 200 ", &long);
    endless("continue without end", "", &b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1_000));
    endless("hints without end", "", &b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(1_000));
    endless("trailers without end", &format!("{CHUNKED}0\r\n"), &b"x: y\r\n".repeat(1_000));
    endless("an extension without end", &format!("{CHUNKED}5;a="), &long);
    endless("chunks of one byte", CHUNKED, &b"1\r\n \r\n".repeat(1_000));
    endless("lines without end", "", &b"\r\n".repeat(10_000));

    let mut say = |name, response: &[u8]| add(name, Trick::Say(response.to_vec()));
    say("a chunk of more than all memory", format!("{CHUNKED}ffffffffffffffff\r\n{{").as_bytes());
    say("a chunk whose size is not a number", format!("{CHUNKED}0x10\r\n{{").as_bytes());
    for (name, headers) in [
        ("a length that is too long", "content-length: 99999"),
        ("a length that is too short", "content-length: 9"),
        ("a length below zero", "content-length: -1"),
        ("two lengths", "content-length: 9\r\ncontent-length: 36"),
        ("a length and chunks", "content-length: 36\r\ntransfer-encoding: chunked"),
    ] {
        say(name, format!("{OK}{headers}\r\n\r\n{SUCCESS}").as_bytes());
    }
    say("no body at all", b"HTTP/1.1 204 No Content\r\n\r\n");
    say("not modified", b"HTTP/1.1 304 Not Modified\r\n\r\n");
    say("another protocol", b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n");
    say("HTTP/2", b"\0\0\x06\x04\0\0\0\0\0\0\x03\0\0\0\x64");
    say("a challenge", b"HTTP/1.1 401 No\r\nwww-authenticate: Basic realm=\"a\"\r\ncontent-length: 0\r\n\r\n");
    say("a proxy's challenge", b"HTTP/1.1 407 No\r\nproxy-authenticate: Negotiate\r\ncontent-length: 0\r\n\r\n");
    let success = String::from_utf8(whole(SUCCESS)).unwrap();
    say("a success with status 500", success.replace("200 OK", "500 No").as_bytes());
    say("an end in the middle of the head", b"HTTP/1.1 200 OK\r\ncontent-le");
    say("lists in lists", &whole(&"[".repeat(1_000_000)));
    say("objects in objects", &whole(&"{\"Response\":".repeat(80_000)));
    say("a number without end", &whole(&format!("{{\"Response\":{}}}", "9".repeat(1_000_000))));
    say("a member twice", &whole(r#"{"Response":{"RequestId":"1"},"Response":{"RequestId":"2"}}"#));
    say("a code that writes to terminals", &whole(&refusal("\u{1b}[31mRed", "no", "3")));
    say("a code of a megabyte", &whole(&refusal(&"C".repeat(1_000_000), "no", "3")));
    let message = "\u{1b}]0;t\u{7}\u{9b}1m\u{202e}\r\n".repeat(60_000);
    let message = refusal("InternalError", &message, "\u{1b}[2J\u{202e}");
    say("a message that writes to terminals, of a megabyte", &whole(&message));
    for encoding in ["gzip", "br", "zstd"] {
        let head = format!("{OK}content-encoding: {encoding}\r\ncontent-length: 1000\r\n\r\n").into_bytes();
        say(encoding, &[&head[..], b"\x1f\x8b\x08\0\0\0\0\0\x02\xff", &[0; 990][..]].concat());
    }

    add("a response before the request", Trick::Early(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_vec()));
    let refused = whole(&refusal("InternalError", "later", "2-2-2-2"));
    add("a refusal, and a success for a later request", Trick::Keep([refused, whole(SUCCESS)].concat()));
    for status in [300, 301, 302, 303, 305, 307, 308] {
        let head = format!(
            "HTTP/1.1 {status} Go\r\nlocation: http://{elsewhere}/\r\nrefresh: 0; url=http://{elsewhere}/\r\n\
             alt-svc: http/1.1=\"{elsewhere}\"\r\ncontent-length: 0\r\n\r\n"
        );
        add(&format!("a redirect by {status}"), Trick::Keep(head.into_bytes()));
    }
    tricks
}

#[test]
fn harmful_response_that_passes_is_retried() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    side_by_side(&tricks(elsewhere.local_addr().unwrap()), |(name, trick)| {
        let Outcome { code, reports, errors, state, is_reused } = run(trick.clone(), 1, &IMAGES[..1], "30s");
        assert_eq!(code, Some(0), "{name}: {errors}\n{reports:?}");
        // A redirect is a whole response, after which a connection may be used; a response without a request ends it.
        assert!(name.starts_with("a redirect") || !is_reused, "{name}");
        assert!(state[IMAGES[0]].iter().copied().eq(ACCOUNTS), "{name}");
    });
    check_untouched(&elsewhere);
}

#[test]
fn harmful_response_that_lasts_closes_the_lane() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let all = tricks(elsewhere.local_addr().unwrap());
    // A whole refusal is trusted, and counts against an account.
    let is_refusal = |name: &str| name.starts_with("a refusal") || name.starts_with("a message");
    let every_fourth: Vec<_> = all.into_iter().filter(|(name, _)| !is_refusal(name)).step_by(4).collect();
    side_by_side(&every_fourth, |(name, trick)| {
        let Outcome { code, reports, errors, state, .. } = run(trick.clone(), usize::MAX, &IMAGES, "1s");
        assert_eq!(code, Some(4), "{name}: {errors}");
        assert!(errors.contains("the endpoint gives no usable answer"), "{name}: {errors}");
        let failed: Vec<_> = reports.iter().flat_map(|report| report["failed"].as_array().unwrap()).collect();
        let is_ours = |code: &Value| ["Local.NotAttempted", "Local.NoAnswer"].iter().any(|ours| code == ours);
        let accounts = failed.iter().map(|failed| failed["account_ids"].as_array().unwrap().len()).sum::<usize>();
        assert_eq!((reports.len(), accounts), (3, 9), "{name}: {reports:?}");
        assert!(failed.iter().all(|failed| is_ours(&failed["code"])), "{name}: {reports:?}");
        assert!(state.values().all(BTreeSet::is_empty), "{name}");
    });
    check_untouched(&elsewhere);
}

#[test]
fn absurd_clock_only_closes_the_lane() {
    let body = refusal("AuthFailure.SignatureExpire", "too late", "4");
    let dates =
        ["Fri, 31 Dec 9999 23:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "Tue, 99 Nov 99999 77:77:77 GMT", "\u{fe}"];
    side_by_side(&dates, |date| {
        let response = format!("{OK}date: {date}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let Outcome { code, reports, errors, .. } = run(Trick::Say(response.into_bytes()), usize::MAX, &IMAGES, "1s");
        assert!(matches!(code, Some(3 | 4)), "{date}: {code:?} {errors}");
        assert!(errors.contains("AuthFailure.SignatureExpire"), "{date}: {errors}");
        assert_eq!(reports.len(), 3, "{date}: {reports:?}");
    });
}

/// No connection was made here.
#[track_caller]
fn check_untouched(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}
